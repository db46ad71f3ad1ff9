//! Cases: what retention takes away, and what it never may.

use super::*;

/// The offsets of a partition that are in the file.
fn offsets(dir: &TempDir, partition: u32) -> Vec<u64> {
    let conn = database::reader(&dir.path().join(reactions::FILE)).unwrap();
    reactions::read(&conn, partition, 0..u64::MAX >> 1, usize::MAX)
        .unwrap()
        .iter()
        .map(|record| record.offset)
        .collect()
}

/// A log of one partition with ten records, one a second from second 1 on.
async fn ten_records(dir: &TempDir, hand: &Hand) -> EmbeddedLog {
    let log = open_at(dir, 1, hand).await;
    for second in 1..=10 {
        hand.set(second * 1_000);
        append(&log, 0, second.to_string()).await;
    }
    log
}

#[tokio::test]
async fn records_go_when_they_are_both_rolled_up_and_old() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = ten_records(&dir, &hand).await;
    let reader = Reader::open(&log).await;
    // Old, but not rolled up.
    hand.set(60_000);
    reader.committer.commit(vec![reader.cut(0, 0)]).await.unwrap();
    append(&log, 0, "11").await;
    assert_eq!(offsets(&dir, 0), (0..11).collect::<Vec<_>>());
    // Rolled up to offset 6, but only the records of the first four seconds are old.
    hand.set(14_500);
    reader.committer.commit(vec![reader.cut(0, 6)]).await.unwrap();
    append(&log, 0, "12").await;
    assert_eq!(offsets(&dir, 0), (4..12).collect::<Vec<_>>());
    // All old.
    hand.set(60_000);
    reader.committer.commit(vec![reader.cut(0, 7)]).await.unwrap();
    append(&log, 0, "13").await;
    assert_eq!(offsets(&dir, 0), (7..13).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_newest_record_stays_and_offsets_go_on_after_a_restart() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = open_at(&dir, 2, &hand).await;
    for value in ["1", "2", "3"] {
        append(&log, 0, value).await;
    }
    hand.set(3_600_000);
    let reader = Reader::open(&log).await;
    reader.commit_all().await;
    append(&log, 1, "elsewhere").await;
    assert_eq!(offsets(&dir, 0), [2]);
    drop((reader, log));

    let log = open_at(&dir, 2, &hand).await;
    append(&log, 0, "4").await;
    let reader = Reader::open(&log).await;
    let expected = Record { offset: 3, timestamp_ms: 3_600_000, value: "4".into() };
    assert_eq!(reader.records[&0], [expected]);
    assert_eq!(offsets(&dir, 0), [2, 3]);
    // The next window takes what was the newest record then.
    reader.commit_all().await;
    hand.set(7_200_000);
    append(&log, 1, "elsewhere").await;
    assert_eq!(offsets(&dir, 0), [3]);
}

#[tokio::test]
async fn a_partition_that_lags_keeps_its_records() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = open_at(&dir, 2, &hand).await;
    for partition in [0, 1, 0, 0] {
        append(&log, partition, "tap").await;
    }
    let reader = Reader::open(&log).await;
    hand.set(3_600_000);
    reader.committer.commit(vec![reader.cut(0, 2)]).await.unwrap();
    append(&log, 1, "tap").await;
    assert_eq!((offsets(&dir, 0), offsets(&dir, 1)), (vec![2], vec![0, 1]));
}

#[tokio::test]
async fn many_old_records_go_in_steps() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = open_at(&dir, 2, &hand).await;
    let writer = log.writer().await.unwrap();
    for _ in 0..2 {
        let append = |n: u32| crate::Append { partition: n % 2, value: "tap".into(), done: Box::new(|_| {}) };
        writer.send((0..1_800).map(append).collect());
    }
    writer.flush(Duration::from_secs(30)).await;
    let reader = Reader::open(&log).await;
    hand.set(3_600_000);
    reader.commit_all().await;
    let mut left = Vec::new();
    for _ in 0..5 {
        append(&log, 0, "tap").await;
        left.push(offsets(&dir, 0).len() + offsets(&dir, 1).len());
    }
    // Partition 0 has a new record each time. Of each partition one old record stays, as it was the newest.
    assert_eq!(left, [2_601, 1_602, 603, 6, 7]);
}

#[tokio::test]
async fn the_disk_stays_flat_under_a_steady_load() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = open_at(&dir, 1, &hand).await;
    let mut reader = Reader::open(&log).await;
    // A record of 20 kB every 100 ms, of which 10 s are kept: 2 MB.
    for n in 1..=400u64 {
        hand.set(n * 100);
        append(&log, 0, vec![0; 20_000]).await;
        if n % 20 == 0 {
            reader.catch_up().await;
            reader.commit_all().await;
        }
    }
    assert!(offsets(&dir, 0).len() <= 130, "{:?}", offsets(&dir, 0));
    drop((reader, log));
    let bytes = std::fs::metadata(dir.path().join(reactions::FILE)).unwrap().len();
    assert!(bytes < 4_000_000, "{bytes} bytes");
}

#[tokio::test]
async fn the_disk_stays_flat_after_the_clock_went_back() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = open_at(&dir, 1, &hand).await;
    hand.set(3_600_000);
    append(&log, 0, "before").await;
    let mut reader = Reader::open(&log).await;
    // An hour back. A record a second, and 10 s are kept.
    for second in 1..=60 {
        hand.set(second * 1_000);
        append(&log, 0, "after").await;
        reader.catch_up().await;
        reader.commit_all().await;
    }
    assert!(offsets(&dir, 0).len() <= 13, "{:?}", offsets(&dir, 0));
    // What is not rolled up stays, whenever it came.
    for _ in 0..30 {
        hand.set(7_200_000);
        append(&log, 0, "open").await;
    }
    assert_eq!(offsets(&dir, 0), (60..91).collect::<Vec<_>>());
}
