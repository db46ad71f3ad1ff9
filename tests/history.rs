//! The history: on the embedded log, and on real Kafka when processes are killed and the index is lost.

use crate::{
    harness::{
        http, kafka,
        process::{Plan, UPROAR, Uproar},
        wait::until,
    },
    kafka_tiers::{Tiers, plan, tiers},
};
use serde_json::Value;
use std::{
    fs,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

/// A range from the last hour to a minute ahead: windows that were just committed are in it.
fn range() -> String {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    format!("from={}&to={}&step=60000", now_ms - 3_600_000, now_ms + 60_000)
}

/// The sum of a room's points; `None` where it has no history yet.
async fn sum(address: &str, room: &str) -> Option<u64> {
    let answer = http::get(address, &format!("/v1/rooms/{room}/history?{}", range())).await?;
    let points = (answer.status == 200).then(|| answer.json()["points"].clone())?;
    let counts = |point: &Value| {
        let counts = point["counts"].as_object().unwrap().values();
        (point["count"].as_u64().unwrap(), counts.map(|n| n.as_u64().unwrap()).sum::<u64>())
    };
    let points: Vec<_> = points.as_array().unwrap().iter().map(counts).collect();
    assert!(points.iter().all(|(count, counts)| count == counts), "{points:?}");
    Some(points.iter().map(|(count, _)| count).sum())
}

async fn until_sum(address: &str, room: &str, expected: u64) {
    until(&format!("a sum of {expected}"), async || {
        let sum = sum(address, room).await?;
        assert!(sum <= expected, "{sum} of {expected}");
        (sum == expected).then_some(())
    })
    .await;
}

async fn react(ingest: &Uproar, room: &str) -> u64 {
    assert_eq!(http::react(&ingest.http, room, r#"{"reactions":{"🔥":4,"👏":1}}"#).await, 202);
    5
}

/// What `uproar export` prints of a room, as a sum.
fn exported(sets: &[String], room: &str) -> u64 {
    let mut command = Command::new(UPROAR);
    command.args(["export", "--room", room]);
    for set in sets {
        command.args(["--set", set]);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("room,start,end,seq,reaction,count"));
    lines.map(|line| line.rsplit(',').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn the_history_outlives_a_kill_and_is_exported_beside_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let data = format!("log.embedded.dir={}", dir.path().join("data").display());
    let plan = Plan::new("all", dir.path()).set(&*data).set("aggregator.interval_ms=100");
    let mut uproar = plan.start().await;
    assert_eq!(http::get(&uproar.http, "/v1/rooms/r/history").await.unwrap().status, 404);
    let mut total = 0;
    for _ in 0..3 {
        total += react(&uproar, "r").await;
        uproar.kill();
        uproar = plan.start().await;
        until_sum(&uproar.http, "r", total).await;
    }
    assert_eq!(exported(&[data], "r"), total);
    uproar.stop();
}

#[tokio::test]
async fn sums_are_totals_after_aggregators_are_killed_and_the_index_is_lost() {
    let Some(cluster) = kafka::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Tiers { ingest, aggregator, name, .. } = tiers(cluster, dir.path());
    let history = plan(cluster, dir.path(), &name, "history");
    let (posts, mut rolling) = (ingest.start().await, aggregator.start().await);
    let mut serving = history.start().await;
    let mut totals = [0; 4];
    for round in 0..3 {
        for (room, total) in totals.iter_mut().enumerate() {
            for _ in 0..5 {
                *total += react(&posts, &format!("room-{room}")).await;
            }
        }
        rolling.kill();
        if round == 1 {
            serving.kill();
            serving = history.start().await;
        }
        rolling = aggregator.start().await;
        for (room, total) in totals.iter().enumerate() {
            until_sum(&serving.http, &format!("room-{room}"), *total).await;
        }
    }
    serving.stop();
    fs::remove_file(dir.path().join("history-history/history.db")).unwrap();
    let mut serving = history.start().await;
    for (room, total) in totals.iter().enumerate() {
        // It is ready only when all is there.
        assert_eq!(sum(&serving.http, &format!("room-{room}")).await, Some(*total));
    }
    let sets = [
        "log.kind=kafka".to_owned(),
        format!("log.kafka.brokers={}", cluster.bootstrap()),
        format!("log.kafka.reactions_topic={name}-reactions"),
        format!("log.kafka.aggregates_topic={name}-aggregates"),
        format!("log.kafka.windows_topic={name}-windows"),
    ];
    assert_eq!(exported(&sets, "room-0"), totals[0]);
    serving.stop();
}
