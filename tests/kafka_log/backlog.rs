//! Measurements of catching up and taking over, run by hand:
//! `cargo test --release --test it kafka_log::backlog -- --ignored --nocapture --test-threads 1`.

use super::{
    config,
    member::Member,
    open,
    pace::{aggregator, batch, follow, home, rooms, say},
    unused_name,
};
use crate::harness::kafka::shared;
use eventlog::{Config, EventLog, FeedEvent};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::time::{Duration, Instant};
use wire::Aggregate;

const RECORDS: u64 = 1_500_000;
/// Reactions in each record.
const REACTIONS: u64 = 21;

/// Writes the backlog as fast as the brokers take it.
async fn write_backlog(log: &dyn EventLog) {
    let writer = log.writer().await.unwrap();
    let records: Vec<_> =
        rooms(writer.partitions(), 5).iter().map(|room| (home(room, &*writer), batch(room))).collect();
    let mut under_way = FuturesUnordered::new();
    for n in 0..RECORDS as usize {
        let (partition, value) = &records[n % records.len()];
        under_way.push(writer.append(*partition, value.clone()));
        if under_way.len() >= 20_000 {
            under_way.next().await.unwrap().unwrap();
        }
    }
    while let Some(outcome) = under_way.next().await {
        outcome.unwrap();
    }
}

/// A member of another group that reads all of it and counts nothing.
async fn read_by_feed(config: &Config, options: &[(&str, &str)]) -> Duration {
    let mut config = config.clone();
    config.kafka.group = unused_name("reader");
    config.kafka.options.extend(options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let log = open(&config).await;
    let mut feed = log.feed().await.unwrap();
    let (mut read, mut began) = (0, Instant::now());
    while read < RECORDS {
        match feed.events.next().await.unwrap() {
            FeedEvent::Records { records, .. } => {
                if read == 0 {
                    began = Instant::now();
                }
                read += records.len() as u64;
            }
            FeedEvent::Revoked { .. } => panic!("nobody else is in the group"),
            _ => {}
        }
    }
    let took = began.elapsed();
    feed.events.close(Duration::from_secs(10)).await;
    took
}

fn rate(what: &str, took: Duration) {
    say(&format!(
        "{RECORDS} records {what}: {took:.2?}, {:.0} records/s",
        RECORDS as f64 / took.as_secs_f64()
    ));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: it prints how fast a backlog of 1.5 million records is read and rolled up"]
async fn catching_up() {
    let Some(cluster) = shared() else { return };
    let config = config(cluster.bootstrap(), &unused_name("backlog"), 8);
    let log = open(&config).await;
    let began = Instant::now();
    write_backlog(&*log).await;
    rate("written", began.elapsed());
    // In turn, because the machine may be busy for a while.
    for _ in 1..=2 {
        rate("read by a feed", read_by_feed(&config, &[]).await);
        let before = [("fetch.queue.backoff.ms", "1000")];
        rate(
            "read by a feed that waits a second when its queue is full",
            read_by_feed(&config, &before).await,
        );
    }
    for round in 1..=2 {
        let mut config = config.clone();
        config.kafka.aggregates_topic = unused_name("rolled-up");
        config.kafka.windows_topic = unused_name("windows");
        config.kafka.group = config.kafka.aggregates_topic.clone();
        let log = open(&config).await;
        let dir = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let process = aggregator(cluster, &config, dir.path(), 2_000).spawn();
        let counted =
            |seen: &[(u64, Aggregate)]| seen.iter().map(|(_, aggregate)| aggregate.count).sum::<u64>();
        let seen = follow(&*log, |seen| counted(seen) >= RECORDS * REACTIONS).await;
        assert_eq!(counted(&seen), RECORDS * REACTIONS);
        rate(&format!("rolled up by an aggregator, its start included (round {round})"), began.elapsed());
        drop(process);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: it prints how long taking over a large topic of aggregates takes"]
async fn taking_over() {
    const PARTITIONS: u32 = 8;
    let Some(cluster) = shared() else { return };
    for (rooms, versions) in [(1_000, 100), (20_000, 50), (100_000, 20)] {
        let mut config = config(cluster.bootstrap(), &unused_name("large"), PARTITIONS);
        (config.kafka.session_timeout_ms, config.kafka.transaction_timeout_ms) = (60_000, 60_000);
        let log = open(&config).await;
        let mut member = Member::join(&*log).await;
        member.until_owned(PARTITIONS as usize).await;
        let mut slowest = Duration::ZERO;
        for seq in 1..=versions {
            let cuts = member.cuts(rooms / PARTITIONS, seq);
            let began = Instant::now();
            member.feed.committer.commit(cuts).await.unwrap();
            slowest = slowest.max(began.elapsed());
        }
        member.leave().await;
        let began = Instant::now();
        let mut next = Member::join(&*log).await;
        next.until("an assignment", |member| !member.owned.is_empty()).await;
        let first = began.elapsed();
        next.until_owned(PARTITIONS as usize).await;
        assert!(next.owned.values().all(|owned| owned.newest.iter().all(|newest| newest.seq == versions)));
        say(&format!(
            "{rooms} rooms, {} records: the first partition {first:.2?} after joining, all after {:.2?}; the slowest commit took \
             {slowest:.2?}",
            u64::from(rooms) * versions,
            began.elapsed()
        ));
        next.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: it prints how long a commit of many rooms takes"]
async fn large_commits() {
    let Some(cluster) = shared() else { return };
    for (partitions, rooms) in [(8, 10_000), (8, 100_000), (1, 100_000)] {
        let mut config = config(cluster.bootstrap(), &unused_name("commits"), partitions);
        (config.kafka.session_timeout_ms, config.kafka.transaction_timeout_ms) = (60_000, 60_000);
        let log = open(&config).await;
        let mut member = Member::join(&*log).await;
        member.until_owned(partitions as usize).await;
        let mut times = Vec::new();
        for seq in 1..=7 {
            let cuts = member.cuts(rooms / partitions, seq);
            let bytes: usize = cuts
                .iter()
                .flat_map(|cut| &cut.aggregates)
                .filter_map(|(_, value)| Some(value.as_ref()?.len()))
                .sum();
            let began = Instant::now();
            member.feed.committer.commit(cuts).await.unwrap();
            times.push((began.elapsed().as_millis(), bytes));
        }
        let bytes = times[0].1 / rooms as usize;
        let times: Vec<_> = times.into_iter().map(|(ms, _)| ms).collect();
        say(&format!(
            "a commit of {rooms} rooms, {bytes} bytes each, {partitions} partitions, ms: {times:?}"
        ));
        member.leave().await;
    }
}
