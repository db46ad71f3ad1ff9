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
    /// Where in `slots` a client is.
    places: HashMap<Id, usize, Hashed>,
    slots: Vec<Slot>,
    /// The slot that was looked at last for a place.
    hand: usize,
    /// The buckets of all who have no slot.
    shared: Buckets,
}

struct Slot {
    client: Id,
    buckets: Buckets,
}

impl Slot {
    fn is_full(&self, now: u64) -> bool {
        self.buckets.iter().all(|full_at| *full_at <= now)
    }
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
        let place = shard.place(client, now, max_clients.div_ceil(SHARDS));
        let buckets = match place {
            Some(place) => &mut shard.slots[place].buckets,
            None => &mut shard.shared,
        };
        (quota.take(&mut buckets[kind as usize], cost, now), place.is_none())
    }
}

impl Shard {
    /// The client's slot, which may be a new one.
    fn place(&mut self, client: Id, now: u64, max: usize) -> Option<usize> {
        if let Some(place) = self.places.get(&client) {
            return Some(*place);
        }
        if self.slots.len() < max {
            self.slots.push(Slot { client, buckets: [0; 2] });
            self.places.insert(client, self.slots.len() - 1);
            return Some(self.slots.len() - 1);
        }
        for _ in 0..LOOKS.min(self.slots.len()) {
            self.hand = (self.hand + 1) % self.slots.len();
            if !self.slots[self.hand].is_full(now) {
                continue;
            }
            self.places.remove(&self.slots[self.hand].client);
            if self.slots.len() <= max {
                self.slots[self.hand] = Slot { client, buckets: [0; 2] };
                self.places.insert(client, self.hand);
                return Some(self.hand);
            }
            // The bound was lowered while running.
            self.slots.swap_remove(self.hand);
            if let Some(moved) = self.slots.get(self.hand) {
                self.places.insert(moved.client, self.hand);
            }
        }
        None
    }
}

#[cfg(test)]
impl Tracker {
    /// How many clients have a slot.
    pub(crate) fn clients(&self) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap();
            assert_eq!(shard.places.len(), shard.slots.len());
            assert!(shard.places.iter().all(|(client, place)| shard.slots[*place].client == *client));
            shard.slots.len()
        };
        self.shards.iter().map(count).sum()
    }
}
