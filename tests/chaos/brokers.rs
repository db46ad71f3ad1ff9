//! A broker that dies under load, and comes back.

use super::{Chaos, rounds, tiers::Tiers};
use crate::harness::kafka::Cluster;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "kills real processes for minutes: docs/testing.md has the command"]
async fn kill_9_of_a_broker_loses_nothing_and_counts_nothing_twice() {
    // Not the shared one: other tests need its brokers.
    let Some(cluster) = Cluster::start(3) else { return };
    let mut chaos = Chaos::new("brokers");
    let tiers = Tiers::start(&cluster, &["one", "two"], &mut chaos).await;
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
    }
    tiers.audit(&format!("{rounds} brokers lost")).await;
}
