//! Viewers on clients that others wrote, each with the real binary: it subscribes, a reaction is posted, the frame comes; whoever is
//! late gets the snapshot.
//!
//! `tests/viewers/clients install` brings paho-mqtt and mqtt.js; mosquitto_sub and Chromium come from the distribution.

mod browser;
mod crowds;
mod refusals;

use crate::harness::{
    http,
    process::{Plan, Uproar, tool},
    skip,
    wait::PATIENCE,
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
    time::timeout,
};

fn plan(dir: &tempfile::TempDir) -> Plan {
    Plan::new("all", dir.path()).set("aggregator.interval_ms=200").set("aggregator.grace_ms=20")
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/viewers").join(name)
}

/// The folder of clients that have to be installed. Without them the test is skipped.
fn clients() -> Option<PathBuf> {
    let output = Command::new(script("clients")).arg("where").output().expect("bash is there");
    if output.status.success() {
        return Some(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()));
    }
    skip(String::from_utf8_lossy(&output.stderr).trim());
    None
}

/// A running client. Killed when dropped.
struct Client {
    _child: Child,
    said: Lines<BufReader<ChildStdout>>,
    name: String,
}

impl Client {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let name = format!("{command:?}");
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, said, name }
    }

    /// The next line that has something to say.
    async fn until<T>(&mut self, want: impl Fn(&str) -> Option<T>) -> T {
        let look = async {
            loop {
                let line = self.said.next_line().await.unwrap();
                let line = line.unwrap_or_else(|| panic!("{} has ended", self.name));
                if let Some(found) = want(&line) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{} says nothing more", self.name))
    }

    async fn subscribed(&mut self) {
        self.until(|line| line.to_lowercase().contains("subscribed").then_some(())).await;
    }

    /// The next frame, and whether it is marked as retained.
    async fn frame(&mut self) -> (Value, bool) {
        let message: Value = self.until(|line| serde_json::from_str(line.get(line.find('{')?..)?).ok()).await;
        let retain = message["retain"].as_bool().or_else(|| message["retain"].as_u64().map(|bit| bit == 1));
        (message["frame"].clone(), retain.unwrap())
    }
}

async fn react(uproar: &Uproar) {
    assert_eq!(http::react(&uproar.http, "final", r#"{"reaction":"🔥","count":3}"#).await, 202);
}

/// The story of each client. `command` starts one that watches `reactions/final`.
async fn gets_the_frame_and_a_late_one_the_snapshot(command: impl Fn(&Uproar) -> Command) {
    let dir = tempfile::tempdir().unwrap();
    let mut uproar = plan(&dir).start().await;
    let mut first = Client::start(command(&uproar));
    first.subscribed().await;
    react(&uproar).await;
    let (frame, retain) = first.frame().await;
    assert_eq!(
        (frame["counts"]["🔥"].as_u64(), frame["room"].as_str(), retain),
        (Some(3), Some("final"), false)
    );
    let (rest, _) = first.frame().await;
    assert_eq!(rest["count"], 0, "nobody has reacted since");
    let mut late = Client::start(command(&uproar));
    let (snapshot, retain) = late.frame().await;
    assert_eq!((snapshot, retain), (rest, true));
    react(&uproar).await;
    for client in [&mut first, &mut late] {
        let (frame, retain) = client.frame().await;
        assert_eq!((frame["total"].as_u64(), retain), (Some(6), false));
    }
    uproar.stop();
}

fn address(address: &str) -> [&str; 2] {
    let (host, port) = address.rsplit_once(':').unwrap();
    [host, port]
}

async fn mosquitto(version: &str) {
    if tool("mosquitto_sub", "apt-get install mosquitto-clients").is_none() {
        return;
    }
    gets_the_frame_and_a_late_one_the_snapshot(|uproar| {
        let [host, port] = address(&uproar.mqtt);
        // Says line by line what it does, and what it gets.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "mosquitto_sub", "-V", version, "-h", host, "-p", port, "-q", "1", "-d"]);
        command.args(["-t", "reactions/final", "-F", r#"{"retain":%r,"frame":%p}"#]);
        command
    })
    .await;
}

#[tokio::test]
async fn mosquitto_sub_of_mqtt_311() {
    mosquitto("mqttv311").await;
}

#[tokio::test]
async fn mosquitto_sub_of_mqtt_5() {
    mosquitto("mqttv5").await;
}

async fn paho(transport: &str, version: &str) {
    let Some(clients) = clients() else { return };
    gets_the_frame_and_a_late_one_the_snapshot(|uproar| {
        let [host, port] = address(if transport == "tcp" { &uproar.mqtt } else { &uproar.http });
        let mut command = Command::new(clients.join("python/bin/python"));
        command.arg(script("viewer.py")).args([host, port, "reactions/final"]);
        command.args(["--transport", transport, "--version", version]);
        command
    })
    .await;
}

#[tokio::test]
async fn paho_over_tcp() {
    paho("tcp", "3.1.1").await;
    paho("tcp", "5").await;
}

#[tokio::test]
async fn paho_over_websocket() {
    paho("websockets", "3.1.1").await;
    paho("websockets", "5").await;
}

async fn mqttjs(version: &str) {
    let Some(clients) = clients() else { return };
    for over_tcp in [true, false] {
        gets_the_frame_and_a_late_one_the_snapshot(|uproar| {
            let url = if over_tcp {
                format!("mqtt://{}", uproar.mqtt)
            } else {
                format!("ws://{}/mqtt", uproar.http)
            };
            let mut command = Command::new("node");
            command.arg(script("viewer.cjs")).args([&url, "reactions/final", version]);
            command.env("NODE_PATH", clients.join("node_modules"));
            command
        })
        .await;
    }
}

#[tokio::test]
async fn mqttjs_of_mqtt_311_over_tcp_and_websocket() {
    mqttjs("3.1.1").await;
}

#[tokio::test]
async fn mqttjs_of_mqtt_5_over_tcp_and_websocket() {
    mqttjs("5").await;
}
