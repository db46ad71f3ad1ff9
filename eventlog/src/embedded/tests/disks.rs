//! Cases: a disk that is full, on a small file system in memory. Only root can make that.

use super::*;
use crate::AppendError;
use std::fs;

/// A folder on a disk of 4 MiB. Its log is gone before it is.
struct Disk(TempDir);

impl Disk {
    fn new() -> Option<Self> {
        let disk = Self(TempDir::new().unwrap());
        let mount = ["-t", "tmpfs", "-o", "size=4m", "uproar-test"];
        let mounted = Command::new("mount").args(mount).arg(disk.0.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(disk);
        }
        eprintln!("SKIPPED: a full disk can't be tested, because no file system can be mounted");
        None
    }

    fn fill(&self) {
        let file = self.0.path().join("other");
        let written = fs::write(&file, vec![1; 4 << 20]);
        assert!(written.is_err(), "the disk is full");
    }

    fn free(&self) {
        fs::remove_file(self.0.path().join("other")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Appends until the disk is full. Gives what was acknowledged.
async fn append_until_full(log: &EmbeddedLog, disk: &Disk) -> Vec<Bytes> {
    let writer = log.writer().await.unwrap();
    let mut kept = Vec::new();
    for n in 0..100u32 {
        if n == 10 {
            disk.fill();
        }
        let value = Bytes::from(format!("{n:020000}"));
        match within(writer.append(0, value.clone())).await {
            Ok(()) => kept.push(value),
            Err(AppendError::NotWritten(why)) => {
                assert!(why.contains("reactions.db: database or disk is full: free space"), "{why}");
                return kept;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the disk never was full");
}

#[tokio::test]
async fn a_full_disk_stops_the_log_until_there_is_space_again() {
    let Some(disk) = Disk::new() else { return };
    let log = EmbeddedLog::open(&config(&disk.0), 1, HISTORY_MS).await.unwrap();
    let mut follower = log.follower().await.unwrap();
    let mut kept = append_until_full(&log, &disk).await;
    assert!(kept.len() >= 10, "{}", kept.len());
    // Tiers try again, and viewers keep what they have: no part of the log says that it is over.
    assert!(matches!(log.feed().await.err(), Some(OpenError::Unavailable(_))));
    assert!(matches!(log.follower().await.err(), Some(OpenError::Unavailable(_))));
    while within(follower.next()).await.is_ok() {}
    let writer = log.writer().await.unwrap();
    assert!(matches!(writer.append(0, "late".into()).await, Err(AppendError::NotWritten(_))));

    disk.free();
    let reader = Reader::open(&log).await;
    assert_eq!(reader.values(), kept);
    append(&log, 0, "again").await;
    reader.commit_all().await;
    kept.push("again".into());
    drop((reader, follower, writer, log));
    let log = EmbeddedLog::open(&config(&disk.0), 1, HISTORY_MS).await.unwrap();
    assert_eq!(Reader::open(&log).await.values(), kept[kept.len() - 1..]);
}

#[tokio::test]
async fn a_start_on_a_full_disk_waits_for_space() {
    let Some(disk) = Disk::new() else { return };
    let log = EmbeddedLog::open(&config(&disk.0), 1, HISTORY_MS).await.unwrap();
    let kept = append_until_full(&log, &disk).await;
    drop(log);
    match EmbeddedLog::open(&config(&disk.0), 1, HISTORY_MS).await.err() {
        Some(OpenError::Unavailable(why)) => assert!(why.contains("free space"), "{why}"),
        other => panic!("{other:?}"),
    }
    disk.free();
    let log = EmbeddedLog::open(&config(&disk.0), 1, HISTORY_MS).await.unwrap();
    assert_eq!(Reader::open(&log).await.values(), kept);
}
