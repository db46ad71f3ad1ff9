//! No room is forgotten before it was silent for its TTL, by the time of the world: whatever the clocks of instances and log say.

use crate::Config;
use eventlog::Cut;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use wire::{Aggregate, RoomName};

/// `max_rooms` from which on no room is driven out by others.
const MANY: usize = 1_000_000;

/// When rooms were active last as far as a member knows, or were loaded by it. By the time of the world.
pub(super) type Active = Arc<Mutex<BTreeMap<RoomName, u64>>>;

/// The time of the world, and when each record came into the log.
#[derive(Debug, Default)]
pub(super) struct Silence {
    pub(super) now_ms: u64,
    /// When each record came, by partition.
    came_ms: Vec<Vec<u64>>,
    /// The shortest TTL that there was.
    ttl_ms: Option<u64>,
    /// Rooms may be forgotten because there are too many.
    is_crowded: bool,
}

impl Silence {
    /// By partition, how many records the log holds now.
    pub(super) fn appended(&mut self, records: Vec<usize>) {
        self.came_ms.resize(records.len(), Vec::new());
        for (came_ms, len) in self.came_ms.iter_mut().zip(records) {
            came_ms.resize(len, self.now_ms);
        }
    }

    pub(super) fn configured(&mut self, config: &Config) {
        self.is_crowded |= config.max_rooms < MANY;
        self.ttl_ms = Some(self.ttl_ms.unwrap_or(u64::MAX).min(config.room_ttl_ms));
    }

    /// Checks the records that a member asks the log to write.
    pub(super) fn check(&self, cuts: &[Cut], active: &mut BTreeMap<RoomName, u64>, misuse: &mut Vec<String>) {
        let records = cuts.iter().flat_map(|cut| &cut.aggregates);
        for (room, value) in records {
            let Some(value) = value else {
                let active_ms = active.remove(room);
                let is_early =
                    active_ms.zip(self.ttl_ms).is_some_and(|(at_ms, ttl_ms)| at_ms + ttl_ms > self.now_ms);
                if is_early && !self.is_crowded {
                    misuse.push(format!(
                        "room {room} is forgotten at {}, active at {active_ms:?}",
                        self.now_ms
                    ));
                }
                continue;
            };
            let Ok(Aggregate { count: 1.., source, .. }) = Aggregate::decode(value) else { continue };
            // The window closed when its last record had come, or later.
            let of_partition = self.came_ms.get(source.partition as usize);
            let last = of_partition.and_then(|came_ms| came_ms.get(source.to.checked_sub(1)? as usize));
            if let Some(last_ms) = last {
                let at_ms = active.entry(room.clone()).or_default();
                *at_ms = (*at_ms).max(*last_ms);
            }
        }
    }
}
