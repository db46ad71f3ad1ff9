//! One process on the embedded log: reactions in by HTTP, aggregates out.

use crate::harness::{
    self, http,
    process::{Plan, tool},
    viewers::{MqttViewer, WsViewer},
    wait::until,
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

fn plan(dir: &tempfile::TempDir) -> Plan {
    Plan::new("all", dir.path()).set("aggregator.interval_ms=200").set("aggregator.grace_ms=20")
}

#[tokio::test]
async fn reactions_come_out_over_websocket_mqtt_and_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = plan(&dir).start().await;
    let mut ws = WsViewer::watch(&uproar.http, "final").await;
    let mut mqtt = MqttViewer::watch(&uproar.mqtt, "final").await;
    assert_eq!(http::get(&uproar.http, "/v1/rooms/final").await.unwrap().status, 404);

    let answer = http::post(&uproar.http, "/v1/rooms/final/reactions", r#"{"reactions":{"🔥":7,"👏":2}}"#)
        .await
        .unwrap();
    assert_eq!((answer.status, answer.json()), (202, json!({"accepted": 9})));

    let frame = ws.until_total(9).await;
    assert_eq!(frame["counts"], json!({"🔥": 7, "👏": 2}));
    assert_eq!(frame["window"]["end"].as_u64().unwrap() - frame["window"]["start"].as_u64().unwrap(), 200);
    assert_eq!(mqtt.until_total(9).await["totals"], json!({"🔥": 7, "👏": 2}));
    let rest = ws.frame().await;
    assert_eq!(
        (rest["count"].as_u64(), rest["seq"].as_u64(), rest["total"].as_u64()),
        (Some(0), Some(2), Some(9))
    );
    let snapshot = http::get(&uproar.http, "/v1/rooms/final").await.unwrap();
    assert_eq!((snapshot.status, &snapshot.json()["totals"]), (200, &json!({"🔥": 7, "👏": 2})));
}

#[tokio::test]
async fn mosquitto_sub_shows_frames() {
    let Some(mut mosquitto) = tool("mosquitto_sub", "apt-get install mosquitto-clients") else { return };
    let dir = tempfile::tempdir().unwrap();
    let uproar = plan(&dir).start().await;
    let (host, port) = uproar.mqtt.rsplit_once(':').unwrap();
    mosquitto.args(["-h", host, "-p", port, "-t", "reactions/final", "-C", "1", "-W", "60"]);
    let subscriber = mosquitto.stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(http::react(&uproar.http, "final", r#"{"reaction":"🔥"}"#).await, 202);
    let output = tokio::task::spawn_blocking(|| subscriber.wait_with_output().unwrap()).await.unwrap();
    let frame: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((frame["room"].as_str(), frame["total"].as_u64()), (Some("final"), Some(1)));
}

#[tokio::test]
async fn who_joins_later_sees_the_present_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = plan(&dir).start().await;
    assert_eq!(http::react(&uproar.http, "late", r#"{"reaction":"🔥"}"#).await, 202);
    until_total(&uproar.http, "late", 1).await;
    assert_eq!(WsViewer::watch(&uproar.http, "late").await.until_total(1).await["total"], 1);
    assert_eq!(MqttViewer::watch(&uproar.mqtt, "late").await.until_total(1).await["total"], 1);
}

#[tokio::test]
async fn totals_go_on_after_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(&dir);
    let mut total = 0;
    for round in 1..=3 {
        let mut uproar = plan.start().await;
        let mut viewer = WsViewer::watch(&uproar.http, "r").await;
        for _ in 0..20 {
            assert_eq!(http::react(&uproar.http, "r", r#"{"reaction":"🔥","count":5}"#).await, 202);
            total += 5;
        }
        if round % 2 == 1 {
            viewer.until_total(total).await;
        }
        // In every second round nothing of it may have been rolled up yet.
        uproar.kill();
    }
    let uproar = plan.start().await;
    let frame = until_total(&uproar.http, "r", total).await;
    assert_eq!(frame["totals"], json!({"🔥": total}));
}

#[tokio::test]
async fn a_room_lives_through_a_restart_in_its_seq() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(&dir);
    let mut uproar = plan.start().await;
    http::react(&uproar.http, "r", r#"{"reaction":"🔥"}"#).await;
    let before = until_total(&uproar.http, "r", 1).await;
    uproar.stop();
    let uproar = plan.start().await;
    http::react(&uproar.http, "r", r#"{"reaction":"🔥"}"#).await;
    let after = until_total(&uproar.http, "r", 2).await;
    assert_eq!(after["since"], before["since"]);
    assert!(after["seq"].as_u64() > before["seq"].as_u64());
}

/// A disk of 8 MiB at a path, as long as it lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: &Path) -> Option<Self> {
        fs::create_dir(path).unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=8m", "uproar-test"];
        let mounted = Command::new("mount").args(mount).arg(path).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            // Not all machines that run the gate allow it.
            harness::say_skipped("no file system can be mounted: run as root, with the right to mount");
            return None;
        }
        Some(Self(path.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn on_a_full_disk_posts_are_refused_and_viewers_keep_the_last_frame() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("data")) else { return };
    let mut uproar = plan(&dir).start().await;
    let mut viewer = WsViewer::watch(&uproar.http, "r").await;
    assert_eq!(http::react(&uproar.http, "r", r#"{"reaction":"🔥"}"#).await, 202);
    viewer.until_total(1).await;
    let filler = disk.0.join("other");
    fs::write(&filler, vec![1; 8 << 20]).unwrap_err();
    let (mut total, mut status) = (1, 202);
    while status == 202 {
        status = http::react(&uproar.http, "r", r#"{"reaction":"🔥"}"#).await;
        total += u64::from(status == 202);
        assert!(total < 20_000, "the disk never was full");
    }
    assert_eq!(status, 503);
    until("the process to say why it is not ready", async || {
        let answer = http::get(&uproar.admin, "/readyz").await?;
        (answer.status == 503 && answer.body.contains("free space")).then_some(())
    })
    .await;
    let shown = http::get(&uproar.http, "/v1/rooms/r").await.unwrap();
    assert_eq!(shown.status, 200, "{}", shown.body);
    let shown = shown.json()["total"].as_u64().unwrap();
    assert!((1..=total).contains(&shown), "{shown} of {total}");
    WsViewer::watch(&uproar.http, "r").await.until_total(shown).await;

    fs::remove_file(filler).unwrap();
    uproar.until_ready().await;
    assert_eq!(http::react(&uproar.http, "r", r#"{"reaction":"🔥"}"#).await, 202);
    // The viewer was not sent away.
    viewer.until_total(total + 1).await;
    uproar.stop();
}

#[tokio::test]
async fn a_log_that_is_removed_ends_the_process_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut uproar = plan(&dir).start().await;
    assert_eq!(http::react(&uproar.http, "r", r#"{"reaction":"🔥"}"#).await, 202);
    fs::remove_dir_all(dir.path().join("data")).unwrap();
    assert_eq!(uproar.ended().code(), Some(1));
    let said = uproar.log();
    assert!(said.contains("reactions.db: it was removed or replaced while it was in use"), "{said}");
    assert!(said.contains("bring the whole folder back from a backup"), "{said}");
}

/// The snapshot, once it has this total.
pub async fn until_total(address: &str, room: &str, total: u64) -> Value {
    until(&format!("a total of {total} in {room}"), async || {
        let answer = http::get(address, &format!("/v1/rooms/{room}")).await?;
        let frame: Value = serde_json::from_str(&answer.body).ok()?;
        (frame["total"].as_u64() == Some(total)).then_some(frame)
    })
    .await
}
