//! `uproar audit`, as operators run it: on the embedded log that was stopped, killed or tampered with, and on real Kafka
//! beside the running tiers. And what it reads with, on both logs.

use crate::{
    end_to_end::until_total,
    harness::{
        http, kafka,
        process::{Plan, UPROAR},
        wait::until,
    },
    kafka_log::{config as kafka_config, unused_name},
};
use eventlog::{Config, Cut, EmbeddedConfig, Feed, FeedEvent, LogKind, Record, conformance, partition_of};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use wire::{Aggregate, RoomName};

/// What an audit said, and how it ended.
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn room(&self, room: &str) -> Value {
        self.lines().into_iter().find(|line| line["room"] == room).unwrap_or_default()
    }
}

pub async fn audit(sets: &[String], args: &[&str]) -> Said {
    let mut command = Command::new(UPROAR);
    command.arg("audit").args(args);
    for set in sets {
        command.args(["--set", set]);
    }
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// So many that the rooms `final` and `semi` are in two of them.
const PARTITIONS: u32 = 8;

fn plan(dir: &Path) -> Plan {
    let plan = Plan::new("all", dir).set("aggregator.interval_ms=200").set("aggregator.grace_ms=20");
    plan.set(format!("log.partitions={PARTITIONS}"))
}

fn sets(dir: &Path) -> [String; 2] {
    [format!("log.embedded.dir={}", dir.join("data").display()), format!("log.partitions={PARTITIONS}")]
}

fn embedded(dir: &Path, partitions: u32) -> Config {
    let dir = dir.join("data");
    let embedded = EmbeddedConfig { dir, retention_ms: 600_000, cache_mib: 8, max_queued: 1_000 };
    Config { kind: LogKind::Embedded, embedded, ..kafka_config("unused", "unused", partitions) }
}

/// The log's files, and what is in them, but for the index of a WAL: whoever opens a file first makes that again.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(dir.join("data")).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|path| !path.to_str().unwrap().ends_with("-shm"));
    files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

async fn react(address: &str, room: &str, count: u64) {
    let body = format!(r#"{{"reactions":{{"🔥":{count},"👏":1}}}}"#);
    assert_eq!(http::react(address, room, &body).await, 202);
}

#[tokio::test]
async fn a_log_that_was_stopped_and_started_again_is_clean_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=2 {
        let mut uproar = plan(dir.path()).start().await;
        for room in ["final", "semi"] {
            react(&uproar.http, room, 8).await;
            until_total(&uproar.http, room, round * 9).await;
        }
        uproar.stop();
    }
    let before = files(dir.path());
    let said = audit(&sets(dir.path()), &[]).await;
    assert_eq!((said.code, &*said.err), (Some(0), ""), "{}", said.out);
    assert!(
        said.out.contains("AUDIT clean: 2 rooms in 8 partitions, total 36 (36 verified)"),
        "{}",
        said.out
    );
    assert!(files(dir.path()) == before, "a file was written to");

    let said = audit(&sets(dir.path()), &["--json", "--room", "semi"]).await;
    let (semi, summary) = (said.room("semi"), &said.lines()[1]["summary"]);
    assert_eq!(said.lines().len(), 2, "{}", said.out);
    assert_eq!((&semi["total"], &semi["verified"], &semi["clean"]), (&18.into(), &18.into(), &true.into()));
    assert_eq!(
        (&summary["rooms"], &summary["clean"], &summary["open"]),
        (&2.into(), &true.into(), &0.into())
    );
}

#[tokio::test]
async fn a_log_whose_process_was_killed_is_read_as_it_was_left() {
    let dir = tempfile::tempdir().unwrap();
    let mut uproar = plan(dir.path()).set("aggregator.interval_ms=60000").start().await;
    react(&uproar.http, "final", 8).await;
    uproar.kill();
    let before = files(dir.path());
    let said = audit(&sets(dir.path()), &["--json"]).await;
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    // Accepted, and in no window yet.
    assert_eq!(said.room("final")["open"], 9, "{}", said.out);
    assert!(files(dir.path()) == before, "a file was written to");
}

#[tokio::test]
async fn a_missing_log_is_said_clearly() {
    let dir = tempfile::tempdir().unwrap();
    let said = audit(&sets(dir.path()), &[]).await;
    assert_eq!((said.code, &*said.out), (Some(2), ""));
    assert!(said.err.contains("data/rollup.db: No such file"), "{}", said.err);
    assert!(!dir.path().join("data").exists(), "the folder was made");
}

#[tokio::test]
async fn on_the_embedded_log_it_runs_beside_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = plan(dir.path()).set("log.embedded.retention_ms=1000").start().await;
    let mut total = 0;
    for round in 0..20 {
        for room in ["final", "semi"] {
            react(&uproar.http, room, 8).await;
        }
        total += 9;
        let said = audit(&sets(dir.path()), &["--json"]).await;
        assert_eq!(said.code, Some(0), "round {round}: {}{}", said.out, said.err);
    }
    until_total(&uproar.http, "final", total).await;
    let said = audit(&sets(dir.path()), &["--json"]).await;
    assert_eq!(
        (said.code, &said.room("final")["total"]),
        (Some(0), &total.into()),
        "{}{}",
        said.out,
        said.err
    );
}

#[tokio::test]
async fn an_aggregate_that_was_tampered_with_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut uproar = plan(dir.path()).start().await;
    for room in ["final", "semi"] {
        react(&uproar.http, room, 8).await;
        until_total(&uproar.http, room, 9).await;
    }
    until("the room to rest", async || {
        let answer = http::get(&uproar.http, "/v1/rooms/final").await?;
        (answer.json()["count"] == 0).then_some(())
    })
    .await;
    uproar.stop();
    let log = eventlog::open(&embedded(dir.path(), PARTITIONS)).await.unwrap();
    let mut feed = log.feed().await.unwrap();
    let (epoch, next_offset, mut wrong) = loop {
        let event = feed.events.next().await.unwrap();
        if let FeedEvent::Assigned { epoch, next_offset, newest, .. } = event
            && let Some(of_final) = newest.into_iter().find(|newest| &*newest.room == "final")
        {
            break (epoch, next_offset, of_final);
        }
    };
    wrong.total += 1;
    *wrong.totals.values_mut().next().unwrap() += 1;
    let (partition, room) = (wrong.source.partition, wrong.room.clone());
    let cut = Cut {
        partition,
        epoch,
        next_offset,
        aggregates: vec![(room, Some(wrong.encode().into()))],
        windows: Vec::new(),
    };
    feed.committer.commit(vec![cut]).await.unwrap();
    feed.events.close(Duration::from_secs(10)).await;
    drop((feed.committer, log));

    let said = audit(&sets(dir.path()), &[]).await;
    assert_eq!(said.code, Some(1), "{}{}", said.out, said.err);
    assert!(said.out.contains("room final: total 10 at seq 2, 9 in the records 0 to 1"), "{}", said.out);
    assert!(said.out.contains("room final: total 10 at seq 2, 9 in its windows"), "{}", said.out);
    assert!(said.out.contains("AUDIT 2 FINDINGS in 1 rooms"), "{}", said.out);
    let said = audit(&sets(dir.path()), &["--json"]).await;
    assert_eq!(
        (said.room("final")["clean"].clone(), said.room("semi")["clean"].clone()),
        (false.into(), true.into())
    );
    assert_eq!(said.room("final")["findings"][0]["kind"], "sum");
}

#[tokio::test]
async fn batches_in_a_partition_that_is_not_their_rooms_home_are_told_from_loss() {
    let dir = tempfile::tempdir().unwrap();
    let partition = (partition_of("final", PARTITIONS) + 1) % PARTITIONS;
    let config = embedded(dir.path(), PARTITIONS);
    let log = eventlog::open(&config).await.unwrap();
    let line = r#"{"v":1,"room":"final","counts":{"🔥":5},"count":5}"#;
    log.writer().await.unwrap().append(partition, line.into()).await.unwrap();
    drop(log);
    // The first room of that partition closes a window over it.
    let native =
        (0..).map(|n| format!("r{n}")).find(|room| partition_of(room, PARTITIONS) == partition).unwrap();
    let mut uproar = plan(dir.path()).start().await;
    for room in ["final", &native] {
        react(&uproar.http, room, 8).await;
        until_total(&uproar.http, room, 9).await;
    }
    uproar.stop();
    let said = audit(&sets(dir.path()), &["--json"]).await;
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    let summary = said.lines().pop().unwrap()["summary"].clone();
    assert_eq!((&summary["foreign"], &summary["foreign_reactions"]), (&1.into(), &5.into()), "{summary}");
    assert_eq!((&summary["total"], &summary["verified"]), (&18.into(), &18.into()), "{summary}");
}

#[tokio::test]
async fn what_was_found_and_cannot_be_written_is_no_finding() {
    let dir = tempfile::tempdir().unwrap();
    let mut uproar = plan(dir.path()).start().await;
    uproar.stop();
    let mut command = Command::new(UPROAR);
    command.arg("audit").args(sets(dir.path()).iter().flat_map(|set| ["--set", set]));
    let output = command.stdout(fs::File::create("/dev/full").unwrap()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("uproar audit: No space left on device"), "{said}");
}

#[tokio::test]
async fn help_teaches_and_wrong_options_are_refused() {
    let said = audit(&[], &["--help"]).await;
    for word in ["Exit codes: 0 clean, 1 findings, 2", "--room", "--json", "changes nothing"] {
        assert!(said.out.contains(word), "{word}: {}", said.out);
    }
    for args in [&["--room", "a b"][..], &["--set", "log.kind=paper"], &["--rooms"]] {
        assert_eq!(audit(&[], args).await.code, Some(2), "{args:?}");
    }
    let away = ["log.kind=kafka".to_owned(), "log.kafka.brokers=127.0.0.1:1".to_owned()];
    let said = audit(&away, &[]).await;
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("can't be reached: asking 127.0.0.1:1"), "{}", said.err);
}

#[tokio::test]
async fn on_kafka_it_runs_beside_the_tiers() {
    let Some(cluster) = kafka::shared() else { return };
    let (dir, name) = (tempfile::tempdir().unwrap(), unused_name("audited"));
    let sets = [
        "log.kind=kafka".to_owned(),
        "log.partitions=4".to_owned(),
        format!("log.kafka.brokers={}", cluster.bootstrap()),
        format!("log.kafka.reactions_topic={name}-reactions"),
        format!("log.kafka.aggregates_topic={name}-aggregates"),
        format!("log.kafka.windows_topic={name}-windows"),
        format!("log.kafka.group={name}"),
    ];
    let said = audit(&sets, &[]).await;
    assert_eq!(said.code, Some(2), "{}{}", said.out, said.err);
    assert!(said.err.contains(&format!("topic {name}-reactions does not exist")), "{}", said.err);

    let plan = |role| sets.iter().fold(Plan::new(role, dir.path()), |plan, set| plan.set(set.clone()));
    let aggregator = plan("aggregator").set("aggregator.interval_ms=200").set("log.kafka.instance_id=a");
    let (ingest, mut aggregator_process) = (plan("ingest").start().await, aggregator.start().await);
    let mut total = 0;
    for round in 0..10 {
        for room in ["final", "semi", "third"] {
            react(&ingest.http, room, 8).await;
        }
        total += 9;
        if round == 5 {
            aggregator_process.kill();
            aggregator_process = aggregator.start().await;
        }
    }
    let of_final = until("all to be counted", async || {
        let said = audit(&sets, &["--json"]).await;
        assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
        let of_final = said.room("final");
        (of_final["total"] == total).then_some(of_final)
    })
    .await;
    assert_eq!((&of_final["verified"], &of_final["open"]), (&total.into(), &0.into()));
}

/// Appends, counts, forgets; then reads all of it as history.
async fn is_read_as_it_was_written(config: Config) {
    let rooms: Vec<RoomName> = (0..12).map(|n| format!("room-{n}").parse().unwrap()).collect();
    let log = eventlog::open(&config).await.unwrap();
    let writer = log.writer().await.unwrap();
    for n in 0..5 {
        for room in &rooms {
            writer.append(partition_of(room, config.partitions), format!("{room} {n}").into()).await.unwrap();
        }
    }
    let (mut feed, mut owned, mut records) = (log.feed().await.unwrap(), BTreeMap::new(), BTreeMap::new());
    read_all(&mut feed, rooms.len() * 5, &mut owned, &mut records).await;
    let home = |room: &RoomName, records: &BTreeMap<u32, Vec<Record>>| {
        let starts = format!("{room} ");
        let holds = |records: &[Record]| records.iter().any(|it| it.value.starts_with(starts.as_bytes()));
        records.iter().find(|(_, records)| holds(records)).map(|(partition, _)| *partition).unwrap()
    };
    let mut newest = BTreeSet::new();
    for seq in 1..=3 {
        let mut cuts = BTreeMap::new();
        for (n, room) in rooms.iter().enumerate() {
            let partition = home(room, &records);
            let forgotten = seq == 3 && n == 0;
            let value = (!forgotten).then(|| conformance::aggregate(room, seq, partition).encode().into());
            if seq == 3 && !forgotten {
                newest.insert((room.clone(), seq));
            }
            cuts.entry(partition).or_insert_with(Vec::new).push((room.clone(), value));
        }
        let cuts = cuts.into_iter().map(|(partition, aggregates)| {
            let next_offset = if seq == 3 { records[&partition].len() as u64 } else { 1 };
            Cut { partition, epoch: owned[&partition], next_offset, aggregates, windows: Vec::new() }
        });
        feed.committer.commit(cuts.collect()).await.unwrap();
    }
    feed.events.close(Duration::from_secs(10)).await;
    drop((feed.committer, writer, log));
    let read = move || {
        let history = eventlog::history(&config).unwrap();
        let (mut read, mut living) = (BTreeMap::new(), BTreeMap::new());
        for partition in 0..history.partitions() {
            let span = history.span(partition).unwrap();
            assert_eq!(span.reactions.start, 0);
            let of_partition: Vec<_> =
                history.reactions(partition, &span).unwrap().collect::<Result<_, _>>().unwrap();
            assert_eq!(span.reactions.end, of_partition.len() as u64);
            if span.reactions.end > 0 {
                assert!(span.committed.is_none_or(|committed| committed == span.reactions.end));
                read.insert(partition, of_partition);
            }
            for _ in 0..2 {
                let mut last = None;
                for record in history.aggregates(partition, &span).unwrap() {
                    let record = record.unwrap();
                    assert!(last < Some(record.offset), "{last:?}, {record:?}");
                    last = Some(record.offset);
                    let room = record.room.unwrap();
                    match record.value {
                        Some(value) => drop(living.insert(room, Aggregate::decode(&value).unwrap().seq)),
                        None => drop(living.remove(&room)),
                    }
                }
            }
        }
        assert!(history.size().unwrap() >= 60);
        std::mem::forget(history);
        (read, living.into_iter().collect::<BTreeSet<_>>())
    };
    let read = tokio::task::spawn_blocking(read).await.unwrap();
    assert_eq!(read, (records, newest));
}

async fn read_all(
    feed: &mut Feed,
    count: usize,
    owned: &mut BTreeMap<u32, u64>,
    records: &mut BTreeMap<u32, Vec<Record>>,
) {
    while records.values().map(Vec::len).sum::<usize>() < count {
        match feed.events.next().await.unwrap() {
            FeedEvent::Assigned { partition, epoch, .. } => drop(owned.insert(partition, epoch)),
            FeedEvent::Records { partition, records: more } => {
                records.entry(partition).or_default().extend(more);
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn the_embedded_log_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    is_read_as_it_was_written(embedded(dir.path(), 3)).await;
}

#[tokio::test]
async fn the_kafka_log_is_read_as_it_was_written() {
    let Some(cluster) = kafka::shared() else { return };
    is_read_as_it_was_written(kafka_config(cluster.bootstrap(), &unused_name("history"), 3)).await;
}
