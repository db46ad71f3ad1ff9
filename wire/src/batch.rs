//! The record of topic `reactions`: what ingest combined for the rooms of one partition during one commit interval.
//!
//! Its value is one or more batches in JSON Lines form: a line each, `\n` between them, and none after the last.

mod borrowed;

pub use borrowed::BatchRef;

use crate::{
    COUNT_MAX, Counts, DecodeError, FORMAT_VERSION, RoomName,
    json::{put_counts, put_number, put_quoted},
};

/// What stands in a line before its values. The version is [`FORMAT_VERSION`].
mod form {
    pub(super) const ROOM: &[u8] = br#"{"v":1,"room":"#;
    pub(super) const COUNTS: &[u8] = br#","counts":{"#;
    pub(super) const COUNT: &[u8] = br#"},"count":"#;
}

/// Reactions of one room, combined: a line of a record.
///
/// JSON: `{"v":1,"room":"…","counts":{"🔥":812},"count":812}`. `count` is the sum of `counts`, above zero and at most
/// [`COUNT_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize))]
pub struct Batch {
    v: u32,
    /// The room that was reacted in.
    pub room: RoomName,
    /// How often each reaction was sent.
    pub counts: Counts,
    /// Sum of `counts`.
    pub count: u64,
}

impl Batch {
    /// A batch of `counts`. `None` when they are empty, hold a zero, or their sum passes [`COUNT_MAX`].
    pub fn new(room: RoomName, counts: Counts) -> Option<Self> {
        let count = sum(counts.values())?;
        (count > 0 && count <= COUNT_MAX && counts.values().all(|n| *n > 0)).then_some(Self {
            v: FORMAT_VERSION,
            room,
            counts,
            count,
        })
    }

    /// The value of a record that holds this batch alone.
    pub fn encode(&self) -> Vec<u8> {
        let mut value = Vec::new();
        self.encode_into(&mut value);
        value
    }

    /// Adds the batch to a record's value.
    pub fn encode_into(&self, value: &mut Vec<u8>) {
        write_line(value, &self.room, self.counts.iter().map(|(reaction, n)| (reaction, *n)), self.count);
    }

    /// Reads the batches of a record, as [`BatchRef::decode_all`] does.
    pub fn decode_all(value: &[u8]) -> impl Iterator<Item = Result<Self, DecodeError>> {
        BatchRef::decode_all(value).map(|batch| batch.map(|batch| Self::from(&batch)))
    }

    /// Reads one line, and checks that it agrees with itself.
    pub fn decode(line: &[u8]) -> Result<Self, DecodeError> {
        BatchRef::decode(line).map(|batch| Self::from(&batch))
    }
}

impl From<&BatchRef<'_>> for Batch {
    fn from(batch: &BatchRef<'_>) -> Self {
        let mut counts = Counts::new();
        for (reaction, n) in &batch.counts {
            *counts.entry(reaction.into()).or_default() += n;
        }
        Self { v: FORMAT_VERSION, room: (&batch.room).into(), counts, count: batch.count }
    }
}

/// Adds the batch of `room` to a record's value, as [`Batch::encode_into`] does, and without making one.
///
/// The caller sees to it that it is a batch: `counts` is not empty, each is of a [`Reaction`](crate::Reaction), in their
/// order, and above zero, and `count` is their sum, at most [`COUNT_MAX`].
pub fn write_line<R: AsRef<str>>(
    value: &mut Vec<u8>,
    room: &RoomName,
    counts: impl IntoIterator<Item = (R, u64)>,
    count: u64,
) {
    if !value.is_empty() {
        value.push(b'\n');
    }
    value.extend_from_slice(form::ROOM);
    // It holds nothing that is escaped.
    put_quoted(value, room);
    value.extend_from_slice(form::COUNTS);
    put_counts(value, counts);
    value.extend_from_slice(form::COUNT);
    put_number(value, count);
    value.push(b'}');
}

/// Sum of counts; `None` where it passes `u64`.
pub(crate) fn sum<'a>(mut counts: impl Iterator<Item = &'a u64>) -> Option<u64> {
    counts.try_fold(0u64, |total, n| total.checked_add(*n))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOLDEN: &str = include_str!("../golden/batch.json");
    const GOLDEN_OF_TWO: &str = include_str!("../golden/batches.jsonl");

    fn room() -> RoomName {
        "ind-pak-final".parse().unwrap()
    }

    #[test]
    fn encodes_as_the_golden_file() {
        let counts = [("🔥".parse().unwrap(), 812), ("👏".parse().unwrap(), 77)].into();
        let batch = Batch::new(room(), counts).unwrap();
        assert_eq!(String::from_utf8(batch.encode()).unwrap(), GOLDEN.trim_end());
        assert_eq!(Batch::decode(GOLDEN.as_bytes()).unwrap(), batch);
    }

    #[test]
    fn batches_of_several_rooms_encode_as_the_golden_file() {
        let other = Batch::new("warm~up".parse().unwrap(), [("\"\\".parse().unwrap(), 1)].into()).unwrap();
        let mut value = GOLDEN.trim_end().as_bytes().to_vec();
        other.encode_into(&mut value);
        assert_eq!(String::from_utf8(value).unwrap(), GOLDEN_OF_TWO.trim_end());
        let batches: Result<Vec<_>, _> = Batch::decode_all(GOLDEN_OF_TWO.as_bytes()).collect();
        assert_eq!(batches.unwrap(), [Batch::decode(GOLDEN.as_bytes()).unwrap(), other]);
    }

    #[test]
    fn a_line_that_holds_no_batch_says_nothing_against_the_others() {
        let line = GOLDEN.trim_end();
        let value = format!("{line}\n\n{{\"v\":7}}\n{line}");
        let good: Vec<_> = Batch::decode_all(value.as_bytes()).map(|batch| batch.is_ok()).collect();
        assert_eq!(good, [true, false, false, true]);
        let empty: Vec<_> = Batch::decode_all(b"").map(|batch| batch.is_ok()).collect();
        assert_eq!(empty, [false]);
    }

    #[test]
    fn refuses_what_contradicts_itself_and_says_why() {
        let cases = [
            (r#"{"v":2,"room":"r","counts":{"a":1},"count":1}"#, "format version 2"),
            (r#"{"v":1,"room":"r","counts":{"a":1},"count":2}"#, "not the sum"),
            (r#"{"v":1,"room":"r","counts":{"a":0,"b":1},"count":1}"#, "none zero times"),
            (r#"{"v":1,"room":"r","counts":{},"count":0}"#, "at least one"),
            (r#"{"v":1,"room":"r r","counts":{"a":1},"count":1}"#, "room name may hold"),
            (r#"{"v":1,"room":"r","counts":{"":1},"count":1}"#, "this one is empty"),
            (r#"{"v":1,"room":"r","counts":{"a":-1},"count":1}"#, "invalid value"),
            (r#"{"v":1,"room":"r","counts":{"a":18446744073709551615,"b":1},"count":1}"#, "not the sum"),
            (r#"{"v":1,"room":"r","counts":{"a":9007199254740992},"count":9007199254740992}"#, "above 2^53"),
            ("hello", "line 1 column 1"),
        ];
        for (value, why) in cases {
            let text = Batch::decode(value.as_bytes()).unwrap_err().to_string();
            assert!(text.contains(why), "{value}: {text}");
        }
    }

    #[test]
    fn nothing_makes_no_batch() {
        assert_eq!(Batch::new(room(), Counts::new()), None);
    }

    pub(super) fn batches() -> impl Strategy<Value = Batch> {
        let reactions = prop::collection::btree_map("[a-z\"\\\\🔥👏]{1,8}", 1u64..1_000_000, 1..20);
        ("[A-Za-z0-9._~-]{1,64}", reactions).prop_map(|(room, counts)| {
            let counts = counts.into_iter().map(|(r, n)| (r.parse().unwrap(), n)).collect();
            Batch::new(room.parse().unwrap(), counts).unwrap()
        })
    }

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_encoded(batches in prop::collection::vec(batches(), 1..5)) {
            let mut value = Vec::new();
            batches.iter().for_each(|batch| batch.encode_into(&mut value));
            let decoded: Result<Vec<_>, _> = Batch::decode_all(&value).collect();
            prop_assert_eq!(decoded.unwrap(), batches);
        }

        #[test]
        fn a_line_is_the_json_of_its_batch(batch in batches()) {
            prop_assert_eq!(batch.encode(), serde_json::to_vec(&batch).unwrap());
        }
    }
}
