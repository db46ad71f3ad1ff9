//! What operators order, through the real binary: the admin API, its client, and three processes on real Kafka.

use crate::harness::{
    http, kafka,
    process::{Plan, UPROAR, Uproar},
    viewers::{MqttViewer, WsViewer},
    wait::until,
};
use serde_json::{Value, json};
use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const PRODUCE: &str = "produce-token-0123";
const OPERATE: &str = "operate-token-0123";
const FIRE: &str = r#"{"reaction":"🔥"}"#;
/// A window, and a second.
const IN_TIME: Duration = Duration::from_millis(500 + 1_000);

fn with_tokens(plan: Plan) -> Plan {
    plan.set(format!("admin.produce_token={PRODUCE}")).set(format!("admin.operate_token={OPERATE}"))
}

/// Runs `uproar room`. Gives its exit code, and all that it says.
async fn room(admin: &str, token: &str, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(UPROAR);
    command.args(["room", "--admin", &format!("http://{admin}")]).args(args);
    command.env("UPROAR_ADMIN_TOKEN", token).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

async fn ordered(admin: &str, args: &[&str]) {
    let (code, said) = room(admin, PRODUCE, args).await;
    assert_eq!(code, Some(0), "{said}");
}

async fn state(address: &str, room: &str) -> Option<Value> {
    let answer = http::get(address, &format!("/v1/rooms/{room}")).await?;
    (answer.status == 200).then(|| answer.json()["state"].clone())
}

/// Waits until the viewer is shown this state.
async fn ws_until(viewer: &mut WsViewer, state: &Value) {
    while viewer.frame().await["state"] != *state {}
}

async fn mqtt_until(viewer: &mut MqttViewer, state: &Value) {
    while viewer.frame().await["state"] != *state {}
}

#[tokio::test]
async fn the_admin_api_is_there_before_the_log_and_is_off_without_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let off = Plan::new("all", dir.path()).start().await;
    assert_eq!(http::get(&off.admin, "/admin/v1/rooms").await.unwrap().status, 404);
    assert_eq!(http::get(&off.admin, "/admin/v1/config").await.unwrap().status, 200);
    let (code, said) = room(&off.admin, PRODUCE, &["list"]).await;
    assert!(code == Some(1) && said.contains("the admin API is off"), "{said}");
    let (code, said) = room("127.0.0.1:9", PRODUCE, &["list"]).await;
    assert!(code == Some(1) && said.contains("nobody answers at 127.0.0.1:9"), "{said}");
    let (code, said) = room(&off.admin, "", &["list"]).await;
    assert!(code == Some(1) && said.contains("no token: set UPROAR_ADMIN_TOKEN"), "{said}");
}

#[tokio::test]
async fn a_closed_room_stays_closed_after_kill_9_of_the_embedded_log() {
    let dir = tempfile::tempdir().unwrap();
    let plan = with_tokens(Plan::new("all", dir.path())).set("aggregator.interval_ms=500");
    let mut uproar = plan.start().await;
    // Declared before anybody reacts.
    ordered(&uproar.admin, &["open", "final"]).await;
    let frame = http::get(&uproar.http, "/v1/rooms/final").await.unwrap();
    assert_eq!((frame.status, &frame.json()["seq"]), (200, &json!(0)));
    posts_until(&uproar, 202).await;
    ordered(&uproar.admin, &["close", "final"]).await;
    assert_eq!(http::react(&uproar.http, "final", FIRE).await, 403, "where it was ordered it holds at once");
    uproar.kill();
    uproar = plan.start().await;
    assert_eq!(http::react(&uproar.http, "final", FIRE).await, 403);
    assert_eq!(state(&uproar.http, "final").await, Some(json!("closed")));
    ordered(&uproar.admin, &["open", "final"]).await;
    assert_eq!(http::react(&uproar.http, "final", FIRE).await, 202);
}

/// Plans of the three tiers.
fn tiers(cluster: &kafka::Cluster, dir: &Path) -> [Plan; 3] {
    let name = "orders";
    ["ingest", "aggregator", "fanout"].map(|role| {
        with_tokens(Plan::new(role, dir))
            .set("log.kind=kafka")
            .set("log.partitions=4")
            .set(format!("log.kafka.brokers={}", cluster.bootstrap()))
            .set(format!("log.kafka.reactions_topic={name}-reactions"))
            .set(format!("log.kafka.aggregates_topic={name}-aggregates"))
            .set(format!("log.kafka.control_topic={name}-control"))
            .set(format!("log.kafka.group={name}"))
            .set(format!("log.kafka.instance_id={role}"))
            .set("log.kafka.session_timeout_ms=6000")
            .set("aggregator.interval_ms=500")
    })
}

/// Waits until ingest answers posts so.
async fn posts_until(ingest: &Uproar, status: u16) {
    until("the order to reach ingest", async || {
        (http::react(&ingest.http, "final", FIRE).await == status).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_order_reaches_every_process_and_viewer_in_time_and_survives_kill_9_of_each() {
    let Some(cluster) = kafka::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let plans = tiers(cluster, dir.path());
    let mut tiers = [plans[0].spawn(), plans[1].spawn(), plans[2].spawn()];
    for tier in &mut tiers {
        tier.until_ready().await;
    }
    posts_until(&tiers[0], 202).await;
    let fanout = &tiers[2];
    until("the first frame", async || state(&fanout.http, "final").await.map(drop)).await;
    let mut ws = WsViewer::watch(&fanout.http, "final").await;
    let mut mqtt = MqttViewer::watch(&fanout.mqtt, "final").await;

    // Any process takes the order, and the others hear of it.
    let (closed, open) = (json!("closed"), Value::Null);
    ordered(&tiers[1].admin, &["close", "final"]).await;
    let given = Instant::now();
    tokio::join!(ws_until(&mut ws, &closed), mqtt_until(&mut mqtt, &closed), posts_until(&tiers[0], 403));
    assert!(given.elapsed() < IN_TIME, "{:?}", given.elapsed());
    let refused = http::post(&tiers[0].http, "/v1/rooms/final/reactions", FIRE).await.unwrap();
    assert_eq!((refused.status, &refused.json()["title"]), (403, &json!("room-closed")));

    // A process that starts reads the orders before it is ready.
    for (tier, plan) in tiers.iter_mut().zip(&plans) {
        tier.kill();
        *tier = plan.start().await;
    }
    assert_eq!(http::react(&tiers[0].http, "final", FIRE).await, 403);
    assert_eq!(state(&tiers[2].http, "final").await, Some(closed));

    let mut ws = WsViewer::watch(&tiers[2].http, "final").await;
    ordered(&tiers[2].admin, &["open", "final"]).await;
    let given = Instant::now();
    tokio::join!(ws_until(&mut ws, &open), posts_until(&tiers[0], 202));
    assert!(given.elapsed() < IN_TIME, "{:?}", given.elapsed());

    let (code, said) = room(&tiers[0].admin, PRODUCE, &["set", "final", "--post-ms", "5000"]).await;
    assert!(code == Some(0) && said.contains("final  open      5000"), "{said}");
    let (code, said) = room(&tiers[0].admin, PRODUCE, &["forget", "final"]).await;
    assert!(code == Some(1) && said.contains("needs the role operate"), "{said}");
    let (code, said) = room(&tiers[0].admin, OPERATE, &["forget", "final"]).await;
    assert!(code == Some(0) && said.contains("final: forgotten"), "{said}");
    let (_, said) = room(&tiers[0].admin, PRODUCE, &["list"]).await;
    assert_eq!(said, "no room has orders\n");
}
