//! The configuration changed while running.

use crate::{
    end_to_end::until_total,
    harness::{http, process::Plan, viewers::WsViewer},
};
use nix::sys::signal::Signal;
use std::fs;

fn length_ms(frame: &serde_json::Value) -> u64 {
    frame["window"]["end"].as_u64().unwrap() - frame["window"]["start"].as_u64().unwrap()
}

#[tokio::test]
async fn a_new_interval_applies_to_the_next_windows_and_a_bad_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("uproar.toml");
    fs::write(&file, "[aggregator]\ninterval_ms = 400\n").unwrap();
    let uproar = Plan::new("all", dir.path()).config(&file).start().await;
    let mut viewer = WsViewer::watch(&uproar.http, "r").await;
    http::react(&uproar.http, "r", r#"{"reaction":"🔥"}"#).await;
    assert_eq!(length_ms(&viewer.frame().await), 400);

    fs::write(&file, "[aggregator]\ninterval_ms = 300\n").unwrap();
    uproar.until_log("configuration in force").await;
    let mut total = 1;
    let mut seen = Vec::new();
    while seen.last() != Some(&300) {
        http::react(&uproar.http, "r", r#"{"reaction":"🔥"}"#).await;
        total += 1;
        seen.push(length_ms(&viewer.frame().await));
        assert!(seen.len() < 20, "{seen:?}");
    }

    fs::write(&file, "[aggregator]\ninterval_ms = 5\n").unwrap();
    uproar.signal(Signal::SIGHUP);
    uproar.until_log("configuration refused, the old values stay in force").await;
    assert!(uproar.log().contains("aggregator.interval_ms must be 100 to 60000, is 5"), "{}", uproar.log());
    until_total(&uproar.http, "r", total).await;
    http::react(&uproar.http, "r", r#"{"reaction":"🔥"}"#).await;
    let frame = loop {
        let frame = viewer.frame().await;
        if frame["total"].as_u64() == Some(total + 1) {
            break frame;
        }
    };
    assert_eq!(length_ms(&frame), 300);
}

#[tokio::test]
async fn a_process_that_waits_for_its_log_is_not_ended_by_sighup() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing listens there.
    let plan = Plan::new("ingest", dir.path()).set("log.kind=kafka").set("log.kafka.brokers=127.0.0.1:1");
    let mut uproar = plan.spawn();
    uproar.until_log("waiting for the event log").await;
    uproar.signal(Signal::SIGHUP);
    uproar.signal(Signal::SIGTERM);
    assert_eq!(uproar.ended().code(), Some(0));
}
