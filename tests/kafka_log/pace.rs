//! Measurements of the real aggregator, run by hand (docs/performance.md has the commands): does it keep its interval, how
//! long do commits take, and how fast is a backlog caught up with.

use super::{config, open, unused_name};
use crate::harness::{
    http,
    kafka::{Cluster, shared},
    process::Plan,
};
use eventlog::{Config, EventLog, FollowEvent, Writer};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    collections::BTreeMap,
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{task::JoinSet, time::timeout};
use wire::{Aggregate, Batch, RoomName};

pub(super) fn say(text: &str) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    std::io::stdout().write_all(format!("{text} (load average {load})\n").as_bytes()).unwrap();
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

pub(super) fn aggregator(cluster: &Cluster, config: &Config, dir: &Path, interval_ms: u64) -> Plan {
    Plan::new("aggregator", dir)
        .set("log.kind=kafka")
        .set(format!("log.partitions={}", config.partitions))
        .set(format!("log.kafka.brokers={}", cluster.bootstrap()))
        .set(format!("log.kafka.reactions_topic={}", config.kafka.reactions_topic))
        .set(format!("log.kafka.aggregates_topic={}", config.kafka.aggregates_topic))
        .set(format!("log.kafka.windows_topic={}", config.kafka.windows_topic))
        .set(format!("log.kafka.group={}", config.kafka.group))
        .set(format!("aggregator.interval_ms={interval_ms}"))
}

/// Some rooms of each partition.
pub(super) fn rooms(partitions: u32, of_each: usize) -> Vec<RoomName> {
    let mut rooms: BTreeMap<u32, Vec<RoomName>> = BTreeMap::new();
    for n in 0.. {
        let room: RoomName = format!("room-{n}").parse().unwrap();
        let home = rooms.entry(eventlog::partition_of(&room, partitions)).or_default();
        if home.len() < of_each {
            home.push(room);
        }
        if rooms.len() == partitions as usize && rooms.values().all(|home| home.len() == of_each) {
            break;
        }
    }
    rooms.into_values().flatten().collect()
}

pub(super) fn home(room: &RoomName, writer: &dyn Writer) -> u32 {
    eventlog::partition_of(room, writer.partitions())
}

/// A batch of one room as ingest writes it.
pub(super) fn batch(room: &RoomName) -> bytes::Bytes {
    let counts = ["🔥", "👏", "gg"].map(|reaction| (reaction.parse().unwrap(), 7));
    Batch::new(room.clone(), counts.into()).unwrap().encode().into()
}

/// Writes so many records to each room a second, spread evenly.
async fn load(log: &dyn EventLog, rooms: &[RoomName], per_second: u32, duration: Duration) -> u64 {
    let writer = log.writer().await.unwrap();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
    let (started, mut written) = (Instant::now(), 0);
    let mut appends = JoinSet::new();
    while started.elapsed() < duration {
        ticks.tick().await;
        for room in rooms {
            let append = writer.append(home(room, &*writer), batch(room));
            appends.spawn(async move { append.await.unwrap() });
            written += 1;
        }
        while appends.try_join_next().is_some() {}
    }
    appends.join_all().await;
    written
}

/// Each aggregate with the time when it came, until `enough`.
pub(super) async fn follow(
    log: &dyn EventLog,
    enough: impl Fn(&[(u64, Aggregate)]) -> bool,
) -> Vec<(u64, Aggregate)> {
    let mut follower = log.follower().await.unwrap();
    let mut seen = Vec::new();
    while !enough(&seen) {
        let Ok(event) = timeout(Duration::from_secs(120), follower.next()).await else { break };
        if let FollowEvent::Records(records) = event.unwrap() {
            let now = now_ms();
            let values = records.iter().filter_map(|record| record.value.as_ref());
            seen.extend(values.map(|value| (now, Aggregate::decode(value).unwrap())));
        }
    }
    seen
}

fn percentiles(values: &mut [u64]) -> String {
    values.sort_unstable();
    let at = |share: f64| values[((values.len() - 1) as f64 * share) as usize];
    format!("p50 {} p90 {} p99 {} max {}", at(0.5), at(0.9), at(0.99), at(1.0))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: it prints whether one aggregator keeps its interval"]
async fn pace() {
    let Some(cluster) = shared() else { return };
    for partitions in [8, 64] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(cluster.bootstrap(), &unused_name("pace"), partitions);
        let log = open(&config).await;
        let process = aggregator(cluster, &config, dir.path(), 2_000).start().await;
        let rooms = rooms(partitions, 1);
        load(&*log, &rooms, 10, Duration::from_secs(6)).await;
        let commits = "uproar_log_commits_total{outcome=\"ok\"}";
        let before = (process.metric(commits).await, process.metric("uproar_aggregator_windows_total").await);
        let from = now_ms();
        let (_, seen) = tokio::join!(
            load(&*log, &rooms, 10, Duration::from_secs(64)),
            follow(&*log, |seen| seen.last().is_some_and(|(at, _)| *at > from + 62_000))
        );
        let after = (process.metric(commits).await, process.metric("uproar_aggregator_windows_total").await);
        let ours = |a: &Aggregate| a.window.end > from && a.window.end <= from + 60_000;
        let seen: Vec<_> = seen.into_iter().filter(|(_, aggregate)| ours(aggregate)).collect();
        let mut frames: BTreeMap<&RoomName, u64> = BTreeMap::new();
        seen.iter().for_each(|(_, aggregate)| *frames.entry(&aggregate.room).or_default() += 1);
        let (least, most) = (frames.values().min().unwrap(), frames.values().max().unwrap());
        let mut delays: Vec<u64> =
            seen.iter().map(|(at, aggregate)| at.saturating_sub(aggregate.window.end)).collect();
        say(&format!(
            "{partitions} partitions, 60 s of 2 s windows: {} rooms with {least} to {most} frames each; window's end to follower, \
             ms: {}; {:.2} windows a commit",
            frames.len(),
            percentiles(&mut delays),
            (after.1 - before.1) / (after.0 - before.0),
        ));
        let all = http::get(&process.admin, "/metrics").await.unwrap().body;
        let of_commits =
            |line: &&str| line.starts_with("uproar_log_commit_seconds") && line.contains("\"ok\"");
        say(&all.lines().filter(of_commits).collect::<Vec<_>>().join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: it prints how fast a backlog is caught up with"]
async fn catch_up() {
    let Some(cluster) = shared() else { return };
    // Many records in few windows; and 300 windows a partition: ten minutes of 2 s
    // windows, in windows of 100 ms. A record's time is the log's own, so a backlog can't be made faster than that.
    for (interval_ms, per_second, seconds) in [(2_000, 1_000, 30), (100, 100, 30)] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(cluster.bootstrap(), &unused_name("backlog"), 8);
        let log: Arc<dyn EventLog> = open(&config).await;
        let rooms = rooms(8, 5);
        let began = Instant::now();
        let records = load(&*log, &rooms, per_second, Duration::from_secs(seconds)).await;
        let made = began.elapsed();
        let counted =
            |seen: &[(u64, Aggregate)]| seen.iter().map(|(_, aggregate)| aggregate.count).sum::<u64>();
        let plan = aggregator(cluster, &config, dir.path(), interval_ms);
        let spawned = Instant::now();
        let spawned_ms = now_ms();
        let process = plan.spawn();
        let seen = follow(&*log, |seen| counted(seen) >= records * 21).await;
        let took = spawned.elapsed();
        assert_eq!(counted(&seen), records * 21);
        let first = Duration::from_millis(seen[0].0 - spawned_ms);
        let windows: std::collections::BTreeSet<_> =
            seen.iter().map(|(_, a)| (a.source.partition, a.source.from)).collect();
        let reading = (took - first).as_secs_f64();
        say(&format!(
            "{records} records of {} rooms, made in {made:.1?}, {} windows: counted {took:.1?} after the start, first window \
             after {first:.1?}; from there {:.0} records/s, {:.0} windows/s",
            rooms.len(),
            windows.len(),
            records as f64 / reading,
            windows.len() as f64 / reading
        ));
        drop(process);
    }
}

/// CPU time of each thread of this process, by its name.
fn cpu_by_thread() -> BTreeMap<String, Duration> {
    let mut times = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let nanos = read("schedstat").split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0);
        *times.entry(read("comm").trim().to_owned()).or_default() += Duration::from_nanos(nanos);
    }
    times
}

#[tokio::test]
#[ignore = "a measurement: it prints what an append costs, thread by thread"]
async fn appends() {
    const ROOMS: u32 = 10_000;
    const TICKS: u32 = 100;
    let Some(cluster) = shared() else { return };
    let log = open(&config(cluster.bootstrap(), &unused_name("appends"), 8)).await;
    let writer = log.writer().await.unwrap();
    let rooms: Vec<RoomName> = (0..ROOMS).map(|n| format!("room-{n}").parse().unwrap()).collect();
    let values: Vec<_> = rooms.iter().map(batch).collect();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let (mut calls, mut waits) = (Duration::ZERO, Duration::ZERO);
    let before = cpu_by_thread();
    for _ in 0..TICKS {
        ticks.tick().await;
        let began = Instant::now();
        let appends: FuturesUnordered<_> = rooms
            .iter()
            .zip(&values)
            .map(|(room, value)| writer.append(home(room, &*writer), value.clone()))
            .collect();
        calls += began.elapsed();
        let outcomes: Vec<_> = appends.collect().await;
        waits += began.elapsed();
        assert!(outcomes.iter().all(Result::is_ok));
    }
    let per_append = |time: Duration| time / (ROOMS * TICKS);
    say(&format!(
        "{ROOMS} appends took {:?} to call, {:?} until all were durable",
        calls / TICKS,
        waits / TICKS
    ));
    for (thread, time) in cpu_by_thread() {
        let spent = time.saturating_sub(before.get(&thread).copied().unwrap_or_default());
        say(&format!("{thread}: {:?} of CPU an append", per_append(spent)));
    }
}

#[tokio::test]
#[ignore = "a measurement: it prints the memory of records that wait for brokers"]
async fn waiting_records() {
    let Some(cluster) = crate::harness::kafka::own() else { return };
    let log = open(&config(cluster.bootstrap(), &unused_name("waiting"), 8)).await;
    let writer = log.writer().await.unwrap();
    let rooms: Vec<RoomName> = (0..10_000).map(|n| format!("room-{n}").parse().unwrap()).collect();
    let values: Vec<_> = rooms.iter().map(batch).collect();
    writer.append(home(&rooms[0], &*writer), values[0].clone()).await.unwrap();
    (1..=3).for_each(|broker| cluster.kill(broker));
    for round in 1..=3 {
        let (before, began) = (resident_kib(), Instant::now());
        let (mut bytes, appends) = (0, FuturesUnordered::new());
        for (room, value) in rooms.iter().zip(&values).cycle().take(rooms.len() * 10) {
            bytes += value.len();
            appends.push(writer.append(home(room, &*writer), value.clone()));
        }
        let (count, full) = (appends.len(), resident_kib());
        let failed = appends.filter(|outcome| std::future::ready(outcome.is_err())).count().await;
        assert_eq!(failed, count);
        say(&format!(
            "round {round}: {count} records of {} bytes wait in {} bytes each; {} KiB more than before once all were given up, after \
             {:.1?}",
            bytes / count,
            full.saturating_sub(before) * 1_024 / count as u64,
            resident_kib().saturating_sub(before),
            began.elapsed()
        ));
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
