//! What the writing thread and the readers share: the newest groups and commits in memory, and who may commit.

use super::{ring::Ring, row::Group};
use crate::{FeedError, FollowedRecord};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Memory for the newest groups, and as much for the newest commits.
const RING_BYTES: usize = 16 << 20;

pub(super) struct Tail {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

pub(super) struct State {
    /// By group number.
    pub(super) groups: Ring<Group>,
    /// By commit number.
    pub(super) commits: Ring<Vec<FollowedRecord>>,
    /// The newest feed, which is the only one that may read and commit; 0 when it was closed.
    pub(super) member: u64,
    /// Why nothing is written any more.
    pub(super) stopped: Option<String>,
}

impl Tail {
    pub(super) fn new(next_group: u64, next_commit: u64) -> Self {
        let (groups, commits) = (Ring::new(next_group, RING_BYTES), Ring::new(next_commit, RING_BYTES));
        let state = State { groups, commits, member: 0, stopped: None };
        Self { state: Mutex::new(state), changed: watch::Sender::new(()) }
    }

    /// For readers: `changed()` resolves after each [`Self::change`].
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Looks at the state; fails when nothing is written any more.
    pub(super) fn look(&self) -> Result<MutexGuard<'_, State>, FeedError> {
        let state = self.lock();
        match &state.stopped {
            None => Ok(state),
            Some(why) => Err(FeedError::Reopen(why.clone())),
        }
    }

    /// Changes the state, and wakes all who wait for a change.
    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.send_replace(());
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
