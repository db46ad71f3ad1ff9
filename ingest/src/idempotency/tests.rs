//! What counts, what is a repeat, and what is forgotten.

use super::*;
use crate::{ids::Secret, verdict::Verdict};
use std::cell::Cell;

const TTL: Duration = Duration::from_secs(120);

struct Desk {
    idempotency: Idempotency,
    secret: Secret,
    start: Instant,
    max: usize,
    counts: Cell<u32>,
}

/// How a request fared: whether it is a repeat.
type Fared = Result<(Counted, bool), Refusal>;

impl Desk {
    fn new(max: usize) -> Self {
        let (idempotency, secret) = (Idempotency::default(), Secret::default());
        Self { idempotency, secret, start: Instant::now(), max, counts: Cell::new(0) }
    }

    fn ask(
        &self,
        key: u32,
        body: &str,
        at_s: u64,
        count: impl FnOnce() -> Result<Counted, Refusal>,
    ) -> Fared {
        let request =
            Keyed { id: self.secret.id(key), fingerprint: self.secret.fingerprint(body.as_bytes()) };
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

    fn kept(&self) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap();
            assert_eq!(shard.requests.len(), shard.order.len(), "each request stands in the order once");
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
fn what_was_not_written_may_be_counted_anew_and_what_may_have_been_may_not() {
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
    assert!(desk.first(1, 2).1.unwrap().0.is_told_first(), "counted anew, it is another");
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
        desk.first(key, 0).1.unwrap();
    }
    // The last of them: its time is over, though others must be forgotten before it.
    assert!(repeats(&desk.first(499, 119).1));
    assert!(!repeats(&desk.first(499, 120).1));
    for key in 1_000..3_000 {
        desk.first(key, 120).1.unwrap();
    }
    assert_eq!(desk.kept(), 2_001);
}

#[test]
fn one_that_was_counted_anew_has_its_whole_time_again() {
    let desk = Desk::new(1_000);
    desk.first(1, 0).0.give(Outcome::NotWritten);
    assert!(!repeats(&desk.first(1, 100).1));
    // Its old place in the order comes up.
    assert!(repeats(&desk.first(1, 130).1));
    assert!(!repeats(&desk.first(1, 220).1));
}

#[test]
fn beyond_the_bound_new_keys_are_refused_and_known_ones_are_not() {
    let desk = Desk::new(SHARDS);
    let mut kept = Vec::new();
    let mut refused = Vec::new();
    for key in 0..1_000 {
        match desk.first(key, 0).1 {
            Ok(_) => kept.push(key),
            Err(refusal) => {
                assert_eq!(refusal, Refusal::KeysFull(SHARDS));
                refused.push(key);
            }
        }
    }
    assert_eq!((kept.len(), desk.kept(), desk.counts.get()), (SHARDS, SHARDS, SHARDS as u32));
    assert!(kept.iter().all(|key| repeats(&desk.first(*key, 1).1)));
    assert!(!repeats(&desk.first(refused[0], 120).1), "time makes room");
}

#[test]
fn of_many_at_once_one_is_counted() {
    let (idempotency, secret) = (Idempotency::default(), Secret::default());
    let request = Keyed { id: secret.id("key"), fingerprint: 0 };
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
