//! A follower that is read and checked: whatever a case is about, these rules hold for every event.

use super::within;
use crate::{EventLog, FeedError, FollowEvent, Follower};
use std::collections::BTreeMap;
use wire::{Aggregate, RoomName};

pub(super) struct Watcher {
    pub(super) follower: Box<dyn Follower>,
    pub(super) seen: Seen,
}

/// What a follower was given.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) caught_up: bool,
    /// Number of the newest aggregate by room; `None` where it was a tombstone.
    pub(super) newest: BTreeMap<RoomName, Option<u64>>,
    /// Every record since the follower was caught up.
    pub(super) live: Vec<(RoomName, Option<u64>)>,
}

impl Seen {
    /// Rooms that are not forgotten, with their newest number.
    pub(super) fn rooms(&self) -> BTreeMap<RoomName, u64> {
        self.newest.iter().filter_map(|(room, seq)| Some((room.clone(), (*seq)?))).collect()
    }
}

impl Watcher {
    pub(super) async fn open(log: &dyn EventLog) -> Self {
        let follower = within("a follower", log.follower()).await.unwrap();
        Self { follower, seen: Seen::default() }
    }

    pub(super) async fn open_and_catch_up(log: &dyn EventLog) -> Self {
        let mut watcher = Self::open(log).await;
        watcher.until("the follower to be caught up", |seen| seen.caught_up).await;
        watcher
    }

    pub(super) async fn until(&mut self, what: &str, done: impl Fn(&Seen) -> bool) {
        within(what, async {
            while !done(&self.seen) {
                let event = self.follower.next().await;
                self.take(event);
            }
        })
        .await;
    }

    /// Takes in an event, after a check of what holds for every event.
    pub(super) fn take(&mut self, event: Result<FollowEvent, FeedError>) {
        match event.unwrap() {
            FollowEvent::CaughtUp => {
                assert!(!self.seen.caught_up, "a follower is caught up once");
                self.seen.caught_up = true;
            }
            FollowEvent::Records(records) => {
                assert!(!records.is_empty(), "an event has at least one record");
                for record in records {
                    let seq = record.value.map(|value| {
                        let aggregate = Aggregate::decode(&value).unwrap();
                        assert_eq!(aggregate.room, record.room, "the key is the room");
                        aggregate.seq
                    });
                    let before = self.seen.newest.insert(record.room.clone(), seq).flatten();
                    if let (Some(before), Some(seq)) = (before, seq) {
                        assert!(seq > before, "{}: {seq} came after {before}", record.room);
                    }
                    if self.seen.caught_up {
                        self.seen.live.push((record.room, seq));
                    }
                }
            }
        }
    }
}
