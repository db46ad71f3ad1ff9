//! Brokers that die, hang or are restarted under load.

use super::{
    Chaos, rounds,
    tiers::{LOSS_TIMEOUT_MS, Tiers},
    turn,
};
use crate::harness::{http, kafka, process::Uproar, skip, wait::until};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// Within which a process answers its operators, whatever its brokers do.
const ANSWER: Duration = Duration::from_secs(1);
/// `service.stop_deadline_ms` as it is by default.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_a_broker_and_the_silence_of_all_lose_nothing_and_count_nothing_twice() {
    let _turn = turn().await;
    let Some(cluster) = kafka::own() else { return };
    let mut chaos = Chaos::new("brokers");
    let mut tiers = Tiers::start(&cluster, &["one", "two"], &mut chaos).await;
    let rounds = rounds(1);
    for _ in 0..rounds {
        chaos.pause(0, 1_500).await;
        let broker = 1 + chaos.below(3) as u32;
        cluster.kill(broker);
        let took = tiers.until_all_go_on().await;
        println!("brokers: all rooms go on without broker {broker} after {took:?}");
        // The ordinary traffic of two brokers.
        chaos.pause(0, 1_500).await;
        cluster.restart(broker);
        tiers.until_all_go_on().await;
        silence(&cluster, &mut tiers).await;
    }
    tiers.audit(&format!("{rounds} brokers lost, {rounds} times all silent")).await;
}

/// All brokers hang: no coordinator answers, and no connection is closed. One aggregator is asked to stop meanwhile, the
/// other goes on by itself afterwards.
async fn silence(cluster: &kafka::Cluster, tiers: &mut Tiers) {
    (1..=3).for_each(|broker| cluster.pause(broker));
    let since = Instant::now();
    for aggregator in &tiers.aggregators {
        let why = until("the aggregator to be unready", async || {
            assert_answers(aggregator).await;
            let answer = http::get(&aggregator.admin, "/readyz").await?;
            (answer.status != 200).then_some(answer.body)
        })
        .await;
        println!("brokers: unready {:?} after all brokers fell silent: {}", since.elapsed(), why.trim());
        assert!(why.contains("aggregator"), "{why}");
    }
    let asked = Instant::now();
    tiers.aggregators[1].signal(Signal::SIGTERM);
    assert_answers(&tiers.aggregators[0]).await;
    tiers.aggregators[1].ended();
    println!("brokers: stopped {:?} after SIGTERM, all brokers silent", asked.elapsed());
    assert!(asked.elapsed() < STOP_DEADLINE);
    assert_answers(&tiers.aggregators[0]).await;
    (1..=3).for_each(|broker| cluster.resume(broker));
    let took = tiers.until_all_go_on().await;
    println!("brokers: all rooms go on {took:?} after the brokers came back");
    tiers.aggregators[0].until_ready().await;
    tiers.aggregators[1] = tiers.plans.aggregators[1].start().await;
    tiers.until_all_aggregators_work().await;
}

async fn assert_answers(process: &Uproar) {
    let asked = Instant::now();
    let answer = http::get(&process.admin, "/healthz").await;
    let took = asked.elapsed();
    assert!(answer.is_some_and(|answer| answer.status == 200) && took < ANSWER, "no answer after {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "restarts real brokers for minutes: docs/testing.md has the command"]
async fn brokers_that_are_restarted_or_hang_one_by_one_lose_nothing() {
    let _turn = turn().await;
    let Some(cluster) = kafka::own() else { return };
    let mut chaos = Chaos::new("rolling brokers");
    let tiers = Tiers::start(&cluster, &["one", "two"], &mut chaos).await;
    let rounds = rounds(1);
    for _ in 0..rounds {
        for broker in 1..=3 {
            cluster.stop(broker);
            cluster.restart(broker);
            let took = tiers.until_all_go_on().await;
            println!("brokers: all rooms go on {took:?} after the restart of broker {broker}");
        }
        // As cut off from the network: it is silent for longer than the controller waits for it, and then comes back
        // believing that nothing happened.
        let broker = 1 + chaos.below(3) as u32;
        cluster.pause(broker);
        let took = tiers.until_all_go_on().await;
        println!("brokers: all rooms go on without the silent broker {broker} after {took:?}");
        chaos.pause(LOSS_TIMEOUT_MS, 2 * LOSS_TIMEOUT_MS).await;
        cluster.resume(broker);
        tiers.until_all_go_on().await;
    }
    tiers.audit(&format!("{rounds} rolling restarts of the brokers, {rounds} silent ones")).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "mounts a small file system, which takes root: docs/testing.md has the command"]
async fn a_broker_with_a_full_disk_loses_nothing_and_comes_back_once_there_is_room() {
    const FULL: u32 = 3;
    let _turn = turn().await;
    let Some(cluster) = kafka::own() else { return };
    if !cluster.give_disk(FULL, 64) {
        return skip("no small file system can be mounted: run it as root");
    }
    let mut chaos = Chaos::new("full disk");
    let tiers = Tiers::start(&cluster, &["one", "two"], &mut chaos).await;
    let rounds = rounds(1);
    for _ in 0..rounds {
        cluster.fill_disk(FULL);
        let took = tiers.until_all_go_on().await;
        println!("brokers: all rooms go on {took:?} after the disk of a broker was full");
        // Kafka's answer to a disk that can't be written is to end the broker.
        until("the broker to end", async || (!cluster.runs(FULL)).then_some(())).await;
        let took = tiers.until_all_go_on().await;
        println!("brokers: all rooms go on {took:?} after that broker has ended");
        cluster.free_disk(FULL);
        cluster.restart(FULL);
        tiers.until_all_go_on().await;
    }
    tiers.audit(&format!("{rounds} times a full disk")).await;
}
