//! The record of topic `windows`: what came in one window of one room.
//!
//! It is the room's [`Aggregate`] without its totals. The windows of a room are its history: their sum over a life of the room is
//! the room's total.

use crate::{
    Aggregate, Counts, DecodeError, FORMAT_VERSION, RoomName, Source, Window, aggregate::CountedWindow,
};
use serde::Deserialize;

/// What came in one window of one room. Key of its record: the room. A window without reactions has no record.
///
/// Fields that came later are passed over.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub struct WindowRecord {
    /// [`FORMAT_VERSION`].
    pub v: u32,
    /// The room.
    pub room: RoomName,
    /// Number of the aggregate that the same window gave. An aggregate of zero has a number too, and no record here.
    pub seq: u64,
    /// Start of the room's first window, ms since the epoch: tells one life of a room from the next.
    pub since: u64,
    /// The time that the window covers.
    pub window: Window,
    /// Reactions in the window, above zero.
    pub count: u64,
    /// The same by reaction, of those that the room counts by name.
    pub counts: Counts,
    /// How many of `count` are of all other reactions.
    #[serde(default, skip_serializing_if = "crate::aggregate::is_zero")]
    pub others: u64,
    /// `count` spread over equal slices of the window.
    pub slots: Vec<u64>,
    /// How many of `count` came with a timestamp before the window.
    pub late: u64,
    /// How many of `count` came with a timestamp from the future (a broken clock).
    pub skewed: u64,
    /// The records of `reactions` that were counted.
    pub source: Source,
}

impl WindowRecord {
    /// The record of the aggregate's window. `None`: it had no reactions.
    pub fn from_aggregate(aggregate: Aggregate) -> Option<Self> {
        let Aggregate {
            v, room, seq, since, window, count, counts, others, slots, late, skewed, source, ..
        } = aggregate;
        (count > 0).then_some(Self {
            v,
            room,
            seq,
            since,
            window,
            count,
            counts,
            others,
            slots,
            late,
            skewed,
            source,
        })
    }

    /// Reads a record's value, and checks that it agrees with itself.
    ///
    /// # Errors
    ///
    /// The value is not JSON of this version, or contradicts itself.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let record: Self = serde_json::from_slice(value)?;
        if record.v != FORMAT_VERSION {
            return Err(DecodeError::Version(record.v));
        }
        record.check().map_err(DecodeError::Inconsistent)?;
        Ok(record)
    }

    /// Reads the record of `room`.
    ///
    /// # Errors
    ///
    /// As [`Self::decode`], or the record is of another room.
    pub fn decode_of(room: &RoomName, value: &[u8]) -> Result<Self, DecodeError> {
        match Self::decode(value)? {
            record if record.room == *room => Ok(record),
            record => Err(DecodeError::Room(record.room)),
        }
    }

    /// Rules of every record. The decoder, tests and the audit share them.
    ///
    /// # Errors
    ///
    /// The rule that the record breaks.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.count == 0 {
            return Err("a window without reactions has no record");
        }
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
        counted.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::tests::{GOLDEN as AGGREGATE, GOLDEN_OTHERS as AGGREGATE_OTHERS};

    const GOLDEN: &str = include_str!("../golden/window.json");
    const GOLDEN_OTHERS: &str = include_str!("../golden/window-others.json");

    #[test]
    fn a_record_is_its_aggregate_without_the_totals() {
        for (aggregate, golden) in [(AGGREGATE, GOLDEN), (AGGREGATE_OTHERS, GOLDEN_OTHERS)] {
            let aggregate = Aggregate::decode(aggregate.as_bytes()).unwrap();
            let record = WindowRecord::from_aggregate(aggregate).unwrap();
            assert_eq!(serde_json::to_string(&record).unwrap(), golden.trim_end());
            assert_eq!(WindowRecord::decode(golden.as_bytes()).unwrap(), record);
        }
    }

    #[test]
    fn the_bytes_of_an_aggregate_around_its_totals_are_the_record() {
        for (aggregate, golden) in [(AGGREGATE, GOLDEN), (AGGREGATE_OTHERS, GOLDEN_OTHERS)] {
            let value = Aggregate::decode(aggregate.as_bytes()).unwrap().encode_window().unwrap();
            assert_eq!(String::from_utf8(value).unwrap(), golden.trim_end());
        }
    }

    #[test]
    fn an_aggregate_without_reactions_has_no_record() {
        let mut rest = Aggregate::decode(AGGREGATE.as_bytes()).unwrap();
        (rest.count, rest.late, rest.skewed) = (0, 0, 0);
        rest.counts.clear();
        rest.slots = vec![0; 4];
        assert_eq!(rest.check(), Ok(()));
        assert_eq!(rest.encode_window(), None);
        assert_eq!(WindowRecord::from_aggregate(rest), None);
    }

    #[test]
    fn reads_records_with_fields_that_came_later() {
        for (from, to) in [
            ("{\"v\":1", "{\"mood\":\"loud\",\"v\":1"),
            ("\"from\":1041", "\"from\":1041,\"by\":[1]"),
            ("\"end\":", "\"zone\":{},\"end\":"),
        ] {
            assert!(GOLDEN.contains(from));
            let read = WindowRecord::decode(GOLDEN.replace(from, to).as_bytes()).unwrap();
            assert_eq!(read, WindowRecord::decode(GOLDEN.as_bytes()).unwrap());
        }
    }

    #[test]
    fn refuses_records_that_contradict_themselves() {
        for (from, to, why) in [
            ("\"v\":1", "\"v\":9", "version 9"),
            ("\"seq\":412", "\"seq\":0", "starts at 1"),
            ("\"count\":889", "\"count\":888", "not the sum of `counts`"),
            ("\"count\":889", "\"count\":0", "has no record"),
            ("210,240", "211,240", "not the sum of `slots`"),
            ("\"from\":1041", "\"from\":2041", "runs backwards"),
            ("\"late\":3", "\"late\":900", "more late"),
            ("\"end\":1763000002000", "\"end\":1763000000000", "window is empty"),
        ] {
            assert!(GOLDEN.contains(from), "{from}");
            let text = WindowRecord::decode(GOLDEN.replace(from, to).as_bytes()).unwrap_err().to_string();
            assert!(text.contains(why), "{text}");
        }
        let other = WindowRecord::decode_of(&"other".parse().unwrap(), GOLDEN.as_bytes()).unwrap_err();
        assert!(matches!(&other, DecodeError::Room(room) if &**room == "ind-pak-final"), "{other}");
    }

    #[test]
    fn fuzz_windows() {
        bolero::check!().for_each(|value: &[u8]| {
            if let Ok(record) = WindowRecord::decode(value) {
                assert_eq!(record.check(), Ok(()));
                let again = serde_json::to_vec(&record).unwrap();
                assert_eq!(WindowRecord::decode(&again).unwrap(), record);
            }
        });
    }
}
