//! The adapter for the embedded log: durable, for one process, in one folder.
//!
//! - `folder` opens it. `journal` keeps the reactions, a `row` for each group commit; `store` the aggregates and
//!   what is committed (redb): in `blocks`, a `block` for many aggregates, of which `live` knows what is needed. `upgrade` knows older
//!   formats.
//! - `appends` and `commits` are the two threads that write, a `worker` each: to the journal, and to the store. `writer` and `feed`
//!   hand them jobs through bounded queues; `feed` and `follower` read.
//! - `history` reads all once, for auditors, through `overlay`, which keeps writes from it.
//! - `tail` is what the threads share with readers: the newest groups and commits (`ring`, `pack`), so that a reader that keeps
//!   up never touches the disk.
//!
//! Why an acknowledged record is kept: `append` resolves after its frame was synced (`fdatasync`, which also syncs the
//! file's length); the names of files were synced with their folders before. A commit writes aggregates and offsets in one
//! transaction of redb, which is synced too. Records are in the journal before they can be committed, so the journal
//! reaches at least as far as the commits, and what is not committed is read again.

mod appends;
mod block;
mod blocks;
mod commits;
mod feed;
mod folder;
mod follower;
mod history;
mod journal;
mod live;
mod overlay;
mod pack;
mod ring;
mod row;
mod store;
mod tail;
#[cfg(test)]
mod tests;
mod upgrade;
mod worker;
mod writer;

pub(crate) use history::EmbeddedHistory;

use crate::{BoxFuture, EmbeddedConfig, EventLog, Feed, FeedError, Follower, OpenError, Writer};
use appends::Appends;
use commits::Commits;
use folder::Opened;
use journal::{Medium, Shelf};
use pack::Pack;
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use store::Store;
use tail::Tail;
use worker::Worker;

/// Milliseconds since the epoch.
type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// There is one feed, and it has one commit under way: more than this wait only while feeds are opened all the time.
const COMMITS_QUEUED_MAX: usize = 16;

/// What readers say of a log that can't be read.
fn broken(error: impl std::fmt::Display) -> FeedError {
    FeedError::Reopen(format!("the embedded log can't be read: {error}"))
}

/// The embedded log.
pub(crate) struct EmbeddedLog {
    partitions: u32,
    shared: Arc<Shared>,
}

/// What all parts of the log hold. The last of them closes the file.
struct Shared {
    store: Arc<Store>,
    shelf: Arc<Shelf>,
    tail: Arc<Tail>,
    appends: Worker<appends::Job>,
    commits: Worker<commits::Job>,
}

impl EmbeddedLog {
    /// Opens the log, or makes it. It has as many partitions as it was made with; others are refused.
    pub(crate) async fn open(config: &EmbeddedConfig, partitions: u32) -> Result<Self, OpenError> {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        Self::open_with(config, partitions, Arc::new(now), Medium::default()).await
    }

    async fn open_with(
        config: &EmbeddedConfig,
        partitions: u32,
        clock: Clock,
        medium: Medium,
    ) -> Result<Self, OpenError> {
        let folder = config.clone();
        let opened = tokio::task::spawn_blocking(move || folder::open(&folder, partitions, medium)).await;
        Self::start(opened.map_err(|error| OpenError::Invalid(error.to_string()))??, config, clock)
    }

    fn start(opened: Opened, config: &EmbeddedConfig, clock: Clock) -> Result<Self, OpenError> {
        let Opened { store, committed, journal } = opened;
        let (store, shelf, partitions) =
            (Arc::new(store), Arc::clone(journal.shelf()), committed.offsets.len() as u32);
        let tail = Arc::new(Tail::new(journal.end().group, committed.next_commit));
        let commits = Commits {
            store: Arc::clone(&store),
            tail: Arc::clone(&tail),
            shelf: Arc::clone(&shelf),
            committed,
            clock: Arc::clone(&clock),
            retention_ms: config.retention_ms,
            last_member: 0,
        };
        let appends = Appends { tail: Arc::clone(&tail), journal, clock, pack: Pack::default() };
        let appends = Worker::start("log-appends", config.max_queued, |jobs| appends.run(jobs))?;
        let commits = Worker::start("log-commits", COMMITS_QUEUED_MAX, |jobs| commits.run(jobs))?;
        let shared = Arc::new(Shared { store, shelf, tail, appends, commits });
        Ok(Self { partitions, shared })
    }
}

impl EventLog for EmbeddedLog {
    fn writer(&self) -> BoxFuture<'_, Result<Arc<dyn Writer>, OpenError>> {
        Box::pin(async {
            let writer =
                writer::EmbeddedWriter { shared: Arc::clone(&self.shared), partitions: self.partitions };
            Ok(Arc::new(writer) as Arc<dyn Writer>)
        })
    }

    fn feed(&self) -> BoxFuture<'_, Result<Feed, OpenError>> {
        Box::pin(feed::open(&self.shared))
    }

    fn follower(&self) -> BoxFuture<'_, Result<Box<dyn Follower>, OpenError>> {
        Box::pin(async {
            match self.shared.tail.stopped() {
                Some(why) => Err(OpenError::Invalid(why)),
                None => Ok(Box::new(follower::EmbeddedFollower::open(&self.shared)) as Box<dyn Follower>),
            }
        })
    }
}
