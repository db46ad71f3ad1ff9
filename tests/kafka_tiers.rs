//! The three tiers as processes of their own, on real Kafka: three brokers, replication 3, min.insync 2.

use crate::{
    end_to_end::until_total,
    harness::{
        http, kafka,
        process::{Plan, Uproar, loadgen},
        viewers::{MqttViewer, WsViewer},
        wait::until,
    },
};
use serde_json::json;
use std::{
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// Plans of the tiers, with topics and a group that no other test has.
pub struct Tiers {
    pub ingest: Plan,
    pub aggregator: Plan,
    pub fanout: Plan,
    pub name: String,
}

/// The plan of a process that uses the topics and the group `name`.
pub fn plan(cluster: &kafka::Cluster, dir: &Path, name: &str, role: &'static str) -> Plan {
    Plan::new(role, dir)
        .set("log.kind=kafka")
        .set("log.partitions=4")
        .set(format!("log.kafka.brokers={}", cluster.bootstrap()))
        .set(format!("log.kafka.reactions_topic={name}-reactions"))
        .set(format!("log.kafka.aggregates_topic={name}-aggregates"))
        .set(format!("log.kafka.occupancy_topic={name}-occupancy"))
        .set(format!("log.kafka.windows_topic={name}-windows"))
        .set(format!("log.kafka.group={name}"))
        .set(format!("log.kafka.instance_id={role}"))
        .set("log.kafka.session_timeout_ms=6000")
        .set("aggregator.interval_ms=500")
}

pub fn tiers(cluster: &kafka::Cluster, dir: &Path) -> Tiers {
    static TESTS: AtomicU32 = AtomicU32::new(0);
    let name = format!("tiers-{}", TESTS.fetch_add(1, Ordering::Relaxed));
    let plan = |role| plan(cluster, dir, &name, role);
    Tiers {
        ingest: plan("ingest"),
        aggregator: plan("aggregator"),
        fanout: plan("fanout"),
        name: name.clone(),
    }
}

impl Tiers {
    async fn start(&self) -> (Uproar, Uproar, Uproar) {
        let (mut ingest, mut aggregator, mut fanout) =
            (self.ingest.spawn(), self.aggregator.spawn(), self.fanout.spawn());
        for tier in [&mut ingest, &mut aggregator, &mut fanout] {
            tier.until_ready().await;
        }
        (ingest, aggregator, fanout)
    }
}

#[tokio::test]
async fn reactions_go_through_three_processes() {
    let Some(cluster) = kafka::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (ingest, _aggregator, fanout) = tiers(cluster, dir.path()).start().await;
    let mut ws = WsViewer::watch(&fanout.http, "final").await;
    let mut mqtt = MqttViewer::watch(&fanout.mqtt, "final").await;
    let path = "/v1/rooms/final/reactions";
    let answer = http::post(&ingest.http, path, r#"{"reactions":{"🔥":7,"👏":2}}"#).await.unwrap();
    assert_eq!((answer.status, answer.json()), (202, json!({"accepted": 9})));
    assert_eq!(ws.until_total(9).await["counts"], json!({"🔥": 7, "👏": 2}));
    assert_eq!(mqtt.until_total(9).await["counts"], json!({"🔥": 7, "👏": 2}));
}

#[tokio::test]
async fn totals_go_on_after_kill_9_of_every_tier() {
    let Some(cluster) = kafka::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let plans = tiers(cluster, dir.path());
    let (mut ingest, mut aggregator, mut fanout) = plans.start().await;
    let mut total = 0;
    for round in 0..3 {
        for _ in 0..20 {
            assert_eq!(http::react(&ingest.http, "r", r#"{"reaction":"🔥","count":5}"#).await, 202);
            total += 5;
        }
        let (tier, plan) = match round {
            0 => (&mut aggregator, &plans.aggregator),
            1 => (&mut ingest, &plans.ingest),
            _ => (&mut fanout, &plans.fanout),
        };
        tier.kill();
        *tier = plan.start().await;
        until_total(&fanout.http, "r", total).await;
    }
    for tier in [&mut ingest, &mut aggregator, &mut fanout] {
        tier.stop();
    }
}

#[tokio::test]
async fn a_crowd_audits_clean() {
    let Some(cluster) = kafka::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (ingest, _aggregator, fanout) = tiers(cluster, dir.path()).start().await;
    let mut command = Command::new(loadgen());
    command.args(["crowd", "--rate", "200", "--duration", "3s", "--warm-up", "500ms", "--viewers", "6"]);
    command.args([
        "--url",
        &format!("http://{}", ingest.http),
        "--live-url",
        &format!("http://{}", fanout.http),
    ]);
    command.args(["--mqtt", &fanout.mqtt, "--connections", "8"]).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("AUDIT clean"), "{said}");
}

#[tokio::test]
async fn partitions_that_are_added_to_topics_in_use_change_nothing_and_the_next_start_is_refused() {
    let Some(cluster) = kafka::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Tiers { ingest, aggregator, fanout, name } = tiers(cluster, dir.path());
    let aggregator = aggregator.set("log.kafka.options.topic.metadata.refresh.interval.ms=500");
    let (posts, mut running, fanout) = (ingest.start().await, aggregator.start().await, fanout.start().await);
    // Some of them would live elsewhere among 6 partitions.
    let rooms: Vec<String> = (0..8).map(|n| format!("room-{n}")).collect();
    let react = async |total: u64| {
        for room in &rooms {
            assert_eq!(http::react(&posts.http, room, r#"{"reaction":"🔥","count":5}"#).await, 202);
        }
        for room in &rooms {
            until_total(&fanout.http, room, total).await;
        }
    };
    react(5).await;
    for topic in ["reactions", "aggregates", "windows"] {
        cluster.topics(&["--alter", "--topic", &format!("{name}-{topic}"), "--partitions", "6"]);
    }
    running.until_log("partitions were added to a topic in use").await;
    react(10).await;
    running.stop();

    let mut refused = aggregator.spawn();
    assert_eq!(refused.ended().code(), Some(1));
    let said = refused.log();
    assert!(said.contains("has 6 partitions and needs 4"), "{said}");
    // Who insists is refused by the totals themselves.
    let insisting = aggregator.named("insisting").set("log.partitions=6").spawn();
    insisting.until_log("the number of partitions was changed").await;
    let why = until("unreadiness", async || {
        let answer = http::get(&insisting.admin, "/readyz").await?;
        (answer.status != 200 && answer.body.contains("partitions was changed")).then_some(answer.body)
    });
    why.await;
}

#[tokio::test]
async fn reactions_that_were_deleted_unread_or_are_read_again_are_told() {
    let Some(cluster) = kafka::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Tiers { ingest, aggregator, fanout, name } = tiers(cluster, dir.path());
    let [ingest, aggregator, fanout] = [ingest, aggregator, fanout].map(|plan| plan.set("log.partitions=1"));
    let (posts, mut running, fanout) = (ingest.start().await, aggregator.start().await, fanout.start().await);
    let react =
        async || assert_eq!(http::react(&posts.http, "r", r#"{"reaction":"🔥","count":5}"#).await, 202);
    react().await;
    until_total(&fanout.http, "r", 5).await;
    assert_eq!(running.metric("uproar_log_uncounted_offsets_total").await, 0.0);
    running.stop();
    react().await;
    react().await;
    let topic = format!("{name}-reactions");
    cluster.trim(&topic);

    let mut running = aggregator.start().await;
    running.until_log("reactions were deleted before they were counted").await;
    assert_eq!(running.metric("uproar_log_uncounted_offsets_total").await, 2.0);
    react().await;
    until_total(&fanout.http, "r", 10).await;
    running.stop();

    let to_earliest = ["--reset-offsets", "--to-earliest", "--execute"];
    cluster.groups(&[&["--group", &name, "--topic", &topic], &to_earliest[..]].concat());
    let running = aggregator.start().await;
    running.until_log("the group's offset was set back").await;
    until_total(&fanout.http, "r", 15).await;
}
