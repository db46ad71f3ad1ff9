//! Which rooms are busiest, for people who look for one.
//!
//! All rooms that show something are looked at, so an answer is kept for a second: asking often costs little.

use crate::{frames::Encoded, registry::Registry};
use serde::Serialize;
use std::{
    cmp::Reverse,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use wire::{Frame, RoomName};

/// Most rooms of an answer.
pub(crate) const ROOMS_MAX: usize = 100;
/// Reactions that are named of each room.
const TOP: usize = 3;
/// An answer serves this long.
const KEPT: Duration = Duration::from_secs(1);

/// What is told of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Room {
    /// The room.
    pub(crate) room: RoomName,
    /// Reactions in its newest window; 0 where it is quiet.
    pub(crate) count: u64,
    /// Reactions of its life.
    pub(crate) total: u64,
    /// Its viewers when the answer was made, where they are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) viewers: Option<u64>,
    /// The most frequent reactions of its life, the first of them first.
    pub(crate) top: Vec<String>,
}

/// The answer that serves for a while.
#[derive(Debug, Default)]
pub(crate) struct Busiest {
    kept: Mutex<Option<(Instant, Arc<[Room]>)>>,
}

impl Busiest {
    /// The busiest rooms at `now`, the busiest first, at most [`ROOMS_MAX`]. With their viewers if `counts_viewers`.
    pub(crate) fn rooms(&self, registry: &Registry, counts_viewers: bool, now: Instant) -> Arc<[Room]> {
        // Nothing of ours panics under the lock, and a rank that was half made is not kept.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((made, rooms)) if now.saturating_duration_since(*made) < KEPT => Arc::clone(rooms),
            _ => {
                let viewers = |frame: &Encoded| counts_viewers.then(|| registry.viewers_of(&frame.room));
                let ranked = rank(registry.frames());
                let rooms: Arc<[Room]> = ranked.iter().map(|frame| describe(frame, viewers(frame))).collect();
                *kept = Some((now, Arc::clone(&rooms)));
                rooms
            }
        }
    }
}

/// The first [`ROOMS_MAX`] by reactions in the newest window, then by all reactions, then by name.
fn rank(mut frames: Vec<Arc<Encoded>>) -> Vec<Arc<Encoded>> {
    let order = |frame: &Arc<Encoded>| Reverse((frame.count(), frame.total()));
    let compare = |a: &Arc<Encoded>, b: &Arc<Encoded>| {
        order(a).cmp(&order(b)).then_with(|| a.room.as_bytes().cmp(b.room.as_bytes()))
    };
    if frames.len() > ROOMS_MAX {
        frames.select_nth_unstable_by(ROOMS_MAX, compare);
        frames.truncate(ROOMS_MAX);
    }
    frames.sort_unstable_by(compare);
    frames
}

fn describe(encoded: &Encoded, viewers: Option<u64>) -> Room {
    let frame = Frame::decode(&encoded.json()).ok();
    let mut totals: Vec<_> = frame.iter().flat_map(|frame| &frame.totals).collect();
    totals.sort_by_key(|(_, n)| Reverse(**n));
    Room {
        room: encoded.room.clone(),
        count: encoded.count(),
        total: encoded.total(),
        viewers,
        top: totals.iter().take(TOP).map(|(reaction, _)| reaction.to_string()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{metrics::Meters, registry::Limits, tests::harness::aggregate};
    use wire::Aggregate;

    fn room(name: &str, count: u64, total: u64) -> Arc<Encoded> {
        let reactions =
            |n: u64| std::iter::once(("🔥".parse().unwrap(), n)).filter(|(_, n)| *n > 0).collect();
        let aggregate = Aggregate {
            count,
            counts: reactions(count),
            slots: vec![count],
            total,
            totals: reactions(total),
            late: 0,
            skewed: 0,
            ..aggregate(name, 1)
        };
        Arc::new(Encoded::of(&aggregate, 10))
    }

    fn registry(rooms: impl IntoIterator<Item = Arc<Encoded>>) -> Arc<Registry> {
        let registry = Registry::new(Arc::new(Meters::new()));
        for room in rooms {
            registry.publish(&room);
        }
        registry
    }

    fn names(rooms: &[Room]) -> Vec<&str> {
        rooms.iter().map(|room| &*room.room).collect()
    }

    #[test]
    fn the_busiest_now_come_first_then_those_with_most_reactions() {
        let rooms = [room("quiet", 0, 900), room("calm", 3, 3), room("loud", 50, 60), room("old", 0, 1_000)];
        let busiest = Busiest::default().rooms(&registry(rooms), true, Instant::now());
        assert_eq!(names(&busiest), ["loud", "calm", "old", "quiet"]);
        assert_eq!(
            (busiest[0].count, busiest[0].total, &busiest[0].top[..]),
            (50, 60, &["🔥".to_owned()][..])
        );
    }

    #[test]
    fn an_answer_is_short_however_many_rooms_there_are() {
        let rooms = (0..ROOMS_MAX as u64 + 50).map(|n| room(&format!("r{n:03}"), n + 1, n + 1));
        let busiest = Busiest::default().rooms(&registry(rooms), true, Instant::now());
        assert_eq!(busiest.len(), ROOMS_MAX);
        assert_eq!((&*busiest[0].room, &*busiest[ROOMS_MAX - 1].room), ("r149", "r050"));
    }

    #[test]
    fn an_answer_serves_for_a_second() {
        let registry = registry([room("a", 1, 1)]);
        let (busiest, start) = (Busiest::default(), Instant::now());
        assert_eq!(names(&busiest.rooms(&registry, true, start)), ["a"]);
        registry.publish(&room("b", 2, 2));
        assert_eq!(names(&busiest.rooms(&registry, true, start + KEPT / 2)), ["a"]);
        assert_eq!(names(&busiest.rooms(&registry, true, start + KEPT)), ["b", "a"]);
    }

    #[test]
    fn a_room_tells_its_viewers_where_they_are_counted() {
        let registry = registry([room("a", 1, 1)]);
        let limits = Limits { max_viewers: 9, max_viewers_per_address: 0, max_rooms_watched: 9 };
        let mut watch = registry.watch(&"a".parse().unwrap(), limits).unwrap();
        (0..3).for_each(|_| watch.join());
        let viewers = |counts| Busiest::default().rooms(&registry, counts, Instant::now())[0].viewers;
        assert_eq!((viewers(true), viewers(false)), (Some(3), None));
    }
}
