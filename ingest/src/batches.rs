//! Every room's open batch, and how many of its batches are under way. Knows no log and no clock.
//!
//! A room is here from its first reaction until all of its batches have ended. It has at most one open batch, which
//! requests add to. [`Batches::seal`] takes open batches out, up to a number under way in each room; behind those the
//! open batch goes on combining in place. So what is kept grows with rooms and not with taps, however long the log
//! is away.

use crate::{
    combine::Combined,
    config::{Ack, Config},
    refusal::Refusal,
    request::Ask,
    verdict::{Outcome, Verdict},
};
use bytes::Bytes;
use dashmap::{DashMap, Entry};
use smallvec::SmallVec;
use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use wire::{Counts, RoomName};

/// A batch that came back is tried again after this.
const RETRY: Duration = Duration::from_millis(100);

/// The open batches of all rooms.
#[derive(Default)]
pub(crate) struct Batches {
    rooms: DashMap<RoomName, Room>,
    /// How many rooms there are: `DashMap::len` would lock every shard.
    room_count: AtomicUsize,
    /// Rooms to look at when sealing; each at most once, see [`Room::queued`]. Locked after a shard, never before.
    queue: Mutex<Vec<RoomName>>,
    /// The queue is no longer empty.
    filled: Notify,
}

struct Room {
    open: Option<Open>,
    /// The verdicts of the batches under way.
    in_flight: SmallVec<[Arc<Verdict>; 2]>,
    /// Whether it stands in the queue. A room with an open batch does, or has a batch in flight whose end puts it there.
    queued: bool,
    /// When a batch was last committed; at first, when the room came.
    progress_at: Instant,
    /// A batch came back: try again then.
    retry_at: Option<Instant>,
}

struct Open {
    combined: Combined,
    since: Instant,
    verdict: Arc<Verdict>,
}

/// What was given up.
pub(crate) struct Abandoned {
    /// Rooms with something under way.
    pub(crate) rooms: usize,
    /// Batches under way.
    pub(crate) unresolved: usize,
    /// Promised reactions of open batches.
    pub(crate) lost: u64,
}

/// A batch that takes no more reactions and is to be appended. It has to come back to [`Batches::end`].
pub(crate) struct Sealed {
    /// Its room.
    pub(crate) room: RoomName,
    /// The record's value.
    pub(crate) value: Bytes,
    /// How many reactions it holds.
    pub(crate) count: u64,
    /// When its first reaction came.
    pub(crate) since: Instant,
    promised: Counts,
    verdict: Arc<Verdict>,
}

impl Sealed {
    /// How many of its reactions were answered already.
    pub(crate) fn promised(&self) -> u64 {
        self.promised.values().sum()
    }
}

impl Batches {
    /// Adds to the room's open batch. The verdict is given when that batch has ended.
    pub(crate) fn add(
        &self,
        room: &RoomName,
        ask: &Ask<'_>,
        ack: Ack,
        config: &Config,
        now: Instant,
    ) -> Result<Arc<Verdict>, Refusal> {
        if let Some(mut known) = self.rooms.get_mut(room) {
            return self.add_to(known.pair_mut(), ask, ack, config, now);
        }
        match self.rooms.entry(room.clone()) {
            // It came in between.
            Entry::Occupied(entry) => self.add_to(entry.into_ref().pair_mut(), ask, ack, config, now),
            Entry::Vacant(entry) => {
                let mut new = Room {
                    open: None,
                    in_flight: SmallVec::new(),
                    queued: false,
                    progress_at: now,
                    retry_at: None,
                };
                if self.room_count.fetch_add(1, Ordering::Relaxed) >= config.max_rooms {
                    self.room_count.fetch_sub(1, Ordering::Relaxed);
                    return Err(Refusal::TooManyRooms(config.max_rooms));
                }
                match self.add_to((entry.key(), &mut new), ask, ack, config, now) {
                    Ok(verdict) => {
                        entry.insert(new);
                        Ok(verdict)
                    }
                    Err(refusal) => {
                        self.room_count.fetch_sub(1, Ordering::Relaxed);
                        Err(refusal)
                    }
                }
            }
        }
    }

    fn add_to(
        &self,
        (name, room): (&RoomName, &mut Room),
        ask: &Ask<'_>,
        ack: Ack,
        config: &Config,
        now: Instant,
    ) -> Result<Arc<Verdict>, Refusal> {
        room.refuse_if_stalled(config, now)?;
        let mut fresh = None;
        let open = room.open.as_mut().unwrap_or_else(|| fresh.insert(Open::new(now)));
        open.combined.add(ask, ack, config.max_distinct_per_batch)?;
        let verdict = Arc::clone(&open.verdict);
        if fresh.is_some() {
            room.open = fresh;
        }
        if !room.queued {
            self.enqueue(name.clone());
            room.queued = true;
        }
        Ok(verdict)
    }

    /// Takes out every open batch whose room has less than its number under way.
    pub(crate) fn seal(&self, config: &Config, now: Instant) -> Vec<Sealed> {
        let queue = mem::take(&mut *self.queue());
        let mut sealed = Vec::with_capacity(queue.len());
        for name in queue {
            let open = self.rooms.get_mut(&name).and_then(|mut room| {
                if room.retry_at.is_some_and(|at| at > now) {
                    self.queue().push(name.clone());
                    return None;
                }
                room.queued = false;
                // Otherwise the end of a batch in flight puts the room into the queue again.
                if room.in_flight.len() >= config.in_flight_per_room {
                    return None;
                }
                let open = room.open.take()?;
                room.in_flight.push(Arc::clone(&open.verdict));
                Some(open)
            });
            sealed.extend(open.map(|open| open.seal(name)));
        }
        sealed
    }

    /// A batch has ended: gives the verdict, and takes back what was promised and not written.
    pub(crate) fn end(&self, mut sealed: Sealed, outcome: Outcome, now: Instant) {
        if let Entry::Occupied(mut entry) = self.rooms.entry(sealed.room.clone()) {
            let room = entry.get_mut();
            room.in_flight.retain(|verdict| !Arc::ptr_eq(verdict, &sealed.verdict));
            if outcome == Outcome::Committed {
                room.progress_at = now;
                room.retry_at = None;
            } else if outcome == Outcome::NotWritten && !sealed.promised.is_empty() {
                let open = room.open.get_or_insert_with(|| Open::new(sealed.since));
                open.combined.give_back(mem::take(&mut sealed.promised));
                room.retry_at = Some(now + RETRY);
            }
            if room.open.is_some() {
                if !mem::replace(&mut room.queued, true) {
                    self.queue().push(entry.key().clone());
                }
            } else if room.in_flight.is_empty() {
                self.forget(entry);
            }
        }
        sealed.verdict.give(outcome);
    }

    /// Gives up all batches: nothing of the open ones was or will be written, and nobody knows of those under way.
    pub(crate) fn abandon(&self) -> Abandoned {
        let mut abandoned = Abandoned { rooms: self.rooms(), unresolved: 0, lost: 0 };
        for mut room in self.rooms.iter_mut() {
            if let Some(open) = room.open.take() {
                abandoned.lost += open.combined.promised();
                open.verdict.give(Outcome::NotWritten);
            }
            abandoned.unresolved += room.in_flight.len();
            room.in_flight.iter().for_each(|verdict| verdict.give(Outcome::Unknown));
        }
        abandoned
    }

    /// How many rooms have something under way.
    pub(crate) fn rooms(&self) -> usize {
        self.room_count.load(Ordering::Relaxed)
    }

    fn forget(&self, room: dashmap::OccupiedEntry<'_, RoomName, Room>) {
        room.remove();
        self.room_count.fetch_sub(1, Ordering::Relaxed);
    }

    fn enqueue(&self, room: RoomName) {
        let mut queue = self.queue();
        queue.push(room);
        if queue.len() == 1 {
            self.filled.notify_one();
        }
    }

    /// Waits until there is something to seal. Safe to cancel.
    pub(crate) async fn until_filled(&self) {
        loop {
            let filled = self.filled.notified();
            if !self.queue().is_empty() {
                return;
            }
            filled.await;
        }
    }

    fn queue(&self) -> MutexGuard<'_, Vec<RoomName>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// A room is stalled when the log takes nothing more of it, and has not for a while: a request would only wait.
    fn refuse_if_stalled(&self, config: &Config, now: Instant) -> Result<(), Refusal> {
        let blocked = self.in_flight.len() >= config.in_flight_per_room || self.retry_at.is_some();
        let silent = now.saturating_duration_since(self.progress_at);
        if blocked && silent >= Duration::from_millis(config.stall_ms) {
            return Err(Refusal::Stalled(config.stall_ms));
        }
        Ok(())
    }
}

impl Open {
    fn new(since: Instant) -> Self {
        Self { combined: Combined::default(), since, verdict: Arc::default() }
    }

    fn seal(self, room: RoomName) -> Sealed {
        let (batch, promised) = self.combined.into_batch(room.clone());
        Sealed {
            room,
            value: batch.encode().into(),
            count: batch.count,
            since: self.since,
            promised,
            verdict: self.verdict,
        }
    }
}

#[cfg(test)]
mod tests;
