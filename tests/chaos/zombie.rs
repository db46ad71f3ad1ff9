//! An aggregator that sleeps until the group has given its partitions away, and wakes up with windows in its hands.

use super::{
    Chaos,
    tiers::{Shape, Tiers},
    turn,
};
use crate::harness::{kafka, process::Uproar, wait::until};
use nix::sys::signal::Signal;

/// Whether it falls asleep in the middle of a commit is a matter of luck; short windows help. Where it sleeps between two
/// commits, it notices at once that its session is over, and drops its windows.
const WINDOW_MS: u64 = 100;
const TRIES: u32 = 20;
const FENCED: &str = "commit fenced";

#[tokio::test(flavor = "multi_thread")]
async fn a_zombies_commit_is_fenced_and_it_comes_back_to_work() {
    let _turn = turn().await;
    let Some(cluster) = kafka::shared() else { return };
    let mut chaos = Chaos::new("zombie");
    let mut tiers = Tiers::start_with(
        Shape { interval_ms: WINDOW_MS, ..Shape::default() },
        cluster,
        &["one", "two"],
        &mut chaos,
    )
    .await;
    let mut fenced = Vec::new();
    for sleep in 1.. {
        assert!(sleep <= TRIES, "no commit of the sleeper was fenced");
        chaos.pause(0, 1_000).await;
        let sleeper = &tiers.aggregators[0];
        sleeper.signal(Signal::SIGSTOP);
        let (lines, assignments) = (sleeper.log().lines().count(), assignments(sleeper));
        let took = tiers.until_all_go_on().await;
        println!("zombie: all rooms go on after {took:?}");
        sleeper.signal(Signal::SIGCONT);
        until("the zombie to have partitions again", async || {
            (self::assignments(sleeper) > assignments).then_some(())
        })
        .await;
        fenced.extend(
            sleeper.log().lines().skip(lines).filter(|line| line.contains(FENCED)).map(str::to_owned),
        );
        if !fenced.is_empty() {
            break;
        }
    }
    println!("{}", fenced.join("\n"));
    // It works: without the other, everything is in its hands.
    tiers.aggregators[1].kill();
    tiers.until_all_go_on().await;
    tiers.aggregators[1] = tiers.plans.aggregators[1].start().await;
    tiers.audit("a zombie").await;
}

fn assignments(aggregator: &Uproar) -> usize {
    aggregator.log().matches("partition taken over").count()
}
