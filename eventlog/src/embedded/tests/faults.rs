//! Cases: a disk that stalls, and transactions that fail. Somebody beside the log, with a connection to its file, brings them about.

use super::*;
use crate::{Append, AppendError, CommitError};
use futures_util::FutureExt;

async fn open_log(dir: &TempDir, max_queued: usize) -> EmbeddedLog {
    let config = EmbeddedConfig { max_queued, ..config(dir) };
    EmbeddedLog::open(&config, 1, HISTORY_MS).await.unwrap()
}

/// Holds up every transaction of a file for as long as it lives.
struct Held(Connection);

impl Held {
    fn new(dir: &TempDir, file: &str) -> Self {
        let conn = beside(dir.path(), file);
        conn.execute_batch("begin immediate").unwrap();
        Self(conn)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.execute_batch("rollback").unwrap();
    }
}

/// Makes every transaction fail that writes a row to `table`: at its commit, or before.
fn plant(dir: &TempDir, file: &str, table: &str, at_commit: bool) {
    let action =
        if at_commit { "insert into planted_child values (1)" } else { "select raise(abort, 'planted')" };
    beside(dir.path(), file)
        .execute_batch(&format!(
            "create table planted (id integer primary key);
             create table planted_child (id integer references planted deferrable initially deferred);
             create trigger planted_trigger before insert on {table} begin {action}; end;"
        ))
        .unwrap();
}

async fn until_queue_is_taken(log: &EmbeddedLog) {
    within(async {
        while log.shared.queued_bytes.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// How many records were synced together, by group.
fn group_sizes(log: &EmbeddedLog) -> Vec<usize> {
    let groups = log.shared.recent.look().unwrap().groups.from(0, usize::MAX).unwrap();
    groups.iter().map(|group| group.len()).collect()
}

#[tokio::test]
async fn an_append_and_a_commit_wait_for_the_disk() {
    let dir = TempDir::new().unwrap();
    let log = open_log(&dir, 10).await;
    let reader = Reader::open(&log).await;
    let writer = log.writer().await.unwrap();

    let held = Held::new(&dir, reactions::FILE);
    let mut append = writer.append(0, "tap".into());
    until_queue_is_taken(&log).await;
    writer.flush(Duration::from_millis(50)).await;
    assert!((&mut append).now_or_never().is_none(), "acknowledged before it was written");
    drop(held);
    within(append).await.unwrap();

    let held = Held::new(&dir, rollup::FILE);
    let mut commit = reader.committer.commit(vec![reader.cut(0, 1)]);
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut commit).await.is_err());
    drop(held);
    within(commit).await.unwrap();
}

#[tokio::test]
async fn an_append_does_not_wait_for_a_commit() {
    let dir = TempDir::new().unwrap();
    let log = open_log(&dir, 10).await;
    append(&log, 0, "first").await;
    let mut reader = Reader::open(&log).await;

    let held = Held::new(&dir, rollup::FILE);
    let committer = Arc::clone(&reader.committer);
    let mut commit = committer.commit(vec![reader.cut(0, 1)]);
    assert!((&mut commit).now_or_never().is_none());
    within(append(&log, 0, "second")).await;
    reader.catch_up().await;
    assert_eq!(reader.values(), ["first", "second"], "readers go on meanwhile too");
    assert!((&mut commit).now_or_never().is_none(), "committed before it was written");
    drop(held);
    within(commit).await.unwrap();
    reader.committer.commit(vec![reader.cut(0, 2)]).await.unwrap();
}

#[tokio::test]
async fn appends_that_wait_for_the_disk_become_one_group_and_those_above_the_bound_are_refused() {
    let dir = TempDir::new().unwrap();
    let log = open_log(&dir, 10).await;
    let writer = log.writer().await.unwrap();
    let held = Held::new(&dir, reactions::FILE);
    let first = writer.append(0, "first".into());
    until_queue_is_taken(&log).await;
    let queued: Vec<_> = (0..10).map(|_| writer.append(0, "queued".into())).collect();
    let refused = writer.append(0, "refused".into()).await;
    assert!(matches!(refused, Err(AppendError::NotWritten(_))), "{refused:?}");
    drop(held);
    within(first).await.unwrap();
    for append in queued {
        within(append).await.unwrap();
    }
    assert_eq!(group_sizes(&log), [1, 10]);
    assert_eq!(log.shared.queued_bytes.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_waits_for_the_disk_is_bounded_in_bytes() {
    let dir = TempDir::new().unwrap();
    let log = open_log(&dir, 1_000).await;
    let writer = log.writer().await.unwrap();
    let held = Held::new(&dir, reactions::FILE);
    let value = Bytes::from(vec![0; 1 << 20]);
    // The thread holds a group of 4 MiB at the most, and the queue 64 MiB.
    let mut appends: Vec<_> = (0..80).map(|_| writer.append(0, value.clone())).collect();
    let refused = appends.iter_mut().filter_map(|append| append.now_or_never()).collect::<Vec<_>>();
    assert!((12..=17).contains(&refused.len()), "{}", refused.len());
    for refused in refused {
        assert!(
            matches!(&refused, Err(AppendError::NotWritten(why)) if why.contains("bytes")),
            "{refused:?}"
        );
    }
    drop(held);
    writer.flush(Duration::from_secs(30)).await;
    within(writer.append(0, value)).await.unwrap();
}

#[tokio::test]
async fn records_that_are_handed_over_together_are_one_group_unless_it_would_be_long() {
    let dir = TempDir::new().unwrap();
    let log = open_log(&dir, 10).await;
    let writer = log.writer().await.unwrap();
    let append = |value: Vec<u8>| Append { partition: 0, value: value.into(), done: Box::new(|_| {}) };
    for _ in 0..5 {
        writer.send((0..3).map(|n| append(vec![n])).collect());
        writer.flush(Duration::from_secs(30)).await;
    }
    writer.send((0..3).map(|_| append(vec![0; 3 << 20])).collect());
    writer.flush(Duration::from_secs(30)).await;
    assert_eq!(group_sizes(&log), [3, 3, 3, 3, 3, 2, 1]);
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_acknowledged_any_more() {
    for at_commit in [false, true] {
        let dir = TempDir::new().unwrap();
        let log = open_log(&dir, 10).await;
        append(&log, 0, "kept").await;
        let (mut reader, mut follower) = (Reader::open(&log).await, log.follower().await.unwrap());
        plant(&dir, reactions::FILE, "reactions", at_commit);
        let writer = log.writer().await.unwrap();
        let failed = within(writer.append(0, "failed".into())).await;
        match failed {
            Err(AppendError::Unknown(_)) => assert!(at_commit),
            Err(AppendError::NotWritten(_)) => assert!(!at_commit),
            Ok(()) => panic!("acknowledged"),
        }
        // The disk is well again, which changes nothing.
        beside(dir.path(), reactions::FILE).execute_batch("drop trigger planted_trigger").unwrap();
        let late = within(writer.append(0, "late".into())).await;
        assert!(
            matches!(&late, Err(AppendError::NotWritten(why)) if why.contains("reactions.db")),
            "{late:?}"
        );
        let refused = within(reader.committer.commit(vec![reader.cut(0, 1)])).await;
        assert!(matches!(refused, Err(CommitError::Reopen(_))), "{refused:?}");
        assert!(within(reader.events.next()).await.is_err());
        assert!(within(follower.next()).await.is_err());
        assert!(matches!(log.feed().await.err(), Some(OpenError::Invalid(_))));
        assert!(matches!(log.follower().await.err(), Some(OpenError::Invalid(_))));
        drop((reader, follower, writer, log));

        let log = open_log(&dir, 10).await;
        assert_eq!(Reader::open(&log).await.values(), ["kept"]);
        append(&log, 0, "later").await;
    }
}

#[tokio::test]
async fn a_failed_commit_is_unknown_and_stops_the_log() {
    for at_commit in [false, true] {
        let dir = TempDir::new().unwrap();
        let log = open_log(&dir, 10).await;
        append(&log, 0, "kept").await;
        let reader = Reader::open(&log).await;
        plant(&dir, rollup::FILE, "committed", at_commit);
        let lost = within(reader.committer.commit(vec![reader.cut(0, 1)])).await;
        assert!(matches!(&lost, Err(CommitError::Reopen(why)) if why.contains("rollup.db")), "{lost:?}");
        let late = log.writer().await.unwrap().append(0, "late".into()).await;
        assert!(matches!(late, Err(AppendError::NotWritten(_))), "{late:?}");
    }
}

/// Overwrites the head of a page in the middle of a file that nobody has open.
fn damage(dir: &Path, file: &str) {
    let path = dir.join(file);
    let mut bytes = std::fs::read(&path).unwrap();
    let page = bytes.len() / 4_096 / 2 * 4_096;
    assert!(page > 20 * 4_096, "{}", bytes.len());
    bytes[page..page + 200].fill(0xa5);
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn records_that_cannot_be_read_end_the_log_with_a_clear_error() {
    let dir = TempDir::new().unwrap();
    let log = open_log(&dir, 10_000).await;
    let writer = log.writer().await.unwrap();
    let value = |n: u32| format!("{n:0900}").into();
    let append = |n: u32| Append { partition: 0, value: value(n), done: Box::new(|_| {}) };
    writer.send((0..400).map(append).collect());
    writer.flush(Duration::from_secs(30)).await;
    drop((writer, log));
    damage(dir.path(), reactions::FILE);

    let log = open_log(&dir, 10).await;
    let mut feed = log.feed().await.unwrap();
    let why = loop {
        match within(feed.events.next()).await {
            Ok(_) => {}
            Err(FeedError::Reopen(why)) => break why,
        }
    };
    assert!(why.contains("reactions.db: database disk image is malformed: bring the whole folder"), "{why}");
    let late = log.writer().await.unwrap().append(0, "late".into()).await;
    assert!(matches!(late, Err(AppendError::NotWritten(_))), "acknowledged and never counted: {late:?}");
    assert!(matches!(log.feed().await.err(), Some(OpenError::Invalid(_))));
}

#[tokio::test]
async fn aggregates_that_cannot_be_read_end_the_log_with_a_clear_error() {
    let dir = TempDir::new().unwrap();
    let log = open_log(&dir, 10).await;
    let reader = Reader::open(&log).await;
    let aggregates = (0..400).map(|n| (room(&format!("room-{n:03}")), Some(vec![b'x'; 900].into())));
    let cut = Cut { aggregates: aggregates.collect(), ..reader.cut(0, 0) };
    reader.committer.commit(vec![cut]).await.unwrap();
    drop((reader, log));
    damage(dir.path(), rollup::FILE);
    let log = open_log(&dir, 10).await;
    match log.feed().await.err() {
        Some(OpenError::Invalid(why)) => {
            assert!(why.contains("rollup.db: database disk image is malformed"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    let late = log.writer().await.unwrap().append(0, "late".into()).await;
    assert!(matches!(late, Err(AppendError::NotWritten(_))), "{late:?}");
}

#[tokio::test]
async fn a_record_that_is_missing_ends_the_log_with_a_clear_error() {
    let dir = TempDir::new().unwrap();
    let log = open_log(&dir, 10).await;
    for value in ["1", "2", "3"] {
        append(&log, 0, value).await;
    }
    drop(log);
    beside(dir.path(), reactions::FILE).execute_batch("delete from reactions where offset = 1").unwrap();
    let log = open_log(&dir, 10).await;
    let mut feed = log.feed().await.unwrap();
    let why = loop {
        match within(feed.events.next()).await {
            Ok(FeedEvent::Records { records, .. }) => panic!("{records:?}"),
            Ok(_) => {}
            Err(FeedError::Reopen(why)) => break why,
        }
    };
    assert!(why.contains("record 1 of partition 0 is missing"), "{why}");
    assert!(matches!(log.feed().await.err(), Some(OpenError::Invalid(_))));
}

#[tokio::test]
async fn what_is_queued_when_the_log_is_dropped_is_still_written() {
    let dir = TempDir::new().unwrap();
    let log = open_log(&dir, 10_000).await;
    let writer = log.writer().await.unwrap();
    let appends: Vec<_> = (0..100).map(|_| writer.append(0, "tap".into())).collect();
    drop((log, writer));
    for append in appends {
        append.now_or_never().expect("an answer by the time of the drop").unwrap();
    }
    let log = open_log(&dir, 10).await;
    assert_eq!(Reader::open(&log).await.values().len(), 100);
}
