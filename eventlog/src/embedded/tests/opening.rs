//! Cases: opening a log, and what is said when that can't be done.

use super::*;
use std::fs;

async fn refusal(config: &EmbeddedConfig, partitions: u32) -> String {
    match EmbeddedLog::open(config, partitions, HISTORY_MS).await {
        Err(OpenError::Invalid(text)) => text,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("was opened"),
    }
}

#[test]
fn sqlite_is_new_enough() {
    // Before 3.51.3, a checkpoint on one connection could meet a commit that starts the WAL again, and damage the file
    // (sqlite.org/wal.html, "the WAL-reset bug"). That is how this log works.
    assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
}

#[tokio::test]
async fn missing_folders_are_made() {
    let dir = TempDir::new().unwrap();
    let config = EmbeddedConfig { dir: dir.path().join("a/b/c"), ..config(&dir) };
    append(&EmbeddedLog::open(&config, 1, HISTORY_MS).await.unwrap(), 0, "tap").await;
    let log = EmbeddedLog::open(&config, 1, HISTORY_MS).await.unwrap();
    assert_eq!(Reader::open(&log).await.values(), ["tap"]);
}

#[tokio::test]
async fn the_settings_that_promises_rest_on_are_in_force() {
    let dir = TempDir::new().unwrap();
    let database = database::Database {
        path: dir.path().join(reactions::FILE),
        schema: &[reactions::SCHEMA],
        cache_kib: 1_024,
    };
    for conn in [database.create(1).unwrap(), database.find(1).unwrap().unwrap()] {
        let text = |name| conn.pragma_query_value(None, name, |row| row.get::<_, String>(0)).unwrap();
        let number = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(text("journal_mode"), "wal");
        // 2: each commit is synced.
        assert_eq!(number("synchronous"), 2);
        let numbers = ["wal_autocheckpoint", "mmap_size", "cell_size_check", "cache_size"].map(number);
        assert_eq!(numbers, [0, 0, 1, -1_024]);
    }
}

#[tokio::test]
async fn a_second_opener_is_told_which_folder_is_in_use() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(&config(&dir), 1, HISTORY_MS).await.unwrap();
    let text = refusal(&config(&dir), 1).await;
    assert!(text.contains("another process has this log open"), "{text}");
    assert!(text.contains(dir.path().to_str().unwrap()), "{text}");
    drop(log);
    EmbeddedLog::open(&config(&dir), 1, HISTORY_MS).await.unwrap();
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let dir = TempDir::new().unwrap();
    drop(EmbeddedLog::open(&config(&dir), 4, HISTORY_MS).await.unwrap());
    let text = refusal(&config(&dir), 8).await;
    assert!(text.contains("it has 4 partitions, and log.partitions says 8: set that to 4"), "{text}");
    EmbeddedLog::open(&config(&dir), 4, HISTORY_MS).await.unwrap();
}

#[tokio::test]
async fn what_is_in_the_way_is_named() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let below = EmbeddedConfig { dir: file.join("log"), ..config(&dir) };
    let text = refusal(&below, 1).await;
    assert!(text.contains("can't make the folder") && text.contains("file/log"), "{text}");

    for name in [reactions::FILE, rollup::FILE] {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join(name), vec![7; 10_000]).unwrap();
        let text = refusal(&config(&dir), 1).await;
        assert!(text.contains(&format!("{name}: file is not a database")), "{text}");

        let dir = TempDir::new().unwrap();
        beside(dir.path(), name).execute_batch("create table theirs (id integer)").unwrap();
        let text = refusal(&config(&dir), 1).await;
        assert!(text.contains(&format!("{name}: it is the database of another program")), "{text}");

        let dir = TempDir::new().unwrap();
        drop(EmbeddedLog::open(&config(&dir), 1, HISTORY_MS).await.unwrap());
        beside(dir.path(), name).execute_batch("pragma user_version = 99").unwrap();
        let text = refusal(&config(&dir), 1).await;
        assert!(text.contains(&format!("{name}: a newer version of uproar wrote it (schema 99")), "{text}");
    }
}

#[tokio::test]
async fn a_log_that_was_not_closed_holds_all_that_was_acknowledged() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(&config(&dir), 2, HISTORY_MS).await.unwrap();
    for n in 0..200 {
        append(&log, n % 2, format!("{n:03}")).await;
    }
    let reader = Reader::open(&log).await;
    reader.committer.commit(vec![reader.cut(0, 20)]).await.unwrap();
    let left = copy_of(dir.path());

    let again = EmbeddedLog::open(&config(&left), 2, HISTORY_MS).await.unwrap();
    let again = Reader::open(&again).await;
    assert_eq!(again.starts, [(0, 20), (1, 0)].into());
    assert_eq!(again.records[&0], reader.records[&0][20..]);
    assert_eq!(again.records[&1], reader.records[&1]);
}

#[tokio::test]
async fn a_log_that_was_closed_is_whole_without_its_wals() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(&config(&dir), 1, HISTORY_MS).await.unwrap();
    append(&log, 0, "1").await;
    append(&log, 0, "2").await;
    let reader = Reader::open(&log).await;
    reader.committer.commit(vec![reader.cut(0, 1)]).await.unwrap();
    drop((reader, log));
    for file in [reactions::FILE, rollup::FILE] {
        assert_eq!(fs::metadata(dir.path().join(format!("{file}-wal"))).unwrap().len(), 0);
        fs::remove_file(dir.path().join(format!("{file}-wal"))).unwrap();
        fs::remove_file(dir.path().join(format!("{file}-shm"))).unwrap();
    }
    let log = EmbeddedLog::open(&config(&dir), 1, HISTORY_MS).await.unwrap();
    let reader = Reader::open(&log).await;
    assert_eq!((reader.starts[&0], reader.values()), (1, vec!["2".into()]));
}

fn remove(dir: &TempDir, file: &str) {
    for end in ["", "-wal", "-shm"] {
        fs::remove_file(dir.path().join(format!("{file}{end}"))).unwrap();
    }
}

#[tokio::test]
async fn a_log_whose_reactions_are_gone_is_refused_as_they_were_counted() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(&config(&dir), 1, HISTORY_MS).await.unwrap();
    append(&log, 0, "tap").await;
    Reader::open(&log).await.commit_all().await;
    drop(log);
    remove(&dir, reactions::FILE);
    for _ in 0..2 {
        let text = refusal(&config(&dir), 1).await;
        assert!(
            text.contains("reactions.db: reactions that were rolled up are missing: bring the whole"),
            "{text}"
        );
    }
    assert!(!dir.path().join(reactions::FILE).exists(), "a file is in the way of one that is brought back");
}

#[tokio::test]
async fn a_log_without_the_file_that_knows_what_was_trimmed_is_refused() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = open_at(&dir, 1, &hand).await;
    append(&log, 0, "1").await;
    append(&log, 0, "2").await;
    hand.set(60_000);
    Reader::open(&log).await.commit_all().await;
    append(&log, 0, "3").await;
    drop(log);
    let whole = copy_of(dir.path());
    remove(&dir, rollup::FILE);
    for _ in 0..2 {
        let text = refusal(&config(&dir), 1).await;
        assert!(text.contains("it begins after what rollup.db has rolled up"), "{text}");
    }
    assert!(!dir.path().join(rollup::FILE).exists(), "a file is in the way of one that is brought back");
    fs::copy(whole.path().join(rollup::FILE), dir.path().join(rollup::FILE)).unwrap();
    EmbeddedLog::open(&config(&dir), 1, HISTORY_MS).await.unwrap();
}

#[tokio::test]
async fn reactions_that_were_never_trimmed_are_counted_again_without_the_other_file() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(&config(&dir), 1, HISTORY_MS).await.unwrap();
    append(&log, 0, "tap").await;
    Reader::open(&log).await.commit_all().await;
    drop(log);
    remove(&dir, rollup::FILE);
    let log = EmbeddedLog::open(&config(&dir), 1, HISTORY_MS).await.unwrap();
    assert_eq!(Reader::open(&log).await.values(), ["tap"]);
}

#[tokio::test]
async fn a_first_start_may_be_cut_short() {
    let dir = TempDir::new().unwrap();
    // SQLite makes an empty file, then one without tables in WAL mode.
    fs::write(dir.path().join(reactions::FILE), "").unwrap();
    beside(dir.path(), rollup::FILE)
        .pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))
        .unwrap();
    let log = EmbeddedLog::open(&config(&dir), 1, HISTORY_MS).await.unwrap();
    append(&log, 0, "tap").await;
    Reader::open(&log).await.commit_all().await;
}

#[tokio::test]
async fn a_damaged_beginning_of_a_file_is_not_taken_for_a_new_one() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(&config(&dir), 1, HISTORY_MS).await.unwrap();
    append(&log, 0, "tap").await;
    drop(log);
    for name in [reactions::FILE, rollup::FILE] {
        let copy = copy_of(dir.path());
        let file = copy.path().join(name);
        let mut bytes = fs::read(&file).unwrap();
        bytes[..4_096].fill(0);
        fs::write(&file, &bytes).unwrap();
        let text = refusal(&config(&copy), 1).await;
        assert!(text.contains(&format!("{name}: file is not a database")), "{text}");
        assert!(fs::read(&file).unwrap() == bytes);
    }
}

#[tokio::test]
async fn a_start_waits_for_a_reader_that_keeps_the_wal_of_a_killed_process() {
    let dir = TempDir::new().unwrap();
    drop(EmbeddedLog::open(&config(&dir), 1, HISTORY_MS).await.unwrap());
    let path = dir.path().join(reactions::FILE);
    // What was written before and after the reader began. Nobody closes it.
    let killed = beside(dir.path(), reactions::FILE);
    killed.execute_batch("insert into reactions values (0, 0, 1, x'31')").unwrap();
    let auditor = database::reader(&path).unwrap();
    auditor.execute_batch("begin").unwrap();
    assert_eq!(reactions::span(&auditor, 0).unwrap(), 0..1);
    killed.execute_batch("insert into reactions values (0, 1, 1, x'32')").unwrap();
    match EmbeddedLog::open(&config(&dir), 1, HISTORY_MS).await.err() {
        Some(OpenError::Unavailable(why)) => assert!(why.contains("another process reads it"), "{why}"),
        other => panic!("{other:?}"),
    }
    auditor.execute_batch("commit").unwrap();
    let log = EmbeddedLog::open(&config(&dir), 1, HISTORY_MS).await.unwrap();
    assert_eq!(Reader::open(&log).await.values(), ["1", "2"]);
}
