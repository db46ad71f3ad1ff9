//! Sums of windows, step by step. Pure.

use schemars::JsonSchema;
use serde::Serialize;
use std::{collections::BTreeMap, mem};
use wire::{Counts, Reaction, WindowRecord};

/// Points of an answer, at the most.
pub const POINTS_MAX: u64 = 1_000;
/// Reactions that a point names: the most frequent ones. All others are its `others`. It bounds the answer.
const NAMES_MAX: usize = 64;

/// What came in one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(description = "What came in one step: the sum of the windows that start within it.")]
pub struct Point {
    /// First ms of the step, since the epoch.
    pub start: u64,
    /// First ms after the step.
    pub end: u64,
    /// Reactions.
    pub count: u64,
    /// The same by reaction, of those that are named.
    #[schemars(schema_with = "wire::counts_schema")]
    pub counts: Counts,
    /// How many of `count` are of all other reactions; left out where there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub others: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Sums windows up. They come in the order of their start.
#[derive(Debug)]
pub struct Points {
    from_ms: u64,
    to_ms: u64,
    step_ms: u64,
    done: Vec<Point>,
    /// The step that windows are added to.
    open: Option<Point>,
}

impl Points {
    /// Points of `step_ms` from `from_ms` on. The last one ends at `to_ms`, and may be shorter.
    pub fn new(from_ms: u64, to_ms: u64, step_ms: u64) -> Self {
        Self { from_ms, to_ms, step_ms: step_ms.max(1), done: Vec::new(), open: None }
    }

    /// Adds a window to the step that it starts in. A window that starts outside of the range is passed over.
    pub fn add(&mut self, record: &WindowRecord) {
        let WindowRecord { window, count, counts, others, .. } = record;
        if !(self.from_ms..self.to_ms).contains(&window.start) {
            return;
        }
        let number = (window.start - self.from_ms) / self.step_ms;
        let start = self.from_ms + number * self.step_ms;
        if self.open.as_ref().is_some_and(|open| open.start != start) {
            self.close();
        }
        let end = start.saturating_add(self.step_ms).min(self.to_ms);
        let point =
            self.open.get_or_insert_with(|| Point { start, end, count: 0, counts: Counts::new(), others: 0 });
        point.count = point.count.saturating_add(*count);
        point.others = point.others.saturating_add(*others);
        for (reaction, n) in counts {
            match point.counts.get_mut(reaction) {
                Some(sum) => *sum = sum.saturating_add(*n),
                None => drop(point.counts.insert(reaction.clone(), *n)),
            }
        }
    }

    fn close(&mut self) {
        if let Some(mut point) = self.open.take() {
            point.keep_most_frequent();
            self.done.push(point);
        }
    }

    /// The points, in the order of time. A step without reactions has none.
    pub fn finish(mut self) -> Vec<Point> {
        self.close();
        mem::take(&mut self.done)
    }
}

impl Point {
    fn keep_most_frequent(&mut self) {
        if self.counts.len() <= NAMES_MAX {
            return;
        }
        let mut counts: Vec<(Reaction, u64)> = mem::take(&mut self.counts).into_iter().collect();
        // Of equal ones the first by name stay, whatever the order of windows was.
        counts.sort_by(|(left, l), (right, r)| r.cmp(l).then_with(|| left.cmp(right)));
        let left_out: u64 = counts[NAMES_MAX..].iter().map(|(_, n)| n).sum();
        counts.truncate(NAMES_MAX);
        self.counts = counts.into_iter().collect::<BTreeMap<_, _>>();
        self.others = self.others.saturating_add(left_out);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire::{FORMAT_VERSION, Source, Window};

    /// A window of a second with these counts.
    pub(crate) fn window(
        room: &str,
        seq: u64,
        start: u64,
        counts: &[(&str, u64)],
        others: u64,
    ) -> WindowRecord {
        let counts: Counts = counts.iter().map(|(reaction, n)| (reaction.parse().unwrap(), *n)).collect();
        let count = counts.values().sum::<u64>() + others;
        WindowRecord {
            v: FORMAT_VERSION,
            room: room.parse().unwrap(),
            seq,
            since: 1,
            window: Window { start, end: start + 1_000 },
            count,
            counts,
            others,
            slots: vec![count],
            late: 0,
            skewed: 0,
            source: Source { partition: 0, from: seq, to: seq + 1 },
        }
    }

    fn sum_up(from_ms: u64, to_ms: u64, step_ms: u64, windows: &[WindowRecord]) -> Vec<Point> {
        let mut points = Points::new(from_ms, to_ms, step_ms);
        windows.iter().for_each(|window| points.add(window));
        points.finish()
    }

    #[test]
    fn windows_are_summed_up_in_the_step_that_they_start_in_and_empty_steps_are_left_out() {
        let windows = [
            window("r", 1, 10_000, &[("a", 1)], 0),
            window("r", 2, 11_500, &[("a", 2), ("b", 3)], 1),
            window("r", 3, 15_999, &[("b", 5)], 0),
            window("r", 4, 17_000, &[("b", 7)], 0),
        ];
        let points = sum_up(10_000, 17_000, 2_000, &windows);
        let told: Vec<_> = points.iter().map(|p| (p.start, p.end, p.count, p.others)).collect();
        assert_eq!(told, [(10_000, 12_000, 7, 1), (14_000, 16_000, 5, 0)]);
        assert_eq!(points[0].counts, Counts::from([("a".parse().unwrap(), 3), ("b".parse().unwrap(), 3)]));
        let json = serde_json::to_string(&points[1]).unwrap();
        assert_eq!(json, r#"{"start":14000,"end":16000,"count":5,"counts":{"b":5}}"#);
        assert_eq!(
            sum_up(10_000, 16_000, 4_000, &windows)[1].end,
            16_000,
            "the last step ends with the range"
        );
    }

    #[test]
    fn a_point_names_the_most_frequent_reactions_and_sums_up_the_rest() {
        let names: Vec<String> = (0..NAMES_MAX + 10).map(|n| format!("r{n:03}")).collect();
        let counts: Vec<_> = (1..).zip(&names).map(|(n, name)| (name.as_str(), n)).collect();
        let points = sum_up(0, 10_000, 10_000, &[window("r", 1, 0, &counts, 4)]);
        assert_eq!((points[0].counts.len(), points[0].others), (NAMES_MAX, 4 + (1..=10).sum::<u64>()));
        assert!(points[0].counts.contains_key("r010") && !points[0].counts.contains_key("r009"));
    }

    proptest! {
        #[test]
        fn the_sum_over_points_is_the_sum_over_windows_whatever_the_step(
            windows in prop::collection::vec((0u64..5_000, 0u64..5, 0u64..5, 0u64..3), 0..60),
            from in 0u64..30_000,
            len in 1u64..100_000,
            step in 1u64..20_000,
        ) {
            let mut start = 0;
            let windows: Vec<_> = (1..)
                .zip(windows)
                .map(|(seq, (later, a, b, others))| {
                    start += later;
                    window("r", seq, start, &[("a", a), ("b", b)], others)
                })
                .collect();
            let to = from + len;
            let points = sum_up(from, to, step, &windows);
            let within = || windows.iter().filter(|it| (from..to).contains(&it.window.start));
            let of = |counts: &Counts, name: &str| counts.get(name).copied().unwrap_or(0);
            prop_assert_eq!(
                points.iter().map(|p| p.count).sum::<u64>(),
                within().map(|w| w.count).sum::<u64>()
            );
            for name in ["a", "b"] {
                prop_assert_eq!(
                    points.iter().map(|p| of(&p.counts, name)).sum::<u64>(),
                    within().map(|w| of(&w.counts, name)).sum::<u64>()
                );
            }
            for point in &points {
                prop_assert_eq!(point.count, point.counts.values().sum::<u64>() + point.others);
                prop_assert!(point.start >= from && point.end <= to && point.end - point.start <= step);
                prop_assert_eq!((point.start - from) % step, 0);
            }
            prop_assert!(points.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
    }
}
