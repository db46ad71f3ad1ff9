//! The record of topic `aggregates`: what one window yields for one room.

mod checked;
mod form;

pub use checked::CheckedAggregate;
pub use form::Outline;

use crate::{Counts, DecodeError, FORMAT_VERSION, RoomName, batch::sum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A stretch of time, in ms since the Unix epoch: from `start` up to, not including, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Window {
    /// First ms of the window.
    pub start: u64,
    /// First ms after the window.
    pub end: u64,
}

impl Window {
    /// Length in ms.
    pub fn len_ms(&self) -> u64 {
        self.end - self.start
    }
}

/// Where an aggregate comes from: the records of `partition` from offset `from` up to, not including, `to` (the cut).
///
/// The windows of a partition follow each other without gap or overlap: a window's `from` is the `to` of the one
/// before. An auditor needs nothing else to see a loss or a double count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub struct Source {
    /// Partition of topic `reactions`, and of `aggregates`.
    pub partition: u32,
    /// First offset of the window.
    pub from: u64,
    /// First offset after the window.
    pub to: u64,
}

/// What one window yields for one room. Key of its record: the room. A tombstone (no value) forgets the room.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub struct Aggregate {
    /// [`FORMAT_VERSION`].
    pub v: u32,
    /// The room.
    pub room: RoomName,
    /// Number of this aggregate in the room, from 1, without gaps. Starts again when the room was forgotten.
    pub seq: u64,
    /// Start of the room's first window, ms since the epoch: tells one life of a room from the next.
    pub since: u64,
    /// The time that the window covers.
    pub window: Window,
    /// Reactions in the window; zero in a rest aggregate, which follows the last window with reactions.
    pub count: u64,
    /// The same by reaction, of those that the room counts by name.
    pub counts: Counts,
    /// How many of `count` are of all other reactions.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub others: u64,
    /// `count` spread over equal slices of the window.
    pub slots: Vec<u64>,
    /// How many of `count` came with a timestamp before the window.
    pub late: u64,
    /// How many of `count` came with a timestamp from the future (a broken clock).
    pub skewed: u64,
    /// Reactions since `since`.
    pub total: u64,
    /// The same by reaction, of those that the room counts by name.
    pub totals: Counts,
    /// How many of `total` are of all other reactions.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub others_total: u64,
    /// How many of `total` were counted in an earlier log, from which `uproar repartition` brought them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub carried: u64,
    /// The records that were counted.
    pub source: Source,
}

/// What was counted in a window of a room, as aggregates and the history have it.
pub(crate) struct CountedWindow<'a> {
    pub(crate) seq: u64,
    pub(crate) window: Window,
    pub(crate) count: u64,
    pub(crate) counts: &'a Counts,
    pub(crate) others: u64,
    pub(crate) slots: &'a [u64],
    pub(crate) late: u64,
    pub(crate) skewed: u64,
    pub(crate) source: Source,
}

impl CountedWindow<'_> {
    /// What holds for every window, whoever counted it.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let Self { seq, window, count, counts, others, slots, late, skewed, source } = self;
        first_broken(&[
            (*seq > 0, "`seq` starts at 1"),
            (window.start < window.end, "the window is empty"),
            (source.from <= source.to, "`source` runs backwards"),
            (
                sum(counts.values().chain([others])) == Some(*count),
                "`count` is not the sum of `counts` and `others`",
            ),
            (sum(slots.iter()) == Some(*count), "`count` is not the sum of `slots`"),
            (late.checked_add(*skewed).is_some_and(|n| n <= *count), "more late and skewed than counted"),
        ])
    }
}

/// The text of the first rule that does not hold.
fn first_broken(rules: &[(bool, &'static str)]) -> Result<(), &'static str> {
    rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, broken)| Err(*broken))
}

/// Whether a count is left out of what is written.
pub(crate) fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Aggregate {
    /// Reads a record's value, and checks that it agrees with itself.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let aggregate: Self = serde_json::from_slice(value)?;
        if aggregate.v != FORMAT_VERSION {
            return Err(DecodeError::Version(aggregate.v));
        }
        aggregate.check().map_err(DecodeError::Inconsistent)?;
        Ok(aggregate)
    }

    /// What holds for every aggregate, whoever made it. Shared by the decoder, tests and the audit.
    pub fn check(&self) -> Result<(), &'static str> {
        let Self { seq, window, count, counts, others, slots, late, skewed, source, .. } = self;
        let counted = CountedWindow {
            seq: *seq,
            window: *window,
            count: *count,
            counts,
            others: *others,
            slots,
            late: *late,
            skewed: *skewed,
            source: *source,
        };
        counted.check()?;
        let rules = [
            (
                sum(self.totals.values().chain([&self.others_total])) == Some(self.total),
                "`total` is not the sum of `totals` and `others_total`",
            ),
            (self.carried <= self.total, "more was carried over than counted"),
            (
                self.others <= self.others_total
                    && self.counts.iter().all(|(r, n)| self.totals.get(r) >= Some(n)),
                "a total is below its count",
            ),
        ];
        first_broken(&rules)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const GOLDEN: &str = include_str!("../golden/aggregate.json");
    /// Of a room with more distinct reactions than it counts by name.
    pub(crate) const GOLDEN_OTHERS: &str = include_str!("../golden/aggregate-others.json");

    #[test]
    fn encodes_as_the_golden_file() {
        let aggregate = Aggregate::decode(GOLDEN.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(aggregate.encode()).unwrap(), GOLDEN.trim_end());
        assert_eq!(aggregate.window.len_ms(), 2_000);
        assert_eq!(aggregate.totals["🔥"], 90_000);
    }

    #[test]
    fn the_others_are_a_field_that_no_reaction_can_be_taken_for() {
        let aggregate = Aggregate::decode(GOLDEN_OTHERS.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(aggregate.encode()).unwrap(), GOLDEN_OTHERS.trim_end());
        assert_eq!((aggregate.others, aggregate.others_total), (11, 20));
        assert_eq!((aggregate.counts["others"], aggregate.totals["other"]), (1, 2));
    }

    #[test]
    fn reads_records_with_fields_that_came_later() {
        for (from, to) in [
            ("{\"v\":1", "{\"mood\":\"loud\",\"v\":1"),
            ("\"from\":1041", "\"from\":1041,\"by\":[1]"),
            ("\"end\":", "\"zone\":{},\"end\":"),
        ] {
            assert!(GOLDEN.contains(from));
            let read = Aggregate::decode(GOLDEN.replace(from, to).as_bytes()).unwrap();
            assert_eq!(read, Aggregate::decode(GOLDEN.as_bytes()).unwrap());
        }
    }

    #[test]
    fn refuses_what_contradicts_itself() {
        let spoil = |from: &str, to: &str| {
            assert!(GOLDEN.contains(from), "{from}");
            Aggregate::decode(GOLDEN.replace(from, to).as_bytes()).unwrap_err().to_string()
        };
        for (from, to, why) in [
            ("\"v\":1", "\"v\":9", "version 9"),
            ("\"seq\":412", "\"seq\":0", "starts at 1"),
            ("\"count\":889", "\"count\":888", "not the sum of `counts`"),
            ("\"total\":90311", "\"total\":1", "not the sum of `totals`"),
            ("210,240", "211,240", "not the sum of `slots`"),
            ("\"from\":1041", "\"from\":2041", "runs backwards"),
            ("\"late\":3", "\"late\":900", "more late"),
            ("\"end\":1763000002000", "\"end\":1763000000000", "window is empty"),
        ] {
            let text = spoil(from, to);
            assert!(text.contains(why), "{text}");
        }
        for (from, to, why) in [
            ("\"others\":11", "\"others\":12", "not the sum of `counts` and `others`"),
            ("\"others_total\":20", "\"others_total\":21", "not the sum of `totals` and `others_total`"),
            (
                "\"👏\":300,\"🔥\":89989},\"others_total\":20",
                "\"👏\":310,\"🔥\":89989},\"others_total\":10",
                "a total is below",
            ),
        ] {
            assert!(GOLDEN_OTHERS.contains(from), "{from}");
            let text = Aggregate::decode(GOLDEN_OTHERS.replace(from, to).as_bytes()).unwrap_err().to_string();
            assert!(text.contains(why), "{text}");
        }
    }
}
