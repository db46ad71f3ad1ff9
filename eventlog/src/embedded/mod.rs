//! The adapter for the embedded log: durable, for one process, in one folder.
//!
//! - `folder` opens it. `journal` keeps the reactions, a `row` for each group commit; `store` the aggregates and what is
//!   committed (redb). `upgrade` knows older formats.
//! - `thread` does all writing. `writer`, `feed` and `follower` hand it jobs through one bounded queue.
//! - `history` reads all once, for auditors, through `overlay`, which keeps writes from it.
//! - `tail` is what the thread shares with readers: the newest groups and commits (`ring`), so that a reader that keeps
//!   up never touches the disk.
//!
//! Why an acknowledged record is kept: `append` resolves after its frame was synced (`fdatasync`, which also syncs the
//! file's length); the names of files were synced with their folders before. A commit writes aggregates and offsets in one
//! transaction of redb, which is synced too. Records are in the journal before they can be committed, so the journal
//! reaches at least as far as the commits, and what is not committed is read again.

mod feed;
mod folder;
mod follower;
mod history;
mod journal;
mod overlay;
mod ring;
mod row;
mod store;
mod tail;
#[cfg(test)]
mod tests;
mod thread;
mod upgrade;
mod writer;

pub(crate) use history::EmbeddedHistory;

use crate::{BoxFuture, EmbeddedConfig, EventLog, Feed, Follower, OpenError, Writer};
use folder::Opened;
use journal::{Medium, Shelf};
use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{SystemTime, UNIX_EPOCH},
};
use store::Store;
use tail::Tail;
use thread::{Job, Thread};
use tokio::sync::{mpsc, oneshot};

/// Milliseconds since the epoch.
type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

const GONE: &str = "the embedded log's thread is gone";

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
    /// Both are there until the drop.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
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
        let (jobs, queue) = mpsc::channel(config.max_queued);
        let thread = Thread {
            store: Arc::clone(&store),
            tail: Arc::clone(&tail),
            journal,
            committed,
            clock,
            retention_ms: config.retention_ms,
            last_member: 0,
        };
        let thread = std::thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || thread.run(queue))
            .map_err(|error| OpenError::Unavailable(format!("can't start a thread: {error}")))?;
        let shared = Arc::new(Shared { store, shelf, tail, jobs: Some(jobs), thread: Some(thread) });
        Ok(Self { partitions, shared })
    }
}

impl Shared {
    fn jobs(&self) -> Result<&mpsc::Sender<Job>, String> {
        self.jobs.as_ref().ok_or_else(|| GONE.to_owned())
    }

    /// Has the thread do a job, after those that are in the queue.
    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, String> {
        let (answer, answered) = oneshot::channel();
        self.jobs()?.send(job(answer)).await.map_err(|_| GONE.to_owned())?;
        answered.await.map_err(|_| GONE.to_owned())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The thread writes what is queued and ends; the file is closed cleanly and its lock is free after this.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
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
