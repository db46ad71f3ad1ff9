//! The windows of a partition, against the newest aggregates of its rooms.
//!
//! - A window of a room has one record.
//! - The windows of a partition don't share records of `reactions`.
//! - Of a room's `seq`, at most one number in a row is without a window: that of an aggregate of zero.
//! - The windows of a life sum up to its total. Where retention took some of them, the sum is not above the total.

use super::{Finding, Report};
use crate::{Aggregate, Counts, RoomName, Source, Window, WindowRecord};
use std::collections::BTreeMap;

/// How much earlier than the oldest window that is left a life may have begun and still be whole: the longest window.
const SLACK_MS: u64 = 60_000;

/// Takes the newest aggregates of a partition first and then its windows, each in the order of the log. So all windows
/// of these aggregates are among those that follow; later ones may be, too.
#[derive(Debug)]
pub struct WindowAuditor {
    partition: u32,
    /// Lives that began at this time or later have all of their windows, ms since the epoch. `None`: not known yet.
    whole_from_ms: Option<u64>,
    newest: BTreeMap<RoomName, Newest>,
    lives: BTreeMap<RoomName, Life>,
    /// Where the last window came from.
    last: Option<(Source, Window)>,
    report: Report,
}

/// What a room's newest aggregate says.
#[derive(Debug)]
struct Newest {
    seq: u64,
    since: u64,
    window: Window,
    is_rest: bool,
    total: u64,
    totals: Counts,
    others_total: u64,
}

/// The windows of a room since it began, as far as they are left.
#[derive(Debug)]
struct Life {
    since: u64,
    first_seq: u64,
    last_seq: u64,
    /// The offset after the last record of its windows.
    last_to: u64,
    /// Of the windows up to the newest aggregate:
    counted_seq: u64,
    count: u64,
    counts: Counts,
    others: u64,
}

impl WindowAuditor {
    /// For windows of which retention may have removed the oldest.
    pub fn of_kept_windows(partition: u32) -> Self {
        Self {
            partition,
            whole_from_ms: None,
            newest: BTreeMap::new(),
            lives: BTreeMap::new(),
            last: None,
            report: Report::default(),
        }
    }

    /// For windows that are all there.
    pub fn of_all_windows(partition: u32) -> Self {
        Self { whole_from_ms: Some(0), ..Self::of_kept_windows(partition) }
    }

    /// The next record of `aggregates`: `None` is a tombstone.
    pub fn aggregate(&mut self, room: &RoomName, aggregate: Option<&Aggregate>) {
        let Some(aggregate) = aggregate else {
            self.newest.remove(room);
            return;
        };
        let newest = Newest {
            seq: aggregate.seq,
            since: aggregate.since,
            window: aggregate.window,
            is_rest: aggregate.count == 0,
            total: aggregate.total,
            totals: aggregate.totals.clone(),
            others_total: aggregate.others_total,
        };
        self.newest.insert(room.clone(), newest);
    }

    /// The next record of `windows`.
    pub fn window(&mut self, room: &RoomName, value: &[u8]) {
        let record = match WindowRecord::decode_of(room, value) {
            Ok(record) => record,
            Err(error) => {
                let (room, why) = (room.clone(), format!("a window: {error}"));
                return self.report.add(Finding::Unreadable { room, why });
            }
        };
        self.whole_from_ms.get_or_insert(record.window.start.saturating_add(SLACK_MS));
        self.chain(&record);
        if self.live_on(&record) {
            self.count(&record);
        }
    }

    /// The records of a window follow those of the window before.
    fn chain(&mut self, record: &WindowRecord) {
        let WindowRecord { room, source, window, .. } = record;
        if source.partition != self.partition {
            let (partition, names) = (self.partition, source.partition);
            self.report.add(Finding::WrongPartition { room: room.clone(), partition, names });
        }
        let last = self.last.replace((*source, *window));
        if let Some((before, _)) = last.filter(|last| *last != (*source, *window) && last.0.to > source.from)
        {
            let (partition, from, to) = (self.partition, source.from, before.to);
            self.report.add(Finding::Overlap { partition, from, to });
        }
    }

    /// Returns whether the window follows the room's last one, or begins a life.
    fn live_on(&mut self, record: &WindowRecord) -> bool {
        let WindowRecord { room, seq, since, source, .. } = record;
        // After a clock went back, a later life may begin at the same time as an earlier one. It has later records.
        let is_same =
            |life: &&mut Life| life.since == *since && (*seq > life.last_seq || source.from < life.last_to);
        let Some(life) = self.lives.get_mut(room).filter(is_same) else {
            let life = Life {
                since: *since,
                first_seq: *seq,
                last_seq: *seq,
                last_to: source.to,
                counted_seq: 0,
                count: 0,
                counts: Counts::new(),
                others: 0,
            };
            if *seq > 1 && self.whole_from_ms.is_some_and(|from| *since >= from) {
                self.report.add(Finding::WindowMissing { room: room.clone(), seq: 1 });
            }
            self.lives.insert(room.clone(), life);
            return true;
        };
        let last_seq = life.last_seq;
        (life.last_seq, life.last_to) = (last_seq.max(*seq), life.last_to.max(source.to));
        if *seq <= last_seq {
            self.report.add(Finding::WindowTwice { room: room.clone(), seq: *seq });
            return false;
        }
        if *seq > last_seq + 2 {
            self.report.add(Finding::WindowMissing { room: room.clone(), seq: last_seq + 1 });
        }
        true
    }

    /// Adds the window to the sums of its life. The newest aggregate does not know of later windows.
    fn count(&mut self, record: &WindowRecord) {
        let WindowRecord { room, seq, since, count, counts, others, .. } = record;
        let newest = self.newest.get(room).filter(|newest| newest.since == *since);
        let Some(life) = self.lives.get_mut(room).filter(|_| newest.is_some_and(|it| *seq <= it.seq)) else {
            return;
        };
        life.counted_seq = *seq;
        life.count = life.count.saturating_add(*count);
        life.others = life.others.saturating_add(*others);
        for (reaction, n) in counts {
            let sum = life.counts.entry(reaction.clone()).or_default();
            *sum = sum.saturating_add(*n);
        }
    }

    /// Compares the sums with the totals. Returns what was found.
    pub fn report(mut self) -> Report {
        // Without a window nothing says how far back they are kept.
        let Some(whole_from_ms) = self.whole_from_ms else { return self.report };
        for (room, newest) in &self.newest {
            let life = self.lives.get(room).filter(|life| life.since == newest.since);
            // A room of which retention took the last window is silent for long.
            if newest.window.start >= whole_from_ms {
                let last = newest.seq - u64::from(newest.is_rest);
                if life.is_none_or(|life| life.counted_seq < last) {
                    self.report.add(Finding::WindowMissing { room: room.clone(), seq: last });
                    continue;
                }
            }
            let Some(life) = life else { continue };
            let is_whole = life.first_seq == 1;
            let is_right = if is_whole {
                life.count == newest.total
                    && life.counts == newest.totals
                    && life.others == newest.others_total
            } else {
                life.count <= newest.total
            };
            if !is_right {
                let (room, seq, total, sum) = (room.clone(), newest.seq, newest.total, life.count);
                self.report.add(Finding::WindowSum { room, seq, total, sum });
            }
        }
        self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    /// The aggregates of one life of `r` that began on the second day, one for each of `counts`. One of zero is at rest.
    fn life(counts: &[u64]) -> Vec<Aggregate> {
        let mut total = 0;
        let (reaction, since) = ("a".parse::<crate::Reaction>().unwrap(), DAY_MS);
        let of = |n: u64| if n > 0 { Counts::from([(reaction.clone(), n)]) } else { Counts::new() };
        (0..)
            .zip(counts)
            .map(|(n, count)| {
                total += count;
                Aggregate {
                    v: crate::FORMAT_VERSION,
                    room: "r".parse().unwrap(),
                    seq: n + 1,
                    since,
                    window: Window { start: since + n * 2_000, end: since + n * 2_000 + 2_000 },
                    count: *count,
                    counts: of(*count),
                    others: 0,
                    slots: vec![*count],
                    late: 0,
                    skewed: 0,
                    total,
                    totals: of(total),
                    others_total: 0,
                    carried: 0,
                    source: Source { partition: 0, from: n, to: n + 1 },
                }
            })
            .collect()
    }

    fn audit(mut auditor: WindowAuditor, aggregates: &[Aggregate], windows: &[&Aggregate]) -> Vec<String> {
        for aggregate in aggregates {
            assert_eq!(aggregate.check(), Ok(()));
            auditor.aggregate(&aggregate.room, Some(aggregate));
        }
        for window in windows {
            let value = window.encode_window();
            value.into_iter().for_each(|value| auditor.window(&window.room, &value));
        }
        auditor.report().findings.iter().map(Finding::to_string).collect()
    }

    fn all(aggregates: &[Aggregate]) -> Vec<&Aggregate> {
        aggregates.iter().collect()
    }

    /// A window of another room, a day before.
    fn old() -> Aggregate {
        let mut old = life(&[1]).remove(0);
        (old.room, old.since) = ("old".parse().unwrap(), 0);
        old.window = Window { start: 0, end: 2_000 };
        old.source = Source { partition: 0, from: 0, to: 0 };
        old
    }

    #[test]
    fn the_windows_of_a_life_are_its_total() {
        let aggregates = life(&[5, 3, 0, 4, 0]);
        for end in 1..=aggregates.len() {
            let auditor = WindowAuditor::of_all_windows(0);
            assert_eq!(audit(auditor, &aggregates[..end], &all(&aggregates[..end])), [""; 0], "{end}");
            // Windows that came after the aggregates were read.
            let auditor = WindowAuditor::of_all_windows(0);
            assert_eq!(audit(auditor, &aggregates[..end], &all(&aggregates)), [""; 0], "{end}");
        }
    }

    #[test]
    fn a_window_that_is_missing_or_twice_is_found_wherever_it_is() {
        let aggregates = life(&[5, 3, 2, 0, 4, 1]);
        for at in [0, 1, 2, 4, 5] {
            let mut windows = all(&aggregates);
            windows.remove(at);
            let found = audit(WindowAuditor::of_all_windows(0), &aggregates, &windows);
            assert_eq!(found.len(), 1 + usize::from(at == 2 || at == 4), "{at}: {found:?}");
            let mut windows = all(&aggregates);
            windows.insert(at, windows[at]);
            let found = audit(WindowAuditor::of_all_windows(0), &aggregates, &windows);
            assert_eq!(found, [format!("room r: two records of the window of seq {}", at + 1)]);
        }
        let found = audit(WindowAuditor::of_all_windows(0), &aggregates, &[]);
        assert_eq!(found, ["room r: the window of seq 6 is missing"]);
    }

    #[test]
    fn what_retention_took_is_no_fault_and_what_it_left_is_checked() {
        let aggregates = life(&[5, 3, 2, 4]);
        let kept = || WindowAuditor::of_kept_windows(0);
        for first in 0..aggregates.len() {
            assert_eq!(audit(kept(), &aggregates, &all(&aggregates[first..])), [""; 0], "{first}");
        }
        assert_eq!(audit(kept(), &aggregates, &[]), [""; 0], "no window is left");
        // An older window of the partition is left, so this life has all of its windows.
        let old = old();
        let found = audit(kept(), &aggregates, &[&old, &aggregates[1], &aggregates[2], &aggregates[3]]);
        assert_eq!(found, ["room r: the window of seq 1 is missing"]);
        assert_eq!(audit(kept(), &aggregates, &[&old]), ["room r: the window of seq 4 is missing"]);
    }

    #[test]
    fn a_window_that_counts_otherwise_than_its_aggregate_is_found() {
        let aggregates = life(&[5, 3]);
        let mut windows = aggregates.clone();
        (windows[1].count, windows[1].slots) = (4, vec![4]);
        windows[1].counts = Counts::from([("a".parse().unwrap(), 4)]);
        let found = audit(WindowAuditor::of_all_windows(0), &aggregates, &all(&windows));
        assert_eq!(found, ["room r: total 8 at seq 2, 9 in its windows"]);
        windows[1] = Aggregate { counts: Counts::from([("b".parse().unwrap(), 3)]), ..aggregates[1].clone() };
        let found = audit(WindowAuditor::of_all_windows(0), &aggregates, &all(&windows));
        assert_eq!(found, ["room r: total 8 at seq 2, 8 in its windows"]);
    }

    #[test]
    fn windows_that_share_records_and_foreign_ones_are_found() {
        let mut aggregates = life(&[5, 3]);
        aggregates[1].source = Source { partition: 0, from: 0, to: 2 };
        let found = audit(WindowAuditor::of_all_windows(0), &aggregates, &all(&aggregates));
        assert_eq!(found, ["partition 0: the records 0 to 1 are in two windows"]);
        let aggregates = life(&[5]);
        let found = audit(WindowAuditor::of_all_windows(1), &aggregates, &all(&aggregates));
        assert_eq!(found, ["room r: an aggregate in partition 1 names partition 0"]);
        let mut auditor = WindowAuditor::of_kept_windows(0);
        auditor.window(&"other".parse().unwrap(), &aggregates[0].encode_window().unwrap());
        assert_eq!(auditor.report().findings[0].kind(), "unreadable");
    }

    #[test]
    fn a_new_life_begins_again() {
        let first = life(&[5, 0]);
        let mut second = life(&[7]);
        second[0].since = 2 * DAY_MS;
        second[0].window = Window { start: 2 * DAY_MS, end: 2 * DAY_MS + 2_000 };
        second[0].source = Source { partition: 0, from: 2, to: 3 };
        let mut auditor = WindowAuditor::of_all_windows(0);
        auditor.aggregate(&first[1].room, Some(&first[1]));
        auditor.aggregate(&first[1].room, None);
        assert_eq!(audit(auditor, &second, &[&first[0], &second[0]]), [""; 0]);
        // The clock went back: it begins at the same time.
        (second[0].since, second[0].window) = (first[0].since, first[0].window);
        assert_eq!(audit(WindowAuditor::of_all_windows(0), &second, &[&first[0], &second[0]]), [""; 0]);
    }
}
