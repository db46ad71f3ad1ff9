//! The follower: loads the newest aggregate of each room from the file, then goes along with the commits in memory.
//!
//! One that lags behind the commits in memory loads again, and is given only what was committed since. The number of
//! a commit, which is in the file too, says exactly where one ends and the other begins.

use super::{
    Shared, broken,
    database::{self, StoreError},
    rollup::{self, NewestOfRoom},
};
use crate::{BoxFuture, FeedError, FollowEvent, FollowedRecord, Follower};
use std::{collections::BTreeSet, sync::Arc};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
};
use wire::RoomName;

/// Commits are taken in steps of so many bytes.
const READ_BYTES: usize = 1 << 20;
/// Records in one event, at the most.
const RECORDS_PER_EVENT: usize = 1_000;

type Loading = JoinHandle<Result<(u64, Vec<NewestOfRoom>), StoreError>>;

pub(super) struct EmbeddedFollower {
    shared: Arc<Shared>,
    changed: watch::Receiver<()>,
    /// The next commit to take.
    cursor: u64,
    /// Rooms that were given and not forgotten since: those that a load doesn't find were forgotten meanwhile.
    known: BTreeSet<RoomName>,
    /// Records to be given, the next one last.
    untold: Vec<FollowedRecord>,
    told_caught_up: bool,
    /// Kept here, so that a caller that cancels `next` loses nothing.
    loading: Option<Loading>,
}

impl EmbeddedFollower {
    pub(super) fn open(shared: &Arc<Shared>) -> Self {
        let mut follower = Self {
            shared: Arc::clone(shared),
            changed: shared.recent.commits(),
            cursor: 0,
            known: BTreeSet::new(),
            untold: Vec::new(),
            told_caught_up: false,
            loading: None,
        };
        follower.load();
        follower
    }

    fn load(&mut self) {
        let path = self.shared.rollup.clone();
        self.loading = Some(spawn_blocking(move || rollup::newest(&database::reader(&path)?)));
    }

    async fn advance(&mut self) -> Result<FollowEvent, FeedError> {
        loop {
            // Marked as seen before the look, so that no change after it is missed.
            self.changed.borrow_and_update();
            drop(self.shared.recent.look()?);
            if !self.untold.is_empty() {
                let start = self.untold.len().saturating_sub(RECORDS_PER_EVENT);
                return Ok(FollowEvent::Records(self.untold.drain(start..).rev().collect()));
            }
            if let Some(loading) = &mut self.loading {
                let loaded = loading.await;
                self.loading = None;
                let loaded = loaded.map_err(broken)?;
                let (next_commit, newest) =
                    loaded.map_err(|error| broken(self.shared.recent.stop(rollup::FILE, &error)))?;
                self.take_loaded(next_commit, newest);
            } else if !self.told_caught_up {
                self.told_caught_up = true;
                return Ok(FollowEvent::CaughtUp);
            } else if !self.take_commits()? {
                // The sender lives in `shared`, so it can't be gone.
                let _ = self.changed.changed().await;
            }
        }
    }

    /// Takes what was committed since the cursor, newest of each room only.
    fn take_loaded(&mut self, next_commit: u64, newest: Vec<NewestOfRoom>) {
        let mut forgotten = std::mem::take(&mut self.known);
        for NewestOfRoom { room, commit, value, .. } in newest {
            forgotten.remove(&room);
            self.known.insert(room.clone());
            if commit >= self.cursor {
                self.untold.push(FollowedRecord { room, value: Some(value) });
            }
        }
        self.untold.extend(forgotten.into_iter().map(|room| FollowedRecord { room, value: None }));
        self.cursor = next_commit;
    }

    /// Takes the commits in memory, or begins to load. `false` when there is nothing new.
    fn take_commits(&mut self) -> Result<bool, FeedError> {
        let commits = self.shared.recent.look()?.commits.from(self.cursor, READ_BYTES);
        let Some(commits) = commits else {
            tracing::debug!(cursor = self.cursor, "a follower lags and loads the newest of each room");
            self.load();
            return Ok(true);
        };
        self.cursor += commits.len() as u64;
        for record in commits.iter().flat_map(|commit| commit.iter()) {
            match record.value {
                Some(_) => self.known.insert(record.room.clone()),
                None => self.known.remove(&record.room),
            };
            self.untold.push(record.clone());
        }
        self.untold.reverse();
        Ok(!commits.is_empty())
    }
}

impl Follower for EmbeddedFollower {
    fn next(&mut self) -> BoxFuture<'_, Result<FollowEvent, FeedError>> {
        Box::pin(self.advance())
    }
}
