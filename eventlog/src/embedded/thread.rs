//! The thread that writes: everything that changes the log is done here, one job after the other.
//!
//! Appends are combined: whatever is in the queue when the disk is free becomes one group, one frame, one sync. So the
//! disk sets the pace, and an append waits for two syncs at the most.
//!
//! After the first error nothing is acknowledged any more. What a failed write left behind is known only after the
//! log was opened again.

use super::{
    Clock,
    journal::Journal,
    row::{Group, Part, record_size},
    store::{Committed, Store},
    tail::Tail,
};
use crate::{AppendError, CommitError, Cut, Done, FollowedRecord, OpenError, metrics::WRITE_SECONDS};
use bytes::Bytes;
use metrics::histogram;
use std::{collections::BTreeMap, sync::Arc, time::Instant};
use tokio::sync::{mpsc, oneshot};

/// A group is closed at this size, so that a row is never large.
const GROUP_BYTES_MAX: usize = 4 << 20;

pub(super) enum Job {
    Append {
        partition: u32,
        value: Bytes,
        done: Done,
    },
    /// Cuts, by a member.
    Commit {
        member: u64,
        cuts: Vec<Cut>,
        answer: oneshot::Sender<Result<(), CommitError>>,
    },
    /// A new feed, which takes over from the one before.
    Join {
        answer: oneshot::Sender<Result<Joined, OpenError>>,
    },
    /// Answered when all before it is.
    Flush {
        answer: oneshot::Sender<()>,
    },
}

/// What a new feed begins with.
pub(super) struct Joined {
    pub(super) member: u64,
    /// By partition.
    pub(super) committed: Vec<u64>,
}

pub(super) struct Thread {
    pub(super) store: Arc<Store>,
    pub(super) tail: Arc<Tail>,
    pub(super) journal: Journal,
    pub(super) committed: Committed,
    pub(super) clock: Clock,
    pub(super) retention_ms: u64,
    pub(super) last_member: u64,
}

/// Appends that become one group.
struct Gathered {
    /// By partition.
    records: Vec<Vec<Bytes>>,
    done: Vec<Done>,
    bytes: usize,
}

impl Thread {
    /// Works until all senders are gone. An answer that nobody waits for any more is dropped.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut next = jobs.blocking_recv();
        while let Some(job) = next.take() {
            match job {
                Job::Append { partition, value, done } => {
                    let mut gathered = Gathered::of(self.committed.offsets.len());
                    gathered.add(partition, value, done);
                    next = gathered.fill(&mut jobs);
                    self.append(gathered);
                }
                Job::Commit { member, cuts, answer } => drop(answer.send(self.commit(member, cuts))),
                Job::Join { answer } => drop(answer.send(self.join())),
                Job::Flush { answer } => drop(answer.send(())),
            }
            if next.is_none() {
                next = jobs.blocking_recv();
            }
        }
    }

    fn append(&mut self, gathered: Gathered) {
        let result = match self.tail.stopped() {
            Some(why) => Err(AppendError::NotWritten(why)),
            None => self.write_group(gathered.records).map_err(AppendError::Unknown),
        };
        for done in gathered.done {
            done(result.clone());
        }
    }

    fn write_group(&mut self, records: Vec<Vec<Bytes>>) -> Result<(), String> {
        let end = self.journal.end();
        let parts = (0..).zip(&end.offsets).zip(records).filter(|(_, records)| !records.is_empty());
        let part = |((partition, first_offset), records): ((u32, &u64), _)| Part {
            partition,
            first_offset: *first_offset,
            records,
        };
        let timestamp_ms = (self.clock)().max(end.timestamp_ms);
        let group = Group { timestamp_ms, parts: parts.map(part).collect() };
        let started = Instant::now();
        self.journal.append(&group).map_err(|error| self.stop(&error))?;
        histogram!(WRITE_SECONDS).record(started.elapsed().as_secs_f64());
        let size = group.size();
        self.tail.push_group(Arc::new(group), size);
        Ok(())
    }

    fn commit(&mut self, member: u64, cuts: Vec<Cut>) -> Result<(), CommitError> {
        if let Some(why) = self.tail.stopped() {
            return Err(CommitError::Reopen(why));
        }
        if self.tail.member() != member {
            return Err(CommitError::Reopen("the feed was closed, or a newer one took its place".into()));
        }
        self.check(member, &cuts)?;
        let written = self.store.commit(&mut self.committed, &cuts);
        written.map_err(|error| CommitError::Reopen(self.stop(&error)))?;
        self.journal.trim(&self.committed.offsets, (self.clock)().saturating_sub(self.retention_ms));
        let records = cuts.into_iter().flat_map(|cut| cut.aggregates);
        let records: Vec<_> = records.map(|(room, value)| FollowedRecord { room, value }).collect();
        let size = |record: &FollowedRecord| {
            record.room.len() + record_size(record.value.as_deref().unwrap_or_default())
        };
        let size = records.iter().map(size).sum();
        self.tail.push_commit(Arc::new(records), size);
        Ok(())
    }

    /// Whether the cuts are the member's, and what a window can be.
    fn check(&self, member: u64, cuts: &[Cut]) -> Result<(), CommitError> {
        let mut cut_at = BTreeMap::new();
        for Cut { partition, epoch, next_offset, .. } in cuts {
            let start = self.committed.offsets.get(*partition as usize).filter(|_| *epoch == member);
            let Some(start) = start else {
                return Err(CommitError::Revoked(format!("partition {partition}, epoch {epoch}")));
            };
            let start = cut_at.insert(*partition, *next_offset).unwrap_or(*start);
            let next = self.journal.end().offsets[*partition as usize];
            // Would count twice, or leave out what is still to come.
            if !(start..=next).contains(next_offset) {
                let text = format!("partition {partition} is committed to {start} and ends at {next}");
                return Err(CommitError::Reopen(format!("{text}, the cut is at {next_offset}")));
            }
        }
        Ok(())
    }

    fn join(&mut self) -> Result<Joined, OpenError> {
        if let Some(why) = self.tail.stopped() {
            return Err(OpenError::Invalid(why));
        }
        self.last_member += 1;
        self.tail.change(|tail| tail.member = self.last_member);
        Ok(Joined { member: self.last_member, committed: self.committed.offsets.clone() })
    }

    /// Nothing is written any more.
    fn stop(&self, error: &dyn std::error::Error) -> String {
        tracing::error!(%error, "the embedded log can't be written: nothing is accepted until a restart");
        let why = format!("the embedded log stopped after an error: {error}");
        self.tail.change(|tail| tail.stopped = Some(why.clone()));
        why
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // The readers must not wait for a thread that is gone.
        if std::thread::panicking() {
            self.tail.change(|tail| tail.stopped = Some("the embedded log's thread panicked".into()));
        }
    }
}

impl Gathered {
    fn of(partitions: usize) -> Self {
        Self { records: vec![Vec::new(); partitions], done: Vec::new(), bytes: 0 }
    }

    fn add(&mut self, partition: u32, value: Bytes, done: Done) {
        self.bytes += record_size(&value);
        self.records[partition as usize].push(value);
        self.done.push(done);
    }

    /// Takes the appends that are in the queue. Gives the job that ended it, if it is of another kind.
    fn fill(&mut self, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
        while self.bytes < GROUP_BYTES_MAX {
            match jobs.try_recv() {
                Ok(Job::Append { partition, value, done }) => self.add(partition, value, done),
                other => return other.ok(),
            }
        }
        None
    }
}
