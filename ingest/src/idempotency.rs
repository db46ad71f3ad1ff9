//! Requests that carry an `Idempotency-Key`: counted once, however often they come.
//!
//! What is kept of a request is the verdict of its batch, and not an answer. So a repeat waits for the same verdict as
//! the first, and one that comes after a 504 learns what became of it since. A request that was not written may be
//! counted again: its key is free.
//!
//! The table is bounded in number and time. Nothing is evicted before its time, because a repeat of it would count twice.
//! Beyond the bound a new key is refused, because to count it unprotected would break what the key promises. One client
//! can't fill the table: it gets a new place only while it holds less than a part of what is free (`SHARE`), the dynamic
//! threshold that switches use for shared buffers (Choudhury and Hahne, 1998). A client that holds nothing is taken
//! until the last place is gone.

mod key;

pub(crate) use key::{IDEMPOTENCY_KEY, key, pattern};

use crate::{
    ids::{Hashed, Id},
    refusal::{Refusal, retry_after_s},
    verdict::{Outcome, RoomVerdict},
};
use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Tables, so that threads seldom meet.
const SHARDS: usize = 32;
/// Old requests that are forgotten when a new one comes, at the most: faster than they come.
const EXPIRIES: usize = 8;
/// A client may hold a new place while it holds less than this part of the free ones: alone it gets a ninth of the table.
const SHARE: usize = 8;
/// Fewer keys than this can't be shared out among clients: each table needs two places.
pub(crate) const KEYS_MIN: usize = 2 * SHARDS;

/// How a request with a key is known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keyed {
    /// The client, whose places are counted.
    pub(crate) client: Id,
    /// Of client, room and key.
    pub(crate) id: Id,
    /// Of the body.
    pub(crate) fingerprint: u64,
}

/// How long requests are kept, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) ttl: Duration,
    pub(crate) max: usize,
}

/// A request whose reactions are in a batch.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    /// How many.
    pub(crate) count: u64,
    /// What its answer depends on. `None`: it is answered 202 already (`ack = "received"`).
    pub(crate) verdict: Option<RoomVerdict>,
    /// Whether it or one of its repeats was answered 202. Without a key there are none.
    pub(crate) told: Option<Arc<AtomicBool>>,
}

impl Counted {
    /// It is answered 202. Whether it is for the first time.
    pub(crate) fn is_told_first(&self) -> bool {
        self.told.as_ref().is_none_or(|told| !told.swap(true, Ordering::Relaxed))
    }

    /// How its batch ended, if that is known. One that was answered already is as good as written.
    fn outcome(&self) -> Option<Outcome> {
        self.verdict.as_ref().map_or(Some(Outcome::Committed), RoomVerdict::get)
    }
}

/// The requests with keys.
pub(crate) struct Idempotency {
    shards: Box<[Mutex<Shard>]>,
    kept: AtomicUsize,
}

#[derive(Default)]
struct Shard {
    requests: HashMap<Id, Kept, Hashed>,
    /// Each request once, about in the order in which they expire.
    order: VecDeque<(Instant, Id)>,
    /// How many places each client holds here, at least one.
    places: HashMap<Id, u32, Hashed>,
}

struct Kept {
    client: Id,
    fingerprint: u64,
    counted: Counted,
    since: Instant,
}

impl Default for Idempotency {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), kept: AtomicUsize::new(0) }
    }
}

impl Idempotency {
    /// What became of the request when it came first, and that it is a repeat; otherwise does `count`, which must be
    /// brief: repeats of other requests may wait for it.
    pub(crate) fn once(
        &self,
        request: Keyed,
        bounds: Bounds,
        now: Instant,
        count: impl FnOnce() -> Result<Counted, Refusal>,
    ) -> Result<(Counted, bool), Refusal> {
        let shard = &self.shards[request.id.shard(SHARDS)];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let expired = shard.expire(bounds.ttl, now);
        self.kept.fetch_sub(expired, Ordering::Relaxed);
        let place = shard.place(request.client, bounds, now);
        let shard = &mut *shard;
        let count = || count().map(|counted| Counted { told: Some(Arc::default()), ..counted });
        let kept = |counted: &Counted| Kept {
            client: request.client,
            fingerprint: request.fingerprint,
            counted: counted.clone(),
            since: now,
        };
        match shard.requests.entry(request.id) {
            Entry::Occupied(mut entry) if entry.get().is_free(bounds.ttl, now) => {
                // It keeps its place in the order, see `expire`.
                let counted = count()?;
                entry.insert(kept(&counted));
                Ok((counted, false))
            }
            Entry::Occupied(entry) if entry.get().fingerprint != request.fingerprint => {
                Err(Refusal::KeyReused)
            }
            Entry::Occupied(entry) => Ok((entry.get().counted.clone(), true)),
            Entry::Vacant(entry) => {
                place?;
                let counted = count()?;
                entry.insert(kept(&counted));
                shard.order.push_back((now, request.id));
                *shard.places.entry(request.client).or_default() += 1;
                self.kept.fetch_add(1, Ordering::Relaxed);
                Ok((counted, false))
            }
        }
    }

    /// How many requests are kept.
    pub(crate) fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }
}

impl Kept {
    /// Whether its key may be used as if for the first time. While the log may still write the first, it may not, however
    /// long the log takes.
    fn is_free(&self, ttl: Duration, now: Instant) -> bool {
        match self.counted.outcome() {
            Some(Outcome::NotWritten) => true,
            Some(_) => now.saturating_duration_since(self.since) >= ttl,
            None => false,
        }
    }

    /// Whether it may be forgotten.
    fn is_over(&self, ttl: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= ttl && self.counted.outcome().is_some()
    }
}

impl Shard {
    /// Whether there is a place for a new request of `client`.
    fn place(&self, client: Id, bounds: Bounds, now: Instant) -> Result<(), Refusal> {
        let free = bounds.max.div_ceil(SHARDS).saturating_sub(self.requests.len());
        let held = self.places.get(&client).map_or(0, |places| *places as usize);
        if held * SHARE < free {
            return Ok(());
        }
        // No place becomes free before the oldest request is forgotten.
        let age = self.order.front().map(|(since, _)| now.saturating_duration_since(*since));
        let wait_s = retry_after_s(bounds.ttl.saturating_sub(age.unwrap_or_default()));
        Err(match free {
            0 => Refusal::KeysFull { max: bounds.max, wait_s },
            _ => Refusal::KeysShare { wait_s },
        })
    }

    /// Gives a place of `client` back.
    fn give_back(&mut self, client: Id) {
        if let Entry::Occupied(mut places) = self.places.entry(client) {
            *places.get_mut() -= 1;
            if *places.get() == 0 {
                places.remove();
            }
        }
    }

    /// Forgets requests whose time is over: how many.
    fn expire(&mut self, ttl: Duration, now: Instant) -> usize {
        let before = self.requests.len();
        for _ in 0..EXPIRIES {
            match self.order.front() {
                Some((since, _)) if now.saturating_duration_since(*since) >= ttl => {}
                _ => break,
            }
            let Some((_, id)) = self.order.pop_front() else { break };
            match self.requests.get(&id) {
                // It was counted again since, or its outcome is open.
                Some(kept) if !kept.is_over(ttl, now) => {
                    self.order.push_back((kept.since, id));
                }
                _ => {
                    if let Some(kept) = self.requests.remove(&id) {
                        self.give_back(kept.client);
                    }
                }
            }
        }
        before - self.requests.len()
    }
}

#[cfg(test)]
mod tests;
