//! What waits to be handed on: at most one frame for each room, however slow the taker is.

use crate::{frames::Encoded, registry::Shown};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};
use wire::RoomName;

/// Rooms that have something new, in the order in which they got it, with the newest of each.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    order: VecDeque<RoomName>,
    newest: HashMap<RoomName, Shown>,
}

impl Newest {
    /// Puts what the room shows now; `None`: nothing. Says whether it took the place of what still waited.
    pub(crate) fn put(&mut self, room: &RoomName, frame: Option<Arc<Encoded>>) -> bool {
        let replaced = self.newest.insert(room.clone(), frame).is_some();
        if !replaced {
            self.order.push_back(room.clone());
        }
        replaced
    }

    /// Takes what has waited longest.
    pub(crate) fn take(&mut self) -> Option<(RoomName, Shown)> {
        let room = self.order.pop_front()?;
        let frame = self.newest.remove(&room).flatten();
        Some((room, frame))
    }

    /// The frame that has waited longest. Only where no room is put that shows nothing.
    pub(crate) fn first(&self) -> Shown {
        self.order.front().and_then(|room| self.newest.get(room)).cloned().flatten()
    }

    /// Whether something waits for this room.
    pub(crate) fn contains(&self, room: &RoomName) -> bool {
        self.newest.contains_key(room)
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::harness::aggregate;

    fn put(newest: &mut Newest, room: &str, seq: u64) -> bool {
        let frame = Encoded::of(&aggregate(room, seq), 10);
        newest.put(&frame.room.clone(), Some(Arc::new(frame)))
    }

    fn take(newest: &mut Newest) -> Option<(String, Option<String>)> {
        newest.take().map(|(room, frame)| (room.to_string(), frame.map(|frame| frame.etag())))
    }

    #[test]
    fn only_the_newest_of_a_room_waits_and_rooms_keep_their_turn() {
        let mut waiting = Newest::default();
        for seq in 1..=1_000 {
            assert_eq!(put(&mut waiting, "a", seq), seq > 1);
            assert_eq!(put(&mut waiting, "b", seq), seq > 1);
        }
        assert_eq!(waiting.len(), 2);
        let newest = |room: &str| (room.to_owned(), Some(format!("W/\"{}-1000\"", aggregate(room, 1).since)));
        assert_eq!(take(&mut waiting), Some(newest("a")));
        assert_eq!(take(&mut waiting), Some(newest("b")));
        assert_eq!(take(&mut waiting), None);
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_forgotten_room_takes_the_place_of_its_frame() {
        let mut waiting = Newest::default();
        put(&mut waiting, "a", 1);
        waiting.put(&"a".parse().unwrap(), None);
        assert_eq!(take(&mut waiting), Some(("a".into(), None)));
    }
}
