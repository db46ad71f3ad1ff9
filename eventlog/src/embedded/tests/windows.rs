//! The windows, which are the history.

use super::*;
use crate::{conformance::counting, windows::WindowQuery};
use wire::{Aggregate, Window};

/// A cut with one window of `r` that ends at `end`.
fn window_cut(reader: &Reader, seq: u64, end: u64) -> Cut {
    let room: RoomName = "r".parse().unwrap();
    let window = Window { start: end - 1_000, end };
    let value = Aggregate { window, ..counting(&room, seq, 0) }.encode_window().unwrap();
    Cut { windows: vec![(room, value.into())], ..reader.cut(0, 0) }
}

fn ends(log: &dyn EventLog) -> Vec<u64> {
    let archive = log.archive();
    let archive = futures_util::FutureExt::now_or_never(archive).unwrap().unwrap().unwrap();
    let query =
        WindowQuery { room: &"r".parse().unwrap(), partition: 0, span: 0..u64::MAX, max_windows: 1_000 };
    let mut ends = Vec::new();
    archive.search(&query, &mut |record| ends.push(record.window.end)).unwrap();
    ends
}

#[tokio::test]
async fn commits_remove_windows_that_are_too_old() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = open_at(&dir, 1, &hand).await;
    let reader = Reader::open(&log).await;
    hand.set(HISTORY_MS);
    let first: Vec<_> = (1..=300).map(|seq| window_cut(&reader, seq, seq * 1_000)).collect();
    reader.committer.commit(first).await.unwrap();
    assert_eq!(ends(&log).len(), 300);
    // The first 250 are too old now. Each commit removes 100 at the most.
    hand.set(HISTORY_MS + 250_001);
    for left in [200, 100, 50, 50] {
        reader.committer.commit(vec![reader.cut(0, 0)]).await.unwrap();
        assert_eq!(ends(&log).len(), left);
    }
    assert_eq!(ends(&log)[0], 251_000);
}

#[tokio::test]
async fn a_log_that_keeps_no_windows_removes_those_that_it_has() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = open_at(&dir, 1, &hand).await;
    hand.set(5_000);
    let reader = Reader::open(&log).await;
    reader.committer.commit(vec![window_cut(&reader, 1, 2_000)]).await.unwrap();
    drop((reader, log));
    let log = EmbeddedLog::open_with(&config(&dir), 1, 0, hand.clock(), NO_CHECKPOINT).await.unwrap();
    assert!(!log.keeps_windows() && log.archive().await.unwrap().is_none());
    let reader = Reader::open(&log).await;
    reader.committer.commit(vec![reader.cut(0, 0)]).await.unwrap();
    drop((reader, log));
    let log = open_at(&dir, 1, &hand).await;
    assert!(ends(&log).is_empty());
}

#[tokio::test]
async fn an_auditor_reads_the_windows_of_a_partition_beside_the_log() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = open_at(&dir, 1, &hand).await;
    let reader = Reader::open(&log).await;
    let cuts: Vec<_> = (1..=2_500).map(|seq| window_cut(&reader, seq, seq * 1_000)).collect();
    reader.committer.commit(cuts).await.unwrap();
    let auditor = EmbeddedArchive::open(&config(&dir)).unwrap();
    let read = |partition, since_ms| {
        use crate::History;
        let windows = auditor.windows(partition, since_ms).unwrap().unwrap();
        windows.map(|window| window.unwrap().offset).collect::<Vec<_>>()
    };
    assert_eq!(read(0, 0), (1..=2_500).collect::<Vec<_>>());
    assert_eq!(read(0, 2_000_000), (2_000..=2_500).collect::<Vec<_>>());
    assert_eq!(read(1, 0), [0; 0]);
}
