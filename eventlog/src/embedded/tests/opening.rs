//! Cases: opening a log, and what is said when that can't be done.

use super::*;
use redb::{Database, TableDefinition};

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
    assert!(text.contains("it has 4 partitions, and the configuration says 8"), "{text}");
    EmbeddedLog::open(&config(&dir), 4).await.unwrap();
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

#[tokio::test]
async fn a_file_that_was_not_closed_holds_all_that_was_acknowledged() {
    let (dir, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let log = EmbeddedLog::open(&config(&dir), 2).await.unwrap();
    for n in 0..600 {
        append(&log, n % 2, format!("{n:03}")).await;
    }
    let reader = Reader::open(&log).await;
    reader.committer.commit(vec![reader.cut(0, 20)]).await.unwrap();
    // The file as a crash at this moment would leave it: its lock and its owner's memory are gone.
    std::fs::copy(dir.path().join("log.redb"), copy.path().join("log.redb")).unwrap();

    let copied = EmbeddedLog::open(&config(&copy), 2).await.unwrap();
    let again = Reader::open(&copied).await;
    assert_eq!(again.starts, [(0, 20), (1, 0)].into());
    assert_eq!(again.records[&0], reader.records[&0][20..]);
    assert_eq!(again.records[&1], reader.records[&1]);
    assert_eq!(again.values().len(), 580);
}

/// Writes the tables of format 1 as it had them, with one aggregate for each of these rooms.
fn write_format_1(dir: &TempDir, rooms: [(&str, u32, &[u8]); 3]) {
    const BY_ROOM: TableDefinition<'_, &str, (u32, u64, &[u8])> = TableDefinition::new("aggregates");
    const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    let db = Database::create(dir.path().join("log.redb")).unwrap();
    let tx = db.begin_write().unwrap();
    {
        let mut meta = tx.open_table(META).unwrap();
        for (key, value) in [("format", 1), ("partitions", 2), ("next_commit", 4)] {
            meta.insert(key, value).unwrap();
        }
        let mut aggregates = tx.open_table(BY_ROOM).unwrap();
        for (room, partition, value) in rooms {
            aggregates.insert(room, (partition, 3, value)).unwrap();
        }
    }
    tx.commit().unwrap();
}

#[tokio::test]
async fn a_file_of_the_first_format_keeps_its_aggregates() {
    let dir = TempDir::new().unwrap();
    write_format_1(&dir, [("c", 0, b"C"), ("a", 1, b"A"), ("b", 0, b"B")]);
    for _ in 0..2 {
        let log = EmbeddedLog::open(&config(&dir), 2).await.unwrap();
        let (next_commit, newest) = log.shared.store.newest().unwrap();
        let newest: Vec<_> =
            newest.iter().map(|row| (&*row.room, row.partition, row.commit, &row.value[..])).collect();
        assert_eq!(next_commit, 4);
        assert_eq!(newest, [("b", 0, 3, &b"B"[..]), ("c", 0, 3, b"C"), ("a", 1, 3, b"A")]);
    }
}
