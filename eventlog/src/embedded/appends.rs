//! The thread that appends: whatever is in its queue when the disk is free becomes one group, one frame, one sync. So the
//! disk sets the pace, and an append waits for two syncs at the most.

use super::{
    Clock,
    journal::Journal,
    pack::Pack,
    row::{Group, Part},
    tail::{StopOnPanic, Tail},
};
use crate::{Append, AppendError, Done, metrics::WRITE_SECONDS};
use bytes::Bytes;
use metrics::histogram;
use std::{sync::Arc, time::Instant};
use tokio::sync::{mpsc, oneshot};

/// A group is closed at this size, so that a row is never large.
pub(super) const GROUP_BYTES_MAX: usize = 4 << 20;

pub(super) enum Job {
    /// Records that become part of one group.
    Append(Vec<Append>),
    /// Answered when all before it is.
    Flush { answer: oneshot::Sender<()> },
}

pub(super) struct Appends {
    pub(super) tail: Arc<Tail>,
    pub(super) journal: Journal,
    pub(super) clock: Clock,
    /// Keeps what goes into the tail.
    pub(super) pack: Pack,
}

/// Appends that become one group.
struct Gathered {
    /// By partition.
    records: Vec<Vec<Bytes>>,
    done: Vec<Done>,
    bytes: usize,
}

impl Appends {
    /// Works until all senders are gone. An answer that nobody waits for any more is dropped.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let _guard = StopOnPanic(Arc::clone(&self.tail));
        let mut next = jobs.blocking_recv();
        while let Some(job) = next.take() {
            match job {
                Job::Append(appends) => {
                    let mut gathered = Gathered::of(self.journal.end().offsets.len());
                    gathered.add(appends);
                    next = gathered.fill(&mut jobs);
                    self.append(gathered);
                }
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
        let row = self.journal.append(&group).map_err(|error| self.tail.stop(&error))?;
        histogram!(WRITE_SECONDS).record(started.elapsed().as_secs_f64());
        self.tail.push_group(self.pack.add(row));
        Ok(())
    }
}

impl Gathered {
    fn of(partitions: usize) -> Self {
        Self { records: vec![Vec::new(); partitions], done: Vec::new(), bytes: 0 }
    }

    fn add(&mut self, appends: Vec<Append>) {
        for Append { partition, value, done } in appends {
            self.bytes += size_of::<Bytes>() + value.len();
            self.records[partition as usize].push(value);
            self.done.push(done);
        }
    }

    /// Takes the appends that are in the queue. Gives the job that ended it, if it is of another kind.
    fn fill(&mut self, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
        while self.bytes < GROUP_BYTES_MAX {
            match jobs.try_recv() {
                Ok(Job::Append(appends)) => self.add(appends),
                other => return other.ok(),
            }
        }
        None
    }
}
