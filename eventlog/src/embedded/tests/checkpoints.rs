//! Cases: the WALs stay short, and files that are gone are noticed.

use super::*;
use crate::AppendError;
use checkpoint::{Copied, copy};
use futures_util::{StreamExt, stream};
use std::fs;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wal_starts_again_under_a_load_without_a_pause() {
    let (dir, every) = (TempDir::new().unwrap(), Duration::from_millis(20));
    let log = EmbeddedLog::open_with(&config(&dir), 1, HISTORY_MS, Arc::new(|| 1), every).await.unwrap();
    let writer = log.writer().await.unwrap();
    let wal = dir.path().join(format!("{}-wal", reactions::FILE));
    let value = Bytes::from(vec![7; 32 << 10]);
    // 96 MB. There is always one that waits while another is written.
    let mut appends = stream::iter((0..3_000).map(|_| writer.append(0, value.clone()))).buffered(3);
    let mut longest = 0;
    while let Some(written) = appends.next().await {
        written.unwrap();
        longest = fs::metadata(&wal).unwrap().len().max(longest);
    }
    assert!(longest < 48 << 20, "{longest} bytes");
}

#[tokio::test]
async fn a_reader_beside_the_log_holds_its_wal_only_while_it_reads() {
    let dir = TempDir::new().unwrap();
    let log = open_at(&dir, 1, &Hand::default()).await;
    append(&log, 0, "1").await;
    let auditor = database::reader(&dir.path().join(reactions::FILE)).unwrap();
    auditor.execute_batch("begin").unwrap();
    assert_eq!(reactions::span(&auditor, 0).unwrap(), 0..1);
    append(&log, 0, vec![0; 1 << 20]).await;

    let checkpointer = beside(dir.path(), reactions::FILE);
    let Copied { pages, copied } = copy(&checkpointer).unwrap().unwrap();
    assert!(pages > 256 && copied < 20, "{copied} of {pages}");
    append(&log, 0, "3").await;
    assert_eq!(reactions::span(&auditor, 0).unwrap(), 0..1, "it reads one state");
    auditor.execute_batch("commit").unwrap();
    let all = copy(&checkpointer).unwrap().unwrap();
    assert_eq!(all.pages, all.copied);
    append(&log, 0, "4").await;
    let again = copy(&checkpointer).unwrap().unwrap();
    assert!(again.pages < 20, "{again:?}");
}

#[tokio::test]
async fn a_file_that_is_removed_or_replaced_stops_the_log() {
    for (file, replaced) in [(reactions::FILE, false), (rollup::FILE, true)] {
        let (dir, every) = (TempDir::new().unwrap(), Duration::from_millis(5));
        let log = EmbeddedLog::open_with(&config(&dir), 1, HISTORY_MS, Arc::new(|| 1), every).await.unwrap();
        append(&log, 0, "tap").await;
        let path = dir.path().join(file);
        if replaced {
            fs::write(dir.path().join("other"), "other").unwrap();
            fs::rename(dir.path().join("other"), &path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        let writer = log.writer().await.unwrap();
        let why = within(async {
            loop {
                match writer.append(0, "tap".into()).await {
                    Ok(()) => tokio::time::sleep(Duration::from_millis(1)).await,
                    Err(AppendError::NotWritten(why)) => break why,
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .await;
        assert!(why.contains(&format!("{file}: it was removed or replaced while it was in use")), "{why}");
        assert!(matches!(log.feed().await.err(), Some(OpenError::Invalid(_))));
    }
}
