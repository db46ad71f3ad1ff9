//! Cases: what an auditor reads, beside the log and after it.

use super::*;
use crate::history::History;
use std::fs;

fn values(archive: &EmbeddedArchive) -> Vec<Bytes> {
    let span = archive.span(0).unwrap();
    archive.reactions(0, &span).unwrap().map(|record| record.unwrap().value).collect()
}

#[tokio::test]
async fn an_auditor_reads_beside_a_running_log() {
    let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
    let log = open_at(&dir, 1, &hand).await;
    append(&log, 0, "1").await;
    append(&log, 0, "2").await;
    let mut reader = Reader::open(&log).await;
    reader.committer.commit(vec![reader.cut(0, 1)]).await.unwrap();

    let archive = EmbeddedArchive::open(&config(&dir)).unwrap();
    let span = archive.span(0).unwrap();
    assert_eq!((span.reactions.clone(), span.committed), (0..2, Some(1)));
    // What it was told of stays, although it is trimmed meanwhile.
    hand.set(60_000);
    reader.committer.commit(vec![reader.cut(0, 2)]).await.unwrap();
    append(&log, 0, "3").await;
    assert_eq!(archive.reactions(0, &span).unwrap().count(), 2);
    let span = archive.span(0).unwrap();
    assert_eq!((span.reactions.clone(), span.committed), (1..3, Some(2)));
    assert_eq!(values(&archive), ["2", "3"]);
    reader.catch_up().await;
}

#[tokio::test]
async fn an_auditor_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let log = open_at(&dir, 1, &Hand::default()).await;
    append(&log, 0, "1").await;
    Reader::open(&log).await.commit_all().await;
    append(&log, 0, "2").await;
    let killed = copy_of(dir.path());
    drop(log);
    for dir in [killed, dir] {
        // The index of a WAL is made again by whoever comes first, and holds nothing.
        let files = || -> BTreeMap<_, _> {
            let files = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path());
            let files = files.filter(|path| !path.to_str().unwrap().ends_with("-shm"));
            files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
        };
        let before = files();
        let archive = EmbeddedArchive::open(&config(&dir)).unwrap();
        assert_eq!(values(&archive), ["1", "2"]);
        assert_eq!(archive.size().unwrap(), 2);
        drop(archive);
        assert!(files() == before, "a file was written to");
    }
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let dir = TempDir::new().unwrap();
    let missing = |file: &str| {
        let refused = EmbeddedArchive::open(&config(&dir)).err().unwrap().to_string();
        assert!(refused.contains(&format!("{file}: No such file")), "{refused}");
    };
    missing(rollup::FILE);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    drop(open_at(&dir, 1, &Hand::default()).await);
    fs::remove_file(dir.path().join(reactions::FILE)).unwrap();
    missing(reactions::FILE);
}
