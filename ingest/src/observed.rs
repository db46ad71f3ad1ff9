//! Posts of the rooms that somebody observes, for the desk. Rooms are no labels of metrics, because there may be a hundred
//! thousand of them: posts are counted by room only while somebody asks for them.

use arc_swap::ArcSwap;
use serde::Serialize;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use wire::RoomName;

/// Rooms that can be observed at the same time.
pub(crate) const ROOMS_MAX: usize = 64;
/// Nobody has asked for this long: the room is not observed any more.
pub(crate) const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// The observed rooms. While there are none, a post costs one look at an empty map.
#[derive(Default)]
pub(crate) struct Observed {
    rooms: ArcSwap<HashMap<RoomName, Arc<RoomPosts>>>,
    /// When each was last asked for. Held while the map is replaced.
    asked: Mutex<HashMap<RoomName, Instant>>,
}

/// How posts of one room ended since it is observed.
#[derive(Debug, Default)]
pub(crate) struct RoomPosts {
    accepted: AtomicU64,
    refused: AtomicU64,
}

/// What an observer is told. The numbers begin at zero when nobody has asked for a minute.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Seen {
    /// Posts answered with 202.
    pub(crate) accepted: u64,
    /// Posts answered with anything else.
    pub(crate) refused: u64,
}

/// As many rooms are observed as can be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl RoomPosts {
    pub(crate) fn accept(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
    }
}

impl Observed {
    /// Where posts of the room are counted, if somebody observes it.
    pub(crate) fn posts(&self, room: &RoomName) -> Option<Arc<RoomPosts>> {
        let rooms = self.rooms.load();
        if rooms.is_empty() { None } else { rooms.get(room).cloned() }
    }

    /// Tells how posts of the room ended, and observes it from now on.
    pub(crate) fn look(&self, room: &RoomName, now: Instant) -> Result<Seen, TooMany> {
        self.forget(now);
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if !asked.contains_key(room) {
            if asked.len() >= ROOMS_MAX {
                return Err(TooMany);
            }
            let mut rooms = HashMap::clone(&self.rooms.load());
            rooms.insert(room.clone(), Arc::default());
            self.rooms.store(Arc::new(rooms));
        }
        asked.insert(room.clone(), now);
        drop(asked);
        let posts = self.posts(room).unwrap_or_default();
        Ok(Seen { accepted: posts.accepted.load(Relaxed), refused: posts.refused.load(Relaxed) })
    }

    /// Stops observing the rooms that nobody has asked for lately.
    pub(crate) fn forget(&self, now: Instant) {
        if self.rooms.load().is_empty() {
            return;
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let before = asked.len();
        asked.retain(|_, at| now.saturating_duration_since(*at) < FORGOTTEN_AFTER);
        if asked.len() < before {
            let mut rooms = HashMap::clone(&self.rooms.load());
            rooms.retain(|room, _| asked.contains_key(room));
            self.rooms.store(Arc::new(rooms));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(number: usize) -> RoomName {
        format!("room-{number}").parse().unwrap()
    }

    #[test]
    fn posts_are_counted_from_the_first_look_until_nobody_has_looked_for_a_minute() {
        let (observed, start) = (Observed::default(), Instant::now());
        assert!(observed.posts(&room(1)).is_none(), "nobody looks");
        assert_eq!(observed.look(&room(1), start), Ok(Seen { accepted: 0, refused: 0 }));
        observed.posts(&room(1)).unwrap().accept();
        observed.posts(&room(1)).unwrap().refuse();
        assert!(observed.posts(&room(2)).is_none(), "another room");
        let later = start + FORGOTTEN_AFTER - Duration::from_millis(1);
        assert_eq!(observed.look(&room(1), later), Ok(Seen { accepted: 1, refused: 1 }));
        observed.forget(later + FORGOTTEN_AFTER - Duration::from_millis(1));
        assert!(observed.posts(&room(1)).is_some());
        observed.forget(later + FORGOTTEN_AFTER);
        assert!(observed.posts(&room(1)).is_none());
        assert_eq!(observed.look(&room(1), later + FORGOTTEN_AFTER), Ok(Seen { accepted: 0, refused: 0 }));
    }

    #[test]
    fn more_rooms_than_can_be_observed_are_refused_until_one_is_forgotten() {
        let (observed, start) = (Observed::default(), Instant::now());
        for number in 0..ROOMS_MAX {
            assert!(observed.look(&room(number), start).is_ok());
        }
        assert_eq!(observed.look(&room(ROOMS_MAX), start), Err(TooMany));
        assert!(observed.look(&room(0), start).is_ok(), "one that is observed already");
        assert!(observed.look(&room(ROOMS_MAX), start + FORGOTTEN_AFTER).is_ok());
    }
}
