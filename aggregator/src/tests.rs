//! The tier on a log in memory: commits, failures and rebalances.

use crate::{Aggregator, Config, Deps, Error, pending::Limits, simulation};
use eventlog::{
    BoxFuture, CommitFault, EventLog, Feed, FeedError, FeedEvent, FeedEvents, Follower, MemoryLog, OpenError,
    Writer,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use service::{CancellationToken, Clock, ManualClock, Readiness};
use std::{
    future::{self, Future},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{self, Instant},
};
use wire::{Aggregate, Batch};

pub(crate) const CONFIG: Config = Config {
    interval_ms: 1_000,
    slots: 2,
    grace_ms: 10,
    room_ttl_ms: 600_000,
    max_rooms: 1_000,
    max_distinct_per_room: 8,
    max_distinct: 1_000_000,
};

/// A running tier. Its clock stands still until a test moves it.
struct Tier {
    log: Arc<MemoryLog>,
    clock: ManualClock,
    config: watch::Sender<Arc<Config>>,
    readiness: Readiness,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), Error>>,
}

fn start(partitions: u32) -> Tier {
    let clock = ManualClock::at(1_000_000);
    let hand = clock.clone();
    start_on(MemoryLog::with_clock(partitions, Arc::new(move || hand.now_ms())), clock)
}

fn start_on(log: Arc<MemoryLog>, clock: ManualClock) -> Tier {
    start_with(log, clock, Limits::default())
}

fn start_with(log: Arc<MemoryLog>, clock: ManualClock, limits: Limits) -> Tier {
    let (config, readiness) = (watch::Sender::new(Arc::new(CONFIG)), Readiness::default());
    let deps =
        Deps { log: Arc::clone(&log) as _, readiness: readiness.clone(), clock: Arc::new(clock.clone()) };
    let shutdown = CancellationToken::new();
    #[expect(clippy::disallowed_methods, reason = "each test joins it")]
    let running =
        tokio::spawn(Aggregator::new(config.subscribe(), deps).with_limits(limits).run(shutdown.clone()));
    Tier { log, clock, config, readiness, shutdown, running }
}

/// A room that lives in the partition.
fn room_of(log: &MemoryLog, partition: u32) -> String {
    let mut rooms = (0..).map(|n| format!("r{n}"));
    rooms.find(|room| log.partition_of(&room.parse().unwrap()) == partition).unwrap()
}

fn batch(room: &str, count: u64) -> Batch {
    Batch::new(room.parse().unwrap(), [("🔥".parse().unwrap(), count)].into()).unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = time::timeout(Duration::from_secs(60), async {
        while !holds() {
            time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited for {what}");
}

impl Tier {
    fn react(&self, room: &str, count: u64) -> impl Future<Output = ()> + use<> {
        let batch = batch(room, count);
        let log: Arc<dyn eventlog::EventLog> = Arc::clone(&self.log) as _;
        async move {
            let writer = log.writer().await.unwrap();
            let partition = eventlog::partition_of(&batch.room, writer.partitions());
            writer.append(partition, batch.encode().into()).await.unwrap();
        }
    }

    fn aggregates(&self) -> Vec<Aggregate> {
        let all = self.log.aggregates();
        all.into_iter().filter_map(|(_, _, value)| Some(Aggregate::decode(&value?).unwrap())).collect()
    }

    fn total(&self, room: &str) -> u64 {
        self.aggregates().iter().rev().find(|a| &*a.room == room).map_or(0, |a| a.total)
    }

    /// Moves the clock on, bit by bit, until the room has come to rest at this total.
    async fn until_total(&self, room: &str, total: u64) {
        until("the total", || {
            self.clock.set(self.clock.now_ms() + 50);
            self.total(room) == total
        })
        .await;
    }

    /// Writes one reaction to partition 0.
    fn push(&self, timestamp_ms: u64) {
        let batch = batch(&room_of(&self.log, 0), 1);
        self.log.push_raw(0, timestamp_ms, batch.encode());
    }

    /// Writes so many, ten a window.
    fn backlog(&self, count: u64, from_ms: u64) {
        (0..count).for_each(|n| self.push(from_ms + 100 * n));
    }

    /// Lets the tier do what it can do without the clock.
    async fn rest(&self) {
        time::sleep(Duration::from_secs(2)).await;
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// What the gauge says.
fn gauge(metrics: &PrometheusHandle, name: &str) -> String {
    let all = metrics.render();
    let line = all.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or("missing").to_owned()
}

fn audit(log: &MemoryLog) {
    let report = simulation::audit(log);
    assert!(report.is_clean(), "{:?}", report.findings);
}

#[tokio::test(start_paused = true)]
async fn windows_are_committed_with_the_offset_of_their_cut() {
    let tier = start(1);
    tier.react("r", 3).await;
    tier.react("r", 4).await;
    tier.until_total("r", 7).await;
    assert_eq!(tier.log.committed(0), 2);
    audit(&tier.log);
    tier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_of_an_open_window_is_committed_by_a_stop_and_the_next_one_counts_it() {
    let tier = start(1);
    until("readiness", || tier.readiness.missing().is_empty()).await;
    tier.react("r", 3).await;
    let (log, clock) = (Arc::clone(&tier.log), tier.clock.clone());
    tier.stop().await;
    assert_eq!((log.committed(0), log.aggregates().len()), (0, 0));
    let tier = start_on(log, clock);
    tier.until_total("r", 3).await;
    tier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_the_commit_under_way_and_starts_no_other() {
    let (log, clock) = (MemoryLog::new(1), ManualClock::at(2_000_000));
    let tier = start_with(log, clock, Limits { commit: 1, waiting: 100 });
    tier.log.hold_commits(true);
    tier.backlog(100, 1_000_000);
    tier.rest().await;
    let log = Arc::clone(&tier.log);
    tier.shutdown.cancel();
    tier.rest().await;
    assert!(!tier.running.is_finished());
    log.hold_commits(false);
    tier.stop().await;
    assert_eq!((log.committed(0), log.aggregates().len()), (10, 1));
}

#[tokio::test(start_paused = true)]
async fn a_window_that_is_due_waits_until_its_records_are_read() {
    let tier = start(1);
    tier.react(&room_of(&tier.log, 0), 1).await;
    tier.until_total(&room_of(&tier.log, 0), 1).await;
    tier.clock.set(2_000_000);
    // More than one event brings.
    for _ in 0..1_200 {
        tier.push(1_900_000);
    }
    tier.until_total(&room_of(&tier.log, 0), 1_201).await;
    let counts: Vec<_> = tier.aggregates().iter().map(|a| (a.count, a.late)).collect();
    assert_eq!(counts.iter().filter(|(count, _)| *count > 0).collect::<Vec<_>>(), [&(1, 0), &(1_200, 0)]);
    tier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn while_the_log_takes_no_windows_reading_pauses() {
    let (log, clock) = (MemoryLog::new(1), ManualClock::at(2_000_000));
    let tier = start_with(log, clock, Limits { commit: 10, waiting: 20 });
    // A commit is refused after its partition has come back: nothing is left to wait for, and the bound holds.
    tier.log.hold_commits(true);
    tier.backlog(50, 1_000_000);
    tier.rest().await;
    tier.log.revoke(0);
    tier.rest().await;
    tier.log.assign(0);
    tier.log.hold_commits(false);
    until("the windows", || tier.log.committed(0) == 50).await;
    tier.log.hold_commits(true);
    tier.clock.set(4_000_000);
    tier.backlog(10_000, 2_100_000);
    tier.rest().await;
    assert!(tier.log.taken(0) < Some(2_000), "{:?}", tier.log.taken(0));
    tier.log.hold_commits(false);
    tier.until_total(&room_of(&tier.log, 0), 10_050).await;
    audit(&tier.log);
    tier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_commit_is_tried_again_and_counts_once() {
    let tier = start(2);
    tier.log.fail_commits([CommitFault::Retry, CommitFault::Retry]);
    for n in 0..6 {
        tier.react(&format!("r{n}"), 1 + n).await;
    }
    for n in 0..6 {
        tier.until_total(&format!("r{n}"), 1 + n).await;
    }
    audit(&tier.log);
    tier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_with_unknown_outcome_is_looked_up_in_the_log() {
    for fault in [CommitFault::LostBefore, CommitFault::LostAfter] {
        let tier = start(1);
        tier.log.fail_commits([fault]);
        tier.react("r", 5).await;
        tier.until_total("r", 5).await;
        tier.react("r", 2).await;
        tier.until_total("r", 7).await;
        audit(&tier.log);
        tier.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_moves_in_the_middle_of_a_window_is_counted_once() {
    let tier = start(1);
    tier.react("r", 5).await;
    tier.until_total("r", 5).await;
    tier.react("r", 1).await;
    tier.log.revoke(0);
    tier.react("r", 1).await;
    tier.log.assign(0);
    tier.until_total("r", 7).await;
    audit(&tier.log);
    tier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_lost_during_its_commit_is_not_written_and_the_rest_is() {
    let tier = start(1);
    tier.log.hold_commits(true);
    tier.react("r", 5).await;
    // The window is closed, and its commit hangs.
    for _ in 0..60 {
        tier.clock.set(tier.clock.now_ms() + 50);
        time::sleep(Duration::from_millis(10)).await;
    }
    tier.log.revoke(0);
    tier.log.hold_commits(false);
    tier.rest().await;
    assert_eq!(tier.aggregates(), []);
    tier.log.assign(0);
    tier.until_total("r", 5).await;
    audit(&tier.log);
    tier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_lost_while_nothing_more_may_wait_holds_the_others_up_for_no_longer_than_that() {
    let (log, clock) = (MemoryLog::new(2), ManualClock::at(1_000_000));
    let tier = start_with(log, clock, Limits { commit: 10, waiting: 1 });
    until("readiness", || tier.readiness.missing().is_empty()).await;
    tier.log.hold_commits(true);
    let (lost, kept) = (room_of(&tier.log, 0), room_of(&tier.log, 1));
    tier.react(&lost, 5).await;
    tier.react(&kept, 7).await;
    // Both windows are closed: one waits for its commit, the other for its turn.
    for _ in 0..60 {
        tier.clock.set(tier.clock.now_ms() + 50);
        time::sleep(Duration::from_millis(10)).await;
    }
    tier.log.revoke(0);
    tier.log.hold_commits(false);
    tier.until_total(&kept, 7).await;
    tier.log.assign(0);
    tier.until_total(&lost, 5).await;
    audit(&tier.log);
    tier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_with_a_backlog_does_not_hold_up_the_windows_of_the_others() {
    let tier = start(2);
    until("readiness", || tier.readiness.missing().is_empty()).await;
    let (far_behind, current) = (room_of(&tier.log, 0), room_of(&tier.log, 1));
    tier.react(&current, 5).await;
    // Not for a whole number of seconds, or the tier looks at the clock by itself.
    until("it to be read", || tier.log.taken(1) == Some(1)).await;
    // The window of one is due when the other has records of 1,000 windows to read.
    tier.clock.set(tier.clock.now_ms() + 5_000);
    tier.backlog(10_000, 1_000);
    tier.until_total(&far_behind, 10_000).await;
    let order: Vec<_> = tier.aggregates().iter().map(|a| a.room.to_string()).collect();
    assert!(order.iter().position(|room| *room == current) < Some(100));
    audit(&tier.log);
    tier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_a_room_that_lives_in_another_partition_is_passed_over() {
    let tier = start(2);
    let [here, elsewhere] = [0, 1].map(|partition| room_of(&tier.log, partition));
    let mut value = batch(&elsewhere, 1).encode();
    batch(&here, 2).encode_into(&mut value);
    tier.log.push_raw(0, tier.clock.now_ms(), value);
    tier.react(&elsewhere, 4).await;
    tier.until_total(&here, 2).await;
    tier.until_total(&elsewhere, 4).await;
    tier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn corrupt_and_alien_records_are_passed_over() {
    let tier = start(1);
    for poison in [&b"\xff\x00"[..], b"", b"{\"v\":7}", b"[]"] {
        tier.log.push_raw(0, 1_000_000, poison.to_vec());
    }
    let mut value = batch("s", 3).encode();
    value.extend(b"\n{\"v\":7}\n");
    batch("r", 1).encode_into(&mut value);
    tier.log.push_raw(0, 1_000_000, value);
    tier.react("r", 2).await;
    tier.until_total("r", 3).await;
    assert_eq!((tier.total("s"), tier.log.committed(0)), (3, 6));
    audit(&tier.log);
    tier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_feed_and_a_log_that_is_away_are_waited_for() {
    let tier = start(1);
    tier.react("r", 2).await;
    tier.until_total("r", 2).await;
    tier.log.fail_opens(3);
    tier.log.break_feeds();
    let broken = Instant::now();
    let says = |what: &str| tier.readiness.missing().iter().any(|(_, why)| why.contains(what));
    until("unreadiness", || says("removed from the group")).await;
    until("the log to be away", || says("can't be reached")).await;
    until("readiness", || tier.readiness.missing().is_empty()).await;
    assert!(broken.elapsed() >= Duration::from_secs(4), "a pause after each failure: {:?}", broken.elapsed());
    tier.react("r", 2).await;
    tier.until_total("r", 4).await;
    audit(&tier.log);
    tier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_interval_applies_to_the_next_window() {
    let tier = start(1);
    tier.react("r", 1).await;
    tier.until_total("r", 1).await;
    tier.config.send_replace(Arc::new(Config { interval_ms: 300, ..CONFIG }));
    for total in 2..8 {
        tier.react("r", 1).await;
        tier.until_total("r", total).await;
    }
    let lengths: Vec<_> = tier.aggregates().iter().map(|a| a.window.len_ms()).collect();
    assert_eq!((lengths[0], lengths.last()), (1_000, Some(&300)), "{lengths:?}");
    audit(&tier.log);
    tier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn rooms_of_partitions_that_are_gone_are_not_in_the_metric() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _here = metrics::set_default_local_recorder(&recorder);
    let rooms = || gauge(&metrics, crate::metrics::ROOMS);
    let tier = start(2);
    for partition in 0..2 {
        let room = room_of(&tier.log, partition);
        tier.react(&room, 1).await;
        tier.until_total(&room, 1).await;
    }
    until("both rooms", || rooms() == "2").await;
    tier.log.revoke(0);
    let revoked = Instant::now();
    until("one room to be gone", || rooms() == "1").await;
    assert!(revoked.elapsed() < Duration::from_millis(100), "it waits for nothing else");
    // Away from the group, and not let in again.
    tier.log.fail_opens(1_000);
    tier.log.break_feeds();
    until("unreadiness", || !tier.readiness.missing().is_empty()).await;
    assert_eq!(rooms(), "0");
    tier.log.fail_opens(0);
    tier.log.assign(0);
    until("both rooms again", || rooms() == "2").await;
    tier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_can_commit_nothing_is_unready_until_a_commit_ends_well_or_has_nothing_left_to_commit() {
    let tier = start(1);
    until("readiness", || tier.readiness.missing().is_empty()).await;
    let fails = || tier.readiness.missing().iter().any(|(_, why)| why.contains("can't be committed"));
    let until_failing = async || {
        until("unreadiness", || {
            tier.clock.set(tier.clock.now_ms() + 50);
            fails()
        })
        .await;
    };
    tier.log.fail_commits([CommitFault::Retry; 40]);
    tier.react("r", 2).await;
    until_failing().await;
    assert_eq!(tier.total("r"), 0);
    tier.until_total("r", 2).await;
    until("readiness", || tier.readiness.missing().is_empty()).await;

    tier.log.fail_commits([CommitFault::Retry; 40]);
    tier.react("r", 3).await;
    until_failing().await;
    tier.log.revoke(0);
    until("readiness", || tier.readiness.missing().is_empty()).await;
    assert_eq!(tier.total("r"), 2, "the windows went with their partition");
    tier.log.assign(0);
    tier.until_total("r", 5).await;
    audit(&tier.log);
    tier.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_stays_in_a_rebalance_which_refuses_a_commit_stays_ready() {
    let tier = start(1);
    until("readiness", || tier.readiness.missing().is_empty()).await;
    tier.log.fail_commits([CommitFault::Retry; 10]);
    tier.react("r", 2).await;
    until("the total", || {
        tier.clock.set(tier.clock.now_ms() + 50);
        assert_eq!(tier.readiness.missing(), []);
        tier.total("r") == 2
    })
    .await;
    tier.stop().await;
}

/// A log whose group takes nobody in.
struct Closed {
    log: Arc<MemoryLog>,
    readiness: Readiness,
    tries: watch::Sender<u32>,
}

impl EventLog for Closed {
    fn writer(&self) -> BoxFuture<'_, Result<Arc<dyn Writer>, OpenError>> {
        self.log.writer()
    }
    fn feed(&self) -> BoxFuture<'_, Result<Feed, OpenError>> {
        Box::pin(async {
            let Feed { committer, .. } = self.log.feed().await?;
            self.tries.send_modify(|tries| *tries += 1);
            Ok(Feed { events: Box::new(KeptOut(self.readiness.clone())), committer })
        })
    }
    fn follower(&self) -> BoxFuture<'_, Result<Box<dyn Follower>, OpenError>> {
        self.log.follower()
    }
}

struct KeptOut(Readiness);

impl FeedEvents for KeptOut {
    fn next(&mut self) -> BoxFuture<'_, Result<FeedEvent, FeedError>> {
        Box::pin(async {
            assert!(!self.0.missing().is_empty(), "it can't work");
            Err(FeedError::Reopen("kept out".into()))
        })
    }
    fn close(self: Box<Self>, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(future::ready(()))
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_kept_out_of_the_group_is_at_no_time_ready_and_says_why() {
    let (_config, config) = watch::channel(Arc::new(CONFIG));
    let (readiness, clock) = (Readiness::default(), Arc::new(ManualClock::at(1_000_000)));
    let (tries, mut tried) = watch::channel(0);
    let log = Arc::new(Closed { log: MemoryLog::new(1), readiness: readiness.clone(), tries });
    let stop = CancellationToken::new();
    let running =
        Aggregator::new(config, Deps { log, readiness: readiness.clone(), clock }).run(stop.clone());
    let watching = async {
        tried.wait_for(|tries| *tries == 5).await.unwrap();
        stop.cancel();
        readiness.missing()
    };
    let (ended, missing) = tokio::join!(running, watching);
    ended.unwrap();
    assert!(missing.iter().any(|(_, why)| why.contains("kept out")), "{missing:?}");
}

/// A log that does not answer.
struct Silent;

impl EventLog for Silent {
    fn writer(&self) -> BoxFuture<'_, Result<Arc<dyn Writer>, OpenError>> {
        Box::pin(future::pending())
    }
    fn feed(&self) -> BoxFuture<'_, Result<Feed, OpenError>> {
        Box::pin(future::pending())
    }
    fn follower(&self) -> BoxFuture<'_, Result<Box<dyn Follower>, OpenError>> {
        Box::pin(future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_log_that_does_not_answer_can_be_stopped() {
    let (_config, config) = watch::channel(Arc::new(CONFIG));
    let (readiness, clock) = (Readiness::default(), Arc::new(ManualClock::at(1_000_000)));
    let deps = Deps { log: Arc::new(Silent), readiness: readiness.clone(), clock };
    let stop = CancellationToken::new();
    let running = Aggregator::new(config, deps).run(stop.clone());
    let stopping = async {
        time::sleep(Duration::from_secs(5)).await;
        assert!(!readiness.missing().is_empty(), "it can't work");
        stop.cancel();
        Instant::now()
    };
    let (ended, asked) = tokio::join!(running, stopping);
    assert!(ended.is_ok() && asked.elapsed() < Duration::from_millis(100));
}
