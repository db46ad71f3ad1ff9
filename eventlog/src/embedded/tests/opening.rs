//! Cases: opening a log, and what is said when that can't be done.

use super::*;
use redb::{Database, StorageBackend, backends::FileBackend};
use std::io;

async fn refusal(config: &EmbeddedConfig, partitions: u32) -> String {
    match EmbeddedLog::open(config, partitions).await {
        Err(OpenError::Invalid(text)) => text,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("was opened"),
    }
}

#[tokio::test]
async fn missing_folders_are_made() {
    let dir = TempDir::new().unwrap();
    let config = EmbeddedConfig { dir: dir.path().join("a/b/c"), ..config(&dir) };
    append(&EmbeddedLog::open(&config, 1).await.unwrap(), 0, "tap").await;
    let log = EmbeddedLog::open(&config, 1).await.unwrap();
    assert_eq!(Reader::open(&log).await.values(), ["tap"]);
}

#[tokio::test]
async fn a_second_opener_is_told_which_folder_is_in_use() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(&config(&dir), 1).await.unwrap();
    let text = refusal(&config(&dir), 1).await;
    assert!(text.contains("another process has this log open"), "{text}");
    assert!(text.contains(dir.path().to_str().unwrap()), "{text}");
    drop(log);
    EmbeddedLog::open(&config(&dir), 1).await.unwrap();
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let dir = TempDir::new().unwrap();
    drop(EmbeddedLog::open(&config(&dir), 4).await.unwrap());
    let text = refusal(&config(&dir), 8).await;
    assert!(text.contains("it has 4 partitions, and log.partitions says 8: set that to 4"), "{text}");
    EmbeddedLog::open(&config(&dir), 4).await.unwrap();
}

#[tokio::test]
async fn a_folder_of_an_earlier_format_with_another_number_of_partitions_is_refused_for_these() {
    let dir = TempDir::new().unwrap();
    upgrades::write(&dir, 3);
    let text = refusal(&config(&dir), 3).await;
    assert!(text.contains("it has 2 partitions, and log.partitions says 3: set that to 2"), "{text}");
}

#[tokio::test]
async fn what_is_in_the_way_is_named() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let below = EmbeddedConfig { dir: file.join("log"), ..config(&dir) };
    let text = refusal(&below, 1).await;
    assert!(text.contains("can't make the folder") && text.contains("file/log"), "{text}");

    std::fs::write(dir.path().join("log.redb"), vec![7; 10_000]).unwrap();
    let text = refusal(&config(&dir), 1).await;
    assert!(text.contains("can't open the log in"), "{text}");
}

/// What a crash at this moment would leave: the locks and the owner's memory are gone.
fn copy(from: &TempDir, to: &TempDir) {
    let segments = to.path().join("reactions");
    std::fs::create_dir(&segments).unwrap();
    std::fs::copy(from.path().join("log.redb"), to.path().join("log.redb")).unwrap();
    for file in std::fs::read_dir(from.path().join("reactions")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), segments.join(file.file_name())).unwrap();
    }
}

#[tokio::test]
async fn a_log_that_was_not_closed_holds_all_that_was_acknowledged() {
    let (dir, left) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let log = EmbeddedLog::open(&config(&dir), 2).await.unwrap();
    for n in 0..600 {
        append(&log, n % 2, format!("{n:03}")).await;
    }
    let reader = Reader::open(&log).await;
    reader.committer.commit(vec![reader.cut(0, 20)]).await.unwrap();
    copy(&dir, &left);

    let again = EmbeddedLog::open(&config(&left), 2).await.unwrap();
    let again = Reader::open(&again).await;
    assert_eq!(again.starts, [(0, 20), (1, 0)].into());
    assert_eq!(again.records[&0], reader.records[&0][20..]);
    assert_eq!(again.records[&1], reader.records[&1]);
    assert_eq!(again.values().len(), 580);
}

#[tokio::test]
async fn a_log_whose_reactions_are_gone_is_refused_as_they_were_counted() {
    let (dir, left) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let log = EmbeddedLog::open(&config(&dir), 1).await.unwrap();
    append(&log, 0, "tap").await;
    let reader = Reader::open(&log).await;
    reader.commit_all().await;
    copy(&dir, &left);
    std::fs::remove_dir_all(left.path().join("reactions")).unwrap();
    let text = refusal(&config(&left), 1).await;
    assert!(text.contains("reactions that were rolled up are missing"), "{text}");
    let left = std::fs::read_dir(left.path().join("reactions")).unwrap();
    assert_eq!(left.count(), 0, "nothing is in the way of files that are brought back");
}

/// A file that takes so many changes, and then none, as where the process was killed.
#[derive(Debug)]
struct CutShort {
    file: FileBackend,
    changes: AtomicU64,
}

impl CutShort {
    fn change(&self) -> io::Result<&FileBackend> {
        let left = self.changes.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(|_| &self.file).map_err(|_| io::Error::other("killed"))
    }
}

impl StorageBackend for CutShort {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change()?.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.change()?.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change()?.write(offset, data)
    }
}

#[tokio::test]
async fn a_first_start_may_be_cut_short_at_any_moment() {
    for changes in 0.. {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("reactions")).unwrap();
        let file = FileBackend::new(std::fs::File::create_new(dir.path().join("log.redb")).unwrap()).unwrap();
        let made =
            Database::builder().create_with_backend(CutShort { file, changes: AtomicU64::new(changes) });
        let complete = made.is_ok();
        drop(made);
        if let Err(error) = EmbeddedLog::open(&config(&dir), 1).await {
            panic!("after {changes} changes: {error}");
        }
        if complete {
            assert!(changes > 4, "{changes}");
            break;
        }
    }
}

#[tokio::test]
async fn a_database_that_does_not_know_what_was_trimmed_is_refused() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let medium = Medium { segment_bytes: 200, ..Medium::default() };
    let log = EmbeddedLog::open_with(&config(&dir), 1, hand.clock(), medium).await.unwrap();
    append(&log, 0, vec![b'1'; 200]).await;
    append(&log, 0, vec![b'2'; 200]).await;
    hand.set(60_000);
    Reader::open(&log).await.commit_all().await;
    drop(log);
    // Lost, or not brought back with the rest.
    let file = dir.path().join("log.redb");
    let counted = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    for _ in 0..2 {
        let text = refusal(&config(&dir), 1).await;
        assert!(text.contains("`reactions` begins after what its file `log.redb` has rolled up"), "{text}");
    }
    std::fs::write(&file, counted).unwrap();
    EmbeddedLog::open(&config(&dir), 1).await.unwrap();
}

#[tokio::test]
async fn a_damaged_beginning_of_a_database_is_not_taken_for_a_new_one() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(&config(&dir), 1).await.unwrap();
    append(&log, 0, "tap").await;
    drop(log);
    let file = dir.path().join("log.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[..4_096].fill(0);
    std::fs::write(&file, &bytes).unwrap();
    let text = refusal(&config(&dir), 1).await;
    assert!(text.contains("magic number"), "{text}");
    assert!(std::fs::read(&file).unwrap() == bytes);
}
