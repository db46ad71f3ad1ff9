//! The rooms that a shard's viewers watch, with a vector of members each: a broadcast walks it from its end to its
//! start, so that who leaves meanwhile (the last member takes the place) makes nobody miss a frame, nor get it twice.

use crate::{
    frames::{Encoded, FrameId},
    registry::{Full, Limits, Registry, Shown, Watch},
};
use slab::Slab;
use std::{collections::HashMap, sync::Arc};
use wire::RoomName;

/// Where a member is: the index of its room, and its position in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) room: u32,
    pub(super) position: u32,
}

/// Somebody who watches a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) viewer: u32,
    /// Which of the viewer's subscriptions this is.
    pub(super) slot: u32,
    /// The frame that it was offered last, as the room numbers them.
    pub(super) offered: u32,
}

/// All rooms of a shard.
#[derive(Debug)]
pub(super) struct Rooms {
    registry: Arc<Registry>,
    by_name: HashMap<RoomName, u32>,
    rooms: Slab<Room>,
    /// Tells the lives of an index apart.
    lives: u32,
}

#[derive(Debug)]
pub(super) struct Room {
    /// Keeps it in the registry.
    watch: Watch,
    pub(super) members: Vec<Member>,
    pub(super) newest: Shown,
    /// Number of the newest frame: counted on from any, so that differences are right.
    pub(super) number: u32,
    pub(super) life: u32,
    /// A broadcast is under way. `restart`: it has to begin again, with a newer frame.
    pub(super) broadcasting: bool,
    pub(super) restart: bool,
}

impl Room {
    /// The next member that was not offered the newest frame, from the one before `next` to the first, with how many frames
    /// it was passed over for this one. It counts as offered now.
    pub(super) fn offer_next(&mut self, next: &mut usize) -> Option<(Member, u32)> {
        // Some may have left meanwhile.
        *next = (*next).min(self.members.len());
        while let Some(position) = next.checked_sub(1) {
            *next = position;
            let member = &mut self.members[position];
            if member.offered != self.number {
                let passed_over = self.number.wrapping_sub(member.offered).saturating_sub(1);
                member.offered = self.number;
                return Some((*member, passed_over));
            }
        }
        None
    }

    /// A member for whom a frame was due got the newest. It counts as offered now; says how many it was passed over for,
    /// with the one that was due.
    pub(super) fn catch_up(&mut self, position: u32) -> u32 {
        let member = &mut self.members[position as usize];
        let passed_over = self.number.wrapping_sub(member.offered);
        member.offered = self.number;
        passed_over
    }
}

impl Rooms {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, by_name: HashMap::new(), rooms: Slab::new(), lives: 0 }
    }

    #[cfg(test)]
    pub(super) fn get(&self, index: u32) -> Option<&Room> {
        self.rooms.get(index as usize)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Room> {
        self.rooms.get_mut(index as usize)
    }

    /// The id of the room's newest frame.
    pub(super) fn shown(&self, index: u32) -> Option<FrameId> {
        self.rooms.get(index as usize)?.newest.as_ref().map(|newest| newest.id())
    }

    pub(super) fn index_of(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// Adds a member, who is considered to have been offered what the room shows.
    pub(super) fn join(
        &mut self,
        name: &RoomName,
        member: (u32, u32),
        limits: Limits,
    ) -> Result<Place, Full> {
        let index = match self.by_name.get(name) {
            Some(index) => *index,
            None => self.open(name, limits)?,
        };
        let room = &mut self.rooms[index as usize];
        let (viewer, slot) = member;
        room.members.push(Member { viewer, slot, offered: room.number });
        room.watch.join();
        Ok(Place { room: index, position: room.members.len() as u32 - 1 })
    }

    /// Removes a member. Gives the one that has its position now, if another does.
    pub(super) fn leave(&mut self, place: Place) -> Option<Member> {
        let room = self.rooms.get_mut(place.room as usize)?;
        room.members.swap_remove(place.position as usize);
        room.watch.leave();
        if room.members.is_empty() {
            let room = self.rooms.remove(place.room as usize);
            self.by_name.remove(&room.watch.room);
            return None;
        }
        room.members.get(place.position as usize).copied()
    }

    /// Takes over what a room shows. Gives the room's index if it is watched and the frame is new to it.
    pub(super) fn show(&mut self, name: &RoomName, frame: Option<Arc<Encoded>>) -> Option<u32> {
        let index = *self.by_name.get(name)?;
        let room = &mut self.rooms[index as usize];
        // That it was forgotten may be told late, and with it what it shows since then: its next life.
        let Some(frame) = frame.or_else(|| room.watch.shown.borrow().clone()) else {
            room.newest = None;
            return None;
        };
        if room.newest.as_ref().is_some_and(|newest| !frame.is_newer_than(newest)) {
            return None;
        }
        let passed_over = room.newest.as_ref().map_or(0, |newest| frame.skipped_since(newest));
        room.newest = Some(frame);
        room.number = room.number.wrapping_add(1).wrapping_add(passed_over as u32);
        Some(index)
    }

    /// How many rooms are watched.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.rooms.len()
    }

    fn open(&mut self, name: &RoomName, limits: Limits) -> Result<u32, Full> {
        let watch = self.registry.watch(name, limits)?;
        let newest = watch.shown.borrow().clone();
        self.lives = self.lives.wrapping_add(1);
        let room = Room {
            watch,
            members: Vec::new(),
            newest,
            number: 0,
            life: self.lives,
            broadcasting: false,
            restart: false,
        };
        let index = self.rooms.insert(room) as u32;
        self.by_name.insert(name.clone(), index);
        Ok(index)
    }
}
