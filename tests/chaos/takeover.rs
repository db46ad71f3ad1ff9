//! Two aggregators, one of which is killed.

use super::{
    Chaos, rounds,
    tiers::{PARTITIONS, SESSION_TIMEOUT_MS, Tiers},
    turn,
};
use crate::harness::{kafka, process::Uproar, wait::until};
use std::time::{Duration, Instant};

/// docs/operations.md, "Takeover": the session timeout, as the broker ends what was left open before that is over; then
/// what is left of a heartbeat, the rebalance, the load of the state, and the first window.
const BOUND: Duration = Duration::from_millis(SESSION_TIMEOUT_MS + 3_000);
/// What a machine with other work may add.
const SLACK: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn of_two_aggregators_one_is_killed_and_the_other_takes_over_within_a_bound() {
    let _turn = turn().await;
    let Some(cluster) = kafka::shared() else { return };
    let mut chaos = Chaos::new("takeover");
    let mut tiers = Tiers::start(cluster, &["one", "two"], &mut chaos).await;
    let rounds = rounds(1);
    let mut took = Vec::new();
    for _ in 0..rounds {
        chaos.pause(0, 1_500).await;
        let victim = chaos.below(2) as usize;
        let killed = Instant::now();
        tiers.aggregators[victim].kill();
        let successor = &tiers.aggregators[1 - victim];
        let (assigned, owned) = until_taken_over(successor, killed).await;
        tiers.until_all_go_on().await;
        let all = killed.elapsed();
        println!(
            "takeover: assigned after {assigned:?}, state loaded after {owned:?}, all rooms go on after {all:?}"
        );
        took.push(all);
        tiers.aggregators[victim] = tiers.plans.aggregators[victim].start().await;
        tiers.until_all_aggregators_work().await;
    }
    took.sort();
    let (fastest, median, slowest) = (took[0], took[took.len() / 2], took[took.len() - 1]);
    println!("takeover: fastest {fastest:?}, median {median:?}, slowest {slowest:?}");
    assert!(slowest < BOUND + SLACK, "{took:?}");
    tiers.audit(&format!("{rounds} takeovers")).await;
}

/// When the successor had been given the dead one's partitions, and when it had their state.
async fn until_taken_over(successor: &Uproar, killed: Instant) -> (Duration, Duration) {
    let before = successor.log().lines().count();
    let said = |text: &str| successor.log().lines().skip(before).filter(|line| line.contains(text)).count();
    until("the successor to be assigned partitions", async || {
        (said("partitions assigned") > 0).then_some(())
    })
    .await;
    let assigned = killed.elapsed();
    let half = PARTITIONS as usize / 2;
    until("the successor to own all", async || (said("partition taken over") >= half).then_some(())).await;
    (assigned, killed.elapsed())
}
