//! What waits to be handed to the broker: at most one frame for each room, whatever the broker does.

use crate::{frames::Encoded, metrics::SKIPPED, registry::Shown};
use metrics::counter;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};
use wire::RoomName;

/// Rooms that have something new, in the order in which they got it, with the newest of each.
#[derive(Debug, Default)]
pub(super) struct Pending {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<RoomName>,
    newest: HashMap<RoomName, Shown>,
    closed: bool,
}

impl Pending {
    /// Puts what the room shows now; `None`: nothing. Takes the place of what still waits of this room.
    pub(super) fn put(&self, room: &RoomName, frame: Option<Arc<Encoded>>) {
        let mut waiting = self.lock();
        if waiting.newest.insert(room.clone(), frame).is_some() {
            counter!(SKIPPED, "protocol" => "broker").increment(1);
        } else {
            waiting.order.push_back(room.clone());
        }
        self.changed.notify_one();
    }

    /// Takes what has waited longest; blocks while nothing waits. `None` when closed and empty.
    pub(super) fn take(&self) -> Option<(RoomName, Shown)> {
        let nothing = |waiting: &mut Waiting| waiting.order.is_empty() && !waiting.closed;
        let waiting = self.changed.wait_while(self.lock(), nothing);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let room = waiting.order.pop_front()?;
        let frame = waiting.newest.remove(&room).flatten();
        Some((room, frame))
    }

    /// No more will be put.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::harness::aggregate;

    fn put(pending: &Pending, room: &str, seq: u64) {
        let frame = Encoded::of(&aggregate(room, seq), 10);
        pending.put(&frame.room.clone(), Some(Arc::new(frame)));
    }

    fn take(pending: &Pending) -> Option<(String, Option<String>)> {
        pending.take().map(|(room, frame)| (room.to_string(), frame.map(|frame| frame.etag())))
    }

    #[test]
    fn only_the_newest_of_a_room_waits_and_rooms_keep_their_turn() {
        let pending = Pending::default();
        for seq in 1..=1_000 {
            put(&pending, "a", seq);
            put(&pending, "b", seq);
        }
        assert_eq!(pending.lock().order.len(), 2);
        pending.close();
        let newest = |room: &str| (room.to_owned(), Some(format!("W/\"{}-1000\"", aggregate(room, 1).since)));
        assert_eq!(take(&pending), Some(newest("a")));
        assert_eq!(take(&pending), Some(newest("b")));
        assert_eq!(take(&pending), None);
    }

    #[test]
    fn a_forgotten_room_takes_the_place_of_its_frame() {
        let pending = Pending::default();
        put(&pending, "a", 1);
        pending.put(&"a".parse().unwrap(), None);
        assert_eq!(take(&pending), Some(("a".into(), None)));
    }

    #[test]
    fn who_waits_is_woken_by_a_frame_and_by_the_end() {
        let pending = Pending::default();
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| (take(&pending).map(|(room, _)| room), take(&pending)));
            put(&pending, "a", 1);
            pending.close();
            assert_eq!(taker.join().unwrap(), (Some("a".to_owned()), None));
        });
    }
}
