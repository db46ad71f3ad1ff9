//! Cases: a disk that stalls or fails.

use super::*;
use crate::{Append, AppendError, CommitError};
use futures_util::FutureExt;
use journal::{Journal, Mark};
use redb::{Database, StorageBackend, backends::InMemoryBackend};
use std::{
    io,
    sync::{Condvar, OnceLock},
};

/// A disk whose syncs can be held up or made to fail.
#[derive(Debug, Clone, Default)]
struct Disk {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    memory: InMemoryBackend,
    segments: OnceLock<TempDir>,
    mood: Mutex<Mood>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Mood {
    held: bool,
    fails: bool,
    /// Syncs that were begun.
    syncs: usize,
}

impl Disk {
    fn set(&self, set: impl FnOnce(&mut Mood)) {
        set(&mut self.inner.mood.lock().unwrap());
        self.inner.changed.notify_all();
    }

    fn syncs(&self) -> usize {
        self.inner.mood.lock().unwrap().syncs
    }

    /// Waits until a sync is under way that was not when there were `before` of them.
    async fn until_syncing(&self, before: usize) {
        within(async {
            while self.syncs() <= before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    /// A log whose files are all on this disk.
    fn log(&self, max_queued: usize) -> EmbeddedLog {
        self.log_beside(self, max_queued)
    }

    /// A log with its reactions on this disk, and its aggregates on another.
    fn log_beside(&self, aggregates: &Self, max_queued: usize) -> EmbeddedLog {
        let db = Database::builder().create_with_backend(aggregates.clone()).unwrap();
        let (store, committed) = Store::prepare(db, 1).unwrap();
        let disk = self.clone();
        let medium = Medium { sync: Arc::new(move |_| disk.sync_data()), ..Medium::default() };
        let segments = self.inner.segments.get_or_init(|| TempDir::new().unwrap());
        let journal = Journal::create(segments.path(), Mark::zero(1), medium).unwrap();
        let config = EmbeddedConfig { dir: "unused".into(), retention_ms: 1_000, cache_mib: 1, max_queued };
        EmbeddedLog::start(Opened { store, committed, journal }, &config, Arc::new(|| 1)).unwrap()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        self.inner.memory.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.inner.memory.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.inner.memory.set_len(len)
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.inner.memory.write(offset, data)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        let mut mood = self.inner.mood.lock().unwrap();
        mood.syncs += 1;
        while mood.held {
            mood = self.inner.changed.wait(mood).unwrap();
        }
        if mood.fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

#[tokio::test]
async fn an_append_and_a_commit_wait_for_the_sync() {
    let disk = Disk::default();
    let log = disk.log(10);
    let reader = Reader::open(&log).await;
    let writer = log.writer().await.unwrap();

    disk.set(|mood| mood.held = true);
    let before = disk.syncs();
    let mut append = writer.append(0, "tap".into());
    disk.until_syncing(before).await;
    assert!((&mut append).now_or_never().is_none(), "acknowledged before the sync");
    writer.flush(Duration::from_millis(20)).await;
    assert!((&mut append).now_or_never().is_none(), "acknowledged before the sync");
    disk.set(|mood| mood.held = false);
    within(append).await.unwrap();

    disk.set(|mood| mood.held = true);
    let before = disk.syncs();
    let mut commit = reader.committer.commit(vec![reader.cut(0, 1)]);
    assert!((&mut commit).now_or_never().is_none());
    disk.until_syncing(before).await;
    assert!((&mut commit).now_or_never().is_none(), "committed before the sync");
    disk.set(|mood| mood.held = false);
    within(commit).await.unwrap();
}

#[tokio::test]
async fn an_append_does_not_wait_for_a_commit() {
    let (disk, slow) = (Disk::default(), Disk::default());
    let log = disk.log_beside(&slow, 10);
    append(&log, 0, "first").await;
    let mut reader = Reader::open(&log).await;

    slow.set(|mood| mood.held = true);
    let before = slow.syncs();
    let committer = Arc::clone(&reader.committer);
    let mut commit = committer.commit(vec![reader.cut(0, 1)]);
    assert!((&mut commit).now_or_never().is_none());
    slow.until_syncing(before).await;
    within(append(&log, 0, "second")).await;
    reader.catch_up().await;
    assert_eq!(reader.values(), ["first", "second"], "readers go on meanwhile too");
    assert!((&mut commit).now_or_never().is_none(), "committed before the sync");
    slow.set(|mood| mood.held = false);
    within(commit).await.unwrap();
    reader.committer.commit(vec![reader.cut(0, 2)]).await.unwrap();
}

#[tokio::test]
async fn appends_that_wait_for_the_disk_become_one_group_and_those_above_the_bound_are_refused() {
    let disk = Disk::default();
    let log = disk.log(10);
    let writer = log.writer().await.unwrap();
    disk.set(|mood| mood.held = true);
    let before = disk.syncs();
    let first = writer.append(0, "first".into());
    disk.until_syncing(before).await;
    let queued: Vec<_> = (0..10).map(|_| writer.append(0, "queued".into())).collect();
    let refused = writer.append(0, "refused".into()).await;
    assert!(matches!(refused, Err(AppendError::NotWritten(_))), "{refused:?}");
    disk.set(|mood| mood.held = false);
    within(first).await.unwrap();
    for append in queued {
        within(append).await.unwrap();
    }
    let groups = journal::Reader::new(Arc::clone(&log.shared.shelf), 0).read(usize::MAX).unwrap();
    let sizes: Vec<_> = groups.iter().map(|(_, group)| group.parts[0].records.len()).collect();
    assert_eq!(sizes, [1, 10]);
}

#[tokio::test]
async fn records_that_are_handed_over_together_are_one_group_unless_it_would_be_long() {
    let log = Disk::default().log(10);
    let writer = log.writer().await.unwrap();
    let append = |value: Vec<u8>| Append { partition: 0, value: value.into(), done: Box::new(|_| {}) };
    for _ in 0..5 {
        writer.send((0..3).map(|n| append(vec![n])).collect());
        writer.flush(Duration::from_secs(30)).await;
    }
    writer.send((0..3).map(|_| append(vec![0; 3 << 20])).collect());
    writer.flush(Duration::from_secs(30)).await;
    let groups = journal::Reader::new(Arc::clone(&log.shared.shelf), 0).read(usize::MAX).unwrap();
    let sizes: Vec<_> = groups.iter().map(|(_, group)| group.parts[0].records.len()).collect();
    assert_eq!(sizes, [3, 3, 3, 3, 3, 2, 1]);
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_acknowledged_any_more() {
    let disk = Disk::default();
    let log = disk.log(10);
    append(&log, 0, "kept").await;
    let (mut reader, mut follower) = (Reader::open(&log).await, log.follower().await.unwrap());
    let writer = log.writer().await.unwrap();

    disk.set(|mood| mood.held = true);
    let before = disk.syncs();
    let in_flight = writer.append(0, "in flight".into());
    disk.until_syncing(before).await;
    let queued = writer.append(0, "queued".into());
    disk.set(|mood| *mood = Mood { fails: true, ..Mood::default() });
    let in_flight = within(in_flight).await;
    assert!(matches!(in_flight, Err(AppendError::Unknown(_))), "{in_flight:?}");
    // The disk is well again, which changes nothing.
    disk.set(|mood| mood.fails = false);
    for late in [queued, writer.append(0, "late".into())] {
        let late = within(late).await;
        assert!(matches!(late, Err(AppendError::NotWritten(_))), "{late:?}");
    }
    let refused = within(reader.committer.commit(vec![reader.cut(0, 1)])).await;
    assert!(matches!(refused, Err(CommitError::Reopen(_))), "{refused:?}");
    assert!(within(reader.events.next()).await.is_err());
    assert!(within(follower.next()).await.is_err());
    assert!(matches!(log.feed().await.err(), Some(OpenError::Invalid(_))));
    assert!(matches!(log.follower().await.err(), Some(OpenError::Invalid(_))));
}

#[tokio::test]
async fn a_failed_commit_is_unknown_and_stops_the_log() {
    let disk = Disk::default();
    let log = disk.log(10);
    append(&log, 0, "kept").await;
    let reader = Reader::open(&log).await;
    disk.set(|mood| mood.fails = true);
    let lost = within(reader.committer.commit(vec![reader.cut(0, 1)])).await;
    assert!(matches!(lost, Err(CommitError::Reopen(_))), "{lost:?}");
    let late = log.writer().await.unwrap().append(0, "late".into()).await;
    assert!(matches!(late, Err(AppendError::NotWritten(_))), "{late:?}");
}

#[tokio::test]
async fn what_is_queued_when_the_log_is_dropped_is_still_written() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(&config(&dir), 1).await.unwrap();
    let writer = log.writer().await.unwrap();
    let appends: Vec<_> = (0..100).map(|_| writer.append(0, "tap".into())).collect();
    drop((log, writer));
    for append in appends {
        append.now_or_never().expect("an answer by the time of the drop").unwrap();
    }
    let log = EmbeddedLog::open(&config(&dir), 1).await.unwrap();
    assert_eq!(Reader::open(&log).await.values().len(), 100);
}
