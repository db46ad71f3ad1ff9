//! The open batches of all rooms, by partition, and what of them is under way. Knows no log and no clock.
//!
//! A room has at most one open batch, which requests add to. [`Batches::seal`] takes the open batches of a partition out, and
//! puts them into one record, up to a number of records under way in each partition; behind those the open batches go on
//! combining in place. So what is kept grows with rooms and not with taps, however long the log is away.
//!
//! A record that was not written comes back, if any of it was answered already, and is tried again.
//!
//! A partition is the unit, because the log takes or refuses records of a partition, and because a record a room is dear when
//! there are many (docs/decisions/0008).

mod partition;
#[cfg(test)]
mod tests;

pub(crate) use partition::{Abandoned, Sealed};

use crate::{
    config::{Ack, Config},
    refusal::Refusal,
    request::Ask,
    verdict::{Outcome, RoomVerdict},
};
use partition::Partition;
use std::{
    mem,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst},
    },
    time::Instant,
};
use tokio::sync::Notify;
use wire::RoomName;

/// The batches of all partitions.
#[derive(Default)]
pub(crate) struct Batches {
    /// As many as the log has; none before it is open.
    partitions: OnceLock<Box<[Slot]>>,
    /// How many partitions are to be looked at when sealing.
    queued: AtomicUsize,
    /// The first of them came.
    filled: Notify,
    /// Open batches, one a room.
    rooms: AtomicUsize,
    /// Requests that wait and whose batches are open.
    waiting: AtomicUsize,
}

/// One partition, on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Slot(Mutex<Guarded>);

#[derive(Default)]
struct Guarded {
    partition: Partition,
    /// Whether it is to be looked at when sealing. One that is filled is, or has a record in flight whose end sees to it.
    queued: bool,
    /// Its part of the requests that wait and whose batches are open.
    waiting: usize,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Guarded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batches {
    /// The log is open, and has so many partitions.
    pub(crate) fn open(&self, partitions: u32) {
        self.partitions.get_or_init(|| (0..partitions.max(1)).map(|_| Slot::default()).collect());
    }

    fn slots(&self) -> &[Slot] {
        self.partitions.get().map_or(&[], |slots| slots)
    }

    /// Adds to the room's open batch. The verdict is given when what that becomes part of has ended.
    pub(crate) fn add(
        &self,
        room: &RoomName,
        ask: &Ask,
        ack: Ack,
        config: &Config,
        now: Instant,
    ) -> Result<RoomVerdict, Refusal> {
        let slots = self.slots();
        let number = eventlog::partition_of(room, slots.len() as u32);
        let slot = slots.get(number as usize).ok_or(Refusal::Starting)?;
        // An equal share for each partition: made-up rooms of one that the log doesn't take can't shut out the others.
        let share = config.max_rooms.div_ceil(slots.len());
        let may_come = |open: usize| {
            if open >= share {
                return Err(Refusal::TooManyRooms(share));
            }
            self.rooms.fetch_add(1, Relaxed);
            Ok(())
        };
        let mut slot = slot.lock();
        let verdict = slot.partition.add(room, (ask, ack), config, now, may_come)?;
        if ack == Ack::Durable {
            slot.waiting += 1;
            self.waiting.fetch_add(1, SeqCst);
        }
        self.queue(&mut slot);
        Ok(verdict)
    }

    /// Has the partition looked at when sealing.
    fn queue(&self, slot: &mut Guarded) {
        if !slot.queued {
            slot.queued = true;
            if self.queued.fetch_add(1, SeqCst) == 0 {
                self.filled.notify_one();
            }
        }
    }

    /// Takes out of every partition the records that came back, and, if it has less than its number under way, the open batches
    /// as records.
    pub(crate) fn seal(&self, config: &Config, now: Instant) -> Vec<Sealed> {
        let mut all = Vec::new();
        for (number, slot) in self.slots().iter().enumerate() {
            let mut guarded = slot.lock();
            if !guarded.queued || guarded.partition.pauses(now) {
                continue;
            }
            guarded.queued = false;
            self.queued.fetch_sub(1, SeqCst);
            all.extend(guarded.partition.take_returned());
            let Some(sealing) = guarded.partition.seal(number as u32, config, now) else { continue };
            self.waiting.fetch_sub(mem::take(&mut guarded.waiting), SeqCst);
            drop(guarded);
            self.rooms.fetch_sub(sealing.rooms(), Relaxed);
            let records = sealing.into_records();
            if records.len() > 1 {
                slot.lock().partition.expect(&records);
            }
            all.extend(records);
        }
        all
    }

    /// A record has ended: takes back what was promised and not written, and gives the verdict of its batches.
    pub(crate) fn end(&self, sealed: Sealed, outcome: Outcome, now: Instant) {
        let Some(slot) = self.slots().get(sealed.partition as usize) else { return };
        let mut slot = slot.lock();
        slot.partition.end(sealed, outcome, now);
        if slot.partition.is_filled() {
            self.queue(&mut slot);
        }
    }

    /// Gives up all batches: nothing of the open ones, and of those that came back, was or will be written, and nobody knows of
    /// those under way.
    pub(crate) fn abandon(&self) -> Abandoned {
        let mut all = Abandoned::default();
        for slot in self.slots() {
            let Abandoned { rooms, unresolved, lost } = slot.lock().partition.abandon();
            all.rooms += rooms;
            all.unresolved += unresolved;
            all.lost += lost;
        }
        self.rooms.fetch_sub(all.rooms, Relaxed);
        all
    }

    /// How many rooms have an open batch.
    pub(crate) fn rooms(&self) -> usize {
        self.rooms.load(Relaxed)
    }

    /// How many requests wait and have their batches open. Those whose batches were sealed are not among them, nor those that
    /// were answered before; some may have gone.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Whether nothing is open, under way, or to be tried again.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots().iter().all(|slot| {
            let slot = slot.lock();
            !slot.partition.is_filled() && slot.partition.under_way() == 0
        })
    }

    /// Whether there is something to seal.
    pub(crate) fn is_filled(&self) -> bool {
        self.queued.load(SeqCst) > 0
    }

    /// Waits until there is something to seal, or was for a moment. Safe to cancel.
    pub(crate) async fn until_filled(&self) {
        let filled = self.filled.notified();
        if !self.is_filled() {
            filled.await;
        }
    }
}
