//! What those who write and those who read share: the newest groups and commits in memory, and who may commit.

use super::ring::Ring;
use crate::{FeedError, FollowedRecord};
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Memory for the newest groups, and as much for the newest commits.
const RING_BYTES: usize = 16 << 20;

pub(super) struct Tail {
    state: Mutex<State>,
    /// By what readers wait for, so that nobody is woken for nothing: that costs the writer a system call or two.
    groups_changed: watch::Sender<()>,
    commits_changed: watch::Sender<()>,
}

pub(super) struct State {
    /// Rows, by group number.
    pub(super) groups: Ring<Bytes>,
    /// By commit number.
    pub(super) commits: Ring<Arc<Vec<FollowedRecord>>>,
    /// The newest feed, which is the only one that may read and commit; 0 when it was closed.
    pub(super) member: u64,
    /// Why nothing is written any more.
    pub(super) stopped: Option<String>,
}

impl Tail {
    pub(super) fn new(next_group: u64, next_commit: u64) -> Self {
        let (groups, commits) = (Ring::new(next_group, RING_BYTES), Ring::new(next_commit, RING_BYTES));
        let state = State { groups, commits, member: 0, stopped: None };
        let (groups_changed, commits_changed) = (watch::Sender::new(()), watch::Sender::new(()));
        Self { state: Mutex::new(state), groups_changed, commits_changed }
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
            Some(why) => Err(FeedError::Reopen(why.clone())),
        }
    }

    /// Adds the row of the newest group. It should be packed.
    pub(super) fn push_group(&self, row: Bytes) {
        let bytes = row.len();
        let pushed_out = self.lock().groups.push(row, bytes);
        self.groups_changed.send_replace(());
        drop(pushed_out);
    }

    /// Adds the newest commit.
    pub(super) fn push_commit(&self, records: Vec<FollowedRecord>) {
        let bytes = records.iter().map(memory).sum();
        let pushed_out = self.lock().commits.push(Arc::new(records), bytes);
        self.commits_changed.send_replace(());
        drop(pushed_out);
    }

    /// After an error that leaves open what is on the disk. Nothing is acknowledged any more, but what was under way meanwhile
    /// and did end well: only when the log is opened again it is known what is in it. Gives the reason as readers see it.
    pub(super) fn stop(&self, error: &dyn std::error::Error) -> String {
        tracing::error!(%error, "the embedded log can't be written: nothing is accepted until a restart");
        let why = format!("the embedded log stopped after an error: {error}");
        self.change(|tail| tail.stopped = Some(why.clone()));
        why
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

    pub(super) fn stopped(&self) -> Option<String> {
        self.lock().stopped.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that a record of a commit takes, about: those of its room and its value are each shared, so counted beside them.
fn memory(record: &FollowedRecord) -> usize {
    const SHARED_BYTES: usize = 40;
    let value = record.value.as_deref().unwrap_or_default();
    size_of::<FollowedRecord>() + record.room.len() + value.len() + 2 * SHARED_BYTES
}

/// Readers must not wait for a thread that is gone.
pub(super) struct StopOnPanic(pub(super) Arc<Tail>);

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.change(|tail| tail.stopped = Some("a thread of the embedded log panicked".into()));
        }
    }
}
