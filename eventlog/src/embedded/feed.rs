//! The feed: there is one member, which owns every partition. A newer feed takes over from the one before.

use super::{
    Shared, broken,
    commits::{Job, Joined},
    journal::{JournalError, Reader},
    row::{Group, RowError},
    store::{Store, StoreError},
};
use crate::{
    BoxFuture, CommitError, Committer, Cut, Feed, FeedError, FeedEvent, FeedEvents, OpenError, Record,
    decode,
    metrics::{PARTITIONS_OWNED, commit_ended},
};
use metrics::gauge;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep_until},
};

/// Groups are taken in steps of so many bytes, which is how far a feed reads ahead.
const READ_BYTES: usize = 1 << 20;
/// Groups that come close together are taken together: to be woken for each costs more than to read it. Well below the time
/// that a window waits for its last records.
const TAKE_PAUSE: Duration = Duration::from_millis(20);

type Groups = Vec<(u64, Group)>;

pub(super) async fn open(shared: &Arc<Shared>) -> Result<Feed, OpenError> {
    let joined = shared.commits.ask(|answer| Job::Join { answer }).await;
    let joined = joined.map_err(OpenError::Invalid)??;
    // From here on nobody else commits; should another feed join meanwhile, this one is told by its first `next`.
    let (member, cursor) = (joined.member, shared.shelf.first_group(&joined.committed));
    let store = Arc::clone(&shared.store);
    let loaded = spawn_blocking(move || load(&store, joined)).await;
    let (partitions, untold) = loaded
        .map_err(|error| OpenError::Invalid(error.to_string()))?
        .map_err(|error| OpenError::Invalid(format!("the embedded log can't be read: {error}")))?;
    gauge!(PARTITIONS_OWNED).set(partitions.len() as f64);
    let events = EmbeddedEvents {
        changed: shared.tail.groups(),
        shared: Arc::clone(shared),
        member,
        partitions,
        cursor,
        untold,
        reader: None,
        reading: None,
        taken_at: None,
    };
    let committer = EmbeddedCommitter { shared: Arc::clone(shared), member };
    Ok(Feed { events: Box::new(events), committer: Arc::new(committer) })
}

fn load(
    store: &Store,
    Joined { member, committed }: Joined,
) -> Result<(Vec<Position>, VecDeque<FeedEvent>), StoreError> {
    let mut newest: Vec<Vec<_>> = committed.iter().map(|_| Vec::new()).collect();
    for row in store.newest()?.1 {
        if let Some(newest) = newest.get_mut(row.partition as usize) {
            newest.extend(decode::aggregate(row.partition, &row.room, &row.value));
        }
    }
    let assigned = |(partition, newest)| FeedEvent::Assigned {
        partition: partition as u32,
        partitions: committed.len() as u32,
        epoch: member,
        next_offset: committed[partition],
        newest,
    };
    let untold = newest.into_iter().enumerate().map(assigned).chain([FeedEvent::Joined]).collect();
    let partitions =
        committed.iter().map(|next_offset| Position { next_offset: *next_offset, told_end: false }).collect();
    Ok((partitions, untold))
}

/// How far a partition was given.
struct Position {
    next_offset: u64,
    /// The end was told, and nothing was given since.
    told_end: bool,
}

struct EmbeddedEvents {
    shared: Arc<Shared>,
    changed: watch::Receiver<()>,
    member: u64,
    /// By partition.
    partitions: Vec<Position>,
    /// The next group to take.
    cursor: u64,
    /// Events that are made, and were not given yet.
    untold: VecDeque<FeedEvent>,
    /// Reads groups that are not in memory any more.
    reader: Option<Reader>,
    /// It reads. Kept here, so that a caller that cancels `next` loses nothing.
    reading: Option<JoinHandle<Result<(Reader, Groups), JournalError>>>,
    /// When groups were last taken from memory, and none were left.
    taken_at: Option<Instant>,
}

impl EmbeddedEvents {
    async fn advance(&mut self) -> Result<FeedEvent, FeedError> {
        loop {
            // Marked as seen before the look, so that no change after it is missed.
            self.changed.borrow_and_update();
            self.check()?;
            if let Some(event) = self.untold.pop_front() {
                return Ok(event);
            }
            if let Some(reading) = &mut self.reading {
                let read = reading.await;
                self.reading = None;
                let (reader, groups) = read.map_err(broken)?.map_err(broken)?;
                self.reader = Some(reader);
                self.take(groups);
            } else {
                if let Some(at) = self.taken_at {
                    sleep_until(at + TAKE_PAUSE).await;
                    self.taken_at = None;
                }
                if !self.take_tail()? {
                    // The sender lives in `shared`, so it can't be gone.
                    let _ = self.changed.changed().await;
                }
            }
        }
    }

    fn check(&self) -> Result<(), FeedError> {
        if self.shared.tail.look()?.member == self.member {
            return Ok(());
        }
        Err(FeedError::Reopen("a newer feed took its place".into()))
    }

    /// Takes what is in memory, or begins to read the file. `false` when there is nothing to say.
    fn take_tail(&mut self) -> Result<bool, FeedError> {
        let (rows, end) = {
            let tail = self.shared.tail.look()?;
            (tail.groups.from(self.cursor, READ_BYTES), tail.groups.next())
        };
        let Some(rows) = rows else {
            let reader = self.reader.take();
            let mut reader =
                reader.unwrap_or_else(|| Reader::new(Arc::clone(&self.shared.shelf), self.cursor));
            self.reading =
                Some(spawn_blocking(move || reader.read(READ_BYTES).map(|groups| (reader, groups))));
            return Ok(true);
        };
        self.reader = None;
        let groups = (self.cursor..).zip(rows).map(|(number, row)| Ok((number, Group::decode(row)?)));
        let groups: Result<Groups, RowError> = groups.collect();
        self.take(groups.map_err(broken)?);
        if self.cursor >= end {
            self.tell_ends();
            self.taken_at = (!self.untold.is_empty()).then(Instant::now);
        }
        Ok(!self.untold.is_empty())
    }

    /// Makes events of the records that were not given yet.
    fn take(&mut self, groups: Groups) {
        let mut records: Vec<Vec<Record>> = self.partitions.iter().map(|_| Vec::new()).collect();
        for (number, group) in groups {
            self.cursor = number + 1;
            for part in group.parts {
                let position = &mut self.partitions[part.partition as usize];
                for (offset, value) in (part.first_offset..).zip(part.records) {
                    // A cut may lie within a group.
                    if offset >= position.next_offset {
                        let record = Record { offset, timestamp_ms: group.timestamp_ms, value };
                        records[part.partition as usize].push(record);
                        *position = Position { next_offset: offset + 1, told_end: false };
                    }
                }
            }
        }
        for (partition, records) in (0..).zip(records) {
            if !records.is_empty() {
                self.untold.push_back(FeedEvent::Records { partition, records });
            }
        }
    }

    fn tell_ends(&mut self) {
        for (partition, position) in (0..).zip(&mut self.partitions) {
            if !std::mem::replace(&mut position.told_end, true) {
                let next_offset = position.next_offset;
                self.untold.push_back(FeedEvent::CaughtUp { partition, next_offset });
            }
        }
    }
}

impl FeedEvents for EmbeddedEvents {
    fn next(&mut self) -> BoxFuture<'_, Result<FeedEvent, FeedError>> {
        Box::pin(self.advance())
    }

    fn close(self: Box<Self>, _deadline: Duration) -> BoxFuture<'static, ()> {
        drop(self);
        Box::pin(async {})
    }
}

impl Drop for EmbeddedEvents {
    fn drop(&mut self) {
        let member = self.member;
        self.shared.tail.change(|tail| {
            if tail.member == member {
                tail.member = 0;
                gauge!(PARTITIONS_OWNED).set(0.0);
            }
        });
    }
}

struct EmbeddedCommitter {
    shared: Arc<Shared>,
    member: u64,
}

impl Committer for EmbeddedCommitter {
    fn commit(&self, cuts: Vec<Cut>) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            if cuts.is_empty() {
                return Ok(());
            }
            let started = Instant::now();
            let member = self.member;
            let outcome = self.shared.commits.ask(|answer| Job::Commit { member, cuts, answer }).await;
            let outcome = outcome.unwrap_or_else(|why| Err(CommitError::Reopen(why)));
            commit_ended(started.into_std(), &outcome);
            outcome
        })
    }
}
