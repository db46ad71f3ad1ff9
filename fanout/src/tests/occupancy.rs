//! How many viewers a room has, as viewers are told, and as processes tell each other.

use super::{
    counted::value,
    events,
    harness::{PATIENCE, Stage, aggregate, config, recorded},
    live::Client,
    raw::Raw,
    snapshot::{body, get},
};
use crate::{
    Config,
    fanout::Shared,
    mqtt::Version,
    occupancy::Sharing,
    registry::{Limits, Watch},
};
use eventlog::MemoryLog;
use service::CancellationToken;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use wire::{Frame, RoomName};

fn counting() -> Config {
    Config { occupancy: true, ..config() }
}

fn final_room() -> RoomName {
    "final".parse().unwrap()
}

async fn until_counted(stage: &Stage, viewers: u64) {
    stage.until(|stage| stage.registry().viewers_of(&final_room()) == viewers).await;
}

async fn snapshot(stage: &Stage) -> Frame {
    Frame::decode(body(get(stage, "/v1/rooms/final", &[]).await).await.as_bytes()).unwrap()
}

#[tokio::test]
async fn viewers_of_every_protocol_are_counted_and_told() {
    let mut config = counting();
    config.mqtt.wildcards = true;
    let stage = Stage::start(config).await;
    let mut everything = Raw::connected(&stage, Version::V311).await;
    assert_eq!(everything.subscribe("reactions/+", 0).await, 0);
    let mut websocket = Client::connect(&stage, "final").await;
    websocket.hello().await;
    let mut mqtt = Raw::watching(&stage, Version::V5, "final").await;
    assert_eq!(mqtt.subscribe("reactions/final", 0).await, 0, "a second time");
    let mut edge = events::Viewer::watching(&stage, "final", events::WAYS[0]).await;
    let mut library = events::Viewer::watching(&stage, "final", events::WAYS[1]).await;
    until_counted(&stage, 4).await;

    stage.show(&aggregate("final", 1)).await;
    let told = [
        websocket.frame().await,
        mqtt.message().await.frame,
        edge.frame().await,
        library.frame().await,
        everything.message().await.frame,
        snapshot(&stage).await,
    ];
    for frame in &told {
        assert_eq!((frame.seq, frame.viewers), (1, Some(4)));
    }
    let rooms = body(get(&stage, "/v1/rooms", &[]).await).await;
    assert!(rooms.contains("\"viewers\":4"), "{rooms}");

    drop((edge, library));
    assert_eq!(mqtt.unsubscribe("reactions/final").await.len(), 1);
    until_counted(&stage, 1).await;
    assert_eq!(snapshot(&stage).await.viewers, Some(4), "a quiet room shows its last frame as it was");
    stage.show(&aggregate("final", 2)).await;
    assert_eq!(websocket.frame().await.viewers, Some(1));
    drop(websocket);
    until_counted(&stage, 0).await;
    stage.show(&aggregate("final", 3)).await;
    assert_eq!(snapshot(&stage).await.viewers, Some(0));
}

#[tokio::test]
async fn frames_tell_no_viewers_where_that_is_off_and_it_can_be_turned_while_running() {
    let stage = Stage::start(counting()).await;
    for (seq, on) in [(1, true), (2, false), (3, true)] {
        stage.reload(|config| config.occupancy = on);
        stage.show(&aggregate("final", seq)).await;
        assert_eq!(snapshot(&stage).await.viewers, on.then_some(0), "frame {seq}");
    }
}

/// A process without sockets, that tells others of its viewers.
struct Process {
    shared: Arc<Shared>,
    config: watch::Sender<Arc<Config>>,
    stop: CancellationToken,
    running: JoinSet<()>,
    watch: Watch,
}

impl Process {
    fn start(log: &Arc<MemoryLog>, viewers: u32) -> Self {
        let (config, receiver) = watch::channel(Arc::new(counting()));
        let none = (watch::Sender::default().subscribe(), watch::Sender::default().subscribe());
        let shared = Shared::new(receiver, none.0, none.1, Arc::default());
        let mut watch = shared.registry.watch(&final_room(), Limits::of(&counting())).unwrap();
        (0..viewers).for_each(|_| watch.join());
        let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
        let log: Arc<MemoryLog> = Arc::clone(log);
        running.spawn(Sharing { log, shared: Arc::clone(&shared) }.run(stop.clone()));
        Self { shared, config, stop, running, watch }
    }

    /// Waits until frames would tell so many, and returns how long that took.
    async fn until(&self, viewers: u64) -> Duration {
        let start = Instant::now();
        let look = async {
            while self.shared.registry.viewers_of(&final_room()) != viewers {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{viewers} viewers are never counted"));
        start.elapsed()
    }

    async fn stop(mut self) {
        self.stop.cancel();
        timeout(PATIENCE, self.running.join_next()).await.expect("it ends");
    }

    /// As kill -9 does.
    async fn kill(mut self) {
        self.running.shutdown().await;
    }

    fn turn(&self, on: bool) {
        self.config.send_modify(|config| Arc::make_mut(config).occupancy = on);
    }
}

const S: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn processes_add_up_each_others_viewers() {
    let log = MemoryLog::new(1);
    let (mut first, second) = (Process::start(&log, 3), Process::start(&log, 20));
    first.until(23).await;
    second.until(23).await;
    first.watch.join();
    assert_eq!(first.until(24).await, Duration::ZERO, "own viewers count at once");
    assert!(second.until(24).await <= 2 * S);
    let third = Process::start(&log, 100);
    assert!(third.until(124).await <= 4 * S, "all are told again");
    assert!(first.until(124).await <= S);
    third.stop().await;
    assert!(first.until(24).await <= S && second.until(24).await <= S, "a stop is told");
}

/// A full report comes every 3 s, and a tick every half second.
const PHASES_MS: [u64; 6] = [0, 500, 1_000, 1_500, 2_000, 2_500];

#[tokio::test(start_paused = true)]
async fn a_process_that_was_killed_is_forgotten_one_window_before_ten_seconds() {
    const WINDOW: Duration = Duration::from_secs(2);
    for phase in PHASES_MS.map(Duration::from_millis) {
        let log = MemoryLog::new(1);
        let (first, second) = (Process::start(&log, 3), Process::start(&log, 20));
        first.until(23).await;
        sleep(phase).await;
        second.kill().await;
        let counted = first.until(3).await;
        assert!(counted > 3 * S && counted + WINDOW < 10 * S, "{counted:?} after {phase:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_lost_report_about_all_rooms_changes_nothing() {
    for phase in PHASES_MS.map(Duration::from_millis) {
        let log = MemoryLog::new(1);
        let (first, _second) = (Process::start(&log, 3), Process::start(&log, 20));
        first.until(23).await;
        sleep(phase + Duration::from_millis(100)).await;
        for (lose, span) in [(true, 3 * S), (false, 5 * S)] {
            log.lose_occupancy(lose);
            let start = Instant::now();
            while start.elapsed() < span {
                sleep(Duration::from_millis(10)).await;
                assert_eq!(first.shared.registry.viewers_of(&final_room()), 23, "after {phase:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_channel_is_away_own_viewers_count_and_a_metric_tells() {
    let (handle, _recording) = recorded();
    crate::metrics::describe_occupancy();
    let connected = || value(&handle, "uproar_fanout_occupancy_connected");
    let records =
        |outcome| value(&handle, &format!("uproar_fanout_occupancy_records_total{{outcome=\"{outcome}\"}}"));
    let log = MemoryLog::new(1);
    let (first, second) = (Process::start(&log, 3), Process::start(&log, 20));
    first.until(23).await;
    sleep(S).await;
    assert_eq!(connected(), 1.0);
    log.lose_occupancy(true);
    assert!(first.until(3).await <= 8 * S);
    sleep(4 * S).await;
    assert_eq!(connected(), 0.0);
    log.lose_occupancy(false);
    assert!(first.until(23).await <= 5 * S);
    log.send_occupancy("what is this");
    second.until(23).await;
    sleep(S).await;
    assert_eq!((connected(), records("malformed")), (1.0, 2.0), "each of the two reads it");
    // The first record of all came before the second process heard any.
    assert!(records("sent") >= 4.0 && records("received") >= 3.0);
    assert_eq!(records("not_sent"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_broken_channel_is_opened_again() {
    let log = MemoryLog::new(1);
    let (first, second) = (Process::start(&log, 3), Process::start(&log, 20));
    first.until(23).await;
    log.break_occupancy();
    assert!(first.until(3).await <= S, "nobody knows what the other has");
    assert!(first.until(23).await <= 7 * S);
    second.until(23).await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_turned_off_tells_that_it_counts_nobody() {
    let log = MemoryLog::new(1);
    let (first, second) = (Process::start(&log, 3), Process::start(&log, 20));
    first.until(23).await;
    second.turn(false);
    assert!(first.until(3).await <= 2 * S);
    sleep(20 * S).await;
    second.turn(true);
    assert!(first.until(23).await <= 2 * S);
    assert!(second.until(23).await <= 5 * S);
}
