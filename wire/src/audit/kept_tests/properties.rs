//! The same of whatever history there may be.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    /// Room, reaction and how many of it.
    Append(Vec<(u8, u8, u64)>),
    Close,
    Silence,
}

fn history() -> impl Strategy<Value = Log> {
    history_with(Just(None))
}

fn history_with(max_rooms: impl Strategy<Value = Option<usize>>) -> impl Strategy<Value = Log> {
    let step = prop_oneof![
        6 => prop::collection::vec((0u8..4, 0u8..3, 1u64..50), 1..5).prop_map(Step::Append),
        4 => Just(Step::Close),
        1 => Just(Step::Silence),
    ];
    (max_rooms, prop::collection::vec(step, 1..80)).prop_map(|(max_rooms, steps)| {
        let mut log = Log { now_ms: 1_000_000, max_rooms, ..Log::default() };
        for step in steps {
            log.now_ms += 10;
            match step {
                Step::Append(batches) => log.append_all(batches.into_iter().map(|(room, reaction, n)| {
                    (format!("room-{room}"), counts(&[(["x", "y", "z"][usize::from(reaction)], n)]))
                })),
                Step::Close if log.open.is_empty() && log.living.values().all(|it| it.count == 0) => {}
                Step::Close => log.close(),
                Step::Silence => log.silence(),
            }
        }
        log
    })
}

proptest! {
    #[test]
    fn whatever_compaction_and_retention_take_a_good_history_stays_clean(
        log in history_with(prop::option::of(1usize..4)),
        kept in any::<prop::sample::Index>(), begin in any::<prop::sample::Index>(), tombstones: bool,
    ) {
        let mut log = log;
        prop_assert_eq!(log.findings(), [""; 0]);
        log.compact(kept.index(log.aggregates.len() + 1), tombstones);
        prop_assert_eq!(log.findings(), [""; 0]);
        log.trim(begin.index(log.records.len() + 1) as u64);
        prop_assert_eq!(log.findings(), [""; 0]);
    }

    #[test]
    fn a_total_that_is_off_by_one_is_found_while_its_records_are_left(
        log in history(), which in any::<prop::sample::Index>(), more: bool, kept in any::<prop::sample::Index>(),
    ) {
        let mut log = log;
        log.compact(kept.index(log.aggregates.len() + 1), false);
        let mut with_total: Vec<_> = log
            .aggregates
            .iter_mut()
            .filter_map(|(.., it)| it.as_mut())
            .filter(|it| it.totals.iter().any(|(name, n)| *n > it.counts.get(name).copied().unwrap_or(0)))
            .collect();
        if with_total.is_empty() {
            return Ok(());
        }
        let at = which.index(with_total.len());
        let spoilt = &mut with_total[at];
        let counts = spoilt.counts.clone();
        let (_, n) = spoilt
            .totals
            .iter_mut()
            .find(|(name, n)| **n > counts.get(*name).copied().unwrap_or(0))
            .unwrap();
        if more {
            *n += 1;
            spoilt.total += 1;
        } else {
            *n -= 1;
            spoilt.total -= 1;
        }
        let bygone = log.audit().rooms.values().any(|sums| sums.bygone > 0);
        prop_assert!(!log.findings().is_empty() || bygone);
    }

    #[test]
    fn a_reaction_that_is_missing_from_the_records_is_found(
        log in history(), which in any::<prop::sample::Index>(), batch in any::<prop::sample::Index>(),
    ) {
        let mut log = log;
        let cut = usize::try_from(log.cut).unwrap();
        if cut > 0 {
            let (.., value) = &mut log.records[which.index(cut)];
            let mut batches: Vec<_> = Batch::decode_all(value).map(Result::unwrap).collect();
            let at = batch.index(batches.len());
            let batch = &mut batches[at];
            let counts = batch.counts.iter().map(|(name, n)| (name.clone(), n + 1)).collect();
            *batch = Batch::new(batch.room.clone(), counts).unwrap();
            value.clear();
            batches.iter().for_each(|batch| batch.encode_into(value));
            prop_assert!(!log.findings().is_empty());
        }
    }
}
