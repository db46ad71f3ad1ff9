//! The Kafka adapter on real brokers: the conformance suite, and what only a cluster can show.

mod backlog;
mod brokers;
mod control;
mod given_up;
mod handover;
mod joining;
mod large;
mod member;
mod pace;
mod times;
mod topics;

use self::member::Member;
use crate::harness::kafka::{Cluster, shared};
use bytes::Bytes;
use eventlog::{
    AppendError, BoxFuture, Config, EmbeddedConfig, EventLog, KafkaConfig, LogKind, OpenError,
    conformance::LogFactory,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

const WAIT: Duration = Duration::from_secs(60);

/// A log with topics and a group of its own.
pub fn config(bootstrap: &str, name: &str, partitions: u32) -> Config {
    Config {
        kind: LogKind::Kafka,
        partitions,
        history_retention_ms: 3_600_000,
        embedded: EmbeddedConfig { dir: "unused".into(), retention_ms: 1_000, cache_mib: 1, max_queued: 1 },
        kafka: KafkaConfig {
            brokers: bootstrap.into(),
            reactions_topic: format!("{name}-reactions"),
            aggregates_topic: format!("{name}-aggregates"),
            occupancy_topic: format!("{name}-occupancy"),
            windows_topic: format!("{name}-windows"),
            control_topic: format!("{name}-control"),
            create_topics: true,
            replication: 3,
            min_insync: 2,
            retention_ms: 3_600_000,
            group: name.into(),
            instance_id: "one".into(),
            session_timeout_ms: 4_000,
            transaction_timeout_ms: 4_000,
            delivery_timeout_ms: 20_000,
            linger_ms: 0,
            min_commit_pause_ms: 5,
            compression: "lz4".into(),
            max_queued_mib: 64,
            options: BTreeMap::new(),
        },
    }
}

/// A name that no other test has.
pub fn unused_name(what: &str) -> String {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed))
}

fn instance(config: &Config, id: &str) -> Config {
    let mut config = config.clone();
    config.kafka.instance_id = id.into();
    config
}

async fn open(config: &Config) -> Arc<dyn EventLog> {
    eventlog::open(config).await.unwrap()
}

async fn refusal(config: &Config) -> String {
    match eventlog::open(config).await {
        Err(OpenError::Invalid(text)) => text,
        Err(OpenError::Unavailable(text)) => panic!("unavailable: {text}"),
        Ok(_) => panic!("it was opened"),
    }
}

async fn append_some(log: &dyn EventLog, count: u32) {
    let writer = log.writer().await.unwrap();
    let partitions = writer.partitions();
    let appends = (0..count).map(|n| writer.append(n % partitions, Bytes::from(format!("{n}"))));
    for append in appends.collect::<Vec<_>>() {
        append.await.unwrap();
    }
}

struct Factory {
    cluster: &'static Cluster,
    newest: Mutex<String>,
}

impl LogFactory for Factory {
    fn partitions(&self) -> u32 {
        3
    }

    fn open(&self) -> BoxFuture<'_, Arc<dyn EventLog>> {
        let name = unused_name("conformance");
        self.newest.lock().unwrap().clone_from(&name);
        Box::pin(async move { open(&config(self.cluster.bootstrap(), &name, 3)).await })
    }

    fn reopen(&self, log: Arc<dyn EventLog>) -> BoxFuture<'_, Arc<dyn EventLog>> {
        drop(log);
        let name = self.newest.lock().unwrap().clone();
        Box::pin(async move { open(&config(self.cluster.bootstrap(), &name, 3)).await })
    }
}

#[tokio::test]
async fn the_kafka_log_keeps_the_contract() {
    let Some(cluster) = shared() else { return };
    eventlog::conformance::run(&Factory { cluster, newest: Mutex::default() }).await;
}

#[tokio::test]
async fn topics_that_do_not_fit_are_refused_with_the_reason() {
    let Some(cluster) = shared() else { return };
    let two = config(cluster.bootstrap(), &unused_name("two"), 2);
    let three = config(cluster.bootstrap(), &unused_name("three"), 3);
    open(&two).await;
    open(&three).await;

    let mut swapped = two.clone();
    std::mem::swap(&mut swapped.kafka.reactions_topic, &mut swapped.kafka.aggregates_topic);
    assert!(refusal(&swapped).await.contains("cleanup.policy=compact"));
    let mut mixed = two.clone();
    mixed.kafka.aggregates_topic.clone_from(&three.kafka.aggregates_topic);
    assert!(refusal(&mixed).await.contains("2 partitions"));
    let mut missing = config(cluster.bootstrap(), &unused_name("missing"), 2);
    missing.kafka.create_topics = false;
    assert!(refusal(&missing).await.contains("does not exist"));
    missing.kafka.create_topics = true;
    missing.kafka.replication = 5;
    assert!(refusal(&missing).await.contains("5 replicas"));
    let mut unknown = two;
    unknown.kafka.options.insert("sasl.pasword".into(), "x".into());
    assert!(refusal(&unknown).await.contains("sasl.pasword"));
}

#[tokio::test]
async fn a_record_that_is_too_large_is_not_written_and_the_writer_goes_on() {
    let Some(cluster) = shared() else { return };
    let log = open(&config(cluster.bootstrap(), &unused_name("large"), 1)).await;
    let writer = log.writer().await.unwrap();
    let outcome = writer.append(0, Bytes::from(vec![0; 2 << 20])).await;
    assert!(matches!(outcome, Err(AppendError::NotWritten(_))), "{outcome:?}");
    writer.append(0, Bytes::from_static(b"small")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_does_not_ask_stays_in_the_group_and_loses_nothing() {
    let Some(cluster) = shared() else { return };
    let config = config(cluster.bootstrap(), &unused_name("slow"), 2);
    let log = open(&config).await;
    let mut member = Member::join(&*log).await;
    member.until_owned(2).await;
    append_some(&*log, 60_000).await;
    // A member of the same session timeout that really is silent loses its partitions meanwhile.
    handover::one_session(cluster).await;
    member.until_each_once(&(0..60_000).map(|n: u32| Bytes::from(n.to_string())).collect()).await;
    assert!(member.revoked.is_empty());
    member.leave().await;
}
