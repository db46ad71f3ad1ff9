//! The three tiers as processes of their own, on real Kafka: three brokers, replication 3, min.insync 2.

use crate::{
    end_to_end::until_total,
    harness::{
        http, kafka,
        process::{Plan, Uproar, loadgen},
        viewers::{MqttViewer, WsViewer},
    },
};
use serde_json::json;
use std::{
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// Plans of the tiers, with topics and a group that no other test has.
struct Tiers {
    ingest: Plan,
    aggregator: Plan,
    fanout: Plan,
}

fn tiers(cluster: &kafka::Cluster, dir: &Path) -> Tiers {
    static TESTS: AtomicU32 = AtomicU32::new(0);
    let name = format!("tiers-{}", TESTS.fetch_add(1, Ordering::Relaxed));
    let plan = |role: &'static str| {
        Plan::new(role, dir)
            .set("log.kind=kafka")
            .set("log.partitions=4")
            .set(format!("log.kafka.brokers={}", cluster.bootstrap()))
            .set(format!("log.kafka.reactions_topic={name}-reactions"))
            .set(format!("log.kafka.aggregates_topic={name}-aggregates"))
            .set(format!("log.kafka.group={name}"))
            .set(format!("log.kafka.instance_id={role}"))
            .set("log.kafka.session_timeout_ms=6000")
            .set("aggregator.interval_ms=500")
    };
    Tiers { ingest: plan("ingest"), aggregator: plan("aggregator"), fanout: plan("fanout") }
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
