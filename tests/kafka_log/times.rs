//! Measurements, run by hand: `cargo test --test it kafka_log::times -- --ignored --nocapture`.

use super::{append_some, config, member::Member, open, unused_name};
use crate::harness::kafka::shared;
use bytes::Bytes;
use std::{
    io::Write as _,
    time::{Duration, Instant},
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: it prints how long appends take"]
async fn append_times() {
    let Some(cluster) = shared() else { return };
    for (partitions, rooms) in [(8, 1), (8, 50), (32, 200)] {
        let log = open(&config(cluster.bootstrap(), &unused_name("appends"), partitions)).await;
        let writer = log.writer().await.unwrap();
        append_some(&*log, rooms).await;
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        let mut appends = tokio::task::JoinSet::new();
        for _ in 0..1_000 {
            ticks.tick().await;
            let started = Instant::now();
            for n in 0..rooms {
                let append = writer.append(n % partitions, Bytes::from(vec![b'x'; 100]));
                appends.spawn(async move {
                    append.await.unwrap();
                    started.elapsed()
                });
            }
        }
        let mut times = appends.join_all().await;
        let text =
            format!("every 10 ms, {rooms} rooms, {partitions} partitions: {}\n", percentiles(&mut times));
        std::io::stdout().write_all(text.as_bytes()).unwrap();
    }
}

fn percentiles(times: &mut [Duration]) -> String {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    format!("p50 {:.1} p90 {:.1} p99 {:.1} max {:.1} ms", at(0.5), at(0.9), at(0.99), at(1.0))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: it prints how long commits take"]
async fn commit_times() {
    let Some(cluster) = shared() else { return };
    for (pace_ms, rooms, count) in [(500, 1, 60), (500, 125, 60), (2_000, 1, 30)] {
        let log = open(&config(cluster.bootstrap(), &unused_name("times"), 8)).await;
        let mut member = Member::join(&*log).await;
        member.until_owned(8).await;
        let mut follower = log.follower().await.unwrap();
        while !matches!(follower.next().await.unwrap(), eventlog::FollowEvent::CaughtUp) {}
        let (mut times, mut seen) = (Vec::new(), Vec::new());
        let mut ticks = tokio::time::interval(Duration::from_millis(pace_ms));
        for seq in 1..=count {
            ticks.tick().await;
            let cuts = member.cuts(rooms, seq);
            let wanted: usize = cuts.iter().map(|cut| cut.aggregates.len()).sum();
            let started = Instant::now();
            let commit = async {
                member.feed.committer.commit(cuts).await.unwrap();
                times.push(started.elapsed());
            };
            let follow = async {
                let mut got = 0;
                while got < wanted {
                    if let eventlog::FollowEvent::Records(records) = follower.next().await.unwrap() {
                        got += records.len();
                    }
                }
                seen.push(started.elapsed());
            };
            tokio::join!(commit, follow);
        }
        let (commit, follower) = (percentiles(&mut times), percentiles(&mut seen));
        let text = format!("every {pace_ms} ms, {} rooms: commit {commit}; follower {follower}\n", rooms * 8);
        std::io::stdout().write_all(text.as_bytes()).unwrap();
        member.leave().await;
    }
}
