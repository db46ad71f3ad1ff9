//! Requests that carry an `Idempotency-Key`: counted once, however often they come.
//!
//! What is kept of a request is the verdict of its batch, and not an answer. So a repeat waits for the same verdict as
//! the first, and one that comes after a 504 learns what became of it since. A request that was not written may be
//! counted anew: its key is free again. Bounded in number and time; beyond the bound requests with new keys are
//! refused, as to count them unprotected would break what the key promises.

mod key;

pub(crate) use key::{IDEMPOTENCY_KEY, key, pattern};

use crate::{
    ids::{Hashed, Id},
    refusal::Refusal,
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

/// How a request with a key is known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keyed {
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

    fn is_written_never(&self) -> bool {
        self.verdict.as_ref().is_some_and(|verdict| verdict.get() == Some(Outcome::NotWritten))
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
}

struct Kept {
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
        let is_full = shard.requests.len() >= bounds.max.div_ceil(SHARDS);
        let shard = &mut *shard;
        let count = || count().map(|counted| Counted { told: Some(Arc::default()), ..counted });
        let kept = |counted: &Counted| Kept {
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
            Entry::Vacant(_) if is_full => Err(Refusal::KeysFull(bounds.max)),
            Entry::Vacant(entry) => {
                let counted = count()?;
                entry.insert(kept(&counted));
                shard.order.push_back((now, request.id));
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
    /// Whether its key may be used as if for the first time.
    fn is_free(&self, ttl: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= ttl || self.counted.is_written_never()
    }
}

impl Shard {
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
                // It was counted anew since.
                Some(kept) if now.saturating_duration_since(kept.since) < ttl => {
                    self.order.push_back((kept.since, id));
                }
                _ => {
                    self.requests.remove(&id);
                }
            }
        }
        before - self.requests.len()
    }
}

#[cfg(test)]
mod tests;
