//! Cases: what retention takes away, and what it never may.

use super::*;

/// Numbers of the rows that are there.
fn rows(log: &EmbeddedLog) -> Vec<u64> {
    log.shared.store.read_groups(0, usize::MAX).unwrap().into_iter().map(|(number, _)| number).collect()
}

/// A log of one partition with ten rows, one a second from second 1 on.
async fn ten_rows(dir: &TempDir, hand: &Hand) -> EmbeddedLog {
    let log = EmbeddedLog::open_with(&config(dir), 1, hand.clock()).await.unwrap();
    for second in 1..=10 {
        hand.set(second * 1_000);
        append(&log, 0, format!("{second}")).await;
    }
    log
}

#[tokio::test]
async fn rows_go_when_they_are_both_consumed_and_old() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = ten_rows(&dir, &hand).await;
    let reader = Reader::open(&log).await;
    // Old, but not consumed.
    hand.set(60_000);
    append(&log, 0, "11").await;
    assert_eq!(rows(&log), (0..11).collect::<Vec<_>>());
    // Consumed up to offset 6, but only those of the first four seconds are old.
    hand.set(14_500);
    reader.committer.commit(vec![reader.cut(0, 6)]).await.unwrap();
    assert_eq!(rows(&log), (4..11).collect::<Vec<_>>());
    // All old.
    hand.set(60_000);
    append(&log, 0, "12").await;
    assert_eq!(rows(&log), (6..12).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_newest_row_stays_and_offsets_go_on_after_a_restart() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = ten_rows(&dir, &hand).await;
    hand.set(3_600_000);
    let reader = Reader::open(&log).await;
    // One write trims a few rows only.
    for _ in 0..5 {
        reader.committer.commit(vec![reader.cut(0, 10)]).await.unwrap();
    }
    assert_eq!(rows(&log), [9]);
    drop((reader, log));

    hand.set(0);
    let log = EmbeddedLog::open_with(&config(&dir), 1, hand.clock()).await.unwrap();
    append(&log, 0, "11").await;
    let reader = Reader::open(&log).await;
    let expected = Record { offset: 10, timestamp_ms: 10_000, value: "11".into() };
    assert_eq!(reader.records[&0], [expected]);
}

#[tokio::test]
async fn a_partition_that_lags_keeps_its_rows() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = EmbeddedLog::open_with(&config(&dir), 2, hand.clock()).await.unwrap();
    append(&log, 0, "consumed").await;
    append(&log, 1, "open").await;
    append(&log, 0, "consumed").await;
    let reader = Reader::open(&log).await;
    hand.set(3_600_000);
    reader.committer.commit(vec![reader.cut(0, 2)]).await.unwrap();
    assert_eq!(rows(&log), [1, 2]);
}

#[tokio::test]
async fn the_disk_stays_flat_under_a_steady_load() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = EmbeddedLog::open_with(&config(&dir), 1, hand.clock()).await.unwrap();
    let mut reader = Reader::open(&log).await;
    let mut sizes = Vec::new();
    // A row of 20 kB every 100 ms, of which 10 s are kept: 2 MB.
    for n in 1..=800u64 {
        hand.set(n * 100);
        append(&log, 0, vec![0; 20_000]).await;
        if n % 20 == 0 {
            reader.catch_up().await;
            reader.commit_all().await;
        }
        if n % 200 == 0 {
            sizes.push(std::fs::metadata(dir.path().join("log.redb")).unwrap().len());
        }
    }
    assert!(rows(&log).len() <= 130, "{} rows", rows(&log).len());
    assert!(sizes[3] <= sizes[1], "the file still grows: {sizes:?}");
}

#[tokio::test]
async fn reading_starts_at_a_mark_near_the_first_open_record() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(&config(&dir), 1).await.unwrap();
    for n in 0..700 {
        append(&log, 0, format!("{n}")).await;
    }
    let store = &log.shared.store;
    for (committed, mark) in [(0, 0), (255, 0), (256, 256), (511, 256), (512, 512), (700, 512)] {
        assert_eq!(store.first_group(&[committed]).unwrap(), mark, "{committed}");
    }
    let reader = Reader::open(&log).await;
    reader.committer.commit(vec![reader.cut(0, 600)]).await.unwrap();
    let values = Reader::open(&log).await.values();
    assert_eq!(values, (600..700).map(|n| format!("{n}")).collect::<Vec<_>>());
}
