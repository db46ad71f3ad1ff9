//! The tier on a log that can only be followed.

use crate::{Deps, Error, History, config::tests::settings, tier::Archive};
use eventlog::{
    BoxFuture, Cut, EventLog, Feed, FeedEvent, Follower, MemoryLog, OpenError, Writer,
    conformance::counting,
    windows::{WindowFollower, WindowOffsets, WindowQuery},
};
use service::{CancellationToken, ManualClock, Readiness};
use std::{fs, path::Path, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle, time};
use wire::{RoomName, Window};

const NOW: u64 = 1_763_000_600_000;

/// The log in memory, without its archive.
struct Unsearchable(Arc<MemoryLog>);

impl EventLog for Unsearchable {
    fn writer(&self) -> BoxFuture<'_, Result<Arc<dyn Writer>, OpenError>> {
        self.0.writer()
    }
    fn feed(&self) -> BoxFuture<'_, Result<Feed, OpenError>> {
        self.0.feed()
    }
    fn follower(&self) -> BoxFuture<'_, Result<Box<dyn Follower>, OpenError>> {
        self.0.follower()
    }
    fn keeps_windows(&self) -> bool {
        true
    }
    fn window_follower(
        &self,
        from: WindowOffsets,
    ) -> BoxFuture<'_, Result<Option<Box<dyn WindowFollower>>, OpenError>> {
        self.0.window_follower(from)
    }
}

/// Commits a window of room `r` for each start.
async fn commit(log: &MemoryLog, starts: &[u64]) {
    let Feed { mut events, committer } = log.feed().await.unwrap();
    let FeedEvent::Assigned { partition, epoch, next_offset, .. } = events.next().await.unwrap() else {
        panic!("no partition")
    };
    let room: RoomName = "r".parse().unwrap();
    for (seq, start) in (1..).zip(starts) {
        let window = Window { start: *start, end: start + 1_000 };
        let aggregate = eventlog_aggregate(&room, seq, window);
        let windows = vec![(room.clone(), aggregate)];
        let cut = Cut { partition, epoch, next_offset, aggregates: Vec::new(), windows };
        committer.commit(vec![cut]).await.unwrap();
    }
}

fn eventlog_aggregate(room: &RoomName, seq: u64, window: Window) -> bytes::Bytes {
    wire::Aggregate { window, ..counting(room, seq, 0) }.encode_window().unwrap().into()
}

struct Tier {
    shared: Arc<crate::tier::Shared>,
    readiness: Readiness,
    stop: CancellationToken,
    running: JoinHandle<Result<(), Error>>,
    _settings: watch::Sender<Arc<crate::Settings>>,
}

fn start(log: &Arc<MemoryLog>, dir: &Path) -> Tier {
    let mut settings = settings();
    settings.config.dir = dir.into();
    let (sender, settings) = watch::channel(Arc::new(settings));
    let readiness = Readiness::default();
    let deps = Deps {
        log: Arc::new(Unsearchable(Arc::clone(log))),
        readiness: readiness.clone(),
        clock: Arc::new(ManualClock::at(NOW)),
    };
    let (history, stop) = (History::new(settings, deps), CancellationToken::new());
    let shared = Arc::clone(history.shared());
    #[expect(clippy::disallowed_methods, reason = "the test joins it")]
    let running = tokio::spawn(history.run(stop.clone()));
    Tier { shared, readiness, stop, running, _settings: sender }
}

impl Tier {
    /// Starts of the windows of room `r`; `None` while there is no archive.
    fn starts(&self) -> Option<Vec<u64>> {
        let archive = match &*self.shared.archive.borrow() {
            Archive::Ready(archive) => Arc::clone(archive),
            _ => return None,
        };
        let room = "r".parse().unwrap();
        let query = WindowQuery { room: &room, partition: 0, span: 0..u64::MAX, max_windows: 1_000 };
        let mut starts = Vec::new();
        archive.search(&query, &mut |record| starts.push(record.window.start)).ok()?;
        Some(starts)
    }

    async fn until(&self, expected: &[u64]) {
        let seen = async {
            while self.starts().is_none_or(|starts| starts != expected) || !self.readiness.is_ready() {
                time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = time::timeout(Duration::from_secs(20), seen).await;
        assert!(waited.is_ok(), "{:?} {:?}", self.starts(), self.readiness.missing());
    }

    async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}

fn log() -> (Arc<MemoryLog>, TempDir) {
    (MemoryLog::new(1), tempfile::tempdir().unwrap())
}

#[tokio::test]
async fn windows_that_were_and_that_come_are_served_once_whatever_breaks() {
    let (log, dir) = log();
    commit(&log, &[NOW - 5_000, NOW - 4_000]).await;
    let tier = start(&log, dir.path());
    tier.until(&[NOW - 5_000, NOW - 4_000]).await;
    commit(&log, &[NOW - 3_000]).await;
    tier.until(&[NOW - 5_000, NOW - 4_000, NOW - 3_000]).await;
    log.break_followers();
    commit(&log, &[NOW - 2_000]).await;
    tier.until(&[NOW - 5_000, NOW - 4_000, NOW - 3_000, NOW - 2_000]).await;
    tier.stop().await;
    let tier = start(&log, dir.path());
    tier.until(&[NOW - 5_000, NOW - 4_000, NOW - 3_000, NOW - 2_000]).await;
    tier.stop().await;
}

#[tokio::test]
async fn an_index_of_another_log_and_a_lost_one_are_made_again() {
    let (first, dir) = log();
    commit(&first, &[NOW - 9_000, NOW - 8_000]).await;
    let tier = start(&first, dir.path());
    tier.until(&[NOW - 9_000, NOW - 8_000]).await;
    tier.stop().await;
    let second = MemoryLog::new(1);
    commit(&second, &[NOW - 3_000]).await;
    let tier = start(&second, dir.path());
    tier.until(&[NOW - 3_000]).await;
    tier.stop().await;
    fs::remove_file(dir.path().join("history.db")).unwrap();
    let tier = start(&second, dir.path());
    tier.until(&[NOW - 3_000]).await;
    tier.stop().await;
}

#[tokio::test]
async fn an_index_that_a_request_finds_damaged_is_made_again() {
    let (log, dir) = log();
    commit(&log, &[NOW - 9_000]).await;
    let tier = start(&log, dir.path());
    tier.until(&[NOW - 9_000]).await;
    let mut archive = tier.shared.archive.subscribe();
    archive.borrow_and_update();
    tier.shared.damaged.notify_one();
    let starting = archive.wait_for(|archive| matches!(archive, Archive::Ready(_)));
    assert!(time::timeout(Duration::from_secs(20), starting).await.is_ok());
    tier.until(&[NOW - 9_000]).await;
    tier.stop().await;
}

#[tokio::test]
async fn windows_that_are_too_old_are_removed() {
    let (log, dir) = log();
    let week = 7 * 86_400_000;
    commit(&log, &[NOW - week - 2_000, NOW - week]).await;
    // Removal begins with the start: before or after the first windows are there.
    start(&log, dir.path()).stop_when(|starts| starts.ends_with(&[NOW - week])).await;
    start(&log, dir.path()).stop_when(|starts| starts == [NOW - week]).await;
}

impl Tier {
    async fn stop_when(self, done: impl Fn(&[u64]) -> bool) {
        let seen = async {
            while !self.starts().is_some_and(|starts| done(&starts)) {
                time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(time::timeout(Duration::from_secs(20), seen).await.is_ok(), "{:?}", self.starts());
        self.stop().await;
    }
}

#[tokio::test]
async fn an_index_that_another_process_uses_ends_the_tier() {
    let (log, dir) = log();
    let tier = start(&log, dir.path());
    tier.until(&[]).await;
    let second = start(&log, dir.path());
    let ended = second.running.await.unwrap().unwrap_err().to_string();
    assert!(ended.contains("another process uses it"), "{ended}");
    tier.stop().await;
}
