//! The buckets of all clients, in bounded memory.
//!
//! A bucket that is full again is as good as none: it gives its place to a newcomer. Where a newcomer finds no such place
//! among some, it shares a bucket with others of its kind until it does: so a limit stays a limit also beyond the bound,
//! and a flood of clients can't lift it. About 80 bytes a client.

use super::{Quota, Taken};
use crate::ids::{Hashed, Id};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Tables, so that threads seldom meet.
const SHARDS: usize = 64;
/// Buckets that a newcomer looks at for a place.
const LOOKS: usize = 16;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Requests.
    Requests,
    /// Reactions in them.
    Reactions,
}

/// When the two buckets of a client will be full, by [`Kind`].
type Buckets = [u64; 2];

/// The buckets of all clients.
pub(crate) struct Tracker {
    shards: Box<[Mutex<Shard>]>,
    start: Instant,
}

#[derive(Default)]
struct Shard {
    buckets: HashMap<Id, Buckets, Hashed>,
    /// The clients in `buckets`, to look for a place among.
    clients: Vec<Id>,
    /// The client that was looked at last.
    hand: usize,
    /// The buckets of all who have no place.
    shared: Buckets,
}

impl Tracker {
    /// Nobody has taken anything yet. `start` is before all that follows.
    pub(crate) fn new(start: Instant) -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), start }
    }

    /// Takes tokens from the client's bucket; whether that is one that it shares, as there are `max_clients` already.
    pub(crate) fn take(
        &self,
        client: Id,
        kind: Kind,
        quota: &Quota,
        cost: u64,
        now: Instant,
        max_clients: usize,
    ) -> (Taken, bool) {
        let now = now.saturating_duration_since(self.start).as_nanos() as u64;
        let shard = &self.shards[client.shard(SHARDS)];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let take = |buckets: &mut Buckets| quota.take(&mut buckets[kind as usize], cost, now);
        if let Some(buckets) = shard.buckets.get_mut(&client) {
            return (take(buckets), false);
        }
        if !shard.has_place(now, max_clients.div_ceil(SHARDS)) {
            return (take(&mut shard.shared), true);
        }
        let mut buckets = [0; 2];
        let taken = take(&mut buckets);
        shard.clients.push(client);
        shard.buckets.insert(client, buckets);
        (taken, false)
    }
}

impl Shard {
    /// Whether there is a place for one more, which another may have to leave.
    fn has_place(&mut self, now: u64, max: usize) -> bool {
        for _ in 0..LOOKS {
            if self.clients.len() < max {
                return true;
            }
            self.hand = (self.hand + 1) % self.clients.len();
            let client = self.clients[self.hand];
            let is_full = |buckets: &Buckets| buckets.iter().all(|full_at| *full_at <= now);
            if self.buckets.get(&client).is_none_or(is_full) {
                self.clients.swap_remove(self.hand);
                self.buckets.remove(&client);
            }
        }
        self.clients.len() < max
    }
}

#[cfg(test)]
impl Tracker {
    /// How many clients have a place.
    pub(crate) fn clients(&self) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap();
            assert_eq!(shard.buckets.len(), shard.clients.len());
            assert!(shard.clients.iter().all(|client| shard.buckets.contains_key(client)));
            shard.clients.len()
        };
        self.shards.iter().map(count).sum()
    }
}
