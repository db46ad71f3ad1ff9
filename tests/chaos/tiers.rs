//! kill -9 of each tier on real Kafka, and what all chaos on Kafka is written with.

use super::{
    Chaos,
    accounts::total,
    audit::{History, Reading},
    posters::Posters,
    rounds, turn,
    watcher::{Watcher, seen, snapshot},
};
use crate::{
    harness::{
        http,
        kafka::{self, Cluster},
        process::{Plan, Uproar},
        wait::until,
    },
    kafka_log,
};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use tempfile::TempDir;

pub const PARTITIONS: u32 = 4;
pub const SESSION_TIMEOUT_MS: u64 = 6_000;
/// What tests/kafka/cluster sets: a broker that is silent for so long is taken for lost.
pub const LOSS_TIMEOUT_MS: u64 = 4_000;

/// Processes of all tiers under load.
pub struct Tiers {
    pub ingest: Uproar,
    pub fanout: Uproar,
    pub aggregators: Vec<Uproar>,
    pub plans: Plans,
    pub posters: Posters,
    pub rooms: Vec<String>,
    watcher: Watcher,
    history: History,
    config: eventlog::Config,
    _logs: Logs,
}

/// The folder of the processes' logs. Says how they end where a test fails.
struct Logs(TempDir);

impl Drop for Logs {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for entry in std::fs::read_dir(self.0.path()).unwrap() {
            let path = entry.unwrap().path();
            let log = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            println!("== {}\n{}", path.display(), lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

/// What may differ from one chaos to the other.
pub struct Shape {
    pub interval_ms: u64,
    pub rooms: usize,
    /// `section.key=value`, for every tier.
    pub sets: Vec<String>,
}

impl Default for Shape {
    fn default() -> Self {
        // Enough rooms that every partition has some.
        Self { interval_ms: 500, rooms: 16, sets: Vec::new() }
    }
}

pub struct Plans {
    pub ingest: Plan,
    pub fanout: Plan,
    pub aggregators: Vec<Plan>,
}

impl Plans {
    fn new(cluster: &Cluster, dir: &Path, name: &str, aggregators: &[&str], shape: &Shape) -> Self {
        let plan = |role: &'static str, instance: &str| {
            let plan = Plan::new(role, dir)
                .named(instance)
                .set("log.kind=kafka")
                .set(format!("log.partitions={PARTITIONS}"))
                .set(format!("log.kafka.brokers={}", cluster.bootstrap()))
                .set(format!("log.kafka.reactions_topic={name}-reactions"))
                .set(format!("log.kafka.aggregates_topic={name}-aggregates"))
                .set(format!("log.kafka.windows_topic={name}-windows"))
                .set(format!("log.kafka.group={name}"))
                .set(format!("log.kafka.instance_id={instance}"))
                .set(format!("log.kafka.session_timeout_ms={SESSION_TIMEOUT_MS}"))
                .set(format!("aggregator.interval_ms={}", shape.interval_ms));
            shape.sets.iter().fold(plan, Plan::set)
        };
        let aggregators = aggregators.iter().map(|instance| plan("aggregator", instance)).collect();
        Self { ingest: plan("ingest", "ingest"), fanout: plan("fanout", "fanout"), aggregators }
    }
}

impl Tiers {
    /// Starts the tiers with topics of their own, and the load on them.
    pub async fn start(cluster: &Cluster, aggregators: &[&str], chaos: &mut Chaos) -> Self {
        Self::start_with(Shape::default(), cluster, aggregators, chaos).await
    }

    /// The same in another shape.
    pub async fn start_with(
        shape: Shape,
        cluster: &Cluster,
        aggregators: &[&str],
        chaos: &mut Chaos,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name = kafka_log::unused_name("chaos");
        let mut config = kafka_log::config(cluster.bootstrap(), &name, PARTITIONS);
        // Whoever audits is no member of the group.
        config.kafka.group = format!("{name}-audit");
        let history = History::follow(&config).await;
        let plans = Plans::new(cluster, dir.path(), &name, aggregators, &shape);
        let (mut ingest, mut fanout) = (plans.ingest.spawn(), plans.fanout.spawn());
        let mut aggregators: Vec<_> = plans.aggregators.iter().map(Plan::spawn).collect();
        for tier in aggregators.iter_mut().chain([&mut ingest, &mut fanout]) {
            tier.until_ready().await;
        }
        let rooms: Vec<String> = (0..shape.rooms).map(|n| format!("room-{n}")).collect();
        let posters = Posters::start(&ingest.http, &rooms, chaos);
        let watcher = Watcher::start(&fanout.http, &rooms);
        let tiers = Self {
            ingest,
            fanout,
            aggregators,
            plans,
            posters,
            rooms,
            watcher,
            history,
            config,
            _logs: Logs(dir),
        };
        tiers.until_all_go_on().await;
        tiers.until_all_aggregators_work().await;
        tiers
    }

    /// Waits until viewers of every room have seen a reaction that was posted after this call, and says how long it took.
    pub async fn until_all_go_on(&self) -> Duration {
        let started = Instant::now();
        let accepted = self.posters.accounts.accepted();
        for room in &self.rooms {
            let before = accepted.get(room).copied().unwrap_or(0);
            until(&format!("{room} to go on"), async || {
                let total = snapshot(&self.fanout.http, room).await?["total"].as_u64()?;
                (total > before).then_some(())
            })
            .await;
        }
        started.elapsed()
    }

    /// Waits until every aggregator has rooms.
    pub async fn until_all_aggregators_work(&self) {
        for aggregator in &self.aggregators {
            until("an aggregator to get partitions", async || {
                let metrics = http::get(&aggregator.admin, "/metrics").await?.body;
                let rooms = metrics.lines().find_map(|line| line.strip_prefix("uproar_aggregator_rooms "))?;
                (rooms != "0").then_some(())
            })
            .await;
        }
    }

    /// Ends the load, lets all come to rest, and accounts for every reaction.
    pub async fn audit(mut self, what: &str) {
        self.posters.stop().await;
        // Writes what it holds: after this nothing comes any more.
        self.ingest.stop();
        let accounts = &self.posters.accounts;
        assert!(accounts.accepted_sum() > 0, "nothing was accepted: {}", accounts.summary());
        let mut config = self.config.clone();
        // A group without commits begins where the aggregates end; where there are none, at the first record.
        config.kafka.aggregates_topic.push_str("-audit");
        let reading = Reading::of(&config, |reading| accounts.covered_by(&reading.recorded())).await;
        let recorded = reading.recorded();
        println!("{what}: {}; counted {}", accounts.summary(), total(&recorded));
        accounts.check(&recorded);
        until("viewers to see all of it", async || {
            (seen(&self.fanout.http, &self.rooms).await == recorded).then_some(())
        })
        .await;
        self.watcher.check();
        for tier in self.aggregators.iter_mut().chain([&mut self.fanout]) {
            tier.stop();
        }
        self.history.audit(&reading).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_every_tier_loses_nothing_and_counts_nothing_twice() {
    let _turn = turn().await;
    let Some(cluster) = kafka::shared() else { return };
    let mut chaos = Chaos::new("tiers");
    let mut tiers = Tiers::start(cluster, &["one"], &mut chaos).await;
    let rounds = rounds(2);
    for _ in 0..rounds {
        // Each once a round, in any order.
        let first = chaos.below(3);
        for turn in first..first + 3 {
            chaos.pause(0, 1_500).await;
            let (tier, plan) = match turn % 3 {
                0 => (&mut tiers.ingest, &tiers.plans.ingest),
                1 => (&mut tiers.fanout, &tiers.plans.fanout),
                _ => (&mut tiers.aggregators[0], &tiers.plans.aggregators[0]),
            };
            tier.kill();
            *tier = plan.spawn();
            if chaos.below(4) == 0 {
                // Somewhere in its start.
                chaos.pause(0, 500).await;
                tier.kill();
                *tier = plan.spawn();
            }
            tier.until_ready().await;
        }
        tiers.until_all_go_on().await;
    }
    tiers.audit(&format!("{rounds} kills of each tier")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_every_tier_loses_nothing_and_counts_nothing_twice() {
    let _turn = turn().await;
    let Some(cluster) = kafka::shared() else { return };
    let mut chaos = Chaos::new("rolling");
    let mut tiers = Tiers::start(cluster, &["one", "two"], &mut chaos).await;
    let rounds = rounds(1);
    for _ in 0..rounds {
        for turn in 0..4 {
            chaos.pause(0, 500).await;
            let (tier, plan) = match turn {
                0 => (&mut tiers.ingest, &tiers.plans.ingest),
                1 => (&mut tiers.fanout, &tiers.plans.fanout),
                _ => (&mut tiers.aggregators[turn - 2], &tiers.plans.aggregators[turn - 2]),
            };
            tier.stop();
            *tier = plan.start().await;
        }
        tiers.until_all_go_on().await;
    }
    tiers.audit(&format!("{rounds} rolling restarts")).await;
}
