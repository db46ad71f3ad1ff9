//! The bridge to a broker that runs elsewhere: a real Mosquitto.

use super::{
    harness::{Log, PATIENCE, Stage, aggregate, config, deps, recorded},
    mosquitto::{Listener, Mosquitto, certify, free_port},
};
use crate::{BridgeConfig, Config, Error, Fanout};
use metrics::LocalRecorderGuard;
use metrics_exporter_prometheus::PrometheusHandle;
use std::{
    io,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};
use tracing_subscriber::fmt::MakeWriter;
use wire::Frame;

/// A tier with a bridge to `port`.
pub(super) fn bridged(port: u16, change: impl FnOnce(&mut BridgeConfig)) -> Config {
    let mut config = config();
    (config.bridge.enabled, config.bridge.port) = (true, port);
    change(&mut config.bridge);
    config
}

/// What is counted.
pub(super) struct Counts(pub(super) PrometheusHandle);

impl Counts {
    pub(super) fn of(&self, name: &str) -> f64 {
        let text = self.0.render();
        let line = text.lines().find_map(|line| line.strip_prefix("uproar_fanout_")?.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).trim().parse().unwrap()
    }

    pub(super) async fn until(&self, name: &str, holds: impl Fn(f64) -> bool) {
        let look = async {
            while !holds(self.of(name)) {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        let came = tokio::time::timeout(PATIENCE, look).await;
        assert!(came.is_ok(), "{name} is {} in\n{}", self.of(name), self.0.render());
    }
}

pub(super) fn counted() -> (Counts, LocalRecorderGuard<'static>) {
    let (handle, recording) = recorded();
    (Counts(handle), recording)
}

/// What is logged, all levels.
#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl Logs {
    fn capture(&self) -> tracing::subscriber::DefaultGuard {
        let subscriber = tracing_subscriber::fmt().with_writer(self.clone()).with_ansi(false);
        tracing::subscriber::set_default(subscriber.with_max_level(tracing::Level::TRACE).finish())
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Lines of this level that hold `text`.
    fn count(&self, level: &str, text: &str) -> usize {
        let text = text.to_owned();
        self.text().lines().filter(|line| line.contains(level) && line.contains(&text)).count()
    }
}

impl io::Write for Logs {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Logs {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn frames_arrive_and_who_subscribes_late_gets_the_newest() {
    let Some(broker) = Mosquitto::open().await else { return };
    for qos in [0, 1] {
        let (counts, _recording) = counted();
        let mut early = Listener::subscribe(broker.client("early")).await;
        let stage = Stage::start(bridged(broker.port, |bridge| bridge.qos = qos)).await;
        let room = format!("final-{qos}");
        for seq in 1..=10 {
            stage.show(&aggregate(&room, seq)).await;
            let mut message = early.message().await;
            while message.topic != format!("reactions/{room}") {
                message = early.message().await;
            }
            assert_eq!(Frame::decode(&message.payload).unwrap(), Frame::of(&aggregate(&room, seq), 10));
        }
        let mut late = Listener::subscribe(broker.client("late")).await;
        let mut message = late.message().await;
        while message.topic != format!("reactions/{room}") {
            message = late.message().await;
        }
        assert!(message.retain);
        assert_eq!(Frame::decode(&message.payload).unwrap().seq, 10);
        counts.until("bridge_messages_total", |count| count == 10.0).await;
        assert_eq!(counts.of("bridge_connected"), 1.0);
    }
}

#[tokio::test]
async fn after_a_restart_of_the_broker_every_room_is_there_again_with_only_its_newest_frame() {
    let Some(mut broker) = Mosquitto::open().await else { return };
    for qos in [0, 1] {
        let (counts, _recording) = counted();
        let stage = Stage::start(bridged(broker.port, |bridge| bridge.qos = qos)).await;
        for room in 0..20 {
            stage.show(&aggregate(&format!("room-{room}"), 1)).await;
        }
        counts.until("bridge_messages_total", |count| count == 20.0).await;
        broker.kill();
        counts.until("bridge_connected", |connected| connected == 0.0).await;
        for seq in 2..=50 {
            for room in 0..10 {
                stage.show(&aggregate(&format!("room-{room}"), seq)).await;
            }
        }
        assert_eq!(counts.of("frames_skipped_total{protocol=\"bridge\"}"), 480.0);
        broker.start().await;
        counts.until("bridge_messages_total", |count| count == 40.0).await;
        stage.show(&aggregate("zz-last", 1)).await;
        counts.until("bridge_messages_total", |count| count == 41.0).await;
        // Retained messages may come in any order.
        let mut late = Listener::subscribe(broker.client("late")).await;
        let mut rooms = late.rooms_until("zz-last").await;
        while rooms.len() < 21 {
            let message = late.message().await;
            rooms.insert(message.topic[10..].to_owned(), Frame::decode(&message.payload).unwrap().seq);
        }
        for room in 0..20 {
            let newest = if room < 10 { 50 } else { 1 };
            assert_eq!(rooms[&format!("room-{room}")], newest, "room-{room}");
        }
        assert!(counts.of("bridge_failures_total{cause=\"lost\"}") >= 1.0);
    }
}

#[tokio::test]
async fn a_forgotten_room_clears_its_message_also_when_the_broker_was_away() {
    let persistent = "allow_anonymous true\npersistence true\npersistence_location DIR/";
    let Some(mut broker) = Mosquitto::installed(persistent) else { return };
    broker.start().await;
    let (counts, _recording) = counted();
    let stage = Stage::start(bridged(broker.port, |_| {})).await;
    for room in ["gone", "gone-meanwhile", "stays"] {
        stage.show(&aggregate(room, 1)).await;
    }
    counts.until("bridge_messages_total", |count| count == 3.0).await;
    let mut watching = Listener::subscribe(broker.client("watching")).await;
    for _ in 0..3 {
        assert!(watching.message().await.retain);
    }
    stage.log.tombstone("gone").await;
    let cleared = watching.message().await;
    assert_eq!((cleared.topic.as_str(), cleared.payload.len()), ("reactions/gone", 0));
    drop(watching);
    broker.stop();
    counts.until("bridge_connected", |connected| connected == 0.0).await;
    stage.log.tombstone("gone-meanwhile").await;
    stage.until(|stage| stage.shown("gone-meanwhile") == 0).await;
    broker.start().await;
    // "gone" again, as the broker may have missed it; "gone-meanwhile"; "stays".
    counts.until("bridge_messages_total", |count| count == 7.0).await;
    stage.show(&aggregate("zz-last", 1)).await;
    counts.until("bridge_messages_total", |count| count == 8.0).await;
    let mut late = Listener::subscribe(broker.client("late")).await;
    let mut topics = [late.message().await.topic, late.message().await.topic];
    topics.sort();
    assert_eq!(topics, ["reactions/stays", "reactions/zz-last"]);
    stage.show(&aggregate("mark", 1)).await;
    assert_eq!(late.message().await.topic, "reactions/mark", "nothing else was retained");
}

#[tokio::test]
async fn the_message_of_a_room_that_was_forgotten_before_the_start_is_cleared() {
    let Some(broker) = Mosquitto::open().await else { return };
    let mut watching = Listener::subscribe(broker.client("watching")).await;
    watching.leave("reactions/old").await;
    assert_eq!(&*watching.message().await.payload, b"left");
    let stage = Stage::start(bridged(broker.port, |_| {})).await;
    stage.log.tombstone("old").await;
    let cleared = watching.message().await;
    assert_eq!((cleared.topic.as_str(), cleared.payload.len()), ("reactions/old", 0));
}

#[tokio::test]
async fn a_wrong_password_is_counted_and_said_once_and_the_tier_works_on() {
    let Some(mut broker) = Mosquitto::installed("allow_anonymous false\npassword_file DIR/passwords") else {
        return;
    };
    set_password(broker.dir.path(), "uproar", "right");
    broker.start().await;
    let (counts, _recording) = counted();
    let logs = Logs::default();
    let _logging = logs.capture();
    let with = |password: &'static str| {
        bridged(broker.port, move |bridge| {
            (bridge.username, bridge.password) = ("uproar".into(), password.into());
        })
    };
    let stage = Stage::start(with("wrong-secret")).await;
    counts.until("bridge_failures_total{cause=\"refused\"}", |count| count >= 3.0).await;
    stage.show(&aggregate("final", 1)).await;
    assert!(stage.readiness.missing().is_empty(), "readiness is not the bridge's");
    assert_eq!(logs.count("ERROR", "NotAuthorized"), 1, "{}", logs.text());
    assert!(logs.count("DEBUG", "NotAuthorized") >= 2, "{}", logs.text());
    assert!(!logs.text().contains("wrong-secret"));
    assert_eq!(counts.of("bridge_connected"), 0.0);
    let right = Stage::start(with("right")).await;
    right.show(&aggregate("final", 1)).await;
    counts.until("bridge_messages_total", |count| count == 1.0).await;
    let mut options = broker.client("late");
    options.set_credentials("uproar", "right");
    assert_eq!(Listener::subscribe(options).await.message().await.topic, "reactions/final");
}

#[tokio::test]
async fn the_brokers_certificate_is_checked() {
    let lines = "allow_anonymous true\ncertfile DIR/own-server.pem\nkeyfile DIR/own-server.key";
    let Some(mut broker) = Mosquitto::installed(lines) else { return };
    certify(broker.dir.path(), "own");
    certify(broker.dir.path(), "other");
    broker.start().await;
    let (counts, _recording) = counted();
    let logs = Logs::default();
    let _logging = logs.capture();
    let with = |host: &'static str, ca: &str| {
        let ca_file = if ca.is_empty() { "".into() } else { broker.dir.path().join(ca) };
        bridged(broker.port, move |bridge| {
            (bridge.tls, bridge.host, bridge.ca_file, bridge.qos) = (true, host.into(), ca_file, 1);
        })
    };
    let right = Stage::start(with("localhost", "own.pem")).await;
    right.show(&aggregate("final", 1)).await;
    counts.until("bridge_messages_total", |count| count == 1.0).await;
    drop(right);
    for (host, ca, why) in [
        ("localhost", "other.pem", "unable to get local issuer certificate"),
        ("localhost", "", "unable to get local issuer certificate"),
        ("127.0.0.1", "own.pem", "IP address mismatch"),
    ] {
        let before = counts.of("bridge_failures_total{cause=\"tls\"}");
        let said = logs.count("ERROR", why);
        let wrong = Stage::start(with(host, ca)).await;
        counts.until("bridge_failures_total{cause=\"tls\"}", |count| count > before).await;
        wrong.show(&aggregate("final", 1)).await;
        assert_eq!(logs.count("ERROR", why), said + 1, "{why}\n{}", logs.text());
    }
    let plain = Stage::start(bridged(broker.port, |_| {})).await;
    counts.until("bridge_failures_total{cause=\"lost\"}", |count| count >= 1.0).await;
    assert_eq!(logs.count("WARN", "with or without TLS?"), 1, "{}", logs.text());
    drop(plain);
    assert_eq!(counts.of("bridge_messages_total"), 1.0);
}

#[tokio::test]
async fn a_broker_that_is_away_delays_neither_the_start_nor_the_end() {
    let (counts, _recording) = counted();
    let mut stage = Stage::start(bridged(free_port(), |_| {})).await;
    counts.until("bridge_failures_total{cause=\"unreachable\"}", |count| count >= 2.0).await;
    for seq in 1..=100 {
        stage.show(&aggregate("final", seq)).await;
    }
    assert_eq!(counts.of("frames_skipped_total{protocol=\"bridge\"}"), 99.0);
    stage.shutdown.cancel();
    stage.ended().await.unwrap();
}

#[tokio::test]
async fn a_missing_file_of_authorities_is_an_error_at_the_start() {
    let config = bridged(1, |bridge| (bridge.tls, bridge.ca_file) = (true, "/nowhere/ca.pem".into()));
    let (_config, receiver) = tokio::sync::watch::channel(Arc::new(config));
    let deps = deps(Log::new().await.log);
    let error = Fanout::new(receiver, deps).err().unwrap();
    assert!(matches!(error, Error::Bridge(_)));
    assert!(error.to_string().contains("fanout.bridge.ca_file: /nowhere/ca.pem"), "{error}");
}

fn set_password(dir: &Path, user: &str, password: &str) {
    let mut command = Command::new("mosquitto_passwd");
    let done = command.args(["-c", "-b"]).arg(dir.join("passwords")).args([user, password]).status();
    assert!(done.expect("mosquitto_passwd comes with mosquitto").success());
}
