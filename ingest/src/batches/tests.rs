//! The open batches: what is sealed when, what comes back, what is refused, and that no schedule loses a reaction.

use super::{partition::RETRY, *};
use crate::config::{DISTINCT_MAX, tests::config};
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};
use wire::{Batch, Reaction};

fn room(name: &str) -> RoomName {
    name.parse().unwrap()
}

fn ask(reaction: &str, count: u64) -> Ask {
    Ask { reactions: smallvec::smallvec![(reaction.parse().unwrap(), count)], count }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Batches of a test, with its configuration and its time.
struct Table {
    batches: Batches,
    config: Config,
    now: Instant,
}

impl Table {
    fn new(partitions: u32) -> Self {
        let config = Config { in_flight_per_partition: 2, stall_ms: 1_000, ..config() };
        let table = Self { batches: Batches::default(), config, now: Instant::now() };
        table.batches.open(partitions);
        table
    }

    fn add(&self, name: &str, reaction: &str, ack: Ack) -> Result<RoomVerdict, Refusal> {
        self.batches.add(&room(name), &ask(reaction, 1), ack, &self.config, self.now)
    }

    fn seal(&self) -> Vec<Sealed> {
        self.batches.seal(&self.config, self.now)
    }

    fn seal_one(&self) -> Sealed {
        let mut sealed = self.seal();
        assert_eq!(sealed.len(), 1);
        sealed.remove(0)
    }

    fn end(&self, sealed: Sealed, outcome: Outcome) {
        self.batches.end(sealed, outcome, self.now);
    }

    fn is_at_rest(&self) -> bool {
        self.batches.is_empty() && self.batches.rooms() == 0
    }
}

/// What a record counts, as `room/reaction`.
fn counts_of(sealed: &Sealed) -> BTreeMap<String, u64> {
    let batches: Vec<_> = Batch::decode_all(&sealed.value).map(Result::unwrap).collect();
    let count: u64 = batches.iter().map(|batch| batch.count).sum();
    assert_eq!((batches.len() as u64, count), (sealed.batches, sealed.count));
    let entry = |room: &RoomName, reaction: &Reaction| format!("{room}/{reaction}");
    let all = batches.iter().flat_map(|b| b.counts.iter().map(|(r, n)| (entry(&b.room, r), *n)));
    all.collect()
}

fn counts<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(entry, n)| (entry.to_owned(), n)).collect()
}

#[test]
fn it_knows_how_many_requests_wait_to_be_sealed() {
    let table = Table::new(1);
    let add = |ack| table.add("r", "x", ack).map(drop);
    add(Ack::Durable).unwrap();
    add(Ack::Durable).unwrap();
    add(Ack::Received).unwrap();
    assert_eq!(table.batches.waiting(), 2, "who was answered doesn't wait");
    let (first, waits) = (table.seal_one(), table.batches.waiting());
    add(Ack::Durable).unwrap();
    assert_eq!((waits, table.batches.waiting()), (0, 1));
    let second = table.seal_one();
    add(Ack::Durable).unwrap();
    assert!(table.seal().is_empty(), "there may be two under way");
    assert_eq!(table.batches.waiting(), 1);
    table.end(first, Outcome::NotWritten);
    table.end(second, Outcome::Committed);
    assert_eq!(table.batches.waiting(), 1, "what comes back of the first was answered before");
}

#[test]
fn one_record_a_partition_holds_all_that_came_since_the_last() {
    let table = Table::new(8);
    let partitions = ["a", "b", "c"].map(|name| eventlog::partition_of(name, 8));
    assert_eq!(partitions, [4, 4, 2]);
    for (name, reaction) in [("a", "x"), ("c", "x"), ("b", "x"), ("a", "y"), ("a", "x")] {
        table.add(name, reaction, Ack::Durable).unwrap();
    }
    assert_eq!(table.batches.rooms(), 3);
    let sealed = table.seal();
    assert_eq!(sealed.iter().map(|sealed| sealed.partition).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(counts_of(&sealed[0]), counts([("c/x", 1)]));
    assert_eq!(counts_of(&sealed[1]), counts([("a/x", 2), ("a/y", 1), ("b/x", 1)]));
    assert!(table.seal().is_empty());
    assert!(!table.batches.is_filled(), "nobody looks again before something comes");
}

#[test]
fn behind_the_records_in_flight_a_partition_combines_in_place() {
    let table = Table::new(1);
    let mut in_flight = vec![];
    for _ in 0..2 {
        table.add("a", "x", Ack::Durable).unwrap();
        in_flight.push(table.seal_one());
    }
    for n in 0..100 {
        table.add(["a", "b"][n % 2], "x", Ack::Durable).unwrap();
        assert!(table.seal().is_empty());
    }
    table.end(in_flight.remove(0), Outcome::Committed);
    assert_eq!(counts_of(&table.seal_one()), counts([("a/x", 50), ("b/x", 50)]));
}

#[test]
fn all_who_wait_for_a_record_get_its_verdict_and_others_do_not() {
    let table = Table::new(1);
    let first = ["a", "a", "b"].map(|name| table.add(name, "x", Ack::Durable).unwrap());
    let sealed = table.seal_one();
    let later = table.add("a", "x", Ack::Durable).unwrap();
    table.end(sealed, Outcome::NotWritten);
    assert!(first.iter().all(|verdict| verdict.get() == Some(Outcome::NotWritten)));
    assert_eq!(later.get(), None);
    assert_eq!(counts_of(&table.seal_one()), counts([("a/x", 1)]));
}

#[test]
fn what_would_be_a_long_record_becomes_several_and_each_has_its_verdict() {
    let rooms: Vec<_> = (0..3_000).map(|n| format!("a-room-with-a-long-name-{n}")).collect();
    let table = Table::new(1);
    let mut waits: Vec<_> = rooms.iter().map(|name| table.add(name, "x", Ack::Durable).unwrap()).collect();
    // Those who come to a room that has a batch wait for the same record.
    waits.extend(rooms.iter().map(|name| table.add(name, "x", Ack::Durable).unwrap()));
    let sealed = table.seal();
    assert!(sealed.len() > 2);
    assert!(sealed.iter().all(|record| record.value.len() < 100_000));
    let all: BTreeMap<_, _> = sealed.iter().flat_map(counts_of).collect();
    assert_eq!(all, rooms.iter().map(|name| (format!("{name}/x"), 2)).collect());
    table.add("a", "x", Ack::Durable).unwrap();
    assert!(table.seal().is_empty(), "more than two are in flight");
    let mut expected = BTreeMap::new();
    let outcomes = [Outcome::Committed, Outcome::NotWritten, Outcome::Unknown];
    // In any order, and each at once.
    for (record, outcome) in sealed.into_iter().rev().zip(outcomes.into_iter().cycle()) {
        expected.extend(counts_of(&record).into_keys().map(|entry| (entry, outcome)));
        table.end(record, outcome);
        for (name, wait) in rooms.iter().chain(&rooms).zip(&waits) {
            assert_eq!(wait.get(), expected.get(&format!("{name}/x")).copied(), "{name}");
        }
    }
    assert_eq!((expected.len(), table.seal().len()), (rooms.len(), 1));
}

#[test]
fn rooms_with_an_open_batch_are_limited_in_each_partition_and_known_ones_go_on() {
    // Rooms a and b are of one partition.
    let mut table = Table::new(8);
    table.config.max_rooms = 8;
    table.add("a", "x", Ack::Durable).unwrap();
    assert_eq!(table.add("b", "x", Ack::Durable).unwrap_err(), Refusal::TooManyRooms(1));
    table.add("a", "x", Ack::Durable).unwrap();
    table.add("c", "x", Ack::Durable).expect("another partition has its own share");
    let mut sealed = table.seal();
    table.add("b", "x", Ack::Durable).expect("the other one is in a record");
    sealed.push(table.seal_one());
    sealed.into_iter().for_each(|sealed| table.end(sealed, Outcome::Committed));
    assert!(table.is_at_rest());
}

#[test]
fn a_partition_that_is_full_and_makes_no_progress_refuses_at_once() {
    for ack in [Ack::Durable, Ack::Received] {
        let mut table = Table::new(8);
        table.add("a", "x", ack).unwrap();
        let first = table.seal_one();
        table.now += ms(5_000);
        table.add("a", "x", ack).expect("one more may be in flight");
        let second = table.seal_one();
        assert_eq!(table.add("a", "x", ack).unwrap_err(), Refusal::Stalled(1_000));
        table.add("c", "x", ack).expect("another partition is not concerned");
        table.end(first, Outcome::Committed);
        table.add("a", "x", ack).unwrap();
        table.now += ms(999);
        table.end(second, Outcome::Unknown);
        table.add("a", "x", ack).expect("not for long enough");
    }
}

#[test]
fn a_new_room_of_a_stalled_partition_is_refused_at_once() {
    let mut table = Table::new(1);
    for _ in 0..table.config.in_flight_per_partition {
        table.add("a", "x", Ack::Durable).unwrap();
        table.seal_one();
    }
    table.now += ms(table.config.stall_ms);
    assert_eq!(table.add("new", "x", Ack::Durable).unwrap_err(), Refusal::Stalled(1_000));
}

#[test]
fn a_partition_that_had_nothing_to_do_has_not_stalled() {
    let mut table = Table::new(1);
    table.add("a", "x", Ack::Durable).unwrap();
    table.end(table.seal_one(), Outcome::Committed);
    table.now += ms(60_000);
    for _ in 0..2 {
        table.add("a", "x", Ack::Durable).unwrap();
        table.seal_one();
    }
    table.add("a", "x", Ack::Durable).expect("it is full for a moment only");
    table.now += ms(1_000);
    assert_eq!(table.add("a", "x", Ack::Durable).unwrap_err(), Refusal::Stalled(1_000));
}

#[test]
fn what_was_promised_and_not_written_comes_back_and_is_tried_again_after_a_pause() {
    let mut table = Table::new(1);
    let waits = table.add("a", "x", Ack::Durable).unwrap();
    table.add("a", "y", Ack::Received).unwrap();
    table.add("b", "y", Ack::Received).unwrap();
    let sealed = table.seal_one();
    assert_eq!((sealed.count, sealed.promised()), (3, 2));
    table.end(sealed, Outcome::NotWritten);
    assert_eq!(waits.get(), Some(Outcome::NotWritten));
    table.add("a", "z", Ack::Received).unwrap();
    assert!(table.seal().is_empty());
    table.now += RETRY;
    let sealed = table.seal();
    let held: Vec<_> = sealed.iter().map(counts_of).collect();
    assert_eq!(held, [counts([("a/y", 1), ("b/y", 1)]), counts([("a/z", 1)])]);
    for again in sealed {
        assert_eq!(again.promised(), again.count);
        table.end(again, Outcome::Committed);
    }
    assert!(table.is_at_rest());
}

#[test]
fn what_comes_back_while_others_are_written_is_tried_again_at_once() {
    let table = Table::new(1);
    let [back, well] = ["x", "y"].map(|reaction| {
        table.add("a", reaction, Ack::Received).unwrap();
        table.seal_one()
    });
    table.end(back, Outcome::NotWritten);
    assert!(table.seal().is_empty());
    table.end(well, Outcome::Committed);
    let again = table.seal_one();
    assert_eq!(counts_of(&again), counts([("a/x", 1)]));
    table.end(again, Outcome::Committed);
    assert!(table.is_at_rest());
}

#[test]
fn records_that_come_back_do_not_grow_and_do_not_become_more() {
    let mut table = Table::new(1);
    (table.config.max_distinct_per_batch, table.config.stall_ms) = (4, 60_000);
    let mut promised = 0;
    for round in 0..20 {
        let mut under_way = table.seal();
        for batch in 0..3 {
            // Of one room and of another; what is too much is refused.
            for n in 0..10 {
                let reaction = format!("{round}-{batch}-{n}");
                let added = table.add(["a", "b"][n % 2], &reaction, Ack::Received);
                promised += u64::from(added.is_ok());
            }
            under_way.extend(table.seal());
        }
        assert_eq!(under_way.len(), 2, "as many as may be under way");
        assert!(under_way.iter().all(|sealed| sealed.count <= 8), "4 reactions a room");
        under_way.into_iter().for_each(|sealed| table.end(sealed, Outcome::NotWritten));
        table.now += RETRY;
    }
    assert_eq!(promised, 3 * 8, "two records, and what is open");
    let mut written = 0;
    while !table.is_at_rest() {
        for sealed in table.seal() {
            written += sealed.count;
            table.end(sealed, Outcome::Committed);
        }
    }
    assert_eq!(written, promised);
}

#[test]
fn a_record_with_the_longest_batch_of_a_room_stays_below_1_mb() {
    let mut table = Table::new(1);
    table.config.max_distinct_per_batch = DISTINCT_MAX;
    // Every byte is escaped.
    let reaction =
        |n: usize| (0..64).map(|bit| if n >> bit & 1 == 0 { '"' } else { '\\' }).collect::<String>();
    let add = |n| {
        let ask = ask(&reaction(n), wire::COUNT_MAX / (DISTINCT_MAX as u64 + 1));
        table.batches.add(&room(&"r".repeat(64)), &ask, Ack::Received, &table.config, table.now)
    };
    (0..DISTINCT_MAX).for_each(|n| drop(add(n).unwrap()));
    assert_eq!(add(DISTINCT_MAX).unwrap_err(), Refusal::RoomTooDiverse(DISTINCT_MAX));
    let before_it = 64 << 10;
    let longest = before_it + table.seal_one().value.len();
    assert!(longest < 1_000_000, "{longest}");
}

#[test]
fn a_partition_whose_batches_keep_coming_back_refuses_after_a_while() {
    let mut table = Table::new(1);
    table.add("a", "x", Ack::Received).unwrap();
    for _ in 0..9 {
        table.seal().into_iter().for_each(|sealed| table.end(sealed, Outcome::NotWritten));
        table.add("a", "x", Ack::Received).unwrap();
        table.now += RETRY;
    }
    table.now += RETRY;
    assert_eq!(table.add("a", "x", Ack::Received).unwrap_err(), Refusal::Stalled(1_000));
    let mut sealed = table.seal();
    assert_eq!(
        sealed.iter().map(|sealed| sealed.count).collect::<Vec<_>>(),
        [1, 1],
        "behind them it combines"
    );
    table.end(sealed.remove(0), Outcome::Unknown);
    table.end(sealed.remove(0), Outcome::Unknown);
    let last = table.seal_one();
    assert_eq!(last.count, 8);
    table.end(last, Outcome::Unknown);
    assert!(table.is_at_rest());
    table.add("a", "x", Ack::Received).expect("nothing comes back any more");
}

#[test]
fn what_may_have_been_written_never_comes_back() {
    let table = Table::new(1);
    let verdict = table.add("a", "x", Ack::Received).unwrap();
    table.end(table.seal_one(), Outcome::Unknown);
    assert_eq!(verdict.get(), Some(Outcome::Unknown));
    assert!(table.is_at_rest());
}

#[test]
fn what_is_abandoned_was_not_written_and_broken_promises_are_counted() {
    let table = Table::new(2);
    let under_way = table.add("c", "x", Ack::Durable).unwrap();
    table.seal_one();
    table.add("a", "x", Ack::Received).unwrap();
    let back = table.seal().remove(0);
    table.end(back, Outcome::NotWritten);
    let waits = table.add("a", "x", Ack::Durable).unwrap();
    table.add("a", "x", Ack::Received).unwrap();
    table.add("b", "x", Ack::Received).unwrap();
    let Abandoned { rooms, unresolved, lost } = table.batches.abandon();
    assert_eq!((rooms, unresolved, lost), (2, 1, 3));
    assert_eq!((waits.get(), under_way.get()), (Some(Outcome::NotWritten), Some(Outcome::Unknown)));
    assert!(table.seal().is_empty());
}

#[test]
fn before_the_log_is_open_nothing_is_taken() {
    let batches = Batches::default();
    let refusal = batches.add(&room("a"), &ask("x", 1), Ack::Durable, &config(), Instant::now()).unwrap_err();
    assert_eq!(refusal, Refusal::Starting);
    assert!(batches.seal(&config(), Instant::now()).is_empty());
}

#[test]
fn a_refused_request_leaves_nothing_behind() {
    let mut table = Table::new(1);
    table.config.max_distinct_per_batch = 1;
    let two = Ask {
        reactions: smallvec::smallvec![("x".parse().unwrap(), 1), ("y".parse().unwrap(), 1)],
        count: 2,
    };
    let refusal = table.batches.add(&room("a"), &two, Ack::Durable, &table.config, table.now).unwrap_err();
    assert_eq!(refusal, Refusal::RoomTooDiverse(1));
    assert!(table.is_at_rest() && table.seal().is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Add { room: usize, reaction: usize, count: u64, ack: Ack },
    Seal,
    End { which: usize, outcome: Outcome },
    Wait(u64),
    InFlight(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ack = prop::sample::select(vec![Ack::Durable, Ack::Received]);
    let outcome = prop::sample::select(vec![Outcome::Committed, Outcome::NotWritten, Outcome::Unknown]);
    let add = (0..3usize, 0..4usize, 1..1_000u64, ack);
    let step = prop_oneof![
        8 => add.prop_map(|(room, reaction, count, ack)| Step::Add { room, reaction, count, ack }),
        3 => Just(Step::Seal),
        3 => (any::<usize>(), outcome).prop_map(|(which, outcome)| Step::End { which, outcome }),
        1 => (1..700u64).prop_map(Step::Wait),
        1 => (1..4usize).prop_map(Step::InFlight),
    ];
    prop::collection::vec(step, 0..120)
}

/// What was asked, and what the log holds for certain, by room and reaction.
#[derive(Default)]
struct Books {
    answered: BTreeMap<(RoomName, Reaction), u64>,
    committed: BTreeMap<(RoomName, Reaction), u64>,
    waiting: Vec<(RoomName, Ask, RoomVerdict)>,
}

fn book(side: &mut BTreeMap<(RoomName, Reaction), u64>, room: &RoomName, reaction: &Reaction, count: u64) {
    *side.entry((room.clone(), reaction.clone())).or_default() += count;
}

impl Books {
    fn end(&mut self, table: &Table, sealed: Sealed, outcome: Outcome) {
        match outcome {
            Outcome::Committed => {
                for batch in Batch::decode_all(&sealed.value).map(Result::unwrap) {
                    batch.counts.iter().for_each(|(r, n)| book(&mut self.committed, &batch.room, r, *n));
                }
            }
            // Promises that nobody can keep for certain.
            Outcome::Unknown => {
                for (room, promised) in &sealed.promised {
                    for (r, n) in promised.counts() {
                        *self.answered.get_mut(&(room.clone(), r.clone())).unwrap() -= n;
                    }
                }
            }
            Outcome::NotWritten => {}
        }
        table.end(sealed, outcome);
    }

    /// What is in a record stays within its bound, though it comes back.
    fn look_at(sealed: &[Sealed]) {
        for batch in sealed.iter().flat_map(|sealed| Batch::decode_all(&sealed.value)).map(Result::unwrap) {
            assert!(batch.counts.len() <= 3, "{batch:?}");
        }
    }

    fn close(mut self) {
        for (room, ask, verdict) in std::mem::take(&mut self.waiting) {
            if verdict.get().expect("everyone is told") == Outcome::Committed {
                ask.reactions.iter().for_each(|(r, n)| {
                    book(&mut self.answered, &room, r, *n);
                });
            }
        }
        self.answered.retain(|_, n| *n > 0);
        assert_eq!(self.answered, self.committed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn whatever_the_schedule_what_was_answered_as_counted_is_what_was_committed(steps in steps()) {
        let (mut table, mut books) = (Table::new(2), Books::default());
        table.config.max_distinct_per_batch = 3;
        let mut in_flight: Vec<Sealed> = vec![];
        for step in steps {
            match step {
                Step::Add { room: r, reaction, count, ack } => {
                    let (name, reaction) = (["a", "b", "c"][r], ["w", "x", "y", "z"][reaction]);
                    let added = table.batches.add(&room(name), &ask(reaction, count), ack, &table.config, table.now);
                    match (added, ack) {
                        (Ok(verdict), Ack::Durable) => books.waiting.push((room(name), ask(reaction, count), verdict)),
                        (Ok(_), Ack::Received) => {
                            book(&mut books.answered, &room(name), &reaction.parse().unwrap(), count);
                        }
                        (Err(Refusal::Stalled(_) | Refusal::RoomTooDiverse(_)), _) => {}
                        (Err(refusal), _) => prop_assert!(false, "{refusal:?}"),
                    }
                }
                Step::Seal => in_flight.extend(table.seal()),
                Step::End { which, outcome } if !in_flight.is_empty() => {
                    let sealed = in_flight.swap_remove(which % in_flight.len());
                    books.end(&table, sealed, outcome);
                }
                Step::End { .. } => {}
                Step::Wait(time) => table.now += ms(time),
                Step::InFlight(limit) => table.config.in_flight_per_partition = limit,
            }
            Books::look_at(&in_flight);
            for number in 0..2 {
                prop_assert!(in_flight.iter().filter(|sealed| sealed.partition == number).count() < 4);
            }
        }
        // The log is well from here on: a few rounds bring everything home.
        for _ in 0..3 {
            in_flight.drain(..).for_each(|sealed| books.end(&table, sealed, Outcome::Committed));
            table.now += RETRY;
            in_flight.extend(table.seal());
        }
        prop_assert!(table.is_at_rest());
        books.close();
    }
}
