//! The thread that appends: whatever is in its queue when the disk is free becomes one group, one transaction, one sync. So the
//! disk sets the pace, and an append waits for two syncs at the most.

use super::{
    Clock,
    checkpoint::Wal,
    database::{Cause, StoreError},
    reactions::{Appending, FILE, Failure, Trim},
    recent::{Group, Recent, StopOnPanic},
};
use crate::{Append, AppendError, Done, Record, metrics::WRITE_SECONDS};
use bytes::{Bytes, BytesMut};
use metrics::histogram;
use rusqlite::Connection;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};

/// A group is closed at this size, so that a transaction is never large.
pub(super) const GROUP_BYTES_MAX: usize = 4 << 20;
/// A group removes so many old records at the most, so that it isn't held up by them.
const TRIMS_MAX: usize = 1_000;

pub(super) enum Job {
    /// Records that become part of one group.
    Append { appends: Vec<Append>, bytes: usize },
    /// Answered when all before it is.
    Flush { answer: oneshot::Sender<()> },
    /// After the disk was full: goes on if it has space.
    Resume { answer: oneshot::Sender<()> },
}

pub(super) struct AppendThread {
    pub(super) recent: Arc<Recent>,
    pub(super) wal: Arc<Wal>,
    /// Bytes of the appends in the queue.
    pub(super) queued_bytes: Arc<AtomicUsize>,
    pub(super) clock: Clock,
    pub(super) retention_ms: u64,
    /// By partition, the offset that the next record will have.
    pub(super) ends: Vec<u64>,
    /// The next commit when old records were last looked for.
    pub(super) looked_at: Option<u64>,
}

/// Appends that become one group.
#[derive(Default)]
struct Gathered {
    records: Vec<(u32, Bytes)>,
    done: Vec<Done>,
    bytes: usize,
}

impl AppendThread {
    /// Works until all senders are gone. An answer that nobody waits for any more is dropped.
    pub(super) fn run(mut self, conn: &Connection, mut jobs: mpsc::Receiver<Job>) {
        let _guard = StopOnPanic(Arc::clone(&self.recent));
        let mut appending = match Appending::new(conn) {
            Ok(appending) => appending,
            // Senders hear that this thread is gone.
            Err(error) => return drop(self.recent.stop(FILE, &error.into())),
        };
        let mut trims = Vec::new();
        let mut next = jobs.blocking_recv();
        while let Some(job) = next.take() {
            match job {
                Job::Append { appends, bytes } => {
                    let mut gathered = Gathered::default();
                    self.take(&mut gathered, appends, bytes);
                    next = self.fill(&mut gathered, &mut jobs);
                    self.append(gathered, &mut appending, &mut trims);
                    if self.recent.stopped().is_none()
                        && let Err(error) = self.wal.written(conn)
                    {
                        self.recent.stop(FILE, &error);
                    }
                }
                Job::Flush { answer } => _ = answer.send(()),
                Job::Resume { answer } => {
                    self.resume(&mut appending);
                    _ = answer.send(());
                }
            }
            if next.is_none() {
                next = jobs.blocking_recv();
            }
        }
        close(conn, &self.recent);
    }

    fn take(&self, gathered: &mut Gathered, appends: Vec<Append>, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        gathered.bytes += bytes;
        for Append { partition, value, done } in appends {
            gathered.records.push((partition, value));
            gathered.done.push(done);
        }
    }

    /// Takes the appends that are in the queue. Gives the job that ended it, if it is of another kind.
    fn fill(&self, gathered: &mut Gathered, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
        while gathered.bytes < GROUP_BYTES_MAX {
            match jobs.try_recv() {
                Ok(Job::Append { appends, bytes }) => self.take(gathered, appends, bytes),
                other => return other.ok(),
            }
        }
        None
    }

    fn append(&mut self, gathered: Gathered, appending: &mut Appending<'_>, trims: &mut Vec<Trim>) {
        let result = match self.recent.stopped() {
            Some(stopped) => Err(AppendError::NotWritten(stopped.why)),
            None => self.write(gathered.records, appending, trims),
        };
        for done in gathered.done {
            done(result.clone());
        }
    }

    fn write(
        &mut self,
        records: Vec<(u32, Bytes)>,
        appending: &mut Appending<'_>,
        trims: &mut Vec<Trim>,
    ) -> Result<(), AppendError> {
        let now_ms = (self.clock)();
        self.look_for_trims(now_ms, trims);
        let group = self.group(records, now_ms);
        let started = Instant::now();
        appending.append(&group, trims, TRIMS_MAX).map_err(|failure| match failure {
            Failure::NotWritten(error) => AppendError::NotWritten(self.recent.stop(FILE, &error.into())),
            Failure::Unknown(error) => AppendError::Unknown(self.recent.stop(FILE, &error.into())),
        })?;
        histogram!(WRITE_SECONDS).record(started.elapsed().as_secs_f64());
        for (partition, record) in &group {
            self.ends[*partition as usize] = record.offset + 1;
        }
        self.recent.push_group(group);
        Ok(())
    }

    /// Gives the records their offsets. Copies their values into memory of the group's own: they stay here for long, and what
    /// they were made in may be larger.
    fn group(&self, records: Vec<(u32, Bytes)>, timestamp_ms: u64) -> Group {
        let mut values = BytesMut::with_capacity(records.iter().map(|(_, value)| value.len()).sum());
        let mut group = Group::with_capacity(records.len());
        for (partition, value) in records {
            values.extend_from_slice(&value);
            let value = values.split().freeze();
            group.push((partition, Record { offset: 0, timestamp_ms, value }));
        }
        // By partition, and in their order within it: that is how they lie in the file.
        group.sort_by_key(|(partition, _)| *partition);
        let mut next = None;
        for (partition, record) in &mut group {
            let offset = match next {
                Some((of, offset)) if of == *partition => offset,
                _ => self.ends[*partition as usize],
            };
            record.offset = offset;
            next = Some((*partition, offset + 1));
        }
        group
    }

    /// Looks for old records if more was rolled up since the last time.
    fn look_for_trims(&mut self, now_ms: u64, trims: &mut Vec<Trim>) {
        if !trims.is_empty() {
            return;
        }
        let Some((next_commit, committed)) = self.recent.committed_since(self.looked_at) else { return };
        self.looked_at = Some(next_commit);
        for (partition, (committed, end)) in (0..).zip(committed.iter().zip(&self.ends)) {
            // The newest record stays: it says where the offsets go on.
            let before = (*committed).min(end.saturating_sub(1));
            trims.push(Trim { partition, before, now_ms, retention_ms: self.retention_ms });
        }
    }

    fn resume(&self, appending: &mut Appending<'_>) {
        let is_full = self.recent.stopped().is_some_and(|stopped| stopped.cause == Cause::DiskFull);
        if is_full && appending.probe().is_ok() {
            self.recent.resume();
        }
    }
}

/// Leaves all in the file, and an empty WAL. Waits for no reader.
pub(super) fn close(conn: &Connection, recent: &Recent) {
    // After an error the next start has to see what there is.
    if recent.stopped().is_none() {
        let copied = conn
            .busy_timeout(Duration::ZERO)
            .map_err(StoreError::from)
            .and_then(|()| Ok(conn.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))?));
        if let Err(error) = copied {
            tracing::debug!(%error, "a WAL of the embedded log is left as it is");
        }
    }
}
