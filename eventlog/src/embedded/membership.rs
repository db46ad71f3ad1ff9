//! The membership: there is one member, which owns every partition. A newer feed takes over from the one before.
//!
//! A member takes records from the groups in memory. What lies before these it reads from the file.

use super::{
    Shared, append_thread, broken,
    commit_thread::{Job, Joined},
    database::{self, StoreError},
    reactions,
    recent::Group,
    rollup,
};
use crate::{
    BoxFuture, CommitError, Committer, Cut, Feed, FeedError, FeedEvent, FeedEvents, OpenError, Record,
    decode,
    metrics::{PARTITIONS_OWNED, commit_ended},
};
use metrics::gauge;
use rusqlite::Connection;
use std::{
    collections::VecDeque,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep_until},
};

/// Records are taken in steps of so many bytes, which is how far a feed reads ahead.
const READ_BYTES: usize = 1 << 20;
/// Groups that come close together are taken together: to be woken for each costs more than to read it. Well below the time
/// that a window waits for its last records.
const TAKE_PAUSE: Duration = Duration::from_millis(20);

pub(super) async fn open(shared: &Arc<Shared>) -> Result<Feed, OpenError> {
    if shared.recent.stopped().is_some() {
        // Perhaps the disk has space again. If not, the next question says so.
        let _ = shared.appends.ask(|answer| append_thread::Job::Resume { answer }).await;
    }
    let joined = shared.commits.ask(|answer| Job::Join { answer }).await;
    let joined = joined.map_err(OpenError::Invalid)??;
    // From here on nobody else commits; should another feed join meanwhile, this one is told by its first `next`.
    let member = joined.member;
    let path = shared.rollup.clone();
    let loaded = spawn_blocking(move || load(&path, joined)).await;
    let loaded = loaded.map_err(|error| OpenError::Invalid(error.to_string()))?;
    let (partitions, untold) =
        loaded.map_err(|error| OpenError::Invalid(shared.recent.stop(rollup::FILE, &error)))?;
    let (cursor, ends) = match shared.recent.look() {
        Ok(state) => (state.groups.next(), state.ends.clone()),
        Err(error) => return Err(OpenError::Unavailable(error.to_string())),
    };
    gauge!(PARTITIONS_OWNED).set(partitions.len() as f64);
    let events = EmbeddedEvents {
        changed: shared.recent.groups(),
        shared: Arc::clone(shared),
        member,
        partitions,
        cursor,
        backlog: Some(Backlog { ends, turn: 0, reader: None }),
        untold,
        reading: None,
        taken_at: None,
    };
    let committer = EmbeddedCommitter { shared: Arc::clone(shared), member };
    Ok(Feed { events: Box::new(events), committer: Arc::new(committer) })
}

fn load(
    path: &Path,
    Joined { member, committed }: Joined,
) -> Result<(Vec<Position>, VecDeque<FeedEvent>), StoreError> {
    let mut newest: Vec<Vec<_>> = committed.iter().map(|_| Vec::new()).collect();
    for row in rollup::newest(&database::reader(path)?)?.1 {
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

/// What lies before the groups in memory.
struct Backlog {
    /// By partition, where it ends: all before that is in the file, and the rest comes from memory.
    ends: Vec<u64>,
    /// The partition that is read next, so that none waits for all of another.
    turn: usize,
    /// From the first read on.
    reader: Option<Connection>,
}

impl Backlog {
    /// The next partition with a backlog, and the offsets of it.
    fn next(&mut self, positions: &[Position]) -> Option<(u32, Range<u64>)> {
        for _ in 0..positions.len() {
            let partition = self.turn;
            self.turn = (self.turn + 1) % positions.len();
            let offsets = positions[partition].next_offset..self.ends[partition];
            if !offsets.is_empty() {
                return Some((partition as u32, offsets));
            }
        }
        None
    }
}

/// Records that were read from the file.
struct Read {
    reader: Connection,
    partition: u32,
    records: Vec<Record>,
}

impl Read {
    /// Reads a step. Offsets have no gaps: where one is missing, the file is damaged.
    fn step(
        reader: Option<Connection>,
        path: &Path,
        partition: u32,
        offsets: Range<u64>,
    ) -> Result<Self, StoreError> {
        let reader = reader.map_or_else(|| database::reader(path), Ok)?;
        let first = offsets.start;
        let records = reactions::read(&reader, partition, offsets, READ_BYTES)?;
        let missing = (first..).zip(&records).find(|(offset, record)| record.offset != *offset);
        let missing = missing.map(|(offset, _)| offset).or(records.is_empty().then_some(first));
        match missing {
            Some(offset) => {
                Err(StoreError::Damaged(format!("record {offset} of partition {partition} is missing")))
            }
            None => Ok(Self { reader, partition, records }),
        }
    }
}

struct EmbeddedEvents {
    shared: Arc<Shared>,
    changed: watch::Receiver<()>,
    member: u64,
    /// By partition.
    partitions: Vec<Position>,
    /// The next group to take from memory.
    cursor: u64,
    /// To be read before that.
    backlog: Option<Backlog>,
    /// Events that are made, and were not given yet.
    untold: VecDeque<FeedEvent>,
    /// Kept here, so that a caller that cancels `next` loses nothing.
    reading: Option<JoinHandle<Result<Read, StoreError>>>,
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
                self.take_read(read.map_err(broken)?)?;
            } else if self.backlog.is_some() {
                self.read_backlog();
            } else {
                if let Some(at) = self.taken_at {
                    sleep_until(at + TAKE_PAUSE).await;
                    self.taken_at = None;
                }
                if !self.take_recent()? {
                    // The sender lives in `shared`, so it can't be gone.
                    let _ = self.changed.changed().await;
                }
            }
        }
    }

    fn check(&self) -> Result<(), FeedError> {
        if self.shared.recent.look()?.member == self.member {
            return Ok(());
        }
        Err(FeedError::Reopen("a newer feed took its place".into()))
    }

    /// Begins to read from the file, or says that there is no backlog any more.
    fn read_backlog(&mut self) {
        let Some(backlog) = &mut self.backlog else { return };
        let Some((partition, offsets)) = backlog.next(&self.partitions) else {
            self.backlog = None;
            return;
        };
        let (reader, path): (_, PathBuf) = (backlog.reader.take(), self.shared.reactions.clone());
        self.reading = Some(spawn_blocking(move || Read::step(reader, &path, partition, offsets)));
    }

    /// Takes what was read. After an error nothing more is acknowledged: those records would never be counted.
    fn take_read(&mut self, read: Result<Read, StoreError>) -> Result<(), FeedError> {
        let Read { reader, partition, records } =
            read.map_err(|error| broken(self.shared.recent.stop(reactions::FILE, &error)))?;
        if let Some(backlog) = &mut self.backlog {
            backlog.reader = Some(reader);
        }
        if let Some(last) = records.last() {
            self.partitions[partition as usize] = Position { next_offset: last.offset + 1, told_end: false };
            self.untold.push_back(FeedEvent::Records { partition, records });
        }
        Ok(())
    }

    /// Takes what is in memory, or finds that its beginning is gone. `false` when there is nothing to say.
    fn take_recent(&mut self) -> Result<bool, FeedError> {
        let (groups, end) = {
            let state = self.shared.recent.look()?;
            let end = state.groups.next();
            match state.groups.from(self.cursor, READ_BYTES) {
                Some(groups) => (groups, end),
                None => {
                    self.backlog = Some(Backlog { ends: state.ends.clone(), turn: 0, reader: None });
                    self.cursor = end;
                    return Ok(true);
                }
            }
        };
        self.cursor += groups.len() as u64;
        self.take(&groups);
        if self.cursor >= end {
            self.tell_ends();
            self.taken_at = (!self.untold.is_empty()).then(Instant::now);
        }
        Ok(!self.untold.is_empty())
    }

    /// Makes events of the records that were not given yet.
    fn take(&mut self, groups: &[Arc<Group>]) {
        let mut records: Vec<Vec<Record>> = self.partitions.iter().map(|_| Vec::new()).collect();
        for (partition, record) in groups.iter().flat_map(|group| group.iter()) {
            let position = &mut self.partitions[*partition as usize];
            // A cut may lie within a group.
            if record.offset >= position.next_offset {
                *position = Position { next_offset: record.offset + 1, told_end: false };
                records[*partition as usize].push(record.clone());
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
        self.shared.recent.change(|state| {
            if state.member == member {
                state.member = 0;
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
