//! Viewers that watch every room. They are few and trusted: what is due to them grows with the number of rooms.

use crate::{
    frames::Encoded,
    newest::Newest,
    registry::{Registry, WatchAll},
};
use std::sync::Arc;
use wire::RoomName;

/// What is due to one of them.
#[derive(Debug)]
pub(super) struct Everything {
    /// Has the frames of all rooms come to the shards.
    _watch: WatchAll,
    due: Newest,
    /// So many of those due, from the first on, are the snapshots of the start.
    snapshots: usize,
    pub(super) retain_as_published: bool,
}

impl Everything {
    pub(super) fn new(registry: &Arc<Registry>) -> Self {
        Self {
            _watch: registry.watch_all(),
            due: Newest::default(),
            snapshots: 0,
            retain_as_published: false,
        }
    }

    /// Makes what all rooms show due.
    pub(super) fn add_snapshots(&mut self, registry: &Registry) {
        for room in registry.rooms_shown() {
            if let Some(frame) = registry.snapshot(&room) {
                self.due.put(&room, Some(frame));
            }
        }
        self.snapshots = self.due.len();
    }

    /// Makes a frame due. Says whether it took the place of another.
    pub(super) fn put(&mut self, room: &RoomName, frame: Arc<Encoded>) -> bool {
        self.due.put(room, Some(frame))
    }

    /// What is to be sent next, and whether it is marked as retained.
    pub(super) fn first(&self) -> Option<(Arc<Encoded>, bool)> {
        let retain = self.snapshots > 0 || self.retain_as_published;
        self.due.first().map(|frame| (frame, retain))
    }

    /// The first is on its way.
    pub(super) fn pop(&mut self) {
        self.due.take();
        self.snapshots = self.snapshots.saturating_sub(1);
    }
}
