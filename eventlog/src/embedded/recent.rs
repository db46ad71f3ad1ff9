//! What the writing threads and the readers share: the newest groups and commits in memory, and which member may commit.

use super::{
    database::{Cause, StoreError},
    ring::Ring,
};
use crate::{FeedError, FollowedRecord, OpenError, Record};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Memory for the newest groups, and as much for the newest commits.
const RING_BYTES: usize = 16 << 20;

/// Records that are synced together, each with its partition. Those of a partition are in the order of their offsets.
pub(super) type Group = Vec<(u32, Record)>;

pub(super) struct Recent {
    /// For errors.
    dir: PathBuf,
    state: Mutex<State>,
    /// One for each kind of reader. A reader that is woken for nothing costs the writer a system call or two.
    groups_changed: watch::Sender<()>,
    commits_changed: watch::Sender<()>,
}

pub(super) struct State {
    /// Numbered from the start of this process.
    pub(super) groups: Ring<Arc<Group>>,
    /// By commit number.
    pub(super) commits: Ring<Arc<Vec<FollowedRecord>>>,
    /// By partition, the offset that the next record will have.
    pub(super) ends: Vec<u64>,
    /// By partition, the offset after the last record that is rolled up.
    pub(super) committed: Vec<u64>,
    /// The newest feed, which is the only one that may read and commit; 0 when it was closed.
    pub(super) member: u64,
    stopped: Option<Stopped>,
}

/// Why nothing is written any more.
#[derive(Debug, Clone)]
pub(super) struct Stopped {
    pub(super) why: String,
    pub(super) cause: Cause,
}

impl Stopped {
    /// What a tier is told that opens a part of the log. It keeps on trying only if the log can go on by itself, and viewers
    /// keep their last frames meanwhile.
    pub(super) fn open_error(self) -> OpenError {
        match self.cause {
            Cause::DiskFull => OpenError::Unavailable(self.why),
            Cause::Damaged | Cause::Other => OpenError::Invalid(self.why),
        }
    }
}

impl Recent {
    pub(super) fn new(dir: PathBuf, ends: Vec<u64>, committed: Vec<u64>, next_commit: u64) -> Self {
        let state = State {
            groups: Ring::new(0, RING_BYTES),
            commits: Ring::new(next_commit, RING_BYTES),
            ends,
            committed,
            member: 0,
            stopped: None,
        };
        let (groups_changed, commits_changed) = (watch::Sender::new(()), watch::Sender::new(()));
        Self { dir, state: Mutex::new(state), groups_changed, commits_changed }
    }

    /// For readers of groups: `changed()` resolves after each [`Self::push_group`] and [`Self::change`].
    pub(super) fn groups(&self) -> watch::Receiver<()> {
        self.groups_changed.subscribe()
    }

    /// For readers of commits: `changed()` resolves after each [`Self::push_commit`] and [`Self::change`].
    pub(super) fn commits(&self) -> watch::Receiver<()> {
        self.commits_changed.subscribe()
    }

    /// Looks at the state; fails when nothing is written any more.
    pub(super) fn look(&self) -> Result<MutexGuard<'_, State>, FeedError> {
        let state = self.lock();
        match &state.stopped {
            None => Ok(state),
            Some(stopped) => Err(FeedError::Reopen(stopped.why.clone())),
        }
    }

    /// Adds the newest group, which is synced.
    pub(super) fn push_group(&self, group: Group) {
        let bytes = group.iter().map(|(_, record)| size_of::<(u32, Record)>() + record.value.len()).sum();
        let mut state = self.lock();
        for (partition, record) in &group {
            state.ends[*partition as usize] = record.offset + 1;
        }
        let pushed_out = state.groups.push(Arc::new(group), bytes);
        drop(state);
        self.groups_changed.send_replace(());
        drop(pushed_out);
    }

    /// Adds the newest commit, which is synced, and says how far the partitions are rolled up now.
    pub(super) fn push_commit(&self, records: Vec<FollowedRecord>, committed: &[u64]) {
        let bytes = records.iter().map(memory).sum();
        let mut state = self.lock();
        state.committed.copy_from_slice(committed);
        let pushed_out = state.commits.push(Arc::new(records), bytes);
        drop(state);
        self.commits_changed.send_replace(());
        drop(pushed_out);
    }

    /// Stops the log after an error in `file`. What is on the disk may not be known any more, so every later append
    /// fails. Gives the reason as callers see it.
    pub(super) fn stop(&self, file: &str, error: &StoreError) -> String {
        let (path, cause) = (self.dir.join(file), error.cause());
        let why = format!("{}: {error}: {}", path.display(), cause.advice());
        tracing::error!(why, "the embedded log stopped: nothing is accepted");
        self.change(|state| {
            // A full disk must not hide an error before it.
            if state.stopped.as_ref().is_none_or(|stopped| stopped.cause == Cause::DiskFull) {
                state.stopped = Some(Stopped { why: why.clone(), cause });
            }
        });
        why
    }

    /// Lets the log go on after its disk was full.
    pub(super) fn resume(&self) {
        tracing::info!("there is space on the disk again: the embedded log goes on");
        self.change(|state| state.stopped = None);
    }

    /// Changes what all readers have to know, and wakes them.
    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.groups_changed.send_replace(());
        self.commits_changed.send_replace(());
    }

    pub(super) fn member(&self) -> u64 {
        self.lock().member
    }

    pub(super) fn stopped(&self) -> Option<Stopped> {
        self.lock().stopped.clone()
    }

    /// How far the partitions are rolled up, with the number of the next commit. `None` if that is still `seen`.
    pub(super) fn committed_since(&self, seen: Option<u64>) -> Option<(u64, Vec<u64>)> {
        let state = self.lock();
        let next = state.commits.next();
        (seen != Some(next)).then(|| (next, state.committed.clone()))
    }

    /// The offset that the next record of the partition will have.
    pub(super) fn end(&self, partition: u32) -> u64 {
        self.lock().ends.get(partition as usize).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that a record of a commit takes, about: its room and its value have memory of their own, which is shared.
fn memory(record: &FollowedRecord) -> usize {
    const SHARED_BYTES: usize = 40;
    let value = record.value.as_deref().unwrap_or_default();
    size_of::<FollowedRecord>() + record.room.len() + value.len() + 2 * SHARED_BYTES
}

/// Readers must not wait for a thread that is gone.
pub(super) struct StopOnPanic(pub(super) Arc<Recent>);

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let why = "a thread of the embedded log panicked".to_owned();
            self.0.change(|state| state.stopped = Some(Stopped { why, cause: Cause::Other }));
        }
    }
}
