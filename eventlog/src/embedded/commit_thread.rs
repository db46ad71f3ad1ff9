//! The thread that commits: windows and orders, one after the other, into `rollup.db`.
//!
//! It is not the thread that appends, because a commit of many rooms takes its time, and no post should wait for it. The
//! two need no order between them: what is committed was read, so it was synced before.

use super::{
    Clock,
    append_thread::close,
    checkpoint::Wal,
    control::{self, Failed},
    recent::{Recent, StopOnPanic},
    rollup::{Committed, Committing, FILE},
};
use crate::{CommitError, ControlPut, ControlRecord, Cut, FollowedRecord, OpenError, PutError};
use rusqlite::Connection;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::{broadcast, mpsc, oneshot};

pub(super) enum Job {
    /// Cuts, by a member.
    Commit { member: u64, cuts: Vec<Cut>, answer: oneshot::Sender<Result<(), CommitError>> },
    /// An order.
    Put { put: ControlPut, answer: oneshot::Sender<Result<u64, PutError>> },
    /// A new feed, which takes over from the one before.
    Join { answer: oneshot::Sender<Result<Joined, OpenError>> },
}

/// What a new feed begins with.
pub(super) struct Joined {
    pub(super) member: u64,
    /// By partition.
    pub(super) committed: Vec<u64>,
}

pub(super) struct CommitThread {
    pub(super) recent: Arc<Recent>,
    pub(super) wal: Arc<Wal>,
    pub(super) clock: Clock,
    /// Windows that ended longer ago are removed.
    pub(super) history_ms: u64,
    pub(super) committed: Committed,
    pub(super) last_member: u64,
    /// Tells readers of orders of each.
    pub(super) control: broadcast::Sender<ControlRecord>,
}

impl CommitThread {
    /// Works until all senders are gone. An answer that nobody waits for any more is dropped.
    pub(super) fn run(mut self, conn: &Connection, mut jobs: mpsc::Receiver<Job>) {
        let _guard = StopOnPanic(Arc::clone(&self.recent));
        let mut committing = match Committing::new(conn) {
            Ok(committing) => committing,
            // Senders hear that this thread is gone.
            Err(error) => return drop(self.recent.stop(FILE, &error.into())),
        };
        while let Some(job) = jobs.blocking_recv() {
            match job {
                Job::Commit { member, cuts, answer } => {
                    let result = self.commit(member, cuts, &mut committing);
                    let is_written = result.is_ok();
                    drop(answer.send(result));
                    self.look_after_wal(conn, is_written);
                }
                Job::Put { put, answer } => {
                    let result = self.put(conn, put);
                    let is_written = result.is_ok();
                    drop(answer.send(result));
                    self.look_after_wal(conn, is_written);
                }
                Job::Join { answer } => drop(answer.send(self.join())),
            }
        }
        close(conn, &self.recent);
    }

    fn look_after_wal(&self, conn: &Connection, is_written: bool) {
        if is_written && let Err(error) = self.wal.written(conn) {
            self.recent.stop(FILE, &error);
        }
    }

    fn put(&self, conn: &Connection, put: ControlPut) -> Result<u64, PutError> {
        if let Some(stopped) = self.recent.stopped() {
            return Err(PutError::Unavailable(stopped.why));
        }
        let version = control::write(conn, &put).map_err(|failed| match failed {
            Failed::Refused(error) => error,
            Failed::Store(error) => PutError::Unknown(self.recent.stop(FILE, &error)),
        })?;
        // There may be no reader.
        let _ = self.control.send(ControlRecord { key: put.key, version, value: put.value });
        Ok(version)
    }

    fn commit(
        &mut self,
        member: u64,
        cuts: Vec<Cut>,
        committing: &mut Committing<'_>,
    ) -> Result<(), CommitError> {
        if let Some(stopped) = self.recent.stopped() {
            return Err(CommitError::Reopen(stopped.why));
        }
        if self.recent.member() != member {
            return Err(CommitError::Reopen("the feed was closed, or a newer one took its place".into()));
        }
        self.check(member, &cuts)?;
        let windows_from_ms = (self.clock)().saturating_sub(self.history_ms);
        committing
            .commit(self.committed.next_commit, &cuts, windows_from_ms)
            .map_err(|error| CommitError::Reopen(self.recent.stop(FILE, &error.into())))?;
        self.committed.next_commit += 1;
        for Cut { partition, next_offset, .. } in &cuts {
            self.committed.offsets[*partition as usize] = *next_offset;
        }
        let records = cuts.into_iter().flat_map(|cut| cut.aggregates);
        let records = records.map(|(room, value)| FollowedRecord { room, value }).collect();
        self.recent.push_commit(records, &self.committed.offsets);
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
            let next = self.recent.end(*partition);
            // Would count twice, or leave out what is still to come.
            if !(start..=next).contains(next_offset) {
                let text = format!("partition {partition} is committed to {start} and ends at {next}");
                return Err(CommitError::Reopen(format!("{text}, the cut is at {next_offset}")));
            }
        }
        Ok(())
    }

    fn join(&mut self) -> Result<Joined, OpenError> {
        if let Some(stopped) = self.recent.stopped() {
            return Err(stopped.open_error());
        }
        self.last_member += 1;
        self.recent.change(|state| state.member = self.last_member);
        Ok(Joined { member: self.last_member, committed: self.committed.offsets.clone() })
    }
}
