//! kill -9 of everything in one process on the embedded log.

use super::{
    Chaos,
    accounts::{Sums, total},
    audit::Reading,
    posters::Posters,
    rounds, turn,
    watcher::{Watcher, seen},
};
use crate::harness::{process::Plan, wait::until};
use eventlog::{Config, EmbeddedConfig, LogKind};
use std::{collections::BTreeMap, path::Path};
use wire::{Aggregate, RoomName};

const PARTITIONS: u32 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_one_process_loses_nothing_and_counts_nothing_twice() {
    let _turn = turn().await;
    let mut chaos = Chaos::new("embedded");
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::new("all", dir.path())
        .set(format!("log.partitions={PARTITIONS}"))
        .set("aggregator.interval_ms=200")
        .set("aggregator.grace_ms=20");
    let rooms: Vec<String> = (0..8).map(|n| format!("room-{n}")).collect();
    let rounds = rounds(5);
    let mut uproar = plan.start().await;
    let mut posters = Posters::start(&uproar.http, &rooms, &mut chaos);
    let mut watcher = Watcher::start(&uproar.http, &rooms);
    let mut newest = BTreeMap::new();
    let mut ready = true;
    for _ in 0..rounds {
        if ready {
            posters.accounts.until_more_accepted().await;
        }
        chaos.pause(0, 1_000).await;
        uproar.kill();
        if chaos.below(2) == 0 {
            // Otherwise `uproar` itself finds the file as it was left.
            posters.accounts.check(&standing(dir.path(), &mut newest).await);
        }
        uproar = plan.spawn();
        // A process that is not waited for is killed at any point of its start, and may accept nothing.
        ready = chaos.below(4) > 0;
        if ready {
            uproar.until_ready().await;
        }
        watcher.check();
    }
    posters.accounts.until_more_accepted().await;
    chaos.pause(0, 1_000).await;
    uproar.kill();
    posters.stop().await;
    let standing = standing(dir.path(), &mut newest).await;
    posters.accounts.check(&standing);
    let mut uproar = plan.start().await;
    until("viewers to see all of it", async || (seen(&uproar.http, &rooms).await == standing).then_some(()))
        .await;
    watcher.check();
    uproar.stop();
    println!("embedded, {} kills: {}; counted {}", rounds + 1, posters.accounts.summary(), total(&standing));
}

/// Opens the log that a dead process left: what is counted, and what is still to be counted. Each room goes on from
/// where it was `before`, and each partition from the window that is its newest.
async fn standing(dir: &Path, before: &mut BTreeMap<RoomName, Aggregate>) -> Sums {
    let config = Config {
        kind: LogKind::Embedded,
        partitions: PARTITIONS,
        embedded: EmbeddedConfig {
            dir: dir.join("data"),
            retention_ms: 600_000,
            cache_mib: 8,
            max_queued: 10,
        },
        ..crate::kafka_log::config("unused", "unused", PARTITIONS)
    };
    let reading = Reading::of(&config, |_| true).await;
    for (partition, start) in &reading.starts {
        let sources = reading.newest.iter().map(|it| it.source).filter(|it| it.partition == *partition);
        let cut = sources.map(|source| source.to).max();
        assert_eq!(cut.unwrap_or(0), *start, "partition {partition}: the offset of its newest window");
        let next = reading.records.iter().find(|(of, _)| of == partition).map(|(_, record)| record.offset);
        assert!(next.is_none_or(|next| next == *start), "partition {partition}: {next:?} after {start}");
    }
    let mut sums = reading.counted();
    for (key, count) in reading.recorded() {
        *sums.entry(key).or_default() += count;
    }
    for now in reading.newest {
        let room = now.room.clone();
        if let Some(before) = before.insert(room.clone(), now.clone()) {
            assert_eq!(before.since, now.since, "{room} began anew");
            assert!(before.seq <= now.seq && before.total <= now.total, "{room} went back");
        }
    }
    sums
}
