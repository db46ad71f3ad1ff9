//! The viewers of other processes, added up.

use super::record::Record;
use dashmap::{DashMap, Entry};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use wire::RoomName;

/// What was told counts for this long. A killed process must be forgotten within 10 s. This leaves 0.5 s for a tick, 2 s for
/// the window of the next frame, and 0.5 s for the frame's way.
pub(super) const KEPT: Duration = Duration::from_secs(7);
/// What is kept at the most; the rest is not counted.
const BOUNDS: Bounds = Bounds { nodes: 1_000, rooms: 1_000_000 };

/// Viewers of other processes, by room.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere(DashMap<RoomName, u64>);

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) nodes: usize,
    /// Rooms of all nodes; a room counts once for each node that has it.
    pub(super) rooms: usize,
}

/// What the other processes told, each for itself.
#[derive(Debug)]
pub(super) struct Others {
    /// The name of this process.
    own: String,
    nodes: HashMap<String, Node>,
    /// Rooms of all nodes.
    rooms: usize,
    bounds: Bounds,
    sums: Arc<Elsewhere>,
}

#[derive(Debug)]
struct Node {
    rooms: HashMap<RoomName, Told>,
    /// No room was told before this. So a node whose rooms are all told again and again is seldom looked through.
    oldest: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    viewers: u32,
    at: Instant,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// This process wrote it.
    Own,
    /// It counts, but for so many rooms, because too many are kept.
    Counted { left_out: usize },
    /// It can't be read.
    Malformed,
    /// As many processes are known as may be.
    TooManyNodes,
}

impl Elsewhere {
    /// The viewers of a room.
    pub(crate) fn viewers_of(&self, room: &RoomName) -> u64 {
        self.0.get(room).map_or(0, |viewers| *viewers)
    }

    fn change(&self, room: &RoomName, before: u32, after: u32) {
        if before == after {
            return;
        }
        match self.0.entry(room.clone()) {
            Entry::Occupied(mut entry) => {
                let sum = entry.get_mut();
                *sum = sum.saturating_sub(before.into()) + u64::from(after);
                if *sum == 0 {
                    entry.remove();
                }
            }
            Entry::Vacant(entry) => {
                if after > 0 {
                    entry.insert(after.into());
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn rooms(&self) -> HashMap<RoomName, u64> {
        self.0.iter().map(|room| (room.key().clone(), *room.value())).collect()
    }
}

impl Others {
    /// `own`: the name of this process. Until this is dropped the sums are kept in `sums`.
    pub(super) fn new(own: &str, sums: Arc<Elsewhere>) -> Self {
        Self::with_bounds(own, sums, BOUNDS)
    }

    pub(super) fn with_bounds(own: &str, sums: Arc<Elsewhere>, bounds: Bounds) -> Self {
        Self { own: own.to_owned(), nodes: HashMap::new(), rooms: 0, bounds, sums }
    }

    /// Takes a record that came at `now`.
    pub(super) fn take(&mut self, record: &[u8], now: Instant) -> Taken {
        let Some(Record { node: name, rooms, .. }) = Record::decode(record) else { return Taken::Malformed };
        if name == self.own {
            return Taken::Own;
        }
        let is_full = self.nodes.len() >= self.bounds.nodes;
        let node = match self.nodes.get_mut(&name) {
            Some(node) => node,
            None if is_full => return Taken::TooManyNodes,
            None => self.nodes.entry(name.clone()).or_insert_with(|| Node::new(now)),
        };
        let mut left_out = 0;
        for (room, viewers) in rooms {
            if viewers > 0 && !node.rooms.contains_key(&room) && self.rooms >= self.bounds.rooms {
                left_out += 1;
                continue;
            }
            let (kept_before, before) = (node.rooms.len(), node.tell(&room, viewers, now));
            self.rooms = self.rooms + node.rooms.len() - kept_before;
            self.sums.change(&room, before, viewers);
        }
        if node.rooms.is_empty() {
            self.nodes.remove(&name);
        }
        Taken::Counted { left_out }
    }

    /// Forgets what is too old at `now`.
    pub(super) fn expire(&mut self, now: Instant) {
        let (sums, rooms) = (&self.sums, &mut self.rooms);
        self.nodes.retain(|_, node| {
            if now.saturating_duration_since(node.oldest) >= KEPT {
                *rooms -= node.expire(now, sums);
            }
            !node.rooms.is_empty()
        });
    }
}

/// Without the channel nobody knows what the others have.
impl Drop for Others {
    fn drop(&mut self) {
        self.sums.0.clear();
    }
}

impl Node {
    fn new(now: Instant) -> Self {
        Self { rooms: HashMap::new(), oldest: now }
    }

    /// Returns the room's viewers before.
    fn tell(&mut self, room: &RoomName, viewers: u32, now: Instant) -> u32 {
        let before = if viewers == 0 {
            self.rooms.remove(room)
        } else {
            self.rooms.insert(room.clone(), Told { viewers, at: now })
        };
        before.map_or(0, |told| told.viewers)
    }

    /// Returns how many rooms are forgotten.
    fn expire(&mut self, now: Instant, sums: &Elsewhere) -> usize {
        let (before, mut oldest) = (self.rooms.len(), now);
        self.rooms.retain(|room, told| {
            let is_kept = now.saturating_duration_since(told.at) < KEPT;
            if is_kept {
                oldest = oldest.min(told.at);
            } else {
                sums.change(room, told.viewers, 0);
            }
            is_kept
        });
        self.oldest = oldest;
        before - self.rooms.len()
    }
}
