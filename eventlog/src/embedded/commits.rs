//! The thread that commits: windows, one after the other, into the file of the aggregates.
//!
//! It is not the one that appends, as a commit of many rooms takes its time, and nobody who posts should wait for it. The
//! two need no order between them: what is committed was read, so it was synced before.

use super::{
    Clock,
    journal::Shelf,
    store::{Committed, Store},
    tail::{StopOnPanic, Tail},
};
use crate::{CommitError, Cut, FollowedRecord, OpenError};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::{mpsc, oneshot};

pub(super) enum Job {
    /// Cuts, by a member.
    Commit { member: u64, cuts: Vec<Cut>, answer: oneshot::Sender<Result<(), CommitError>> },
    /// A new feed, which takes over from the one before.
    Join { answer: oneshot::Sender<Result<Joined, OpenError>> },
}

/// What a new feed begins with.
pub(super) struct Joined {
    pub(super) member: u64,
    /// By partition.
    pub(super) committed: Vec<u64>,
}

pub(super) struct Commits {
    pub(super) store: Arc<Store>,
    pub(super) tail: Arc<Tail>,
    pub(super) shelf: Arc<Shelf>,
    pub(super) committed: Committed,
    pub(super) clock: Clock,
    pub(super) retention_ms: u64,
    pub(super) last_member: u64,
}

impl Commits {
    /// Works until all senders are gone. An answer that nobody waits for any more is dropped.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let _guard = StopOnPanic(Arc::clone(&self.tail));
        while let Some(job) = jobs.blocking_recv() {
            match job {
                Job::Commit { member, cuts, answer } => drop(answer.send(self.commit(member, cuts))),
                Job::Join { answer } => drop(answer.send(self.join())),
            }
        }
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
        written.map_err(|error| CommitError::Reopen(self.tail.stop(&error)))?;
        self.shelf.trim(&self.committed.offsets, (self.clock)(), self.retention_ms);
        let records = cuts.into_iter().flat_map(|cut| cut.aggregates);
        self.tail.push_commit(records.map(|(room, value)| FollowedRecord { room, value }).collect());
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
            let next = self.shelf.next_offset(*partition);
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
}
