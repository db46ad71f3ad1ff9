//! Viewers that watch every room. They are few and trusted: what is due to them grows with the number of rooms.

use crate::{
    frames::Encoded,
    newest::Newest,
    registry::{Registry, WatchAll},
};
use std::{collections::HashMap, sync::Arc};
use wire::RoomName;

/// What is due to one of them.
#[derive(Debug)]
pub(super) struct Everything {
    /// Has the frames of all rooms come to the shards.
    _watch: WatchAll,
    due: Newest,
    /// So many of those due, from the first on, are the snapshots of the start.
    snapshots: usize,
    /// The rank of each room's snapshot, until the room has a newer frame: those up to the snapshot may still be in
    /// the mailbox, or on their way there.
    shown: HashMap<RoomName, (u64, u64, u32)>,
    pub(super) retain_as_published: bool,
}

impl Everything {
    pub(super) fn new(registry: &Arc<Registry>) -> Self {
        Self {
            _watch: registry.watch_all(),
            due: Newest::default(),
            snapshots: 0,
            shown: HashMap::new(),
            retain_as_published: false,
        }
    }

    /// Makes what all rooms show due.
    pub(super) fn add_snapshots(&mut self, registry: &Registry) {
        self.shown.clear();
        for room in registry.rooms_shown() {
            if let Some(frame) = registry.snapshot(&room) {
                self.shown.insert(room.clone(), frame.rank());
                self.due.put(&room, Some(frame));
            }
        }
        self.snapshots = self.due.len();
    }

    /// Makes a frame due, unless the room's snapshot is as new. Says whether it took the place of another.
    pub(super) fn put(&mut self, room: &RoomName, frame: Arc<Encoded>) -> bool {
        if self.shown.get(room).is_some_and(|shown| frame.rank() <= *shown) {
            return false;
        }
        self.forget(room);
        self.due.put(room, Some(frame))
    }

    /// What comes of this room is newer than its snapshot.
    pub(super) fn forget(&mut self, room: &RoomName) {
        self.shown.remove(room);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        edge::{
            hall::Hall,
            speech::{How, Snapshot},
            viewer::Viewer,
        },
        metrics::{Meters, Protocol},
        registry::Limits,
        tests::harness::aggregate,
    };
    use mio::net::TcpStream;
    use wire::Aggregate;

    fn frame(room: &str, since: u64, seq: u64) -> Arc<Encoded> {
        Arc::new(Encoded::of(&Aggregate { since, ..aggregate(room, seq) }, 10))
    }

    /// The rooms show the second frame of their life.
    fn watching(rooms: &[&str]) -> Everything {
        let registry = Registry::new(Arc::new(Meters::new()));
        for room in rooms {
            registry.publish(&frame(room, 5, 2));
        }
        let mut everything = Everything::new(&registry);
        everything.add_snapshots(&registry);
        everything
    }

    fn put(everything: &mut Everything, frame: &Arc<Encoded>) -> bool {
        everything.put(&frame.room, Arc::clone(frame))
    }

    /// What is due, in turn, and whether it is marked as retained.
    fn sent(everything: &mut Everything) -> Vec<(String, bool)> {
        let next = |everything: &mut Everything| {
            let (frame, retain) = everything.first()?;
            everything.pop();
            Some((frame.id().to_string(), retain))
        };
        std::iter::from_fn(|| next(everything)).collect()
    }

    #[test]
    fn frames_up_to_the_snapshot_that_come_after_it_are_not_sent_again() {
        for seq in [1, 2] {
            let mut everything = watching(&["a"]);
            assert!(!put(&mut everything, &frame("a", 5, seq)), "the snapshot stays due");
            assert_eq!(sent(&mut everything), [("5-2".into(), true)]);
            put(&mut everything, &frame("a", 5, seq));
            assert_eq!(sent(&mut everything), []);
            put(&mut everything, &frame("a", 5, 3));
            assert_eq!(sent(&mut everything), [("5-3".into(), false)]);
        }
    }

    #[test]
    fn a_newer_frame_takes_the_place_of_a_snapshot_that_is_still_due() {
        let mut everything = watching(&["a"]);
        assert!(put(&mut everything, &frame("a", 5, 3)));
        assert_eq!(sent(&mut everything), [("5-3".into(), true)]);
    }

    #[test]
    fn a_snapshot_is_remembered_until_its_room_has_a_newer_frame() {
        let mut everything = watching(&["a", "b"]);
        put(&mut everything, &frame("a", 5, 3));
        put(&mut everything, &frame("b", 6, 1));
        assert!(everything.shown.is_empty(), "{:?}", everything.shown);
    }

    #[test]
    fn a_snapshot_is_remembered_until_its_room_is_forgotten() {
        let registry = Registry::new(Arc::new(Meters::new()));
        let limits = Limits { max_viewers: 1, max_viewers_per_address: 0, max_rooms_watched: 1 };
        let mut hall = Hall::new(Arc::clone(&registry), limits);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let seat = registry.admit(Protocol::Mqtt, [127, 0, 0, 1].into(), limits).unwrap();
        let key = hall.viewers.insert(Viewer::new(stream, seat, 0));
        let room = "a".parse().unwrap();
        registry.publish(&frame("a", 5, 2));
        let how = How { snapshot: Snapshot::Send, retain_as_published: false };
        hall.with(key, |_, _, audience| audience.join_all(how)).unwrap();
        let remembers = |hall: &Hall| hall.viewers[key].all.as_ref().unwrap().shown.contains_key(&room);
        hall.forget(&room);
        assert!(remembers(&hall), "its next life is shown already");
        registry.forget(&room);
        hall.forget(&room);
        assert!(!remembers(&hall));
    }
}
