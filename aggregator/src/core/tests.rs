//! The rules of windows, as users and auditors see them.

use super::*;
use crate::core::CONFIG;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use wire::{Batch, WindowRecord};

#[path = "clock_tests.rs"]
mod clock;
#[path = "limit_tests.rs"]
mod limits;
#[path = "names_tests.rs"]
mod names;

fn rollup() -> Rollup {
    Rollup::new(0, 1, 0, Vec::new(), CONFIG)
}

fn batch(room: &str, counts: &[(&str, u64)]) -> Batch {
    let counts = counts.iter().map(|(reaction, n)| (reaction.parse().unwrap(), *n)).collect();
    Batch::new(room.parse().unwrap(), counts).unwrap()
}

/// Gives the core a record. Says what closed, and what became of it.
fn record(
    core: &mut Rollup,
    offset: u64,
    at_ms: u64,
    batches: &[Batch],
    now_ms: u64,
) -> (Option<Closed>, Tally) {
    let (mut value, mut tally) = (Vec::new(), Tally::default());
    batches.iter().for_each(|batch| batch.encode_into(&mut value));
    let batches = BatchRef::decode_all(&value).filter_map(Result::ok);
    // The next tick tells the age.
    let now = Now { wall_ms: now_ms, age_ms: 0 };
    let closed = core.record(offset, at_ms, batches, now, &mut tally);
    (closed, tally)
}

/// One fire in room `r` at offset and time; the record reaches the core when it is written.
fn fire(core: &mut Rollup, offset: u64, at_ms: u64) -> Option<Closed> {
    record(core, offset, at_ms, &[batch("r", &[("🔥", 1)])], at_ms).0
}

/// One fire in each room, one after the other, at the same time.
fn fire_in(core: &mut Rollup, rooms: &[&str]) {
    for (offset, room) in (0u64..).zip(rooms) {
        record(core, offset, 10_000, &[batch(room, &[("🔥", 1)])], 10_000);
    }
}

impl Rollup {
    /// A tick when both clocks say the same time.
    fn tick_at(&mut self, now_ms: u64, caught_up: bool) -> Option<Closed> {
        self.tick(Now { wall_ms: now_ms, age_ms: now_ms }, caught_up)
    }
}

impl Closed {
    fn aggregates(&self) -> Vec<Aggregate> {
        let values = self.records.iter().filter_map(|(room, value)| Some((room, value.as_ref()?)));
        values
            .map(|(room, value)| {
                let aggregate = Aggregate::decode(value).unwrap();
                assert_eq!(aggregate.room, *room);
                aggregate
            })
            .collect()
    }

    fn forgotten(&self) -> Vec<RoomName> {
        self.records.iter().filter(|(_, value)| value.is_none()).map(|(room, _)| room.clone()).collect()
    }
}

fn only(closed: Option<Closed>) -> Aggregate {
    let mut aggregates = closed.expect("a closed window").aggregates();
    assert_eq!(aggregates.len(), 1, "{aggregates:?}");
    aggregates.remove(0)
}

#[test]
fn a_record_at_the_end_closes_the_window_at_its_offset_and_counts_in_the_next() {
    let mut core = rollup();
    assert_eq!(fire(&mut core, 0, 10_000), None);
    assert_eq!(fire(&mut core, 1, 11_999), None);
    let first = only(fire(&mut core, 2, 12_000));
    assert_eq!(first.window, wire::Window { start: 10_000, end: 12_000 });
    assert_eq!(first.source, Source { partition: 0, from: 0, to: 2 });
    assert_eq!((first.seq, first.count, first.total, first.since), (1, 2, 2, 10_000));
    assert_eq!(first.slots, [1, 0, 0, 1]);
    let second = only(core.tick_at(14_050, true));
    assert_eq!(second.source, Source { partition: 0, from: 2, to: 3 });
    assert_eq!((second.seq, second.count, second.total, second.since), (2, 1, 3, 10_000));
}

#[test]
fn when_people_stop_reacting_the_clock_closes_the_window_after_the_grace() {
    let mut core = rollup();
    fire(&mut core, 0, 10_500);
    assert_eq!(core.tick_at(12_049, true), None);
    assert_eq!(core.tick_at(12_050, false), None, "records may be on their way");
    assert_eq!(only(core.tick_at(12_050, true)).count, 1);
}

#[test]
fn a_room_comes_to_rest_once_and_then_is_silent() {
    let mut core = rollup();
    fire(&mut core, 0, 10_000);
    only(core.tick_at(12_050, true));
    assert_eq!(core.tick_at(12_050, true), None);
    let rest = only(core.tick_at(14_050, true));
    assert_eq!((rest.seq, rest.count, rest.total), (2, 0, 1));
    assert_eq!(rest.slots, [0, 0, 0, 0]);
    assert_eq!(rest.window, wire::Window { start: 12_000, end: 14_000 });
    assert_eq!(rest.source, Source { partition: 0, from: 1, to: 1 });
    assert_eq!(core.tick_at(16_050, true), None);
}

#[test]
fn a_window_names_the_reactions_that_came_in_it_and_the_totals_name_all() {
    let mut core = rollup();
    record(&mut core, 0, 10_000, &[batch("r", &[("a", 1), ("b", 2)])], 10_000);
    let (first, _) = record(&mut core, 1, 12_000, &[batch("r", &[("b", 3)])], 12_000);
    let [first, second, rest] = [first, core.tick_at(14_050, true), {
        core.tick_at(14_050, true);
        core.tick_at(16_050, true)
    }]
    .map(only);
    let names = |counts: &wire::Counts| counts.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!([&first, &second, &rest].map(|it| names(&it.counts)), [vec!["a", "b"], vec!["b"], vec![]]);
    assert_eq!([&first, &second, &rest].map(|it| names(&it.totals)), [["a", "b"]; 3].map(Vec::from));
}

#[test]
fn the_next_tick_is_due_when_a_window_closes_or_else_when_to_look_for_silent_rooms() {
    let mut core = rollup();
    fire(&mut core, 0, 10_000);
    for (now_ms, due_ms) in [(10_000, 12_050), (12_050, 14_050), (14_050, 17_500), (17_500, 25_000)] {
        while core.tick_at(now_ms, true).is_some() {}
        assert_eq!(core.due_ms(now_ms), due_ms, "the room's TTL is looked at eight times");
    }
}

#[test]
fn rooms_of_one_window_share_its_cut_and_those_that_went_quiet_get_zero() {
    let mut core = rollup();
    record(&mut core, 0, 10_000, &[batch("a", &[("🔥", 2)])], 10_000);
    record(&mut core, 1, 10_001, &[batch("b", &[("👏", 3)])], 10_001);
    let (closed, _) = record(&mut core, 2, 12_000, &[batch("b", &[("👏", 1)])], 12_000);
    let rooms = |closed: Closed| {
        closed.aggregates().iter().map(|a| (a.room.to_string(), a.count)).collect::<Vec<_>>()
    };
    assert_eq!(rooms(closed.unwrap()), [("a".to_owned(), 2), ("b".to_owned(), 3)]);
    assert_eq!(rooms(core.tick_at(14_050, true).unwrap()), [("a".to_owned(), 0), ("b".to_owned(), 1)]);
}

#[test]
fn all_batches_of_a_record_count_in_one_window_and_the_cut_falls_before_the_record() {
    let mut core = rollup();
    fire(&mut core, 0, 11_999);
    let batches = [
        batch("b", &[("🔥", 1)]),
        batch("r", &[("🔥", 2)]),
        batch("a", &[("🔥", 3)]),
        batch("r", &[("👏", 4)]),
    ];
    let (closed, tally) = record(&mut core, 1, 12_000, &batches, 12_000);
    assert_eq!(tally, Tally { counted: 10, ..Tally::default() });
    let first = only(closed);
    assert_eq!((first.count, first.source), (1, Source { partition: 0, from: 0, to: 1 }));
    let second = core.tick_at(14_050, true).unwrap();
    assert_eq!((second.from, second.to), (1, 2));
    let aggregates = second.aggregates();
    let rooms: Vec<_> = aggregates.iter().map(|a| (&*a.room, a.count, &a.slots[..])).collect();
    assert_eq!(rooms, [("a", 3, &[3, 0, 0, 0][..]), ("b", 1, &[1, 0, 0, 0]), ("r", 6, &[6, 0, 0, 0])]);
}

#[test]
fn a_late_record_counts_in_the_open_window_and_says_so() {
    let mut core = rollup();
    fire(&mut core, 0, 12_500);
    let (_, taken) = record(&mut core, 1, 11_000, &[batch("r", &[("🔥", 5)])], 12_600);
    assert_eq!(taken, Tally { counted: 5, late: 5, ..Tally::default() });
    let closed = only(core.tick_at(14_050, true));
    assert_eq!((closed.count, closed.late), (6, 5));
    assert_eq!(closed.slots, [5, 1, 0, 0]);
}

#[test]
fn a_late_record_after_the_clock_closed_its_window_opens_the_next_one() {
    let mut core = rollup();
    fire(&mut core, 0, 10_000);
    only(core.tick_at(12_050, true));
    record(&mut core, 1, 11_999, &[batch("r", &[("🔥", 1)])], 12_060);
    let closed = only(core.tick_at(14_050, true));
    assert_eq!((closed.window.start, closed.count, closed.late), (12_000, 1, 1));
}

#[test]
fn a_record_from_the_future_counts_now_and_opens_no_window_that_time_has_not_reached() {
    let mut core = rollup();
    fire(&mut core, 0, 10_000);
    let (closed, taken) = record(&mut core, 1, 99_000, &[batch("r", &[("🔥", 2)])], 10_100);
    assert_eq!((closed, taken), (None, Tally { counted: 2, skewed: 2, ..Tally::default() }));
    let closed = only(core.tick_at(12_050, true));
    assert_eq!((closed.window.end, closed.count, closed.skewed), (12_000, 3, 2));
    let mut fresh = rollup();
    record(&mut fresh, 0, 99_000, &[batch("r", &[("🔥", 2)])], 10_100);
    assert_eq!(only(fresh.tick_at(12_050, true)).window.start, 10_000);
}

#[test]
fn a_record_from_the_future_that_lies_before_its_window_is_skewed_and_not_late_as_well() {
    let mut core = rollup();
    fire(&mut core, 0, 1_000_000);
    // The clock went back; the window lies further ahead than the record.
    let (_, taken) = record(&mut core, 1, 900_000, &[batch("r", &[("🔥", 2)])], 100_000);
    assert_eq!(taken, Tally { counted: 2, skewed: 2, ..Tally::default() });
    let closed = only(core.tick_at(100_000, true));
    assert_eq!((closed.late, closed.skewed, closed.check()), (0, 2, Ok(())));
}

#[test]
fn a_new_interval_applies_from_the_next_window_and_the_open_one_keeps_its_end() {
    let mut core = rollup();
    fire(&mut core, 0, 10_000);
    core.configure(Config { interval_ms: 500, ..CONFIG });
    assert_eq!(core.tick_at(10_600, true), None);
    assert_eq!(only(fire(&mut core, 1, 12_100)).window.len_ms(), 2_000);
    let closed = only(core.tick_at(12_550, true));
    assert_eq!(closed.window, wire::Window { start: 12_000, end: 12_500 });
}

#[test]
fn a_record_that_was_taken_before_is_not_counted_again() {
    let mut core = rollup();
    fire(&mut core, 7, 10_000);
    let again = record(&mut core, 7, 10_000, &[batch("r", &[("🔥", 1)])], 10_000);
    assert_eq!(again, (None, Tally { replayed: 1, ..Tally::default() }));
    assert_eq!(only(core.tick_at(12_050, true)).count, 1);
}

#[test]
fn windows_give_records_only_where_history_is_kept_and_only_of_rooms_with_reactions() {
    let close = |keeps_windows| {
        let mut core = rollup().with_windows(keeps_windows);
        fire_in(&mut core, &["b", "a"]);
        let first = core.tick_at(12_050, true).unwrap();
        assert_eq!(core.tick_at(12_050, true), None);
        let rest = core.tick_at(14_050, true).unwrap();
        assert_eq!((first.records.len(), rest.records.len()), (2, 2));
        (first.windows, rest.windows)
    };
    assert_eq!(close(false), (vec![], vec![]));
    let (first, rest) = close(true);
    assert_eq!(rest, []);
    let rooms: Vec<_> = first.iter().map(|(room, _)| &**room).collect();
    assert_eq!(rooms, ["a", "b"]);
    let window = WindowRecord::decode_of(&first[0].0, &first[0].1).unwrap();
    assert_eq!((window.seq, window.count, window.source), (1, 1, Source { partition: 0, from: 0, to: 2 }));
}

#[test]
fn a_silent_room_is_forgotten_and_starts_a_new_life() {
    let mut core = rollup();
    fire(&mut core, 0, 10_000);
    let mut now_ms = 12_050;
    let mut tombstones = Vec::new();
    while tombstones.is_empty() {
        if let Some(closed) = core.tick_at(now_ms, true) {
            assert!(closed.forgotten().is_empty() || closed.from == closed.to);
            tombstones = closed.forgotten();
        }
        now_ms += 500;
    }
    assert!((72_000..82_000).contains(&now_ms), "{now_ms}");
    assert_eq!((tombstones[0].as_ref(), core.room_count()), ("r", 0));
    fire(&mut core, 1, now_ms);
    let reborn = only(core.tick_at(now_ms + 4_000, true));
    assert_eq!((reborn.seq, reborn.total), (1, 1));
    assert!(reborn.since > 70_000);
}

#[test]
fn a_room_is_forgotten_also_while_others_are_busy() {
    let mut core = rollup();
    fire(&mut core, 0, 10_000);
    let mut forgotten = Vec::new();
    for n in 1..200 {
        let now_ms = 10_000 + n * 500;
        record(&mut core, n, now_ms, &[batch("busy", &[("🔥", 1)])], now_ms);
        while let Some(closed) = core.tick_at(now_ms, true) {
            forgotten.extend(closed.forgotten());
        }
    }
    assert_eq!(forgotten.iter().map(ToString::to_string).collect::<Vec<_>>(), ["r"]);
}

#[test]
fn forgetting_a_room_commits_nothing_of_the_open_window_and_spares_the_rooms_in_it() {
    let mut core = rollup();
    record(&mut core, 0, 10_000, &[batch("a", &[("🔥", 1)])], 10_000);
    record(&mut core, 1, 10_000, &[batch("b", &[("🔥", 1)])], 10_000);
    for now_ms in [12_050, 14_050] {
        while core.tick_at(now_ms, true).is_some() {}
    }
    // Both are old; one has a reaction that is not committed yet.
    record(&mut core, 2, 80_000, &[batch("b", &[("🔥", 1)])], 80_000);
    let closed = core.tick_at(80_000, true).unwrap();
    assert_eq!(closed.forgotten().iter().map(ToString::to_string).collect::<Vec<_>>(), ["a"]);
    assert_eq!((closed.from, closed.to), (2, 2));
    assert_eq!(only(core.tick_at(82_050, true)).total, 2);
}

/// Names of rooms that ticks up to now forget, with how many rooms there are then.
fn thinned_out(core: &mut Rollup, now_ms: u64, caught_up: bool) -> (Vec<String>, usize) {
    let mut names = Vec::new();
    while let Some(closed) = core.tick_at(now_ms, caught_up) {
        assert_eq!(matches!(closed.kind, Kind::Silent | Kind::TooMany), closed.aggregates().is_empty());
        if closed.kind == Kind::TooMany {
            assert_eq!(closed.from, closed.to);
            names.extend(closed.forgotten().iter().map(ToString::to_string));
        }
    }
    (names, core.room_count())
}

#[test]
fn of_too_many_rooms_those_silent_the_longest_are_forgotten() {
    let mut core = Rollup::new(0, 1, 0, Vec::new(), Config { max_rooms: 2, ..CONFIG });
    let mut forgotten = Vec::new();
    for (offset, room) in (0u64..).zip(["d", "c", "b", "c", "a"]) {
        let now_ms = 10_000 + 6_000 * offset;
        record(&mut core, offset, now_ms, &[batch(room, &[("🔥", 1)])], now_ms);
        // The window, the rest, and time to spare.
        for after_ms in [2_050, 4_050, 5_000] {
            forgotten.extend(thinned_out(&mut core, now_ms + after_ms, true).0);
        }
    }
    assert_eq!((forgotten, core.room_count()), (vec!["d".to_owned(), "b".to_owned()], 2));
}

#[test]
fn rooms_of_the_open_window_and_of_the_last_one_stay_however_many_they_are() {
    let mut core = Rollup::new(0, 1, 0, Vec::new(), Config { max_rooms: 2, ..CONFIG });
    let all = |offset: u64| ["a", "b", "c", "d"].map(|room| batch(room, &[("🔥", offset + 1)]));
    for offset in 0..3 {
        let at_ms = 10_000 + 2_000 * offset;
        record(&mut core, offset, at_ms, &all(offset), at_ms);
        assert_eq!(thinned_out(&mut core, at_ms, true), (vec![], 4));
    }
    assert_eq!(thinned_out(&mut core, 16_050, true), (vec![], 4), "they come to rest first");
    let (forgotten, left) = thinned_out(&mut core, 18_050, true);
    assert_eq!((forgotten.len(), left), (2, 2));
}

#[test]
fn too_many_rooms_are_forgotten_also_while_records_wait_to_be_read() {
    let mut core = Rollup::new(0, 1, 0, Vec::new(), Config { max_rooms: 2, ..CONFIG });
    let mut most = 0;
    for offset in 0..50 {
        let at_ms = 10_000 + 2_000 * offset;
        record(&mut core, offset, at_ms, &[batch(&format!("r{offset}"), &[("🔥", 1)])], 1_000_000);
        most = most.max(core.room_count());
        thinned_out(&mut core, 1_000_000, false);
    }
    // Two, and those that were new in the open window and in the one before.
    assert_eq!(most, 4);
}

#[test]
fn the_log_is_left_with_a_whole_share_of_rooms_also_while_new_ones_wait_for_their_first_window() {
    let mut core = Rollup::new(0, 1, 0, Vec::new(), Config { max_rooms: 2, ..CONFIG });
    let mut kept = BTreeSet::new();
    for offset in 0..12 {
        let at_ms = 10_000 + 2_000 * offset;
        let room = batch(&format!("r{offset}"), &[("🔥", 1)]);
        let closed = record(&mut core, offset, at_ms, &[room], at_ms).0;
        for closed in closed.into_iter().chain(std::iter::from_fn(|| core.tick_at(at_ms, true))) {
            for (room, value) in closed.records {
                if value.is_some() {
                    kept.insert(room)
                } else {
                    kept.remove(&room)
                };
            }
        }
        assert_eq!(kept.len(), offset.min(2) as usize, "an audit sees that there was no place for more");
    }
}

#[test]
fn a_busy_room_takes_one_of_the_places() {
    let mut core = Rollup::new(0, 1, 0, Vec::new(), Config { max_rooms: 2, ..CONFIG });
    let mut forgotten = Vec::new();
    for (offset, room) in (0u64..).zip(["a", "b", "c"]) {
        let at_ms = 10_000 + 2_000 * offset;
        record(&mut core, offset, at_ms, &["busy", room].map(|room| batch(room, &[("🔥", 1)])), at_ms);
        forgotten.push(thinned_out(&mut core, at_ms, true).0);
    }
    assert_eq!(forgotten, [vec![], vec![], vec!["a".to_owned()]]);
}

#[test]
fn a_partition_has_its_share_of_the_rooms() {
    let config = Config { max_rooms: 4, room_ttl_ms: u64::MAX / 4, ..CONFIG };
    let mut core = Rollup::new(1, 3, 0, Vec::new(), config);
    fire_in(&mut core, &["a", "b", "c", "d"]);
    thinned_out(&mut core, 20_000, true);
    assert_eq!(thinned_out(&mut core, 30_000, true).1, 2);
    assert_eq!([share(4, 3), share(1, 3), share(6, 3)], [2, 1, 2]);
}

#[test]
fn fewer_rooms_may_be_there_than_were() {
    let mut core = rollup();
    fire_in(&mut core, &["a", "b", "c"]);
    thinned_out(&mut core, 20_000, true);
    assert_eq!(thinned_out(&mut core, 30_000, true), (vec![], 3));
    core.configure(Config { max_rooms: 1, ..CONFIG });
    assert_eq!(thinned_out(&mut core, 30_000, true).1, 1);
}

#[test]
fn after_a_restart_there_may_be_too_many_rooms_too() {
    let mut before = rollup();
    let mut newest = BTreeMap::new();
    fire_in(&mut before, &["a", "b", "c"]);
    for now_ms in [20_000, 20_000, 30_000] {
        let aggregates = before.tick_at(now_ms, true).map(|closed| closed.aggregates());
        newest.extend(aggregates.into_iter().flatten().map(|it| (it.room.clone(), it)));
    }
    let config = Config { max_rooms: 1, ..CONFIG };
    let mut after = Rollup::new(0, 1, 3, newest.into_values().collect(), config);
    let (forgotten, left) = thinned_out(&mut after, 30_000, false);
    assert_eq!((forgotten.len(), left), (2, 1));
}

#[test]
fn after_a_restart_totals_seq_and_rest_go_on() {
    let mut before = rollup();
    fire(&mut before, 0, 10_000);
    let newest = only(before.tick_at(12_050, true));
    let mut after = Rollup::new(0, 1, 1, vec![newest], CONFIG);
    let rest = only({
        after.tick_at(20_000, true);
        after.tick_at(22_050, true)
    });
    assert_eq!((rest.seq, rest.count, rest.total, rest.since), (2, 0, 1, 10_000));
    fire(&mut after, 1, 23_000);
    let next = only(after.tick_at(24_050, true));
    assert_eq!((next.seq, next.total, next.source.from), (3, 2, 1));
}

/// Windows in the order of their cuts, from any log read in any way.
#[derive(Debug, Clone)]
enum Step {
    Record { batches: Vec<(u8, u64)>, forward_ms: u64, back_ms: u64 },
    Tick,
    Crash,
    ClockBack { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (prop::collection::vec((0u8..4, 1u64..100), 0..5), 0u64..1_500, 0u64..3_000)
            .prop_map(|(batches, forward_ms, back_ms)| Step::Record { batches, forward_ms, back_ms }),
        3 => Just(Step::Tick),
        1 => Just(Step::Crash),
        1 => (1u64..100_000).prop_map(|ms| Step::ClockBack { ms }),
    ]
}

#[derive(Default)]
struct Ledger {
    cut: u64,
    /// Totals of the rooms that were forgotten.
    bygone: u64,
    newest: BTreeMap<RoomName, Aggregate>,
}

impl Ledger {
    /// Takes what a commit would write, and checks it against all that came before.
    fn commit(&mut self, closed: &Closed) {
        assert_eq!(closed.from, self.cut, "windows follow each other");
        self.cut = closed.to;
        let windows = closed.aggregates().into_iter().filter_map(WindowRecord::from_aggregate);
        let written =
            closed.windows.iter().map(|(room, value)| WindowRecord::decode_of(room, value).unwrap());
        assert!(written.eq(windows), "each aggregate with reactions has its window");
        for aggregate in closed.aggregates() {
            aggregate.check().unwrap();
            if let Some(last) = self.newest.get(&aggregate.room) {
                assert_eq!((aggregate.seq, aggregate.since), (last.seq + 1, last.since));
                assert_eq!(aggregate.total, last.total + aggregate.count);
            } else {
                assert_eq!((aggregate.seq, aggregate.total), (1, aggregate.count));
            }
            self.newest.insert(aggregate.room.clone(), aggregate);
        }
        for room in closed.forgotten() {
            let last = self.newest.remove(&room).expect("it was known");
            assert_eq!(last.count, 0, "it came to rest");
            self.bygone += last.total;
        }
    }
}

proptest! {
    #[test]
    fn every_record_counts_once_whatever_clocks_and_crashes_do(
        steps in prop::collection::vec(step(), 1..150),
        max_rooms in 1usize..10,
    ) {
        let config = Config { room_ttl_ms: u64::MAX / 4, max_rooms, max_distinct_per_room: 2, ..CONFIG };
        let mut log: Vec<(u64, Vec<Batch>)> = Vec::new();
        let mut ledger = Ledger::default();
        let mut core = Rollup::new(0, 3, 0, Vec::new(), config).with_windows(true);
        let mut now_ms = 1_000_000_000;
        for step in steps {
            match step {
                Step::Record { batches, forward_ms, back_ms } => {
                    now_ms += forward_ms;
                    let batches = batches.into_iter().map(|(room, count)| {
                        let name = ["a", "b", "c", "d"][(count % 4) as usize];
                        batch(&format!("room-{room}"), &[(name, count)])
                    });
                    log.push((now_ms - back_ms, batches.collect()));
                }
                Step::Tick => now_ms += 700,
                Step::ClockBack { ms } => now_ms -= ms,
                Step::Crash => {
                    let newest = ledger.newest.values().cloned().collect();
                    core = Rollup::new(0, 3, ledger.cut, newest, config).with_windows(true);
                }
            }
            while let Some((timestamp_ms, batches)) = log.get(core.position() as usize) {
                let offset = core.position();
                if let (Some(closed), _) = record(&mut core, offset, *timestamp_ms, batches, now_ms) {
                    ledger.commit(&closed);
                }
            }
            while let Some(closed) = core.tick_at(now_ms, true) {
                ledger.commit(&closed);
            }
        }
        for _ in 0..4 {
            now_ms += 200_000;
            while let Some(closed) = core.tick_at(now_ms, true) {
                ledger.commit(&closed);
            }
        }
        let end = log.iter().rposition(|(_, batches)| !batches.is_empty()).map_or(0, |last| last as u64 + 1);
        prop_assert!(ledger.cut >= end, "all was cut, but for records without batches at the end");
        let accepted: u64 = log.iter().flat_map(|(_, batches)| batches).map(|batch| batch.count).sum();
        let counted: u64 = ledger.newest.values().map(|aggregate| aggregate.total).sum();
        prop_assert_eq!(counted + ledger.bygone, accepted);
        prop_assert!(ledger.newest.len() <= share(max_rooms, 3));
        prop_assert!(ledger.newest.values().all(|aggregate| aggregate.count == 0), "all came to rest");
    }
}
