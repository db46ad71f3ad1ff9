//! A running tier over a log in memory.

use crate::{
    BridgeConfig, BrokerConfig, Config, Deps, Error, Fanout, MqttConfig, fanout::Shared, http::Routes,
    registry::Registry,
};
use bytes::Bytes;
use eventlog::{Cut, EventLog, Feed, FeedEvent, MemoryLog};
use metrics::LocalRecorderGuard;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use service::{CancellationToken, Readiness};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinSet};
use wire::{Aggregate, RoomName, Source, Window};

/// Nothing that is waited for takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What this thread counts from now on, for as long as the guard is there. The recorder is the thread's own, and tests that ask for
/// it have one thread each.
pub(crate) fn recorded() -> (PrometheusHandle, LocalRecorderGuard<'static>) {
    let recorder: &PrometheusRecorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
    let guard = metrics::set_default_local_recorder(recorder);
    crate::metrics::describe();
    crate::metrics::describe_bridge();
    (recorder.handle(), guard)
}

/// What the tier needs, over a log, with every reaction allowed.
pub(crate) fn deps(log: Arc<dyn EventLog>) -> Deps {
    Deps {
        log,
        readiness: Readiness::default(),
        catalogue: watch::Sender::default().subscribe(),
        rooms: watch::Sender::default().subscribe(),
        orders: Arc::default(),
    }
}

/// A config for tests: patient with viewers, no broker.
pub(crate) fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".into(),
        top_n: 10,
        shards: 2,
        max_viewers: 100,
        max_viewers_per_address: 0,
        max_rooms_per_viewer: 4,
        max_rooms_watched: 10,
        list_rooms: true,
        // Most tests compare whole frames.
        occupancy: false,
        web: true,
        frame_ancestors: Default::default(),
        snapshot_max_age_s: 1,
        cors_origins: vec!["*".into()].into(),
        reconnect_jitter_ms: 5_000,
        post_ms: 1_000,
        ping_interval_ms: 60_000,
        pong_timeout_ms: 60_000,
        write_timeout_ms: 60_000,
        send_buffer_bytes: 16_384,
        unsent_bytes: 512,
        drain_viewers_per_s: 500,
        drain_ms: 5_000,
        mqtt: MqttConfig {
            enabled: true,
            listen: "127.0.0.1:0".into(),
            connect_timeout_ms: 60_000,
            max_keep_alive_s: 300,
            max_packet_bytes: 4_096,
            wildcards: false,
        },
        broker: BrokerConfig { enabled: false, listen: "127.0.0.1:0".into(), max_connections: 10 },
        bridge: BridgeConfig {
            enabled: false,
            host: "127.0.0.1".into(),
            port: 1883,
            client_id: String::new(),
            username: String::new(),
            password: "".into(),
            tls: false,
            ca_file: "".into(),
            qos: 0,
            topic_prefix: "reactions/".into(),
            keep_alive_s: 20,
        },
    }
}

/// The `seq`th aggregate of a room: three reactions in it, in windows of 2 s.
pub(crate) fn aggregate(room: &str, seq: u64) -> Aggregate {
    let (since, start) = (1_763_000_000_000, 1_763_000_000_000 + 2_000 * seq);
    let counts = |n: u64| [("fire", 2 * n), ("clap", n)].map(|(name, n)| (name.parse().unwrap(), n)).into();
    Aggregate {
        v: wire::FORMAT_VERSION,
        room: room.parse().unwrap(),
        seq,
        since,
        window: Window { start, end: start + 2_000 },
        count: 3,
        counts: counts(1),
        others: 0,
        slots: vec![3, 0, 0, 0],
        late: 0,
        skewed: 0,
        total: 3 * seq,
        totals: counts(seq),
        others_total: 0,
        carried: 0,
        source: Source { partition: 0, from: seq, to: seq + 1 },
    }
}

/// A large aggregate, about 60 kB as a frame if the top N is large enough.
pub(crate) fn large_aggregate(room: &str, seq: u64) -> Aggregate {
    let counts = (0..800).map(|n| (format!("{n:0>32}").parse().unwrap(), 1)).collect();
    let totals = (0..800).map(|n| (format!("{n:0>32}").parse().unwrap(), seq)).collect();
    Aggregate { count: 800, counts, slots: vec![800], total: 800 * seq, totals, ..aggregate(room, seq) }
}

/// The log, and a feed through which aggregates come into it.
pub(crate) struct Log {
    pub(crate) log: Arc<MemoryLog>,
    feed: Feed,
    epoch: u64,
}

impl Log {
    pub(crate) async fn new() -> Self {
        let log = MemoryLog::new(1);
        let mut feed = log.feed().await.unwrap();
        let FeedEvent::Assigned { epoch, .. } = feed.events.next().await.unwrap() else {
            panic!("the first event is the assignment")
        };
        Self { log, feed, epoch }
    }

    pub(crate) async fn commit(&self, room: &str, value: Option<Bytes>) {
        let aggregates = vec![(room.parse().unwrap(), value)];
        let cut = Cut { partition: 0, epoch: self.epoch, next_offset: 0, aggregates, windows: Vec::new() };
        self.feed.committer.commit(vec![cut]).await.unwrap();
    }

    pub(crate) async fn aggregate(&self, aggregate: &Aggregate) {
        self.commit(&aggregate.room, Some(aggregate.encode().into())).await;
    }

    pub(crate) async fn tombstone(&self, room: &str) {
        self.commit(room, None).await;
    }
}

/// A running tier.
pub(crate) struct Stage {
    pub(crate) log: Log,
    pub(crate) address: SocketAddr,
    pub(crate) mqtt: SocketAddr,
    pub(crate) broker: Option<SocketAddr>,
    pub(crate) config: watch::Sender<Arc<Config>>,
    /// The reactions that viewers are told.
    pub(crate) catalogue: watch::Sender<Arc<Vec<String>>>,
    pub(crate) readiness: Readiness,
    pub(crate) shutdown: CancellationToken,
    pub(crate) shared: Arc<Shared>,
    pub(crate) routes: Routes,
    running: JoinSet<Result<(), Error>>,
    serving: JoinSet<std::io::Result<()>>,
}

impl Stage {
    /// Starts and waits until the log is followed.
    pub(crate) async fn start(config: Config) -> Self {
        Self::over(Log::new().await, config).await
    }

    /// The same over a log that holds something already.
    pub(crate) async fn over(log: Log, config: Config) -> Self {
        let stage = Self::over_unready(log, config).await;
        stage.until(|stage| stage.readiness.missing().is_empty()).await;
        stage
    }

    /// The same, without waiting.
    pub(crate) async fn over_unready(log: Log, config: Config) -> Self {
        let (config, receiver) = watch::channel(Arc::new(config));
        let readiness = Readiness::default();
        let catalogue = watch::Sender::new(Arc::new(vec!["🔥".to_owned(), "❤️".to_owned()]));
        let deps = Deps {
            log: Arc::clone(&log.log) as Arc<dyn EventLog>,
            readiness: readiness.clone(),
            catalogue: catalogue.subscribe(),
            rooms: watch::Sender::default().subscribe(),
            orders: Arc::default(),
        };
        let fanout = Fanout::new(receiver, deps).unwrap();
        let shared = Arc::clone(&fanout.shared);
        let routes = fanout.routes();
        let (mqtt, broker) = (fanout.mqtt_address().unwrap(), fanout.broker_address());
        let shutdown = CancellationToken::new();
        let listener = service::http::bind("127.0.0.1:0").await.unwrap();
        crate::tune(&listener, &shared.config()).unwrap();
        let address = listener.local_addr().unwrap();
        let (mut running, mut serving) = (JoinSet::new(), JoinSet::new());
        serving.spawn(service::http::serve(
            listener,
            fanout.router(),
            service::http::Config::private(),
            shutdown.clone(),
        ));
        running.spawn(fanout.run(shutdown.clone()));
        Self {
            log,
            address,
            mqtt,
            broker,
            config,
            catalogue,
            readiness,
            shutdown,
            shared,
            routes,
            running,
            serving,
        }
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// The `seq` that the room shows; 0: nothing.
    pub(crate) fn shown(&self, room: &str) -> u64 {
        let shown = self.registry().snapshot(&room.parse::<RoomName>().unwrap());
        shown.map_or(0, |frame| wire::Frame::decode(&frame.json()).unwrap().seq)
    }

    /// Puts an aggregate into the log, and waits until it is shown.
    pub(crate) async fn show(&self, aggregate: &Aggregate) {
        self.log.aggregate(aggregate).await;
        self.until(|stage| stage.shown(&aggregate.room) == aggregate.seq).await;
    }

    /// Waits until `holds`.
    pub(crate) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let look = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("what was waited for did not come");
    }

    pub(crate) async fn until_viewers(&self, count: usize) {
        self.until(|stage| *stage.registry().viewers().borrow() == count).await;
    }

    /// Changes the configuration as a reload does.
    pub(crate) fn reload(&self, change: impl FnOnce(&mut Config)) {
        self.config.send_modify(|config| change(Arc::make_mut(config)));
    }

    /// Waits for the end of the tier.
    pub(crate) async fn ended(&mut self) -> Result<(), Error> {
        let ended = tokio::time::timeout(PATIENCE, self.running.join_next()).await;
        ended.expect("the tier did not end").unwrap().unwrap()
    }

    /// Waits for the end of the server.
    pub(crate) async fn served(&mut self) {
        let ended = tokio::time::timeout(PATIENCE, self.serving.join_next()).await;
        ended.expect("the server did not end").unwrap().unwrap().unwrap();
    }
}
