//! Rooms on their way from one log to another.

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use eventlog::{CommitError, Cut, EventLog, Feed, FeedEvent, History, HistorySpan, partition_of};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{sleep, timeout};
use wire::{Aggregate, RoomName, Source};

/// Rooms of one commit.
const COMMIT_ROOMS: usize = 10_000;
/// How often a commit is tried.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);
/// How long joining the group of the new log may take.
const JOIN: Duration = Duration::from_secs(60);

/// What was carried over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) rooms: usize,
    pub(super) total: u64,
}

/// The newest aggregate of each room, as it has to be in a log with so many partitions.
pub(super) fn newest(source: &dyn History, partitions: u32) -> anyhow::Result<BTreeMap<RoomName, Aggregate>> {
    let mut rooms = read(source)?;
    for (room, aggregate) in &mut rooms {
        // What its window counted is in the records of the old log.
        (aggregate.count, aggregate.others, aggregate.late, aggregate.skewed) = (0, 0, 0, 0);
        aggregate.counts.clear();
        aggregate.slots.iter_mut().for_each(|slot| *slot = 0);
        // Nothing of the new log is counted yet.
        aggregate.carried = aggregate.total;
        aggregate.source = Source { partition: partition_of(room, partitions), from: 0, to: 0 };
    }
    Ok(rooms)
}

fn read(log: &dyn History) -> anyhow::Result<BTreeMap<RoomName, Aggregate>> {
    let mut rooms = BTreeMap::new();
    for partition in 0..log.partitions() {
        let span = log.span(partition)?;
        for record in log.aggregates(partition, &span)? {
            let record = record?;
            let Some(room) = record.room else { bail!("partition {partition} has a record of no room") };
            match record.value {
                Some(value) => {
                    let aggregate = Aggregate::decode(&value);
                    rooms.insert(room.clone(), aggregate.with_context(|| format!("the aggregate of {room}"))?)
                }
                None => rooms.remove(&room),
            };
        }
    }
    Ok(rooms)
}

/// Where the last window of a partition was cut, as its aggregates say.
pub(super) fn last_cut(log: &dyn History, partition: u32, span: &HistorySpan) -> anyhow::Result<u64> {
    let mut last = 0;
    for record in log.aggregates(partition, span)? {
        if let Some(value) = record?.value {
            last = last.max(Aggregate::decode(&value)?.source.to);
        }
    }
    Ok(last)
}

/// Commits the aggregates. Written twice they are the same.
pub(super) async fn write(log: &dyn EventLog, rooms: &BTreeMap<RoomName, Aggregate>) -> anyhow::Result<()> {
    let mut feed = log.feed().await.context("the group of the new log")?;
    let epochs = timeout(JOIN, join(&mut feed, rooms)).await;
    let epochs = epochs.context("the group of the new log has other members: stop the aggregators")??;
    let mut of_partition: BTreeMap<u32, Vec<(RoomName, Option<Bytes>)>> = BTreeMap::new();
    for (room, aggregate) in rooms {
        let records = of_partition.entry(aggregate.source.partition).or_default();
        records.push((room.clone(), Some(aggregate.encode().into())));
    }
    for (partition, epoch) in epochs {
        let records = of_partition.remove(&partition).unwrap_or_default();
        // A partition without rooms is committed too: nothing of it is rolled up, and that is known.
        let chunks =
            if records.is_empty() { vec![&records[..]] } else { records.chunks(COMMIT_ROOMS).collect() };
        for aggregates in chunks {
            let cut = Cut {
                partition,
                epoch,
                next_offset: 0,
                aggregates: aggregates.to_vec(),
                windows: Vec::new(),
            };
            commit(&feed, cut).await?;
        }
    }
    feed.events.close(Duration::from_secs(10)).await;
    Ok(())
}

/// Waits until all partitions are ours. Gives their epochs.
async fn join(feed: &mut Feed, rooms: &BTreeMap<RoomName, Aggregate>) -> anyhow::Result<BTreeMap<u32, u64>> {
    let (mut epochs, mut joined, mut wanted) = (BTreeMap::new(), false, u32::MAX);
    while !joined || epochs.len() < wanted as usize {
        match feed.events.next().await? {
            FeedEvent::Assigned { partition, partitions, epoch, next_offset, newest } => {
                ensure!(
                    next_offset == 0,
                    "the new log is in use: partition {partition} is rolled up to {next_offset}"
                );
                for found in newest {
                    let is_ours = rooms.get(&found.room).is_some_and(|ours| *ours == found);
                    ensure!(
                        is_ours,
                        "the new log is in use: it holds {} as the old one does not",
                        found.room
                    );
                }
                wanted = partitions;
                epochs.insert(partition, epoch);
            }
            FeedEvent::Joined => joined = true,
            FeedEvent::Revoked { partition } => _ = epochs.remove(&partition),
            FeedEvent::Records { .. } => bail!("the new log is in use: reactions come into it"),
            FeedEvent::CaughtUp { .. } => {}
        }
    }
    Ok(epochs)
}

async fn commit(feed: &Feed, cut: Cut) -> anyhow::Result<()> {
    let mut tries = 1;
    loop {
        match feed.committer.commit(vec![cut.clone()]).await {
            Ok(()) => return Ok(()),
            Err(CommitError::Retry(_)) if tries < TRIES => tries += 1,
            Err(error) => return Err(error).context("give the same command again: it goes on"),
        }
        sleep(PAUSE).await;
    }
}

/// Compares what the new log holds with what it should.
pub(super) fn verify(target: &dyn History, rooms: &BTreeMap<RoomName, Aggregate>) -> anyhow::Result<Carried> {
    let found = read(target)?;
    for (room, aggregate) in rooms {
        ensure!(found.get(room) == Some(aggregate), "{room} is not in the new log as it should be");
    }
    ensure!(found.len() == rooms.len(), "the new log holds rooms that the old one does not");
    Ok(Carried { rooms: rooms.len(), total: rooms.values().map(|aggregate| aggregate.total).sum() })
}
