//! A feed that is read and checked: whatever a case is about, these rules hold for every event.

use super::{LogFactory, aggregate, rooms, within};
use crate::{
    Committer, Cut, EventLog, Feed, FeedError, FeedEvent, FeedEvents, Record, Writer, conformance::WAIT,
    partition_of,
};
use bytes::Bytes;
use futures_util::future::join_all;
use std::{collections::BTreeMap, sync::Arc};
use wire::{Aggregate, RoomName};

pub(super) struct Member {
    pub(super) events: Box<dyn FeedEvents>,
    pub(super) committer: Arc<dyn Committer>,
    /// By partition.
    pub(super) owned: BTreeMap<u32, Owned>,
    /// The group has said what is ours.
    pub(super) joined: bool,
}

/// What is known of a partition since it was assigned.
pub(super) struct Owned {
    pub(super) epoch: u64,
    pub(super) start: u64,
    pub(super) newest: BTreeMap<RoomName, Aggregate>,
    pub(super) records: Vec<Record>,
    /// End of the partition, while nothing came after the last time that it was told.
    pub(super) end: Option<u64>,
}

impl Member {
    pub(super) async fn join(log: &dyn EventLog) -> Self {
        let Feed { events, committer } = within("a feed", log.feed()).await.unwrap();
        Self { events, committer, owned: BTreeMap::new(), joined: false }
    }

    /// Joins, and reads until all partitions are ours and read to their ends.
    pub(super) async fn join_and_catch_up(log: &dyn EventLog, partitions: u32) -> Self {
        let mut member = Self::join(log).await;
        member
            .until("all partitions to be caught up", |owned| {
                owned.len() == partitions as usize && owned.values().all(|o| o.end.is_some())
            })
            .await;
        member
    }

    pub(super) async fn until(&mut self, what: &str, done: impl Fn(&BTreeMap<u32, Owned>) -> bool) {
        within(what, async {
            while !done(&self.owned) {
                let event = self.events.next().await;
                self.take(event);
            }
        })
        .await;
    }

    /// Reads until there are `count` records in all.
    pub(super) async fn until_records(&mut self, count: usize) {
        self.until(&format!("{count} records"), |owned| {
            owned.values().map(|o| o.records.len()).sum::<usize>() >= count
        })
        .await;
        assert_eq!(self.values().len(), count, "more records than were appended");
    }

    /// Takes in an event, after a check of what holds for every event.
    pub(super) fn take(&mut self, event: Result<FeedEvent, FeedError>) {
        match event.unwrap() {
            FeedEvent::Assigned { partition, partitions, epoch, next_offset, newest } => {
                assert!(partition < partitions, "partition {partition} of {partitions}");
                let count = newest.len();
                let newest: BTreeMap<_, _> = newest.into_iter().map(|a| (a.room.clone(), a)).collect();
                assert_eq!(newest.len(), count, "a room is twice among the newest aggregates");
                let owned = Owned { epoch, start: next_offset, newest, records: Vec::new(), end: None };
                let before = self.owned.insert(partition, owned);
                assert!(before.is_none(), "partition {partition} was assigned twice");
            }
            FeedEvent::Joined => {
                assert!(!self.joined, "it joined twice");
                self.joined = true;
            }
            FeedEvent::Revoked { partition } => {
                let before = self.owned.remove(&partition);
                assert!(before.is_some(), "partition {partition} was revoked but not assigned");
            }
            FeedEvent::Records { partition, records } => {
                let owned = self.owned.get_mut(&partition).expect("records of an assigned partition");
                assert!(!records.is_empty(), "an event has at least one record");
                for record in records {
                    assert!(record.offset >= owned.start, "a record before the start of reading");
                    if let Some(last) = owned.records.last() {
                        assert!(record.offset > last.offset, "offsets grow");
                    }
                    owned.records.push(record);
                }
                owned.end = None;
            }
            FeedEvent::CaughtUp { partition, next_offset } => {
                let owned = self.owned.get_mut(&partition).expect("the end of an assigned partition");
                assert!(next_offset >= owned.start, "the end is before the start");
                if let Some(last) = owned.records.last() {
                    assert!(next_offset > last.offset, "the end is before the last record");
                }
                owned.end = Some(next_offset);
            }
        }
    }

    /// The values of all records, as text: partition by partition, in order.
    pub(super) fn values(&self) -> Vec<String> {
        let records = self.owned.values().flat_map(|owned| &owned.records);
        records.map(|record| String::from_utf8_lossy(&record.value).into_owned()).collect()
    }

    /// The partition in which a record of the room was read. For values made by [`append_to`].
    pub(super) fn partition_of(&self, room: &RoomName) -> u32 {
        let start = format!("{room} ");
        let holds = |owned: &Owned| owned.records.iter().any(|r| r.value.starts_with(start.as_bytes()));
        let (partition, _) = self.owned.iter().find(|(_, owned)| holds(owned)).expect("a record of the room");
        *partition
    }

    /// A cut of each partition that has one of `rooms`, with an aggregate of number `seq` for each of them, up to the
    /// end of what was read.
    pub(super) fn cuts(&self, rooms: &[RoomName], seq: u64) -> Vec<Cut> {
        let mut cuts: BTreeMap<u32, Cut> = BTreeMap::new();
        for room in rooms {
            let partition = self.partition_of(room);
            let value = Some(Bytes::from(aggregate(room, seq, partition).encode()));
            let cut = cuts.entry(partition).or_insert_with(|| self.cut(partition));
            cut.aggregates.push((room.clone(), value));
        }
        cuts.into_values().collect()
    }

    /// The number of each room's newest aggregate, as it was assigned.
    pub(super) fn newest(&self) -> BTreeMap<RoomName, u64> {
        let newest = self.owned.values().flat_map(|owned| &owned.newest);
        newest.map(|(room, aggregate)| (room.clone(), aggregate.seq)).collect()
    }

    /// A cut of the partition without aggregates, up to the end of what was read.
    pub(super) fn cut(&self, partition: u32) -> Cut {
        let owned = &self.owned[&partition];
        let next_offset = owned.records.last().map_or(owned.start, |record| record.offset + 1);
        Cut { partition, epoch: owned.epoch, next_offset, aggregates: Vec::new(), windows: Vec::new() }
    }

    pub(super) async fn commit(&self, cuts: Vec<Cut>) {
        commit(&*self.committer, cuts).await;
    }

    pub(super) async fn close(self) {
        drop(self.committer);
        within("the feed to close", self.events.close(WAIT)).await;
    }
}

/// The cuts, with every room forgotten.
pub(super) fn tombstones(mut cuts: Vec<Cut>) -> Vec<Cut> {
    cuts.iter_mut().flat_map(|cut| &mut cut.aggregates).for_each(|(_, value)| *value = None);
    cuts
}

/// Commits, and tries again where the log says so.
pub(super) async fn commit(committer: &dyn Committer, cuts: Vec<Cut>) {
    within("a commit", async {
        while let Err(error) = committer.commit(cuts.clone()).await {
            assert!(matches!(error, crate::CommitError::Retry(_)), "{error}");
            tokio::task::yield_now().await;
        }
    })
    .await;
}

pub(super) async fn writer(log: &dyn EventLog) -> Arc<dyn Writer> {
    within("a writer", log.writer()).await.unwrap()
}

/// Appends one record for each room: its name, a space, and `text`.
pub(super) async fn append_to(log: &dyn EventLog, rooms: &[RoomName], text: &str) {
    let writer = writer(log).await;
    let append = |room: &RoomName| {
        writer.append(partition_of(room, writer.partitions()), format!("{room} {text}").into())
    };
    let results = within("the appends", join_all(rooms.iter().map(append))).await;
    results.into_iter().for_each(|result| result.unwrap());
}

/// A log with one record in each of [`rooms`], and a member that has read them all.
pub(super) async fn read_log(factory: &dyn LogFactory) -> (Arc<dyn EventLog>, Vec<RoomName>, Member) {
    let log = factory.open().await;
    let rooms = rooms(factory);
    append_to(&*log, &rooms, "tap").await;
    let mut member = Member::join(&*log).await;
    member.until_records(rooms.len()).await;
    (log, rooms, member)
}
