//! What counts, what is a repeat, and what is forgotten.

use super::*;
use crate::{ids::Secret, verdict::Verdict};
use proptest::prelude::*;
use std::{cell::Cell, collections::HashMap};

const TTL: Duration = Duration::from_secs(120);

struct Desk {
    idempotency: Idempotency,
    secret: Secret,
    client: Cell<u32>,
    start: Instant,
    max: usize,
    counts: Cell<u32>,
}

/// How a request fared: whether it is a repeat.
type Fared = Result<(Counted, bool), Refusal>;

impl Desk {
    fn new(max: usize) -> Self {
        let (idempotency, secret) = (Idempotency::default(), Secret::default());
        Self { idempotency, secret, client: Cell::new(0), start: Instant::now(), max, counts: Cell::new(0) }
    }

    fn ask(
        &self,
        key: u32,
        body: &str,
        at_s: u64,
        count: impl FnOnce() -> Result<Counted, Refusal>,
    ) -> Fared {
        let client = self.secret.id(self.client.get());
        let id = self.secret.id((client.parts(), key));
        let request = Keyed { client, id, fingerprint: self.secret.fingerprint(body.as_bytes()) };
        let bounds = Bounds { ttl: TTL, max: self.max };
        let fared = self.idempotency.once(request, bounds, self.start + Duration::from_secs(at_s), || {
            self.counts.set(self.counts.get() + 1);
            count()
        });
        assert_eq!(self.idempotency.kept(), self.kept());
        fared
    }

    /// A request whose verdict is still to come.
    fn first(&self, key: u32, at_s: u64) -> (Arc<Verdict>, Fared) {
        let verdict = Arc::<Verdict>::default();
        let counted = Counted { count: 7, verdict: Some(RoomVerdict::new(&verdict, 0)), told: None };
        (verdict, self.ask(key, "body", at_s, || Ok(counted)))
    }

    /// A request that the log has taken.
    fn written(&self, key: u32, at_s: u64) -> Fared {
        let (verdict, fared) = self.first(key, at_s);
        verdict.give(Outcome::Committed);
        fared
    }

    fn kept(&self) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap();
            assert_eq!(shard.requests.len(), shard.order.len(), "each request stands in the order once");
            let held: u32 = shard.places.values().sum();
            assert_eq!(shard.requests.len(), held as usize, "each request has a place of its client");
            assert!(shard.places.values().all(|places| *places > 0));
            shard.requests.len()
        };
        self.idempotency.shards.iter().map(count).sum()
    }
}

fn repeats(fared: &Fared) -> bool {
    fared.as_ref().unwrap().1
}

#[test]
fn a_repeat_is_not_counted_and_has_the_verdict_of_the_first() {
    let desk = Desk::new(1_000);
    let (verdict, first) = desk.first(1, 0);
    assert!(!repeats(&first));
    let (counted, repeat) = desk.first(1, 60).1.unwrap();
    assert!(repeat && counted.verdict.unwrap().is_of(&verdict));
    assert_eq!((counted.count, desk.counts.get()), (7, 1));
    assert!(!repeats(&desk.first(2, 60).1), "another key is another request");
}

#[test]
fn a_key_with_another_body_is_refused() {
    let desk = Desk::new(1_000);
    desk.first(1, 0).1.unwrap();
    let other = desk.ask(1, "other", 1, || panic!("not to be counted"));
    assert_eq!(other.unwrap_err(), Refusal::KeyReused);
}

#[test]
fn what_was_not_written_may_be_counted_again_and_what_may_have_been_may_not() {
    let desk = Desk::new(1_000);
    for (key, outcome, again) in
        [(1, Outcome::Committed, false), (2, Outcome::Unknown, false), (3, Outcome::NotWritten, true)]
    {
        let (verdict, _) = desk.first(key, 0);
        verdict.give(outcome);
        assert_eq!(repeats(&desk.first(key, 1).1), !again, "{outcome:?}");
    }
    // And from then on it is as protected as any.
    assert!(repeats(&desk.first(3, 2).1));
}

#[test]
fn a_request_and_its_repeats_are_told_for_the_first_time_once_whoever_is() {
    let desk = Desk::new(1_000);
    let (verdict, first) = desk.first(1, 0);
    let (first, repeat) = (first.unwrap().0, desk.first(1, 1).1.unwrap().0);
    assert_eq!([&repeat, &first, &repeat].map(Counted::is_told_first), [true, false, false]);
    verdict.give(Outcome::NotWritten);
    assert!(desk.first(1, 2).1.unwrap().0.is_told_first(), "counted again, it is another");
    let without_key = Counted { count: 7, verdict: None, told: None };
    assert!(without_key.is_told_first());
}

#[test]
fn what_was_refused_is_not_kept() {
    let desk = Desk::new(1_000);
    let refused = desk.ask(1, "body", 0, || Err(Refusal::Stalled(1)));
    assert_eq!((refused.unwrap_err(), desk.kept()), (Refusal::Stalled(1), 0));
    assert!(!repeats(&desk.first(1, 0).1));
}

#[test]
fn what_was_answered_at_once_stays_answered_whatever_becomes_of_the_batch() {
    let desk = Desk::new(1_000);
    desk.ask(1, "body", 0, || Ok(Counted { count: 7, verdict: None, told: None })).unwrap();
    let (counted, repeat) = desk.first(1, 1).1.unwrap();
    assert!(repeat && counted.verdict.is_none());
}

#[test]
fn requests_are_forgotten_when_their_time_is_over() {
    let desk = Desk::new(100_000);
    for key in 0..500 {
        desk.written(key, 0).unwrap();
    }
    // The last of them: its time is over, though others must be forgotten before it.
    assert!(repeats(&desk.written(499, 119)));
    assert!(!repeats(&desk.written(499, 120)));
    for key in 1_000..3_000 {
        desk.written(key, 120).unwrap();
    }
    assert_eq!(desk.kept(), 2_001);
}

#[test]
fn a_key_is_not_forgotten_while_the_log_may_still_write_its_reactions() {
    let desk = Desk::new(100_000);
    let (verdict, first) = desk.first(1, 0);
    assert!(!repeats(&first));
    // Others come, and have it looked at again and again.
    (1_000..1_200).for_each(|key| drop(desk.first(key, 500).1.unwrap()));
    assert!(repeats(&desk.first(1, 500).1));
    verdict.give(Outcome::Committed);
    assert!(!repeats(&desk.first(1, 500).1));
}

#[test]
fn one_that_was_counted_again_has_its_whole_time_again() {
    let desk = Desk::new(1_000);
    desk.first(1, 0).0.give(Outcome::NotWritten);
    assert!(!repeats(&desk.written(1, 100)));
    // Its old place in the order comes up.
    assert!(repeats(&desk.first(1, 130).1));
    assert!(!repeats(&desk.first(1, 220).1));
}

#[test]
fn one_client_can_not_shut_others_out() {
    let desk = Desk::new(KEYS_MIN);
    let taken = (0..200).filter(|key| desk.first(*key, 0).1.is_ok()).count();
    assert_eq!(taken, SHARDS, "half of the places");
    desk.client.set(1);
    assert!(!repeats(&desk.first(0, 0).1));
}

#[test]
fn greedy_clients_leave_places_for_newcomers() {
    let (desk, max) = (Desk::new(SHARDS * 64), SHARDS * 64);
    for client in 0..8 {
        desk.client.set(client);
        let taken = (0..2_000).filter(|key| desk.first(*key, 0).1.is_ok()).count();
        assert!((max / 24..=max / 8).contains(&taken), "client {client} got {taken}");
        assert_eq!(desk.first(9_999, 0).1.unwrap_err().cause(), "idempotency_share");
    }
    assert!(desk.kept() < max * 3 / 4);
    for client in 100..200 {
        desk.client.set(client);
        assert!(desk.first(0, 0).1.is_ok(), "client {client}");
    }
}

#[test]
fn beyond_the_bound_new_keys_are_refused_and_known_ones_are_not() {
    let desk = Desk::new(KEYS_MIN);
    let (mut kept, mut refused) = (Vec::new(), Vec::new());
    for key in 0..2_000 {
        desk.client.set(key);
        match desk.written(key, u64::from(key) / 100) {
            Ok(_) => kept.push(key),
            Err(refusal) => {
                // The oldest request of each table came within the first seconds.
                let Refusal::KeysFull { max: KEYS_MIN, wait_s } = refusal else { panic!("{refusal:?}") };
                assert!((90..=130).contains(&wait_s), "{wait_s}");
                refused.push(key);
            }
        }
    }
    assert_eq!((kept.len(), desk.kept(), desk.counts.get()), (KEYS_MIN, KEYS_MIN, KEYS_MIN as u32));
    for key in kept {
        desk.client.set(key);
        assert!(repeats(&desk.first(key, 21).1));
    }
    desk.client.set(refused[0]);
    assert!(!repeats(&desk.first(refused[0], 141).1), "time makes room");
}

proptest! {
    /// The promise: within the TTL a repeat is counted again only if the first was not written. And the table stays
    /// within its bound, and takes a client that holds nothing in a shard with a free place.
    #[test]
    fn what_is_kept_is_never_counted_twice(
        steps in prop::collection::vec((0_u32..6, 0_u32..40, 0_u64..15, 0_u8..8), 1..400),
    ) {
        let desk = Desk::new(KEYS_MIN * 2);
        let mut model = HashMap::<(u32, u32), (u64, Arc<Verdict>)>::new();
        let mut now_s = 0;
        for (client, key, pause_s, fate) in steps {
            now_s += pause_s;
            desk.client.set(client);
            let (verdict, fared) = desk.first(key, now_s);
            let live = |(since, verdict): &(u64, Arc<Verdict>)| {
                match verdict.get() {
                    Some(Outcome::NotWritten) => false,
                    Some(_) => now_s - since < TTL.as_secs(),
                    None => true,
                }
            };
            match model.get(&(client, key)).filter(|known| live(known)) {
                Some((_, first)) => {
                    let (counted, repeat) = fared.expect("a known key is never refused");
                    prop_assert!(repeat && counted.verdict.unwrap().is_of(first));
                }
                None => match fared {
                    Ok((_, repeat)) => {
                        prop_assert!(!repeat);
                        match fate {
                            0 => verdict.give(Outcome::NotWritten),
                            1 => verdict.give(Outcome::Unknown),
                            2..5 => verdict.give(Outcome::Committed),
                            _ => {}
                        }
                        model.insert((client, key), (now_s, verdict));
                    }
                    Err(refusal) => {
                        prop_assert!(["idempotency_full", "idempotency_share"].contains(&refusal.cause()));
                    }
                },
            }
            prop_assert!(desk.kept() <= KEYS_MIN * 2);
        }
    }
}

#[test]
fn of_many_at_once_one_is_counted() {
    let (idempotency, secret) = (Idempotency::default(), Secret::default());
    let request = Keyed { client: secret.id("client"), id: secret.id("key"), fingerprint: 0 };
    let (bounds, now) = (Bounds { ttl: TTL, max: 1_000 }, Instant::now());
    let counts = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let counted = idempotency.once(request, bounds, now, || {
                    counts.fetch_add(1, Ordering::SeqCst);
                    Ok(Counted { count: 1, verdict: None, told: None })
                });
                assert!(counted.is_ok());
            });
        }
    });
    assert_eq!(counts.into_inner(), 1);
}
