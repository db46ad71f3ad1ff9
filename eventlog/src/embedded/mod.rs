//! The adapter for the embedded log: durable, for one process, in one folder with two SQLite files.
//!
//! - `folder` makes, locks and opens it; `database` is one file: its settings and what its errors mean. `reactions` and
//!   `rollup` hold the SQL of the two files.
//! - `append_thread` and `commit_thread` write, each to one file, each as a `worker` with a bounded queue. `checkpoint` is a third
//!   thread, which copies what they wrote from the WALs into the files.
//! - `writer`, `membership`, `follower`, `windows` and `control` are the port's handles. `archive` reads all once, for auditors, also beside a running
//!   process.
//! - `recent` is shared by the threads and the readers: the newest groups and commits (`ring`), so that a reader that keeps
//!   up never touches the disk.
//!
//! Why an acknowledged record is kept: `append` resolves after its transaction was synced (`synchronous=FULL`); the names of the files
//! were synced with their folders before. A commit writes aggregates and offsets in one transaction. Records are synced before they
//! can be committed, so `reactions.db` reaches at least as far as `rollup.db` says, and what is not committed is read again.

mod append_thread;
mod archive;
mod checkpoint;
mod commit_thread;
mod control;
mod database;
mod folder;
mod follower;
mod membership;
mod reactions;
mod recent;
mod ring;
mod rollup;
#[cfg(test)]
mod tests;
mod windows;
mod worker;
mod writer;

pub(crate) use archive::EmbeddedArchive;

use crate::{
    BoxFuture, ControlPut, ControlReader, ControlRecord, EmbeddedConfig, EventLog, Feed, FeedError, Follower,
    OpenError, PutError, WindowArchive, Writer,
};
use append_thread::AppendThread;
use checkpoint::{Checkpoint, Checkpointer, Wal};
use commit_thread::CommitThread;
use folder::{Lock, OpenFile, Opened};
use recent::Recent;
use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::broadcast;
use worker::Worker;

/// Milliseconds since the epoch.
type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// There is one feed, and it has one commit under way: more than this wait only while feeds are opened all the time.
const COMMITS_QUEUED_MAX: usize = 16;

/// What an order may wait for the commit thread and the disk.
const PUT_WITHIN: Duration = Duration::from_secs(15);

/// What readers say of a log that can't be read.
fn broken(error: impl std::fmt::Display) -> FeedError {
    FeedError::Reopen(format!("the embedded log can't be read: {error}"))
}

/// The embedded log.
pub(crate) struct EmbeddedLog {
    partitions: u32,
    /// How long windows are kept; 0: not at all.
    history_ms: u64,
    shared: Arc<Shared>,
}

/// State that all parts of the log share. The last part closes the files. Fields are dropped in this order: threads end before the
/// lock goes.
struct Shared {
    recent: Arc<Recent>,
    /// Each order, as soon as it is synced.
    control: broadcast::Sender<ControlRecord>,
    /// Of `reactions.db` and `rollup.db`, for those who read them.
    reactions: PathBuf,
    rollup: PathBuf,
    /// Bytes of the appends that wait for the disk.
    queued_bytes: Arc<AtomicUsize>,
    appends: Worker<append_thread::Job>,
    commits: Worker<commit_thread::Job>,
    _checkpointer: Checkpointer,
    _lock: Lock,
}

impl EmbeddedLog {
    /// Opens the log, or makes it. It has as many partitions as it was made with; others are refused.
    /// It keeps windows for `history_ms`; 0: not at all.
    pub(crate) async fn open(
        config: &EmbeddedConfig,
        partitions: u32,
        history_ms: u64,
    ) -> Result<Self, OpenError> {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        Self::open_with(config, partitions, history_ms, Arc::new(now), checkpoint::EVERY).await
    }

    async fn open_with(
        config: &EmbeddedConfig,
        partitions: u32,
        history_ms: u64,
        clock: Clock,
        checkpoint_every: Duration,
    ) -> Result<Self, OpenError> {
        let config = config.clone();
        let opened = tokio::task::spawn_blocking(move || {
            Self::start(folder::open(&config, partitions)?, &config, history_ms, clock, checkpoint_every)
        });
        opened.await.map_err(|error| OpenError::Invalid(error.to_string()))?
    }

    fn start(
        opened: Opened,
        config: &EmbeddedConfig,
        history_ms: u64,
        clock: Clock,
        checkpoint_every: Duration,
    ) -> Result<Self, OpenError> {
        let Opened { reactions, rollup, ends, committed, lock } = opened;
        let partitions = ends.len() as u32;
        let recent =
            Recent::new(config.dir.clone(), ends.clone(), committed.offsets.clone(), committed.next_commit);
        let (recent, queued_bytes) = (Arc::new(recent), Arc::<AtomicUsize>::default());
        let (of_reactions, of_rollup) = (Arc::<Wal>::default(), Arc::<Wal>::default());
        let (control, _) = broadcast::channel(control::QUEUED_MAX);
        let appends = AppendThread {
            recent: Arc::clone(&recent),
            wal: Arc::clone(&of_reactions),
            queued_bytes: Arc::clone(&queued_bytes),
            clock: Arc::clone(&clock),
            retention_ms: config.retention_ms,
            ends,
            looked_at: None,
        };
        let commits = CommitThread {
            recent: Arc::clone(&recent),
            wal: Arc::clone(&of_rollup),
            clock,
            history_ms,
            committed,
            last_member: 0,
            control: control.clone(),
        };
        let paths = (reactions.database.path.clone(), rollup.database.path.clone());
        let checkpoint = |name, OpenFile { database, conn }, wal| {
            let path = database.path.clone();
            let checkpoint = Checkpoint::new(name, database, wal);
            let checkpoint = checkpoint.map_err(|error| folder::open_error(&path, &error))?;
            Ok::<_, OpenError>((checkpoint, conn))
        };
        let (of_reactions, appending) = checkpoint(reactions::FILE, reactions, of_reactions)?;
        let (of_rollup, committing) = checkpoint(rollup::FILE, rollup, of_rollup)?;
        let checkpointer =
            Checkpointer::start(vec![of_reactions, of_rollup], Arc::clone(&recent), checkpoint_every)?;
        let appends =
            Worker::start("log-appends", config.max_queued, move |jobs| appends.run(&appending, jobs))?;
        let commits =
            Worker::start("log-commits", COMMITS_QUEUED_MAX, move |jobs| commits.run(&committing, jobs))?;
        let shared = Arc::new(Shared {
            recent,
            control,
            reactions: paths.0,
            rollup: paths.1,
            queued_bytes,
            appends,
            commits,
            _checkpointer: checkpointer,
            _lock: lock,
        });
        Ok(Self { partitions, history_ms, shared })
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
        Box::pin(membership::open(&self.shared))
    }

    fn follower(&self) -> BoxFuture<'_, Result<Box<dyn Follower>, OpenError>> {
        Box::pin(async {
            match self.shared.recent.stopped() {
                Some(stopped) => Err(stopped.open_error()),
                None => Ok(Box::new(follower::EmbeddedFollower::open(&self.shared)) as Box<dyn Follower>),
            }
        })
    }

    fn keeps_windows(&self) -> bool {
        self.history_ms > 0
    }

    fn archive(&self) -> BoxFuture<'_, Result<Option<Arc<dyn WindowArchive>>, OpenError>> {
        Box::pin(async {
            let windows = self.keeps_windows().then(|| windows::EmbeddedWindows::new(&self.shared));
            Ok(windows.map(|windows| Arc::new(windows) as Arc<dyn WindowArchive>))
        })
    }

    fn control(&self) -> BoxFuture<'_, Result<Box<dyn ControlReader>, OpenError>> {
        Box::pin(async {
            Ok(Box::new(control::EmbeddedControlReader::open(&self.shared)) as Box<dyn ControlReader>)
        })
    }

    fn put_control(&self, put: ControlPut) -> BoxFuture<'_, Result<u64, PutError>> {
        Box::pin(async {
            let asked = self.shared.commits.ask(|answer| commit_thread::Job::Put { put, answer });
            match tokio::time::timeout(PUT_WITHIN, asked).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(why)) => Err(PutError::Unknown(why)),
                Err(_) => Err(PutError::Unknown("the disk does not answer".into())),
            }
        })
    }
}
