//! Broadcasts: done in steps, with a look at the sockets between them, so that a large room keeps nobody out.

use super::{end::End, shard::Shard};
use std::time::Instant;

/// Sockets that are offered a frame before others are looked after.
const STEP: usize = 256;

/// A frame on its way to the members of a room, from the last to the first.
pub(super) struct Broadcast {
    room: u32,
    life: u32,
    next: usize,
    started: Instant,
}

impl Shard {
    /// Begins to offer a room what it shows now.
    pub(super) fn begin_broadcast(&mut self, index: u32) {
        let Some(room) = self.hall.rooms.get(index) else { return };
        let broadcast =
            Broadcast { room: index, life: room.life, next: room.members.len(), started: Instant::now() };
        // One that is under way begins again, with the newer frame.
        self.broadcasts.retain(|other| other.room != index);
        self.broadcasts.push_back(broadcast);
    }

    /// The next step of a broadcast. Rooms take turns.
    pub(super) fn broadcast(&mut self) {
        let mut left = STEP;
        while left > 0 {
            let Some(mut broadcast) = self.broadcasts.pop_front() else { return };
            let Some(room) = self.hall.rooms.get(broadcast.room) else { continue };
            let Some(frame) = room.newest.clone().filter(|_| room.life == broadcast.life) else { continue };
            let mut broken = Vec::new();
            while left > 0
                && let Some(room) = self.hall.rooms.get_mut(broadcast.room)
                && let Some((member, passed_over)) = room.offer_next(&mut broadcast.next)
            {
                left -= 1;
                if self.hall.offer(member, passed_over, &frame).is_err() {
                    broken.push(member.viewer as usize);
                }
            }
            for key in broken {
                self.end(key, End::Gone);
            }
            if broadcast.next > 0 {
                self.broadcasts.push_back(broadcast);
            } else {
                self.edge.meters.broadcast.record(broadcast.started.elapsed());
            }
        }
    }
}
