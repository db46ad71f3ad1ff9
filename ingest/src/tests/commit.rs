//! From the request to the log: when it is answered, what becomes one record, and that the sums agree.

use super::*;
use crate::Ack;
use eventlog::{Append, BoxFuture, Writer};
use std::sync::Mutex;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn nobody_is_answered_before_the_record_is_durable() {
    let rig = Rig::open(config()).await;
    rig.log.hold_appends(true);
    let mut crowd = rig.crowd("r", 3);
    until(|| rig.log.held_appends() == 1).await;
    sleep(Duration::from_secs(1)).await;
    assert!(crowd.try_join_next().is_none());
    assert_eq!(rig.inside(), 3);
    rig.log.hold_appends(false);
    assert_eq!(statuses(crowd).await, [202; 3]);
    assert_eq!((rig.total("r"), rig.inside()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn the_requests_of_one_interval_become_one_record() {
    let rig = Rig::open(config()).await;
    assert_eq!(statuses(rig.crowd("r", 100)).await, [202; 100]);
    let records = rig.log.reactions(rig.log.partition_of(&"r".parse().unwrap()));
    assert_eq!(records.len(), 1);
    let batch = Batch::decode(&records[0].value).unwrap();
    assert_eq!((batch.counts["🔥"], batch.count), (100, 100));
}

/// Writes all but what is for one partition.
struct Stuck {
    writer: Arc<dyn Writer>,
    partition: u32,
    kept: Mutex<Vec<Append>>,
}

impl Writer for Stuck {
    fn partitions(&self) -> u32 {
        self.writer.partitions()
    }

    fn send(&self, appends: Vec<Append>) {
        let (kept, written) = appends.into_iter().partition(|append| append.partition == self.partition);
        self.kept.lock().unwrap().extend::<Vec<_>>(kept);
        self.writer.send(written);
    }

    fn flush(&self, deadline: Duration) -> BoxFuture<'_, ()> {
        self.writer.flush(deadline)
    }
}

/// A tier whose writer keeps what is for the partition of room c, and not what is for that of room a. What comes next waits for the
/// interval, and is handed over together.
async fn stuck_at_c() -> (Rig, Arc<Stuck>) {
    let rig = Rig::open(config()).await;
    let [ok, hangs] = ["a", "c"].map(|room| rig.log.partition_of(&room.parse().unwrap()));
    assert_ne!(ok, hangs);
    let writer = rig.log.writer().await.unwrap();
    let stuck = Arc::new(Stuck { writer, partition: hangs, kept: Mutex::default() });
    rig.shared.handover.open(Arc::<Stuck>::clone(&stuck));
    assert_eq!(rig.post("a", FIRE).await.status, 202);
    (rig, stuck)
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_hangs_does_not_keep_those_of_others_from_being_told() {
    let (rig, stuck) = stuck_at_c().await;
    let (waits, told) = (rig.crowd("c", 1), statuses(rig.crowd("a", 3)));
    assert_eq!(tokio::time::timeout(Duration::from_millis(100), told).await.unwrap(), [202; 3]);
    assert_eq!((stuck.kept.lock().unwrap().len(), rig.inside()), (1, 1));
    stuck.kept.lock().unwrap().drain(..).for_each(|append| (append.done)(Ok(())));
    assert_eq!(statuses(waits).await, [202]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_the_log_drops_without_a_word_may_have_been_counted() {
    let (rig, stuck) = stuck_at_c().await;
    let waits = rig.crowd("c", 2);
    until(|| !stuck.kept.lock().unwrap().is_empty()).await;
    stuck.kept.lock().unwrap().clear();
    // At once, and not when they have waited too long.
    let told = tokio::time::timeout(Duration::from_millis(100), statuses(waits)).await;
    assert_eq!(told.unwrap(), [504; 2]);
    assert!(rig.shared.batches.is_empty(), "the partition waits for nothing");
}

#[tokio::test(start_paused = true)]
async fn the_interval_can_be_changed_while_running() {
    let rig = Rig::open(Config { commit_interval_ms: 1_000, ..config() }).await;
    let took = async || {
        let start = Instant::now();
        assert_eq!(rig.post("r", FIRE).await.status, 202);
        start.elapsed()
    };
    // Past the first, which may come at any moment of the interval.
    took().await;
    assert!(took().await > Duration::from_millis(900));
    rig.reload(Config { commit_interval_ms: 20, ..config() }).await;
    took().await;
    assert!(took().await < Duration::from_millis(30));
}

#[tokio::test(start_paused = true)]
async fn with_ack_received_the_answer_comes_at_once() {
    let rig = Rig::open(Config { ack: Ack::Received, ..config() }).await;
    rig.log.hold_appends(true);
    let start = Instant::now();
    assert_eq!(statuses(rig.crowd("r", 100)).await, [202; 100]);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(rig.total("r"), 0);
    rig.log.hold_appends(false);
    until(|| rig.total("r") == 100).await;
}

/// If HTTP drops the request, as the library does when its connection is gone (`ways.rs`).
#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_makes_room_for_another_and_its_reaction_counts() {
    let rig = Rig::open(Config { max_waiting: 1, ..config() }).await;
    rig.log.hold_appends(true);
    let crowd = rig.crowd("r", 1);
    until(|| rig.inside() == 1).await;
    drop(crowd);
    until(|| rig.inside() == 0).await;
    rig.log.hold_appends(false);
    assert_eq!(rig.post("r", FIRE).await.status, 202);
    assert_eq!(rig.total("r"), 2);
}

#[tokio::test(start_paused = true)]
async fn what_happens_can_be_seen_in_the_metrics_and_rooms_are_no_labels() {
    let (handle, _recording) = recorded();
    let rig = Rig::open(config()).await;
    rig.post("hidden-room", r#"{"reaction":"🔥","count":7}"#).await;
    rig.post("hidden-room", "{").await;
    rig.log.fail_appends(Some(eventlog::AppendError::NotWritten("full".into())));
    rig.post("hidden-room", FIRE).await;
    rig.stop().await.unwrap();
    let text = handle.render();
    for line in [
        "uproar_ingest_accepted_total 7",
        "uproar_ingest_committed_total 7",
        "uproar_ingest_in_doubt_total 0",
        "uproar_ingest_requests_total{status=\"202\"} 1",
        "uproar_ingest_requests_total{status=\"400\"} 1",
        "uproar_ingest_requests_total{status=\"503\"} 1",
        "uproar_ingest_requests_total{status=\"504\"} 0",
        "uproar_ingest_refused_total{cause=\"body\"} 1",
        "uproar_ingest_refused_total{cause=\"not_written\"} 1",
        "uproar_ingest_batches_total{outcome=\"committed\"} 1",
        "uproar_ingest_batches_total{outcome=\"not_written\"} 1",
        "uproar_ingest_commit_seconds_count 2",
        "uproar_ingest_waiting_requests 0",
        "uproar_ingest_open_rooms 0",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(!text.contains("hidden-room"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn gauges_show_who_waits_and_that_nobody_does_any_more() {
    let (handle, _recording) = recorded();
    let rig = Rig::open(config()).await;
    let shows = |line: &str| handle.render().lines().any(|shown| shown == line);
    rig.log.hold_appends(true);
    let crowd = rig.crowd("r", 3);
    until(|| shows("uproar_ingest_waiting_requests 3")).await;
    rig.log.hold_appends(false);
    assert_eq!(statuses(crowd).await, [202; 3]);
    until(|| shows("uproar_ingest_waiting_requests 0") && shows("uproar_ingest_open_rooms 0")).await;
}
