//! Batches as they stand in a record's value, for those who read many.

use super::{form, sum};
use crate::{COUNT_MAX, DecodeError, FORMAT_VERSION, ReactionRef, RoomNameRef, json};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use std::{fmt, iter};

/// A [`Batch`](super::Batch) that borrows its names from its line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BatchRef<'a> {
    v: u32,
    /// The room that was reacted in.
    #[serde(borrow)]
    pub room: RoomNameRef<'a>,
    /// How often each reaction was sent. One that comes twice counts as often as both say.
    #[serde(borrow, deserialize_with = "counts")]
    pub counts: CountsRef<'a>,
    /// Sum of `counts`.
    pub count: u64,
}

type CountsRef<'a> = Vec<(ReactionRef<'a>, u64)>;

impl<'a> BatchRef<'a> {
    /// Reads the batches of a record, line by line. A line that holds none says nothing against the others. There is
    /// always one: an empty value is an empty line.
    pub fn decode_all(value: &'a [u8]) -> impl Iterator<Item = Result<Self, DecodeError>> {
        let mut rest = Some(value.strip_suffix(b"\n").unwrap_or(value));
        iter::from_fn(move || {
            let value = rest?;
            if let Some((batch, after)) = Self::as_written(value)
                && (after.is_empty() || after.starts_with(b"\n"))
            {
                rest = after.strip_prefix(b"\n");
                return Some(batch.checked());
            }
            let mut lines = value.splitn(2, |byte| *byte == b'\n');
            let line = lines.next().unwrap_or_default();
            rest = lines.next();
            Some(Self::decode(line))
        })
    }

    /// Reads one line, and checks that it agrees with itself.
    pub fn decode(line: &'a [u8]) -> Result<Self, DecodeError> {
        serde_json::from_slice::<Self>(line)?.checked()
    }

    fn checked(self) -> Result<Self, DecodeError> {
        if self.v != FORMAT_VERSION {
            return Err(DecodeError::Version(self.v));
        }
        let counts = self.counts.iter().map(|(_, n)| n);
        if self.count == 0 || counts.clone().any(|n| *n == 0) {
            return Err(DecodeError::Inconsistent(
                "a batch counts at least one reaction, and none zero times",
            ));
        }
        if sum(counts) != Some(self.count) {
            return Err(DecodeError::Inconsistent("`count` is not the sum of `counts`"));
        }
        if self.count > COUNT_MAX {
            return Err(DecodeError::Inconsistent("`count` is above 2^53 - 1"));
        }
        Ok(self)
    }

    /// Reads a batch in the very form in which it is written, names without escapes, and gives what comes after it. The
    /// reader of JSON takes several times as long, and has the last word on all that is otherwise.
    fn as_written(value: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (room, rest) = json::room(value.strip_prefix(form::ROOM)?)?;
        let mut rest = rest.strip_prefix(form::COUNTS)?;
        let mut counts = Vec::new();
        loop {
            let ((reaction, n), after) = json::count(rest)?;
            counts.push((ReactionRef(reaction.into()), n));
            if let Some(after) = after.strip_prefix(b",") {
                rest = after;
                continue;
            }
            let (count, after) = json::number(after.strip_prefix(form::COUNT)?)?;
            let room = RoomNameRef(room.into());
            return Some((Self { v: FORMAT_VERSION, room, counts, count }, after.strip_prefix(b"}")?));
        }
    }
}

fn counts<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<CountsRef<'a>, D::Error> {
    deserializer.deserialize_map(Entries)
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = CountsRef<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counts by reaction")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut counts = CountsRef::new();
        while let Some(entry) = map.next_entry()? {
            counts.push(entry);
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Batch, tests::batches};
    use proptest::prelude::*;

    /// One byte of a line is another, one more, or missing.
    #[derive(Debug, Clone)]
    enum Change {
        None,
        Replace(prop::sample::Index, u8),
        Insert(prop::sample::Index, u8),
        Remove(prop::sample::Index),
    }

    fn changes() -> impl Strategy<Value = Change> {
        let byte = || prop::sample::select(&b"\"\\,:{}019+-.e v\0\x1f\x7f\xc2\xff\r"[..]);
        prop_oneof![
            Just(Change::None),
            (any::<prop::sample::Index>(), byte()).prop_map(|(at, byte)| Change::Replace(at, byte)),
            (any::<prop::sample::Index>(), byte()).prop_map(|(at, byte)| Change::Insert(at, byte)),
            any::<prop::sample::Index>().prop_map(Change::Remove),
        ]
    }

    /// The short way or not, a line says the same.
    fn says_what_the_reader_of_json_says(line: &[u8]) {
        let lines: Vec<_> = BatchRef::decode_all(line).map(|it| it.map_err(|why| why.to_string())).collect();
        assert_eq!(lines, [BatchRef::decode(line).map_err(|why| why.to_string())]);
    }

    #[test]
    fn fuzz_batches() {
        bolero::check!().for_each(|value: &[u8]| {
            Batch::decode_all(value).for_each(drop);
            value
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .for_each(says_what_the_reader_of_json_says);
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_096, ..ProptestConfig::default() })]

        #[test]
        fn a_line_says_what_the_reader_of_json_says(batch in batches(), change in changes()) {
            let mut line = batch.encode();
            let len = line.len();
            match change {
                Change::None => {}
                Change::Replace(at, byte) => line[at.index(len)] = byte,
                Change::Insert(at, byte) => line.insert(at.index(len + 1), byte),
                Change::Remove(at) => drop(line.remove(at.index(len))),
            }
            says_what_the_reader_of_json_says(&line);
        }
    }

    #[test]
    fn a_line_in_the_form_in_which_it_is_written_is_read_without_the_reader_of_json() {
        let line = include_bytes!("../../golden/batch.json").trim_ascii_end();
        let (batch, after) = BatchRef::as_written(line).expect("the very form");
        assert_eq!((Batch::from(&batch), after), (Batch::decode(line).unwrap(), &b""[..]));
    }

    #[test]
    fn a_line_may_have_fields_that_came_later() {
        let line = r#"{"v":1,"kind":{"a":[1]},"room":"r","counts":{"a":1},"count":1,"at":7}"#;
        let plain = r#"{"v":1,"room":"r","counts":{"a":1},"count":1}"#;
        assert_eq!(Batch::decode(line.as_bytes()).unwrap(), Batch::decode(plain.as_bytes()).unwrap());
    }

    #[test]
    fn a_reaction_that_comes_twice_counts_as_often_as_both_say() {
        for line in [
            r#"{"v":1,"room":"r","counts":{"a":1,"b":2,"a":3},"count":6}"#,
            r#"{"count":6, "counts":{"a":1,"b":2,"\u0061":3}, "room":"r", "v":1}"#,
        ] {
            let counts = Batch::decode_all(line.as_bytes()).next().unwrap().unwrap().counts;
            assert!(counts.values().eq(&[4, 2]), "{line}: {counts:?}");
        }
    }
}
