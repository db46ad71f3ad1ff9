//! Cases of the embedded log alone. What every log does is tested by the conformance suite.

mod archive;
mod checkpoints;
mod disks;
mod faults;
mod model;
mod opening;
mod power;
mod tails;
mod trimming;
mod windows;

use super::*;
use crate::{
    Committer, Cut, FeedEvent, FeedEvents, Record,
    conformance::{self, LogFactory},
};
use bytes::Bytes;
use rusqlite::Connection;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use wire::RoomName;

fn config(dir: &TempDir) -> EmbeddedConfig {
    EmbeddedConfig { dir: dir.path().into(), retention_ms: 10_000, cache_mib: 16, max_queued: 10_000 }
}

/// How long windows are kept.
const HISTORY_MS: u64 = 3_600_000;

/// No checkpoint during a test, except where it asks for one.
const NO_CHECKPOINT: Duration = Duration::from_secs(3_600);

/// A connection to a file of a log, as somebody beside it has one.
fn beside(dir: &Path, file: &str) -> Connection {
    let conn = Connection::open(dir.join(file)).unwrap();
    conn.busy_timeout(Duration::from_secs(10)).unwrap();
    conn
}

/// A copy of the folder as it is now. Another process copies: where this one opened and closed a file, SQLite would lose its locks.
fn copy_of(dir: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    let status = Command::new("cp").arg("-a").arg(dir.join(".")).arg(copy.path()).status().unwrap();
    assert!(status.success(), "{status}");
    copy
}

/// A clock whose hand is set by the test.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn set(&self, now_ms: u64) {
        self.0.store(now_ms, Ordering::Relaxed);
    }

    fn clock(&self) -> Clock {
        let hand = Arc::clone(&self.0);
        Arc::new(move || hand.load(Ordering::Relaxed))
    }
}

fn room(name: &str) -> RoomName {
    name.parse().unwrap()
}

/// A log with a clock of its own.
async fn open_at(dir: &TempDir, partitions: u32, hand: &Hand) -> EmbeddedLog {
    EmbeddedLog::open_with(&config(dir), partitions, HISTORY_MS, hand.clock(), NO_CHECKPOINT).await.unwrap()
}

async fn append(log: &EmbeddedLog, partition: u32, value: impl Into<Bytes>) {
    log.writer().await.unwrap().append(partition, value.into()).await.unwrap();
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("an answer in time")
}

/// A feed, with all that it gave.
struct Reader {
    events: Box<dyn FeedEvents>,
    committer: Arc<dyn Committer>,
    epoch: u64,
    starts: BTreeMap<u32, u64>,
    records: BTreeMap<u32, Vec<Record>>,
    /// Partitions that were read to their ends.
    ended: BTreeSet<u32>,
}

impl Reader {
    /// Reads all there is.
    async fn open(log: &EmbeddedLog) -> Self {
        let Feed { events, committer } = log.feed().await.unwrap();
        let (starts, records, ended) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut reader = Self { events, committer, epoch: 0, starts, records, ended };
        reader.catch_up().await;
        reader
    }

    /// Reads one event at least, and then until all partitions have said that this was all.
    async fn catch_up(&mut self) {
        loop {
            match within(self.events.next()).await.unwrap() {
                FeedEvent::Assigned { partition, epoch, next_offset, .. } => {
                    self.starts.insert(partition, next_offset);
                    self.epoch = epoch;
                }
                FeedEvent::Records { partition, records } => {
                    self.ended.remove(&partition);
                    self.records.entry(partition).or_default().extend(records);
                }
                FeedEvent::CaughtUp { partition, .. } => {
                    self.ended.insert(partition);
                    if self.ended.len() == self.starts.len() {
                        return;
                    }
                }
                FeedEvent::Joined => {}
                FeedEvent::Revoked { partition } => panic!("partition {partition} was revoked"),
            }
        }
    }

    fn values(&self) -> Vec<Bytes> {
        self.records.values().flatten().map(|record| record.value.clone()).collect()
    }

    fn cut(&self, partition: u32, next_offset: u64) -> Cut {
        Cut { partition, epoch: self.epoch, next_offset, aggregates: Vec::new(), windows: Vec::new() }
    }

    /// Commits all that was read.
    async fn commit_all(&self) {
        let cuts = self
            .records
            .iter()
            .filter_map(|(partition, records)| Some(self.cut(*partition, records.last()?.offset + 1)));
        self.committer.commit(cuts.collect()).await.unwrap();
    }
}

/// Each log in a folder of its own.
#[derive(Default)]
struct InFolders {
    dirs: Mutex<Vec<TempDir>>,
}

impl InFolders {
    async fn open_newest(&self) -> Arc<dyn EventLog> {
        let config = config(self.dirs.lock().unwrap().last().unwrap());
        Arc::new(EmbeddedLog::open(&config, self.partitions(), HISTORY_MS).await.unwrap())
    }
}

impl LogFactory for InFolders {
    fn partitions(&self) -> u32 {
        3
    }
    fn open(&self) -> BoxFuture<'_, Arc<dyn EventLog>> {
        self.dirs.lock().unwrap().push(TempDir::new().unwrap());
        Box::pin(self.open_newest())
    }
    fn reopen(&self, log: Arc<dyn EventLog>) -> BoxFuture<'_, Arc<dyn EventLog>> {
        drop(log);
        Box::pin(self.open_newest())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    conformance::run(&InFolders::default()).await;
    conformance::run_control(&InFolders::default()).await;
}

#[tokio::test]
async fn a_clock_that_was_ahead_once_stamps_no_later_record() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = open_at(&dir, 1, &hand).await;
    hand.set(5_000);
    append(&log, 0, "1").await;
    hand.set(3_000);
    append(&log, 0, "2").await;
    drop(log);
    let log = open_at(&dir, 1, &hand).await;
    append(&log, 0, "3").await;
    let stamps: Vec<_> = Reader::open(&log).await.records[&0].iter().map(|r| r.timestamp_ms).collect();
    assert_eq!(stamps, [5_000, 3_000, 3_000]);
}

#[tokio::test]
async fn a_cut_that_no_window_can_have_is_refused() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(&config(&dir), 1, HISTORY_MS).await.unwrap();
    for _ in 0..4 {
        append(&log, 0, "tap").await;
    }
    let reader = Reader::open(&log).await;
    reader.committer.commit(vec![reader.cut(0, 1), reader.cut(0, 3)]).await.unwrap();
    for cuts in [vec![5], vec![2], vec![4, 3]] {
        let cuts = cuts.into_iter().map(|next_offset| reader.cut(0, next_offset)).collect();
        let refused = reader.committer.commit(cuts).await;
        assert!(matches!(refused, Err(crate::CommitError::Reopen(_))), "{refused:?}");
    }
    drop(reader);
    assert_eq!(Reader::open(&log).await.starts[&0], 3);
}

#[tokio::test]
async fn a_newer_feed_takes_the_place_of_the_one_before() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(&config(&dir), 1, HISTORY_MS).await.unwrap();
    append(&log, 0, "tap").await;
    let mut old = Reader::open(&log).await;
    let new = Reader::open(&log).await;
    assert!(within(old.events.next()).await.is_err());
    let refused = old.committer.commit(vec![old.cut(0, 1)]).await;
    assert!(matches!(refused, Err(crate::CommitError::Reopen(_))), "{refused:?}");
    // That the old one goes does not touch the new one.
    drop(old);
    new.committer.commit(vec![new.cut(0, 1)]).await.unwrap();
}
