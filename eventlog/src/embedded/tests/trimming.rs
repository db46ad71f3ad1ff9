//! Cases: what retention takes away, and what it never may.

use super::*;

/// A log whose segments hold one or two of these tests' rows.
async fn open_small(dir: &TempDir, partitions: u32, hand: &Hand) -> EmbeddedLog {
    let medium = Medium { segment_bytes: 200, ..Medium::default() };
    EmbeddedLog::open_with(&config(dir), partitions, hand.clock(), medium).await.unwrap()
}

/// The first groups of the segments that are there.
fn segments(dir: &TempDir) -> Vec<u64> {
    let files = std::fs::read_dir(dir.path().join("reactions")).unwrap();
    let name = |path: std::path::PathBuf| path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let mut groups: Vec<u64> = files.map(|file| name(file.unwrap().path())).collect();
    groups.sort_unstable();
    groups
}

/// A row that fills a segment.
fn long(value: &str) -> Bytes {
    format!("{value:>200}").into()
}

/// A log of one partition with ten rows, each in a segment of its own, one a second from second 1 on.
async fn ten_rows(dir: &TempDir, hand: &Hand) -> EmbeddedLog {
    let log = open_small(dir, 1, hand).await;
    for second in 1..=10 {
        hand.set(second * 1_000);
        append(&log, 0, long(&second.to_string())).await;
    }
    log
}

#[tokio::test]
async fn segments_go_when_they_are_both_consumed_and_old() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = ten_rows(&dir, &hand).await;
    let mut reader = Reader::open(&log).await;
    // Old, but not consumed.
    hand.set(60_000);
    append(&log, 0, long("11")).await;
    reader.committer.commit(vec![reader.cut(0, 0)]).await.unwrap();
    assert_eq!(segments(&dir), (0..11).collect::<Vec<_>>());
    // Consumed up to offset 6, but only those of the first four seconds are old.
    hand.set(14_500);
    reader.committer.commit(vec![reader.cut(0, 6)]).await.unwrap();
    assert_eq!(segments(&dir), (4..11).collect::<Vec<_>>());
    // All old.
    hand.set(60_000);
    append(&log, 0, long("12")).await;
    reader.catch_up().await;
    reader.committer.commit(vec![reader.cut(0, 6)]).await.unwrap();
    assert_eq!(segments(&dir), (6..12).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_newest_segment_stays_and_offsets_go_on_after_a_restart() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = ten_rows(&dir, &hand).await;
    hand.set(3_600_000);
    let reader = Reader::open(&log).await;
    reader.commit_all().await;
    assert_eq!(segments(&dir), [9]);
    drop((reader, log));

    hand.set(0);
    let log = open_small(&dir, 1, &hand).await;
    append(&log, 0, "11").await;
    let reader = Reader::open(&log).await;
    let expected = Record { offset: 10, timestamp_ms: 10_000, value: "11".into() };
    assert_eq!(reader.records[&0], [expected]);
}

#[tokio::test]
async fn a_partition_that_lags_keeps_its_segments() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = open_small(&dir, 2, &hand).await;
    append(&log, 0, long("consumed")).await;
    append(&log, 1, long("open")).await;
    append(&log, 0, long("consumed")).await;
    let reader = Reader::open(&log).await;
    hand.set(3_600_000);
    reader.committer.commit(vec![reader.cut(0, 2)]).await.unwrap();
    assert_eq!(segments(&dir), [1, 2]);
}

#[tokio::test]
async fn the_disk_stays_flat_under_a_steady_load() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let medium = Medium { segment_bytes: 101_000, ..Medium::default() };
    let log = EmbeddedLog::open_with(&config(&dir), 1, hand.clock(), medium).await.unwrap();
    let mut reader = Reader::open(&log).await;
    // A row of 20 kB every 100 ms, of which 10 s are kept: 2 MB, in segments of five rows.
    for n in 1..=400u64 {
        hand.set(n * 100);
        append(&log, 0, vec![0; 20_000]).await;
        if n % 20 == 0 {
            reader.catch_up().await;
            reader.commit_all().await;
        }
        assert!(segments(&dir).len() <= 26, "{n}: {:?}", segments(&dir));
    }
}

#[tokio::test]
async fn the_disk_stays_flat_after_the_clock_went_back() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = open_small(&dir, 1, &hand).await;
    hand.set(3_600_000);
    append(&log, 0, long("before")).await;
    let mut reader = Reader::open(&log).await;
    // An hour back. A segment a second, and 10 s are kept.
    for second in 1..=60 {
        hand.set(second * 1_000);
        append(&log, 0, long("after")).await;
        reader.catch_up().await;
        reader.commit_all().await;
        assert!(segments(&dir).len() <= 21, "{second}: {:?}", segments(&dir));
    }
    // What is not consumed stays, whenever it came.
    for _ in 0..30 {
        append(&log, 0, long("open")).await;
    }
    reader.committer.commit(vec![reader.cut(0, 61)]).await.unwrap();
    assert_eq!(segments(&dir), (61..91).collect::<Vec<_>>());
}

#[tokio::test]
async fn reading_starts_with_the_segment_of_the_first_open_record() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = ten_rows(&dir, &hand).await;
    let shelf = &log.shared.shelf;
    for (committed, group) in [(0, 0), (1, 1), (5, 5), (9, 9), (10, 9)] {
        assert_eq!(shelf.first_group(&[committed]), group, "{committed}");
    }
    let reader = Reader::open(&log).await;
    reader.committer.commit(vec![reader.cut(0, 6)]).await.unwrap();
    assert_eq!(Reader::open(&log).await.values(), ["7", "8", "9", "10"].map(long));
}
