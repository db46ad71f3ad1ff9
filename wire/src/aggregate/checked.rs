//! Aggregates for those who pass on most of them unread.

use super::{Aggregate, Window, form};
use crate::{DecodeError, Frame, RoomName};

/// The value of a record, checked as [`Aggregate::decode`] does, and kept as it is.
#[derive(Debug, Clone)]
pub struct CheckedAggregate<V> {
    value: V,
    /// Number of the aggregate in its room.
    pub seq: u64,
    /// Start of the room's life.
    pub since: u64,
    /// The time that is covered.
    pub window: Window,
    /// Reactions in the window.
    pub count: u64,
    /// Reactions of the room's life.
    pub total: u64,
    /// `None` where it is not in the very form in which aggregates are written.
    cuts: Option<form::Cuts>,
}

impl<V: AsRef<[u8]>> CheckedAggregate<V> {
    /// Takes a record of `room`.
    pub fn new(room: &RoomName, value: V) -> Result<Self, DecodeError> {
        if let Some(form::Read { seq, since, window, count, total, cuts }) = form::read(room, value.as_ref())
        {
            return Ok(Self { seq, since, window, count, total, cuts: Some(cuts), value });
        }
        let Aggregate { room: found, seq, since, window, count, total, .. } =
            Aggregate::decode(value.as_ref())?;
        if found != *room {
            return Err(DecodeError::Room(found));
        }
        Ok(Self { seq, since, window, count, total, cuts: None, value })
    }

    /// The frame with at most `top_n` reactions, encoded; see [`Frame::of`]. `viewers` becomes [`Frame::viewers`].
    #[expect(clippy::expect_used, reason = "it was read when this was made")]
    pub fn frame(&self, top_n: usize, viewers: Option<u64>) -> Vec<u8> {
        let value = self.value.as_ref();
        match self.cuts {
            Some(cuts) if cuts.distinct <= top_n => cuts.frame(value, viewers),
            _ => {
                let aggregate = Aggregate::decode(value).expect("checked");
                Frame { viewers, ..Frame::of(&aggregate, top_n) }.encode()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Counts, FORMAT_VERSION, Source,
        aggregate::tests::{GOLDEN, GOLDEN_OTHERS},
    };
    use proptest::prelude::*;

    /// Numbers of any length; few are too long for the very form.
    fn numbers() -> impl Strategy<Value = u64> {
        prop_oneof![9 => 1..10_000_000_000_000_000_000u64, 1 => 1..u64::MAX]
    }

    fn aggregates() -> impl Strategy<Value = Aggregate> {
        let counts = prop::collection::btree_map("[a-z\"\\\\🔥👏]{1,8}", (0u64..5, 0u64..1_000_000), 0..6);
        let outline = ("[A-Za-z0-9._~-]{1,64}", numbers(), numbers(), numbers(), any::<u32>(), numbers());
        let others = (prop_oneof![Just(0u64), 1u64..1_000_000], prop_oneof![Just(0u64), 1u64..1_000_000]);
        (outline, counts, others, 0u64..4).prop_map(|(outline, counts, (others, more_others), late)| {
            let (room, seq, since, end, partition, to) = outline;
            let parse = |(reaction, n): (&String, u64)| (reaction.parse().unwrap(), n);
            let totals: Counts = counts.iter().map(|(r, (n, more))| parse((r, n + more))).collect();
            let counts: Counts =
                counts.iter().filter(|(_, (n, _))| *n > 0).map(|(r, (n, _))| parse((r, *n))).collect();
            let count = counts.values().sum::<u64>() + others;
            let others_total = others + more_others;
            Aggregate {
                v: FORMAT_VERSION,
                room: room.parse().unwrap(),
                seq,
                since,
                window: Window { start: end - 1, end },
                count,
                counts,
                others,
                slots: vec![count / 3, 0, 0, count - count / 3],
                late: late.min(count),
                skewed: 0,
                total: totals.values().sum::<u64>() + others_total,
                totals,
                others_total,
                // Of every third aggregate, so that both forms come.
                carried: if to % 3 == 0 { others } else { 0 },
                source: Source { partition, from: to / 2, to },
            }
        })
    }

    /// Some bytes of a value are others, more, or missing.
    fn change(value: &mut Vec<u8>, at: prop::sample::Index, byte: u8, how: u8) {
        let len = value.len();
        match how {
            0 => {}
            1 => value[at.index(len)] = byte,
            2 => value.insert(at.index(len + 1), byte),
            _ => drop(value.remove(at.index(len))),
        }
    }

    /// The short way or not, a value of a room's record says the same.
    fn says_what_the_reader_of_json_says(room: &RoomName, value: &[u8], top_n: usize, viewers: Option<u64>) {
        match (CheckedAggregate::new(room, value), Aggregate::decode(value)) {
            (Ok(checked), Ok(read)) => {
                assert_eq!(*room, read.room);
                let CheckedAggregate { seq, since, window, .. } = checked;
                assert_eq!((seq, since, window), (read.seq, read.since, read.window));
                let frame = Frame { viewers, ..Frame::of(&read, top_n) };
                assert_eq!(checked.frame(top_n, viewers), frame.encode());
            }
            (Err(DecodeError::Room(found)), Ok(read)) => {
                assert_eq!(found, read.room);
                assert_ne!(*room, read.room);
            }
            (Err(said), Err(error)) => assert_eq!(said.to_string(), error.to_string()),
            (checked, read) => panic!("{checked:?} {read:?}"),
        }
    }

    #[test]
    fn fuzz_aggregates() {
        let room = "ind-pak-final".parse().unwrap();
        bolero::check!().for_each(|value: &[u8]| says_what_the_reader_of_json_says(&room, value, 2, Some(7)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_096, ..ProptestConfig::default() })]

        #[test]
        fn an_aggregate_is_written_as_its_json(aggregate in aggregates()) {
            prop_assert_eq!(aggregate.check(), Ok(()));
            prop_assert_eq!(aggregate.encode(), serde_json::to_vec(&aggregate).unwrap());
        }

        #[test]
        fn what_is_checked_says_what_the_reader_of_json_says(
            aggregate in aggregates(),
            at in any::<prop::sample::Index>(),
            byte in prop::sample::select(&b"\"\\,:{}[]0159+-.e v\0\x1f\x7f\xc2\xff\r"[..]),
            how in 0u8..4,
            top_n in 1usize..6,
            viewers in prop::option::of(any::<u64>()),
        ) {
            let mut value = aggregate.encode();
            change(&mut value, at, byte, how);
            says_what_the_reader_of_json_says(&aggregate.room, &value, top_n, viewers);
        }
    }

    #[test]
    fn a_frame_has_place_for_so_many_reactions_whatever_way_it_is_made() {
        let value = GOLDEN.trim_end();
        let read = Aggregate::decode(value.as_bytes()).unwrap();
        let checked = CheckedAggregate::new(&read.room, value).unwrap();
        assert!(checked.cuts.is_some_and(|cuts| cuts.distinct == 2));
        for top_n in 1..4 {
            let frame = checked.frame(top_n, None);
            assert_eq!(frame, Frame::of(&read, top_n).encode());
            let has = |reaction: &str| str::from_utf8(&frame).unwrap().contains(reaction);
            assert_eq!((has("🔥"), has("👏")), (true, top_n > 1), "{top_n}");
        }
    }

    #[test]
    fn what_is_written_is_read_without_the_reader_of_json() {
        for value in [
            GOLDEN.trim_end(),
            GOLDEN_OTHERS.trim_end(),
            &GOLDEN
                .trim_end()
                .replace("889", "0")
                .replace("\"👏\":77,\"🔥\":812", "")
                .replace("210,240,239,200", "0,0,0,0")
                .replace("\"late\":3,\"skewed\":1", "\"late\":0,\"skewed\":0"),
        ] {
            let checked = CheckedAggregate::new(&"ind-pak-final".parse().unwrap(), value).unwrap();
            assert!(checked.cuts.is_some(), "{value}");
        }
    }

    #[test]
    fn a_frame_has_the_others_whatever_way_it_is_made() {
        let value = GOLDEN_OTHERS.trim_end();
        let checked = CheckedAggregate::new(&"ind-pak-final".parse().unwrap(), value).unwrap();
        let golden = include_str!("../../golden/frame-others.json").trim_end();
        assert_eq!(String::from_utf8(checked.frame(10, None)).unwrap(), golden);
        let cut = Frame::decode(&checked.frame(1, None)).unwrap();
        assert_eq!((cut.counts.len(), cut.others, cut.others_total), (1, 11, 20));
    }

    #[test]
    fn what_contradicts_itself_is_refused_whatever_its_form() {
        for (from, to) in [
            ("\"seq\":412", "\"seq\":0"),
            ("\"count\":889", "\"count\":888"),
            ("\"total\":90311", "\"total\":1"),
            ("210,240", "211,240"),
            ("\"from\":1041", "\"from\":2041"),
            ("\"late\":3", "\"late\":900"),
            ("\"end\":1763000002000", "\"end\":1763000000000"),
            ("\"👏\":311,\"🔥\":90000", "\"👏\":76,\"🔥\":90235"),
            ("\"👏\":311,\"🔥\":90000", "\"🔥\":90311"),
            ("\"partition\":3", "\"partition\":4294967296"),
        ] {
            assert!(GOLDEN.contains(from), "{from}");
            let value = GOLDEN.trim_end().replace(from, to);
            let said = CheckedAggregate::new(&"ind-pak-final".parse().unwrap(), &value).unwrap_err();
            assert_eq!(said.to_string(), Aggregate::decode(value.as_bytes()).unwrap_err().to_string());
        }
        for (from, to) in [
            ("\"others\":11", "\"others\":12"),
            ("\"others_total\":20", "\"others_total\":21"),
            ("\"👏\":300,\"🔥\":89989},\"others_total\":20", "\"👏\":310,\"🔥\":89989},\"others_total\":10"),
        ] {
            assert!(GOLDEN_OTHERS.contains(from), "{from}");
            let value = GOLDEN_OTHERS.trim_end().replace(from, to);
            let said = CheckedAggregate::new(&"ind-pak-final".parse().unwrap(), &value).unwrap_err();
            assert_eq!(said.to_string(), Aggregate::decode(value.as_bytes()).unwrap_err().to_string());
        }
    }
}
