//! The record of topic `reactions`: what ingest combined for one room during one commit interval.

use crate::{COUNT_MAX, Counts, DecodeError, FORMAT_VERSION, RoomName};
use serde::{Deserialize, Serialize};

/// Reactions of one room, combined. Key of its record: the room.
///
/// JSON: `{"v":1,"room":"…","counts":{"🔥":812},"count":812}`. `count` is the sum of `counts`, above zero and at most
/// [`COUNT_MAX`](crate::COUNT_MAX).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// A batch of `counts`. `None` when they are empty, hold a zero, or their sum passes [`COUNT_MAX`](crate::COUNT_MAX).
    pub fn new(room: RoomName, counts: Counts) -> Option<Self> {
        let count = sum(&counts)?;
        (count > 0 && count <= COUNT_MAX && counts.values().all(|n| *n > 0)).then_some(Self {
            v: FORMAT_VERSION,
            room,
            counts,
            count,
        })
    }

    /// The record's value.
    pub fn encode(&self) -> Vec<u8> {
        crate::frame::to_json(self)
    }

    /// Reads a record's value, and checks that it agrees with itself.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let batch: Self = serde_json::from_slice(value)?;
        if batch.v != FORMAT_VERSION {
            return Err(DecodeError::Version(batch.v));
        }
        if batch.count == 0 || batch.counts.values().any(|n| *n == 0) {
            return Err(DecodeError::Inconsistent(
                "a batch counts at least one reaction, and none zero times",
            ));
        }
        if sum(&batch.counts) != Some(batch.count) {
            return Err(DecodeError::Inconsistent("`count` is not the sum of `counts`"));
        }
        if batch.count > COUNT_MAX {
            return Err(DecodeError::Inconsistent("`count` is above 2^53 - 1"));
        }
        Ok(batch)
    }
}

/// Sum of all counts; `None` where it passes `u64`.
pub(crate) fn sum(counts: &Counts) -> Option<u64> {
    counts.values().try_fold(0u64, |total, n| total.checked_add(*n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOLDEN: &str = include_str!("../golden/batch.json");

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

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_encoded(counts in prop::collection::btree_map("[a-z🔥👏]{1,8}", 1u64..1_000_000, 1..20)) {
            let counts = counts.into_iter().map(|(r, n)| (r.parse().unwrap(), n)).collect();
            let batch = Batch::new(room(), counts).unwrap();
            prop_assert_eq!(Batch::decode(&batch.encode()).unwrap(), batch);
        }

        #[test]
        fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Batch::decode(&bytes);
        }
    }
}
