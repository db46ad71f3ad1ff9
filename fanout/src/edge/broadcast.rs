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
        let Some(room) = self.hall.rooms.get_mut(index) else { return };
        if std::mem::replace(&mut room.broadcasting, true) {
            room.restart = true;
            return;
        }
        let next = room.members.len();
        let broadcast = Broadcast { room: index, life: room.life, next, started: Instant::now() };
        self.broadcasts.push_back(broadcast);
    }

    /// The next step of a broadcast. Rooms take turns.
    pub(super) fn broadcast(&mut self) {
        let mut left = STEP;
        while left > 0 {
            let Some(mut broadcast) = self.broadcasts.pop_front() else { return };
            let Some(room) = self.hall.rooms.get_mut(broadcast.room) else { continue };
            if room.life != broadcast.life {
                continue;
            }
            let Some(frame) = room.newest.clone() else {
                room.broadcasting = false;
                continue;
            };
            if std::mem::take(&mut room.restart) {
                broadcast.next = room.members.len();
            }
            let mut broken = Vec::new();
            while left > 0
                && let Some(room) = self.hall.rooms.get_mut(broadcast.room)
                && let Some((member, passed_over)) = room.offer_next(&mut broadcast.next)
            {
                left -= 1;
                if let Err(error) = self.hall.offer(member, passed_over, &frame) {
                    broken.push((member.viewer as usize, End::from(error)));
                }
            }
            for (key, end) in broken {
                self.end(key, end);
            }
            if broadcast.next > 0 {
                self.broadcasts.push_back(broadcast);
            } else {
                self.edge.meters.broadcast.record(broadcast.started.elapsed());
                if let Some(room) =
                    self.hall.rooms.get_mut(broadcast.room).filter(|r| r.life == broadcast.life)
                {
                    room.broadcasting = false;
                }
            }
        }
    }
}
