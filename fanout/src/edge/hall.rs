//! The viewers of a shard and the rooms that they watch: who joins, who gets what, who leaves.

use super::{
    end::End,
    everything::Everything,
    rooms::{Member, Place, Rooms},
    speech::{Audience, How, Snapshot, Speech},
    viewer::{Due, Sent, Subscription, Tally, Viewer},
};
use crate::{
    frames::Encoded,
    metrics::Meters,
    registry::{Full, Limits, Registry},
};
use slab::Slab;
use std::{io, sync::Arc};
use wire::RoomName;

/// All viewers of a shard.
#[derive(Debug)]
pub(super) struct Hall {
    pub(super) viewers: Slab<Viewer>,
    pub(super) rooms: Rooms,
    /// Those who watch all rooms.
    all: Vec<u32>,
    pub(super) registry: Arc<Registry>,
    pub(super) limits: Limits,
    pub(super) tally: Tally,
    /// The shard's clock.
    pub(super) now_ms: u64,
}

impl Hall {
    pub(super) fn new(registry: Arc<Registry>, limits: Limits) -> Self {
        Self {
            viewers: Slab::new(),
            rooms: Rooms::new(Arc::clone(&registry)),
            all: Vec::new(),
            registry,
            limits,
            tally: Tally::default(),
            now_ms: 0,
        }
    }

    /// The wishes of one viewer, which `with` gets beside it.
    pub(super) fn with<T>(
        &mut self,
        key: usize,
        with: impl FnOnce(&mut Speech, &mut Vec<u8>, &mut dyn Audience) -> T,
    ) -> Option<T> {
        let viewer = self.viewers.get_mut(key)?;
        // Taken out meanwhile: joining and leaving changes other viewers too.
        let mut speech = std::mem::replace(&mut viewer.speech, Speech::nobody());
        let mut answers = std::mem::take(&mut viewer.answers);
        let result = with(&mut speech, &mut answers, &mut Wishes { hall: self, key });
        let viewer = self.viewers.get_mut(key)?;
        (viewer.speech, viewer.answers) = (speech, answers);
        Some(result)
    }

    /// Offers the newest frame of a room to one of its members, after so many that it was not offered.
    pub(super) fn offer(&mut self, member: Member, passed_over: u32, frame: &Encoded) -> io::Result<()> {
        let Member { viewer: key, slot, .. } = member;
        let Some(viewer) = self.viewers.get_mut(key as usize) else { return Ok(()) };
        if viewer.is_leaving() {
            return Ok(());
        }
        let is_idle = viewer.is_idle() && viewer.blocked_since_ms().is_none();
        let Some(subscription) = viewer.subscriptions.get_mut(slot as usize) else { return Ok(()) };
        let skipped = &mut self.tally.of(viewer.seat.protocol).skipped;
        *skipped += u64::from(passed_over);
        if subscription.due != Due::Nothing {
            // What was due is passed over for this.
            *skipped += 1;
            return Ok(());
        }
        subscription.due = Due::Newest;
        if is_idle {
            let form = viewer.speech.form(subscription.retain_as_published);
            let sent = viewer.send(frame.form(form), self.now_ms, &mut self.tally)?;
            if sent == Sent::Begun {
                viewer.subscriptions[slot as usize].due = Due::Nothing;
                viewer.turn = slot + 1;
            }
        }
        Ok(())
    }

    /// Offers a frame to those who watch all rooms. Gives those whose connection is broken.
    pub(super) fn offer_to_all(&mut self, room: &RoomName, frame: &Arc<Encoded>) -> Vec<(usize, End)> {
        let mut broken = Vec::new();
        for index in 0..self.all.len() {
            let key = self.all[index] as usize;
            let Some(viewer) = self.viewers.get_mut(key) else { continue };
            if let Some(everything) = &mut viewer.all
                && everything.put(room, Arc::clone(frame))
            {
                self.tally.of(viewer.seat.protocol).skipped += 1;
            }
            if let Err(error) = self.pump(key) {
                broken.push((key, error.into()));
            }
        }
        broken
    }

    /// A room was forgotten. Those who watch all rooms don't remember it, unless they were shown its next life already.
    pub(super) fn forget(&mut self, room: &RoomName) {
        if self.all.is_empty() || self.registry.snapshot(room).is_some() {
            return;
        }
        for key in &self.all {
            let viewer = self.viewers.get_mut(*key as usize);
            if let Some(everything) = viewer.and_then(|viewer| viewer.all.as_mut()) {
                everything.forget(room);
            }
        }
    }

    /// Writes all that is due and that the socket takes. Says whether it took all. Subscriptions take turns, so that a slow
    /// viewer gets a frame of each of its rooms before it gets the next frame of one of them. A room that is joined has its
    /// first turn at the end of the round that is under way.
    pub(super) fn pump(&mut self, key: usize) -> io::Result<bool> {
        let (now_ms, tally) = (self.now_ms, &mut self.tally);
        let Some(viewer) = self.viewers.get_mut(key) else { return Ok(true) };
        if !viewer.flush(now_ms, tally)? {
            return Ok(false);
        }
        if viewer.is_leaving() {
            return Ok(true);
        }
        // All rooms together have one turn.
        let turns = viewer.subscriptions.len() + 1;
        let mut turns_without_frame = 0;
        while turns_without_frame < turns {
            let turn = viewer.turn as usize;
            let sent = if turn < viewer.subscriptions.len() {
                send_of_room(viewer, turn, &mut self.rooms, now_ms, tally)?
            } else {
                send_of_all(viewer, now_ms, tally)?
            };
            match sent {
                Some(Sent::Nothing) => return Ok(false),
                Some(Sent::Begun) => turns_without_frame = 0,
                None => turns_without_frame += 1,
            }
            // A room that is joined later gets the number after the last, so the round ends here.
            viewer.turn = ((turn + 1) % turns) as u32;
            if !viewer.is_idle() {
                return Ok(false);
            }
        }
        viewer.unblock();
        Ok(true)
    }

    /// Takes a viewer out of all its rooms.
    pub(super) fn leave_rooms(&mut self, key: usize) {
        let Some(viewer) = self.viewers.get_mut(key) else { return };
        for subscription in std::mem::take(&mut viewer.subscriptions) {
            self.leave_place(subscription.place);
        }
        self.leave_all(key);
    }

    /// Counts the cause and writes the goodbye. Says whether the viewer has time to answer, until then; otherwise it is gone.
    pub(super) fn end(&mut self, key: usize, end: End, until_ms: u64, meters: &Meters) -> bool {
        self.leave_rooms(key);
        let (now_ms, tally) = (self.now_ms, &mut self.tally);
        let Some(viewer) = self.viewers.get_mut(key) else { return false };
        if viewer.is_leaving() {
            // Its cause is counted.
            self.viewers.remove(key);
            return false;
        }
        meters.closed(end.cause());
        tracing::debug!(protocol = viewer.seat.protocol.name(), cause = end.cause(), "viewer closed");
        viewer.leave(until_ms);
        let is_broken = end == End::Stalled || viewer.flush(now_ms, tally).is_err();
        if is_broken || !end.leaves_time_for_goodbye() {
            self.viewers.remove(key);
            return false;
        }
        true
    }

    fn leave_place(&mut self, place: Place) {
        if let Some(moved) = self.rooms.leave(place)
            && let Some(viewer) = self.viewers.get_mut(moved.viewer as usize)
            && let Some(subscription) = viewer.subscriptions.get_mut(moved.slot as usize)
        {
            subscription.place = place;
        }
    }

    fn leave_all(&mut self, key: usize) -> bool {
        let watched = self.viewers.get_mut(key).is_some_and(|viewer| viewer.all.take().is_some());
        if watched {
            self.all.retain(|other| *other as usize != key);
        }
        watched
    }
}

/// Offers the socket what is due of one subscription. `None`: nothing is.
fn send_of_room(
    viewer: &mut Viewer,
    slot: usize,
    rooms: &mut Rooms,
    now_ms: u64,
    tally: &mut Tally,
) -> io::Result<Option<Sent>> {
    let Subscription { place, due, retain_as_published } = viewer.subscriptions[slot];
    if due == Due::Nothing {
        return Ok(None);
    }
    let mut sent = None;
    // A room that was forgotten shows nothing until its next life.
    if let Some(room) = rooms.get_mut(place.room)
        && let Some(frame) = &room.newest
    {
        let form = viewer.speech.form(due == Due::Snapshot || retain_as_published);
        sent = Some(viewer.send(frame.form(form), now_ms, tally)?);
        if sent == Some(Sent::Nothing) {
            return Ok(sent);
        }
        // Its broadcast may be still to come.
        tally.of(viewer.seat.protocol).skipped += u64::from(room.catch_up(place.position));
    }
    viewer.subscriptions[slot].due = Due::Nothing;
    Ok(sent)
}

/// Offers the socket the first of what is due to a viewer of all rooms. `None`: nothing is.
fn send_of_all(viewer: &mut Viewer, now_ms: u64, tally: &mut Tally) -> io::Result<Option<Sent>> {
    let Some((frame, retain)) = viewer.all.as_ref().and_then(|everything| everything.first()) else {
        return Ok(None);
    };
    let sent = viewer.send(frame.form(viewer.speech.form(retain)), now_ms, tally)?;
    if sent == Sent::Begun
        && let Some(everything) = &mut viewer.all
    {
        everything.pop();
    }
    Ok(Some(sent))
}

/// One viewer, among the others.
struct Wishes<'a> {
    hall: &'a mut Hall,
    key: usize,
}

impl Wishes<'_> {
    /// The viewer's subscription to a room.
    fn slot_of(&self, room: &str) -> Option<usize> {
        let index = self.hall.rooms.index_of(room)?;
        let subscriptions = &self.hall.viewers.get(self.key)?.subscriptions;
        subscriptions.iter().position(|subscription| subscription.place.room == index)
    }
}

impl Audience for Wishes<'_> {
    fn join(&mut self, room: &RoomName, how: How) -> Result<(), Full> {
        let known = self.slot_of(room);
        let Some(viewer) = self.hall.viewers.get_mut(self.key) else { return Ok(()) };
        let slot = match known {
            Some(slot) => slot,
            None => {
                let slot = viewer.subscriptions.len();
                let place = self.hall.rooms.join(room, (self.key as u32, slot as u32), self.hall.limits)?;
                // Nearly all viewers watch one room.
                viewer.subscriptions.reserve_exact(1);
                let retain_as_published = how.retain_as_published;
                viewer.subscriptions.push(Subscription { place, due: Due::Nothing, retain_as_published });
                slot
            }
        };
        let subscription = &mut viewer.subscriptions[slot];
        subscription.retain_as_published = how.retain_as_published;
        let is_due = match how.snapshot {
            Snapshot::Send => true,
            Snapshot::SendIfNew => known.is_none(),
            Snapshot::DontSend => false,
            // Asked now: later frames are offered to members.
            Snapshot::SendUnless(seen) => self.hall.rooms.shown(subscription.place.room) != Some(seen),
        };
        if is_due {
            subscription.due = Due::Snapshot;
        }
        Ok(())
    }

    fn leave(&mut self, room: &str) -> bool {
        let Some(slot) = self.slot_of(room) else { return false };
        let Some(viewer) = self.hall.viewers.get_mut(self.key) else { return false };
        // The other rooms keep their order, otherwise one of them would miss its turn.
        let place = viewer.subscriptions.remove(slot).place;
        if slot < viewer.turn as usize {
            viewer.turn -= 1;
        }
        for (slot, moved) in viewer.subscriptions.iter().enumerate().skip(slot) {
            if let Some(room) = self.hall.rooms.get_mut(moved.place.room) {
                room.members[moved.place.position as usize].slot = slot as u32;
            }
        }
        self.hall.leave_place(place);
        true
    }

    fn join_all(&mut self, how: How) {
        let Some(viewer) = self.hall.viewers.get_mut(self.key) else { return };
        let is_new = viewer.all.is_none();
        if is_new {
            self.hall.all.push(self.key as u32);
        }
        let registry = &self.hall.registry;
        let everything = viewer.all.get_or_insert_with(|| Box::new(Everything::new(registry)));
        everything.retain_as_published = how.retain_as_published;
        if how.snapshot == Snapshot::Send || (is_new && how.snapshot == Snapshot::SendIfNew) {
            everything.add_snapshots(registry);
        }
    }

    fn leave_all(&mut self) -> bool {
        self.hall.leave_all(self.key)
    }

    fn watches(&self, room: &str) -> bool {
        self.slot_of(room).is_some()
    }

    fn watches_all(&self) -> bool {
        self.hall.viewers.get(self.key).is_some_and(|viewer| viewer.all.is_some())
    }

    fn subscriptions(&self) -> usize {
        self.hall
            .viewers
            .get(self.key)
            .map_or(0, |viewer| viewer.subscriptions.len() + usize::from(viewer.all.is_some()))
    }
}
