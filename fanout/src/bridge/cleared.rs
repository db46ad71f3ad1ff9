//! Rooms whose message was cleared, until it is certain that the broker did so.
//!
//! After a reconnect every room that shows something is published again, which repairs whatever was lost. A forgotten
//! room shows nothing, so that it has to be remembered until the broker has answered something that was sent after it: a
//! ping.

use std::{collections::VecDeque, mem};
use wire::RoomName;

/// More are not remembered. They were forgotten within two keep alives.
const MOST: usize = 100_000;

/// What was cleared lately.
#[derive(Debug, Default)]
pub(super) struct Cleared {
    /// Each message that was handed over and is not written yet: the room, where it clears one.
    handed: VecDeque<Option<RoomName>>,
    /// Written since the last ping.
    written: Vec<RoomName>,
    /// Written before it.
    pinged: Vec<RoomName>,
}

impl Cleared {
    /// A message is handed to the client library; `room`, where it clears one.
    pub(super) fn handed(&mut self, room: Option<RoomName>) {
        self.handed.push_back(room);
    }

    /// The one that was handed over first is written.
    pub(super) fn written(&mut self) {
        let room = self.handed.pop_front().flatten();
        self.written.extend(room.filter(|_| self.written.len() < MOST));
    }

    /// A ping is written.
    pub(super) fn pinged(&mut self) {
        self.pinged.append(&mut self.written);
    }

    /// The broker answered it.
    pub(super) fn answered(&mut self) {
        self.pinged.clear();
    }

    /// The rooms of which it is not certain. They are not remembered any longer.
    pub(super) fn take_uncertain(&mut self) -> Vec<RoomName> {
        let mut rooms = mem::take(&mut self.pinged);
        rooms.append(&mut self.written);
        rooms.extend(self.handed.drain(..).flatten());
        rooms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> Option<RoomName> {
        Some(name.parse().unwrap())
    }

    fn names(rooms: &[RoomName]) -> Vec<&str> {
        rooms.iter().map(|room| &**room).collect()
    }

    #[test]
    fn a_room_is_uncertain_until_a_ping_that_was_written_after_it_is_answered() {
        let mut cleared = Cleared::default();
        for name in ["a", "b", "c"] {
            cleared.handed(room(name));
        }
        cleared.handed(None);
        cleared.written();
        cleared.pinged();
        cleared.written();
        cleared.answered();
        assert_eq!(names(&cleared.take_uncertain()), ["b", "c"], "a was before the ping");
        assert!(cleared.take_uncertain().is_empty());
    }
}
