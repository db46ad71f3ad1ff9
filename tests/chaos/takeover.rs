//! Two aggregators, one of which is killed.

use super::{
    Chaos, rounds,
    tiers::{SESSION_TIMEOUT_MS, Tiers},
};
use crate::harness::kafka;
use std::time::Duration;

/// What a takeover may take beyond the session timeout, on a busy machine.
const SLACK: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "kills real processes for minutes: docs/testing.md has the command"]
async fn of_two_aggregators_one_is_killed_and_the_other_takes_over_within_a_bound() {
    let Some(cluster) = kafka::shared() else { return };
    let mut chaos = Chaos::new("takeover");
    let mut tiers = Tiers::start(cluster, &["one", "two"], &mut chaos).await;
    let rounds = rounds(1);
    let mut took = Vec::new();
    for _ in 0..rounds {
        chaos.pause(0, 1_500).await;
        let victim = chaos.below(2) as usize;
        tiers.aggregators[victim].kill();
        took.push(tiers.until_all_go_on().await);
        tiers.aggregators[victim] = tiers.plans.aggregators[victim].start().await;
        tiers.until_all_aggregators_work().await;
    }
    println!("takeovers, in order: {took:?}");
    took.sort();
    let (fastest, median, slowest) = (took[0], took[took.len() / 2], took[took.len() - 1]);
    println!("takeover: fastest {fastest:?}, median {median:?}, slowest {slowest:?}");
    assert!(slowest < Duration::from_millis(SESSION_TIMEOUT_MS) + SLACK, "{took:?}");
    tiers.audit(&format!("{rounds} takeovers")).await;
}
