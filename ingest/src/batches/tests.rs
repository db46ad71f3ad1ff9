//! The open batches: what is sealed when, what comes back, what is refused, and that no schedule loses a reaction.

use super::*;
use crate::config::tests::config;
use proptest::prelude::*;
use std::collections::BTreeMap;
use wire::{Batch, Counts, Reaction};

fn room(name: &str) -> RoomName {
    name.parse().unwrap()
}

fn ask(reaction: &str, count: u64) -> Ask<'_> {
    Ask { reactions: smallvec::smallvec![(reaction.into(), count)], count }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn small() -> Config {
    Config { in_flight_per_room: 2, stall_ms: 1_000, ..config() }
}

/// Batches of a test, with its configuration and its time.
struct Table {
    batches: Batches,
    config: Config,
    now: Instant,
}

impl Table {
    fn new() -> Self {
        Self { batches: Batches::default(), config: small(), now: Instant::now() }
    }

    fn add(&self, name: &str, reaction: &str, ack: Ack) -> Result<Arc<Verdict>, Refusal> {
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
}

fn counts_of(sealed: &Sealed) -> Vec<(String, u64)> {
    let batch = Batch::decode(&sealed.value).unwrap();
    assert_eq!((&batch.room, batch.count), (&sealed.room, sealed.count));
    batch.counts.iter().map(|(reaction, n)| (reaction.to_string(), *n)).collect()
}

#[test]
fn one_record_a_room_holds_all_that_came_since_the_last() {
    let table = Table::new();
    for (name, reaction) in [("a", "x"), ("b", "x"), ("a", "y"), ("a", "x")] {
        table.add(name, reaction, Ack::Durable).unwrap();
    }
    let sealed = table.seal();
    assert_eq!(sealed.len(), 2);
    assert_eq!(counts_of(&sealed[0]), [("x".into(), 2), ("y".into(), 1)]);
    assert_eq!(counts_of(&sealed[1]), [("x".into(), 1)]);
    assert!(table.seal().is_empty());
}

#[test]
fn behind_the_batches_in_flight_a_room_combines_in_place() {
    let table = Table::new();
    let mut in_flight = vec![];
    for _ in 0..2 {
        table.add("a", "x", Ack::Durable).unwrap();
        in_flight.push(table.seal_one());
    }
    for _ in 0..100 {
        table.add("a", "x", Ack::Durable).unwrap();
        assert!(table.seal().is_empty());
    }
    table.end(in_flight.remove(0), Outcome::Committed);
    assert_eq!(counts_of(&table.seal_one()), [("x".into(), 100)]);
}

#[test]
fn all_who_wait_for_a_batch_get_its_verdict_and_others_do_not() {
    let table = Table::new();
    let first = [(); 3].map(|()| table.add("a", "x", Ack::Durable).unwrap());
    let sealed = table.seal_one();
    let later = table.add("a", "x", Ack::Durable).unwrap();
    table.end(sealed, Outcome::NotWritten);
    assert!(first.iter().all(|verdict| verdict.get() == Some(Outcome::NotWritten)));
    assert_eq!(later.get(), None);
    assert_eq!(counts_of(&table.seal_one()), [("x".into(), 1)]);
}

#[test]
fn a_room_leaves_when_its_last_batch_has_ended() {
    let mut table = Table::new();
    table.config.max_rooms = 1;
    table.add("a", "x", Ack::Durable).unwrap();
    assert_eq!(table.add("b", "x", Ack::Durable).unwrap_err(), Refusal::TooManyRooms(1));
    table.add("a", "x", Ack::Durable).unwrap();
    let sealed = table.seal_one();
    assert_eq!(table.batches.rooms(), 1);
    table.end(sealed, Outcome::Committed);
    assert_eq!((table.batches.rooms(), table.batches.rooms.len()), (0, 0));
    table.add("b", "x", Ack::Durable).unwrap();
}

#[test]
fn a_room_that_is_full_and_makes_no_progress_refuses_at_once() {
    for ack in [Ack::Durable, Ack::Received] {
        let mut table = Table::new();
        table.add("a", "x", ack).unwrap();
        let first = table.seal_one();
        table.now += ms(5_000);
        table.add("a", "x", ack).expect("one more may be in flight");
        let second = table.seal_one();
        assert_eq!(table.add("a", "x", ack).unwrap_err(), Refusal::Stalled(1_000));
        table.add("b", "x", ack).expect("another room is not concerned");
        table.end(first, Outcome::Committed);
        table.add("a", "x", ack).unwrap();
        table.now += ms(999);
        table.end(second, Outcome::Unknown);
        table.add("a", "x", ack).expect("not for long enough");
    }
}

#[test]
fn what_was_promised_and_not_written_comes_back_and_is_tried_again_after_a_pause() {
    let mut table = Table::new();
    let waits = table.add("a", "x", Ack::Durable).unwrap();
    table.add("a", "y", Ack::Received).unwrap();
    let sealed = table.seal_one();
    assert_eq!(sealed.promised(), 1);
    table.end(sealed, Outcome::NotWritten);
    assert_eq!(waits.get(), Some(Outcome::NotWritten));
    table.add("a", "z", Ack::Received).unwrap();
    assert!(table.seal().is_empty());
    table.now += RETRY;
    let again = table.seal_one();
    assert_eq!(counts_of(&again), [("y".into(), 1), ("z".into(), 1)]);
    table.end(again, Outcome::Committed);
    assert_eq!(table.batches.rooms(), 0);
}

#[test]
fn a_room_whose_batches_keep_coming_back_refuses_after_a_while() {
    let mut table = Table::new();
    table.add("a", "x", Ack::Received).unwrap();
    for _ in 0..9 {
        let sealed = table.seal_one();
        table.end(sealed, Outcome::NotWritten);
        table.add("a", "x", Ack::Received).unwrap();
        table.now += RETRY;
    }
    table.now += RETRY;
    assert_eq!(table.add("a", "x", Ack::Received).unwrap_err(), Refusal::Stalled(1_000));
    let sealed = table.seal_one();
    assert_eq!(sealed.count, 10);
    table.end(sealed, Outcome::Committed);
    table.add("a", "x", Ack::Received).unwrap();
}

#[test]
fn what_may_have_been_written_never_comes_back() {
    let table = Table::new();
    let verdict = table.add("a", "x", Ack::Received).unwrap();
    table.end(table.seal_one(), Outcome::Unknown);
    assert_eq!(verdict.get(), Some(Outcome::Unknown));
    assert_eq!(table.batches.rooms(), 0);
}

#[test]
fn what_is_abandoned_was_not_written_and_broken_promises_are_counted() {
    let table = Table::new();
    let waits = table.add("a", "x", Ack::Durable).unwrap();
    table.add("a", "x", Ack::Received).unwrap();
    table.add("b", "x", Ack::Received).unwrap();
    assert_eq!(table.batches.abandon().lost, 2);
    assert_eq!(waits.get(), Some(Outcome::NotWritten));
    assert!(table.seal().is_empty());
}

#[test]
fn a_refused_request_leaves_nothing_behind() {
    let mut table = Table::new();
    table.config.max_distinct_per_batch = 1;
    let two = Ask { reactions: smallvec::smallvec![("x".into(), 1), ("y".into(), 1)], count: 2 };
    let refusal = table.batches.add(&room("a"), &two, Ack::Durable, &table.config, table.now).unwrap_err();
    assert_eq!(refusal, Refusal::RoomTooDiverse(1));
    assert_eq!((table.batches.rooms(), table.seal().len()), (0, 0));
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
    waiting: Vec<(RoomName, Ask<'static>, Arc<Verdict>)>,
}

fn book(side: &mut BTreeMap<(RoomName, Reaction), u64>, room: &RoomName, reaction: &Reaction, count: u64) {
    *side.entry((room.clone(), reaction.clone())).or_default() += count;
}

impl Books {
    fn end(&mut self, table: &Table, sealed: Sealed, outcome: Outcome) {
        let counts: Counts = Batch::decode(&sealed.value).unwrap().counts;
        match outcome {
            Outcome::Committed => {
                counts.iter().for_each(|(r, n)| book(&mut self.committed, &sealed.room, r, *n));
            }
            // Promises that nobody can keep for certain.
            Outcome::Unknown => {
                for (r, n) in &sealed.promised {
                    *self.answered.get_mut(&(sealed.room.clone(), r.clone())).unwrap() -= n;
                }
            }
            Outcome::NotWritten => {}
        }
        table.end(sealed, outcome);
    }

    fn close(mut self) {
        for (room, ask, verdict) in std::mem::take(&mut self.waiting) {
            if verdict.get().expect("everyone is told") == Outcome::Committed {
                ask.reactions.iter().for_each(|(r, n)| {
                    book(&mut self.answered, &room, &r.parse().unwrap(), *n);
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
        let (mut table, mut books) = (Table::new(), Books::default());
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
                        (Err(refusal), _) => prop_assert!(matches!(refusal, Refusal::Stalled(_)), "{refusal:?}"),
                    }
                }
                Step::Seal => in_flight.extend(table.seal()),
                Step::End { which, outcome } if !in_flight.is_empty() => {
                    let sealed = in_flight.swap_remove(which % in_flight.len());
                    books.end(&table, sealed, outcome);
                }
                Step::End { .. } => {}
                Step::Wait(time) => table.now += ms(time),
                Step::InFlight(limit) => table.config.in_flight_per_room = limit,
            }
            for name in ["a", "b", "c"] {
                prop_assert!(in_flight.iter().filter(|sealed| *sealed.room == *name).count() < 4);
            }
        }
        // The log is well from here on: a few rounds bring everything home.
        for _ in 0..3 {
            in_flight.drain(..).for_each(|sealed| books.end(&table, sealed, Outcome::Committed));
            table.now += RETRY;
            in_flight.extend(table.seal());
        }
        prop_assert_eq!((table.batches.rooms(), table.batches.rooms.len()), (0, 0));
        books.close();
    }
}
