//! `uproar repartition`, as operators run it: totals stay, and go on in the new log.

use crate::{
    audit::audit,
    end_to_end::until_total,
    harness::{
        http, kafka,
        process::{Plan, UPROAR},
    },
    kafka_tiers,
};
use std::{path::Path, process::Output};
use tokio::process::Command;

const ROOMS: [&str; 6] = ["final", "semi", "quarter", "a", "b", "c"];

async fn react_everywhere(address: &str, total: u64) {
    for room in ROOMS {
        assert_eq!(http::react(address, room, r#"{"reactions":{"🔥":3,"👏":1}}"#).await, 202);
    }
    for room in ROOMS {
        until_total(address, room, total).await;
    }
}

/// Runs the command with options of the old log and others of the new one.
async fn repartition(old: &[String], new: &[String]) -> Output {
    let mut command = Command::new(UPROAR);
    command.arg("repartition");
    for set in old {
        command.args(["--set", set]);
    }
    for to in new {
        command.args(["--to", to]);
    }
    command.output().await.unwrap()
}

fn out(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

fn sets(dir: &Path, data: &str, partitions: u32) -> Vec<String> {
    vec![format!("log.embedded.dir={}", dir.join(data).display()), format!("log.partitions={partitions}")]
}

fn plan(sets: &[String], dir: &Path) -> Plan {
    let plan = Plan::new("all", dir).set("aggregator.interval_ms=200").set("aggregator.grace_ms=20");
    sets.iter().fold(plan, |plan, set| plan.set(set.as_str()))
}

#[tokio::test]
async fn totals_go_on_with_more_partitions_and_with_fewer() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = sets(dir.path(), "data-3", 3);
    let mut uproar = plan(&old, dir.path()).start().await;
    react_everywhere(&uproar.http, 4).await;
    uproar.stop();
    for (partitions, total) in [(8, 8), (2, 12)] {
        let new = sets(dir.path(), &format!("data-{partitions}"), partitions);
        // A second time: what was cut short is done again.
        for _ in 0..2 {
            let output = repartition(&old, &new).await;
            assert!(output.status.success(), "{}", err(&output));
            assert!(out(&output).starts_with("REPARTITIONED 6 rooms, total"), "{}", out(&output));
        }
        let mut uproar = plan(&new, dir.path()).start().await;
        react_everywhere(&uproar.http, total).await;
        uproar.stop();
        let said = audit(&new, &[]).await;
        assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
        let output = repartition(&old, &new).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(err(&output).contains("the new log is in use"), "{}", err(&output));
        old = new;
    }
}

#[tokio::test]
async fn a_log_with_reactions_that_are_not_rolled_up_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (sets(dir.path(), "data-3", 3), sets(dir.path(), "data-8", 8));
    let mut uproar = plan(&old, dir.path()).set("aggregator.interval_ms=60000").start().await;
    assert_eq!(http::react(&uproar.http, "final", r#"{"reaction":"🔥"}"#).await, 202);
    let running = repartition(&old, &new).await;
    assert!(err(&running).contains("another process has this log open"), "{}", err(&running));
    uproar.kill();
    let output = repartition(&old, &new).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("reactions that are not rolled up (from 0 to 1)"), "{}", err(&output));
    assert!(!dir.path().join("data-8").exists(), "the new log was made");
    let same = repartition(&old, &old[1..]).await;
    assert!(err(&same).contains("log.embedded.dir is the same for both logs"), "{}", err(&same));
}

#[tokio::test]
async fn on_kafka_totals_go_on_in_new_topics() {
    let Some(cluster) = kafka::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let plan = |name| kafka_tiers::plan(cluster, dir.path(), name, "all");
    let mut uproar = plan("repartition-old").start().await;
    react_everywhere(&uproar.http, 4).await;
    uproar.stop();
    let old = plan("repartition-old").sets();
    let new: Vec<String> = ["reactions", "aggregates", "windows", "occupancy"]
        .iter()
        .map(|topic| format!("log.kafka.{topic}_topic=repartition-new-{topic}"))
        .chain(["log.kafka.group=repartition-new".into(), "log.partitions=7".into()])
        .collect();
    let output = repartition(&old, &new).await;
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(out(&output), "REPARTITIONED 6 rooms, total 24, from 4 partitions to 7\n");
    let mut uproar = plan("repartition-new").set("log.partitions=7").start().await;
    react_everywhere(&uproar.http, 8).await;
    uproar.stop();
    let sets = [old, new].concat();
    let said = audit(&sets, &[]).await;
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
}
