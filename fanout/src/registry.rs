//! The newest frame of each room, and who watches it.
//!
//! A viewer has no queue: it watches one cell, which holds the newest frame. A room that has neither a frame nor a
//! viewer is not here.

use crate::{
    frames::Encoded,
    metrics::{ROOMS, VIEWERS},
};
use dashmap::{DashMap, Entry};
use metrics::gauge;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::watch;
use wire::RoomName;

/// What a room shows.
pub(crate) type Shown = Option<Arc<Encoded>>;

/// All rooms of this process.
#[derive(Debug)]
pub(crate) struct Registry {
    rooms: DashMap<RoomName, Room>,
    viewers: watch::Sender<usize>,
    rooms_watched: AtomicUsize,
}

#[derive(Debug)]
struct Room {
    shown: watch::Sender<Shown>,
    viewers: usize,
}

/// How many may watch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_viewers: usize,
    pub(crate) max_rooms_watched: usize,
}

/// Why one more viewer is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// There are as many viewers as there may be.
    Viewers,
    /// Nobody watches this room, and as many rooms are watched as may be.
    Rooms,
}

/// A viewer's place in a room; dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Seat {
    registry: Arc<Registry>,
    protocol: &'static str,
    pub(crate) room: RoomName,
    /// The room's newest frame.
    pub(crate) shown: watch::Receiver<Shown>,
}

impl Registry {
    pub(crate) fn new() -> Arc<Self> {
        let viewers = watch::Sender::new(0);
        Arc::new(Self { rooms: DashMap::new(), viewers, rooms_watched: AtomicUsize::new(0) })
    }

    /// Shows `frame` to all who watch its room, unless the room already shows it or a newer one.
    pub(crate) fn publish(&self, frame: Arc<Encoded>) -> bool {
        // Viewers are woken under a read lock: other rooms and snapshots go on.
        if let Some(room) = self.rooms.get(&frame.room) {
            return room.show(frame);
        }
        match self.rooms.entry(frame.room.clone()) {
            // Somebody came to watch since then.
            Entry::Occupied(room) => room.get().show(frame),
            Entry::Vacant(place) => {
                place.insert(Room::empty()).show(frame);
                true
            }
        }
    }

    /// Forgets what the room shows. Its viewers stay, and wait for its next life.
    pub(crate) fn forget(&self, room: &RoomName) -> bool {
        let Entry::Occupied(entry) = self.rooms.entry(room.clone()) else { return false };
        let forgotten = entry.get().shown.send_replace(None).is_some();
        if forgotten {
            gauge!(ROOMS).decrement(1.0);
        }
        if entry.get().is_unused() {
            entry.remove();
        }
        forgotten
    }

    /// What the room shows.
    pub(crate) fn snapshot(&self, room: &RoomName) -> Shown {
        self.rooms.get(room)?.shown.borrow().clone()
    }

    /// The rooms that show something.
    pub(crate) fn rooms_shown(&self) -> Vec<RoomName> {
        let shown = self.rooms.iter().filter(|room| room.shown.borrow().is_some());
        shown.map(|room| room.key().clone()).collect()
    }

    /// Takes a place in a room, whether it shows something or not.
    pub(crate) fn join(
        self: &Arc<Self>,
        room: RoomName,
        limits: Limits,
        protocol: &'static str,
    ) -> Result<Seat, Full> {
        let taken = self.viewers.send_if_modified(|viewers| {
            let free = *viewers < limits.max_viewers;
            *viewers += usize::from(free);
            free
        });
        if !taken {
            return Err(Full::Viewers);
        }
        let Some(shown) = self.enter(&room, limits.max_rooms_watched) else {
            self.viewers.send_modify(|viewers| *viewers -= 1);
            return Err(Full::Rooms);
        };
        gauge!(VIEWERS, "protocol" => protocol).increment(1.0);
        Ok(Seat { registry: Arc::clone(self), protocol, room, shown })
    }

    /// How many viewers there are.
    pub(crate) fn viewers(&self) -> watch::Receiver<usize> {
        self.viewers.subscribe()
    }

    fn enter(&self, name: &RoomName, max_rooms_watched: usize) -> Option<watch::Receiver<Shown>> {
        let entry = self.rooms.entry(name.clone());
        if !matches!(&entry, Entry::Occupied(room) if room.get().viewers > 0) {
            let one_more = |watched| (watched < max_rooms_watched).then_some(watched + 1);
            self.rooms_watched.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        }
        let mut room = entry.or_insert_with(Room::empty);
        room.viewers += 1;
        Some(room.shown.subscribe())
    }

    fn leave(&self, name: &RoomName) {
        if let Entry::Occupied(mut entry) = self.rooms.entry(name.clone()) {
            let room = entry.get_mut();
            room.viewers -= 1;
            if room.viewers == 0 {
                self.rooms_watched.fetch_sub(1, Ordering::Relaxed);
            }
            if room.is_unused() {
                entry.remove();
            }
        }
        self.viewers.send_modify(|viewers| *viewers -= 1);
    }
}

impl Room {
    fn empty() -> Self {
        Self { shown: watch::Sender::new(None), viewers: 0 }
    }

    fn show(&self, frame: Arc<Encoded>) -> bool {
        let mut first = false;
        let newer = self.shown.send_if_modified(|shown| {
            let newer = shown.as_ref().is_none_or(|shown| frame.is_newer_than(shown));
            if newer {
                first = shown.replace(frame).is_none();
            }
            newer
        });
        if first {
            gauge!(ROOMS).increment(1.0);
        }
        newer
    }

    fn is_unused(&self) -> bool {
        self.viewers == 0 && self.shown.borrow().is_none()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.registry.leave(&self.room);
        gauge!(VIEWERS, "protocol" => self.protocol).decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::harness::aggregate;
    use wire::Aggregate;

    const LIMITS: Limits = Limits { max_viewers: 3, max_rooms_watched: 2 };

    fn frame(room: &str, since: u64, seq: u64) -> Arc<Encoded> {
        Arc::new(Encoded::of(&Aggregate { since, ..aggregate(room, seq) }, 10))
    }

    fn join(registry: &Arc<Registry>, room: &str) -> Result<Seat, Full> {
        registry.join(room.parse().unwrap(), LIMITS, "websocket")
    }

    fn etag(shown: &Shown) -> String {
        shown.as_ref().map_or_else(String::new, |frame| frame.etag())
    }

    #[test]
    fn a_viewer_sees_only_the_newest_frame_however_many_came() {
        let registry = Registry::new();
        let mut seat = join(&registry, "r").unwrap();
        for seq in 1..=100 {
            assert!(registry.publish(frame("r", 5, seq)));
        }
        assert!(seat.shown.has_changed().unwrap());
        assert_eq!(etag(&seat.shown.borrow_and_update()), "W/\"5-100\"");
        assert!(!seat.shown.has_changed().unwrap());
    }

    #[test]
    fn what_is_not_newer_is_ignored_and_wakes_nobody() {
        let registry = Registry::new();
        let mut seat = join(&registry, "r").unwrap();
        assert!(registry.publish(frame("r", 5, 2)));
        seat.shown.mark_unchanged();
        for (since, seq) in [(5, 2), (5, 1), (4, 9)] {
            assert!(!registry.publish(frame("r", since, seq)));
        }
        assert!(!seat.shown.has_changed().unwrap());
        assert!(registry.publish(frame("r", 6, 1)), "a new life");
    }

    #[test]
    fn a_forgotten_room_shows_nothing_and_its_viewers_see_its_next_life() {
        let registry = Registry::new();
        let seat = join(&registry, "r").unwrap();
        registry.publish(frame("r", 5, 9));
        assert!(registry.forget(&seat.room));
        assert!(!registry.forget(&seat.room), "already forgotten");
        assert!(registry.snapshot(&seat.room).is_none());
        assert!(registry.publish(frame("r", 6, 1)));
        assert_eq!(etag(&seat.shown.borrow()), "W/\"6-1\"");
    }

    #[test]
    fn rooms_with_neither_frame_nor_viewer_leave() {
        let registry = Registry::new();
        drop(join(&registry, "watched").unwrap());
        assert_eq!(registry.rooms.len(), 0);
        let seat = join(&registry, "both").unwrap();
        registry.publish(frame("both", 5, 1));
        registry.forget(&seat.room);
        assert_eq!(registry.rooms.len(), 1);
        drop(seat);
        assert_eq!(registry.rooms.len(), 0);
        registry.publish(frame("shown", 5, 1));
        drop(join(&registry, "shown").unwrap());
        assert_eq!(registry.rooms_shown(), ["shown".parse().unwrap()]);
        registry.forget(&"shown".parse().unwrap());
        assert_eq!(registry.rooms.len(), 0);
    }

    #[test]
    fn viewers_and_watched_rooms_have_a_bound_and_their_places_come_back() {
        let registry = Registry::new();
        let (a, _b) = (join(&registry, "a").unwrap(), join(&registry, "b").unwrap());
        assert_eq!(join(&registry, "c").unwrap_err(), Full::Rooms);
        let _again = join(&registry, "a").unwrap();
        assert_eq!(join(&registry, "a").unwrap_err(), Full::Viewers);
        assert_eq!(*registry.viewers().borrow(), 3);
        drop((a, _again));
        assert_eq!(*registry.viewers().borrow(), 1);
        assert!(join(&registry, "c").is_ok(), "a was left by all");
    }
}
