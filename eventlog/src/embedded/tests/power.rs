//! Cases: the power goes, and of a WAL there is only a part.

use super::*;
use std::fs;

/// The values of a log whose WAL ends after `len` bytes, and has `end` after that.
async fn left(whole: &Path, len: u64, end: &[u8]) -> Vec<Bytes> {
    let dir = copy_of(whole);
    let wal = dir.path().join(format!("{}-wal", reactions::FILE));
    let mut bytes = fs::read(&wal).unwrap();
    bytes.truncate(usize::try_from(len).unwrap());
    bytes.extend_from_slice(end);
    fs::write(&wal, bytes).unwrap();
    let log = EmbeddedLog::open(&config(&dir), 1, HISTORY_MS).await.unwrap();
    Reader::open(&log).await.values()
}

#[tokio::test]
async fn what_is_left_of_a_wal_holds_all_that_was_acknowledged_by_then_and_nothing_out_of_order() {
    let dir = TempDir::new().unwrap();
    // Once it was closed, its WAL begins with the first append.
    drop(open_at(&dir, 1, &Hand::default()).await);
    let log = open_at(&dir, 1, &Hand::default()).await;
    let wal = dir.path().join(format!("{}-wal", reactions::FILE));
    // How long the WAL was when each was acknowledged.
    let (mut values, mut lens) = (Vec::new(), Vec::new());
    for n in 0..24usize {
        let value = Bytes::from(format!("{n:0$}", 1 + n * 317 % 9_000));
        append(&log, 0, value.clone()).await;
        values.push(value);
        lens.push(fs::metadata(&wal).unwrap().len());
    }
    assert!(lens.is_sorted() && lens[0] < lens[23]);
    let whole = copy_of(dir.path());
    let cuts = lens.iter().flat_map(|len| [len - 1, *len, len + 1, len + 24, len + 2_000]);
    for len in cuts.chain([0, 1, 31, 32, 33]) {
        let found = left(whole.path(), len, b"").await;
        let acknowledged = lens.iter().filter(|written| **written <= len).count();
        assert_eq!(found, values[..acknowledged], "cut after {len} bytes");
    }
    for len in [lens[5], lens[22]] {
        let found = left(whole.path(), len, &[0xa5; 5_000]).await;
        let acknowledged = lens.iter().filter(|written| **written <= len).count();
        assert_eq!(found, values[..acknowledged], "rubbish after {len} bytes");
    }
}

#[tokio::test]
async fn what_was_rolled_up_after_a_kill_is_there_after_a_power_cut() {
    let dir = TempDir::new().unwrap();
    let log = open_at(&dir, 1, &Hand::default()).await;
    append(&log, 0, "acknowledged").await;
    append(&log, 0, "written").await;
    // It was killed between the write and the sync of the second, which the kernel has, and the disk doesn't.
    let killed = copy_of(dir.path());
    let log = open_at(&killed, 1, &Hand::default()).await;
    let reader = Reader::open(&log).await;
    assert_eq!(reader.values(), ["acknowledged", "written"]);
    reader.commit_all().await;
    // The disk has all that this start wrote and synced. It lost what was in the WAL before.
    let after = copy_of(killed.path());
    fs::write(after.path().join(format!("{}-wal", reactions::FILE)), b"").unwrap();
    let log = open_at(&after, 1, &Hand::default()).await;
    let reader = Reader::open(&log).await;
    assert_eq!((reader.starts[&0], reader.values().len()), (2, 0));
}
