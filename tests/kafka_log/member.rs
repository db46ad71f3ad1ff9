//! A member of the group, and what it holds as its events tell.

use super::WAIT;
use bytes::Bytes;
use eventlog::{Cut, EventLog, Feed, FeedEvent};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use wire::{Aggregate, RoomName, Source, Window};

/// What a member holds, as its events tell.
pub struct Member {
    pub feed: Feed,
    pub owned: BTreeMap<u32, Owned>,
    pub revoked: Vec<u32>,
    partitions: u32,
    /// The group has said what is ours.
    pub joined: bool,
}

pub struct Owned {
    pub epoch: u64,
    /// Where reading began. Records may have come since then.
    pub start: u64,
    pub next_offset: u64,
    pub newest: Vec<Aggregate>,
    /// With their offsets.
    pub values: Vec<(u64, Bytes)>,
}

impl Member {
    pub async fn join(log: &dyn EventLog) -> Self {
        Self {
            feed: log.feed().await.unwrap(),
            owned: BTreeMap::new(),
            revoked: Vec::new(),
            partitions: 0,
            joined: false,
        }
    }

    pub async fn step(&mut self) {
        match self.feed.events.next().await.unwrap() {
            FeedEvent::Assigned { partition, partitions, epoch, next_offset, newest } => {
                self.partitions = partitions;
                let owned = Owned { epoch, start: next_offset, next_offset, newest, values: Vec::new() };
                assert!(self.owned.insert(partition, owned).is_none());
            }
            FeedEvent::Revoked { partition } => {
                self.owned.remove(&partition).unwrap();
                self.revoked.push(partition);
            }
            FeedEvent::Records { partition, records } => {
                let owned = self.owned.get_mut(&partition).unwrap();
                owned.next_offset = records.last().unwrap().offset + 1;
                owned.values.extend(records.into_iter().map(|record| (record.offset, record.value)));
            }
            FeedEvent::Joined => self.joined = true,
            FeedEvent::CaughtUp { .. } => {}
        }
    }

    pub async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        tokio::time::timeout(WAIT, async {
            while !done(self) {
                self.step().await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"));
    }

    pub async fn until_owned(&mut self, count: usize) {
        self.until(&format!("{count} partitions"), |member| member.owned.len() == count).await;
    }

    /// A cut of every partition, one offset further, with the same aggregate for each room.
    pub fn cuts(&self, rooms: u32, seq: u64) -> Vec<Cut> {
        let cut = |(partition, owned): (&u32, &Owned)| {
            let next_offset = owned.next_offset;
            let value = |room: &RoomName| Some(aggregate(room, seq, *partition, next_offset).encode().into());
            let rooms = rooms_of(*partition, self.partitions).take(rooms as usize);
            let aggregates = rooms.map(|room| (room.clone(), value(&room))).collect();
            Cut { partition: *partition, epoch: owned.epoch, next_offset, aggregates, windows: Vec::new() }
        };
        self.owned.iter().map(cut).collect()
    }

    /// Reads until all of `wanted` are there, and says where one is twice.
    pub async fn until_each_once(&mut self, wanted: &BTreeSet<Bytes>) {
        let read = |member: &Self| member.owned.values().map(|owned| owned.values.len()).sum::<usize>();
        let missing = |member: &Self| {
            let values = member.owned.values().flat_map(|owned| &owned.values);
            let values: BTreeSet<&Bytes> = values.map(|(_, value)| value).collect();
            wanted.iter().any(|value| !values.contains(value))
        };
        self.until("each value", |member| read(member) >= wanted.len() && !missing(member)).await;
        for (partition, owned) in &self.owned {
            let mut seen = BTreeMap::new();
            for (offset, value) in &owned.values {
                let before = seen.insert(value, *offset);
                assert!(before.is_none(), "partition {partition}: {value:?} at {before:?} and at {offset}");
            }
        }
    }

    /// Closes the feed and opens another, as a caller must whose commit's outcome is unknown. What was not committed is
    /// read again.
    pub async fn reopen(self, log: &dyn EventLog) -> Self {
        let before = self.owned;
        self.feed.events.close(Duration::from_secs(10)).await;
        let mut member = Self::join(log).await;
        member.until_owned(before.len()).await;
        for (partition, owned) in before {
            let now = member.owned.get_mut(&partition).unwrap();
            let counted = owned.values.into_iter().filter(|(offset, _)| *offset < now.start);
            let again = std::mem::take(&mut now.values);
            now.values = counted.chain(again).collect();
        }
        member
    }

    pub async fn leave(self) {
        self.feed.events.close(Duration::from_secs(10)).await;
    }
}

/// Rooms that live in the partition.
fn rooms_of(partition: u32, partitions: u32) -> impl Iterator<Item = RoomName> {
    let rooms = (0..).map(|n| room(&format!("r-{n}")));
    rooms.filter(move |room| eventlog::partition_of(room, partitions) == partition)
}

pub fn room(name: &str) -> RoomName {
    name.parse().unwrap()
}

fn aggregate(room: &RoomName, seq: u64, partition: u32, to: u64) -> Aggregate {
    Aggregate {
        window: Window { start: seq, end: seq + 1 },
        source: Source { partition, from: 0, to },
        ..eventlog::conformance::aggregate(room, seq, partition)
    }
}
