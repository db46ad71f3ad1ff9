//! The Kafka adapter on real brokers: the conformance suite, and what only a cluster can show.

use crate::harness::kafka::{Cluster, shared};
use bytes::Bytes;
use eventlog::{
    AppendError, BoxFuture, CommitError, Config, Cut, EmbeddedConfig, EventLog, Feed, FeedEvent, KafkaConfig,
    LogKind, OpenError, conformance::LogFactory,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use wire::{Aggregate, RoomName, Source, Window};

const WAIT: Duration = Duration::from_secs(60);

/// A log with topics and a group of its own.
fn config(bootstrap: &str, name: &str, partitions: u32) -> Config {
    Config {
        kind: LogKind::Kafka,
        partitions,
        embedded: EmbeddedConfig { dir: "unused".into(), retention_ms: 1_000, cache_mib: 1, max_queued: 1 },
        kafka: KafkaConfig {
            brokers: bootstrap.into(),
            reactions_topic: format!("{name}-reactions"),
            aggregates_topic: format!("{name}-aggregates"),
            create_topics: true,
            replication: 3,
            min_insync: 2,
            retention_ms: 3_600_000,
            group: name.into(),
            instance_id: "one".into(),
            session_timeout_ms: 2_000,
            transaction_timeout_ms: 5_000,
            delivery_timeout_ms: 20_000,
            linger_ms: 2,
            compression: "lz4".into(),
            max_queued_mib: 64,
            options: BTreeMap::new(),
        },
    }
}

/// A name that no other test has.
fn unused_name(what: &str) -> String {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed))
}

fn instance(config: &Config, id: &str) -> Config {
    let mut config = config.clone();
    config.kafka.instance_id = id.into();
    config
}

async fn open(config: &Config) -> Arc<dyn EventLog> {
    eventlog::open(config).await.unwrap()
}

async fn refusal(config: &Config) -> String {
    match eventlog::open(config).await {
        Err(OpenError::Invalid(text)) => text,
        Err(OpenError::Unavailable(text)) => panic!("unavailable: {text}"),
        Ok(_) => panic!("it was opened"),
    }
}

/// What a member holds, as its events tell.
struct Member {
    feed: Feed,
    owned: BTreeMap<u32, Owned>,
    revoked: Vec<u32>,
}

struct Owned {
    epoch: u64,
    next_offset: u64,
    newest: Vec<Aggregate>,
    /// With their offsets.
    values: Vec<(u64, Bytes)>,
    caught_up: bool,
}

impl Member {
    async fn join(log: &dyn EventLog) -> Self {
        Self { feed: log.feed().await.unwrap(), owned: BTreeMap::new(), revoked: Vec::new() }
    }

    async fn step(&mut self) {
        match self.feed.events.next().await.unwrap() {
            FeedEvent::Assigned { partition, epoch, next_offset, newest, .. } => {
                let owned = Owned { epoch, next_offset, newest, values: Vec::new(), caught_up: false };
                assert!(self.owned.insert(partition, owned).is_none());
            }
            FeedEvent::Revoked { partition } => {
                self.owned.remove(&partition).unwrap();
                self.revoked.push(partition);
            }
            FeedEvent::Records { partition, records } => {
                let owned = self.owned.get_mut(&partition).unwrap();
                owned.next_offset = records.last().unwrap().offset + 1;
                owned.values.extend(records.into_iter().map(|record| (record.offset, record.value)));
            }
            FeedEvent::CaughtUp { partition, .. } => self.owned.get_mut(&partition).unwrap().caught_up = true,
        }
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        tokio::time::timeout(WAIT, async {
            while !done(self) {
                self.step().await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"));
    }

    async fn until_owned(&mut self, count: usize) {
        self.until(&format!("{count} partitions"), |member| member.owned.len() == count).await;
    }

    /// A cut of every partition, one offset further, with the same aggregate for each room.
    fn cuts(&self, rooms: u32, seq: u64) -> Vec<Cut> {
        let cut = |(partition, owned): (&u32, &Owned)| {
            let next_offset = owned.next_offset;
            let room = |n| room(&format!("p{partition}-{n}"));
            let value = |room: &RoomName| Some(aggregate(room, seq, *partition, next_offset).encode().into());
            let aggregates = (0..rooms).map(room).map(|room| (room.clone(), value(&room))).collect();
            Cut { partition: *partition, epoch: owned.epoch, next_offset, aggregates }
        };
        self.owned.iter().map(cut).collect()
    }

    /// Reads until `count` different values are there, and says what is wrong with them.
    async fn until_each_once(&mut self, count: usize) {
        let read = |member: &Self| member.owned.values().map(|owned| owned.values.len()).sum::<usize>();
        let distinct = |member: &Self| {
            let values = member.owned.values().flat_map(|owned| &owned.values);
            values.map(|(_, value)| value.clone()).collect::<BTreeSet<_>>().len()
        };
        self.until(&format!("{count} values"), |member| read(member) >= count && distinct(member) >= count)
            .await;
        for (partition, owned) in &self.owned {
            let mut seen = BTreeMap::new();
            for (offset, value) in &owned.values {
                let before = seen.insert(value, *offset);
                assert!(before.is_none(), "partition {partition}: {value:?} at {before:?} and at {offset}");
            }
        }
    }

    async fn leave(self) {
        self.feed.events.close(Duration::from_secs(10)).await;
    }
}

fn room(name: &str) -> RoomName {
    name.parse().unwrap()
}

fn aggregate(room: &RoomName, seq: u64, partition: u32, to: u64) -> Aggregate {
    Aggregate {
        v: wire::FORMAT_VERSION,
        room: room.clone(),
        seq,
        since: 1,
        window: Window { start: seq, end: seq + 1 },
        count: 0,
        counts: wire::Counts::new(),
        slots: vec![0],
        late: 0,
        skewed: 0,
        total: 0,
        totals: wire::Counts::new(),
        source: Source { partition, from: 0, to },
    }
}

async fn append_some(log: &dyn EventLog, count: u32) {
    let writer = log.writer().await.unwrap();
    let appends = (0..count).map(|n| writer.append(room(&format!("room-{n}")), Bytes::from(format!("{n}"))));
    for append in appends.collect::<Vec<_>>() {
        append.await.unwrap();
    }
}

struct Factory {
    cluster: &'static Cluster,
    newest: Mutex<String>,
}

impl LogFactory for Factory {
    fn partitions(&self) -> u32 {
        3
    }

    fn open(&self) -> BoxFuture<'_, Arc<dyn EventLog>> {
        let name = unused_name("conformance");
        self.newest.lock().unwrap().clone_from(&name);
        Box::pin(async move { open(&config(self.cluster.bootstrap(), &name, 3)).await })
    }

    fn reopen(&self, log: Arc<dyn EventLog>) -> BoxFuture<'_, Arc<dyn EventLog>> {
        drop(log);
        let name = self.newest.lock().unwrap().clone();
        Box::pin(async move { open(&config(self.cluster.bootstrap(), &name, 3)).await })
    }
}

#[tokio::test]
async fn the_kafka_log_keeps_the_contract() {
    let Some(cluster) = shared() else { return };
    eventlog::conformance::run(&Factory { cluster, newest: Mutex::default() }).await;
}

#[tokio::test]
async fn a_second_member_takes_half_and_gives_it_back_and_the_first_keeps_the_rest() {
    let Some(cluster) = shared() else { return };
    let config = config(cluster.bootstrap(), &unused_name("sticky"), 4);
    let (one, two) = (open(&config).await, open(&instance(&config, "two")).await);
    let mut first = Member::join(&*one).await;
    first.until_owned(4).await;
    first.feed.committer.commit(first.cuts(1, 1)).await.unwrap();
    let epochs: BTreeMap<u32, u64> =
        first.owned.iter().map(|(partition, owned)| (*partition, owned.epoch)).collect();

    let mut second = Member::join(&*two).await;
    let shared = async {
        tokio::join!(first.until("two to be left", |m| m.owned.len() == 2), second.until_owned(2));
    };
    shared.await;
    assert_eq!(first.revoked.len(), 2, "those that stay are never revoked");
    assert!(
        first.owned.iter().all(|(partition, owned)| epochs[partition] == owned.epoch),
        "nor assigned again"
    );
    assert!(second.owned.values().all(|owned| owned.newest[0].seq == 1), "the state came with the partition");
    let (ours, theirs) = (first.cuts(1, 2), second.cuts(1, 2));
    let (ours, theirs) =
        tokio::join!(first.feed.committer.commit(ours), second.feed.committer.commit(theirs));
    assert!(ours.is_ok() && theirs.is_ok(), "{ours:?} {theirs:?}");

    let left = Instant::now();
    let member = second.feed.events.close(Duration::from_secs(10));
    tokio::join!(first.until_owned(4), member);
    assert!(
        left.elapsed() < Duration::from_millis(1_900),
        "who leaves is not waited for: {:?}",
        left.elapsed()
    );
    assert!(first.owned.values().all(|owned| owned.newest.is_empty() || owned.newest[0].seq <= 2));
    first.leave().await;
}

#[tokio::test]
async fn a_producer_with_the_same_instance_id_fences_the_one_before() {
    let Some(cluster) = shared() else { return };
    let config = config(cluster.bootstrap(), &unused_name("twins"), 2);
    let (one, twin) = (open(&config).await, open(&config).await);
    let mut first = Member::join(&*one).await;
    first.until_owned(2).await;
    first.feed.committer.commit(first.cuts(1, 1)).await.unwrap();
    let second = Member::join(&*twin).await;
    let outcome = first.feed.committer.commit(first.cuts(1, 2)).await;
    assert!(matches!(outcome, Err(CommitError::Reopen(_) | CommitError::Revoked(_))), "{outcome:?}");
    first.leave().await;
    second.leave().await;
}

/// Commits as fast as it can, one offset a time, until it is killed. Says each outcome that differs from the one before.
#[tokio::test]
#[ignore = "it is run by other tests, in a process of its own"]
async fn a_member_of_its_own() {
    let Ok(told) = std::env::var("UPROAR_TEST_MEMBER") else { return };
    let [bootstrap, name]: [&str; 2] = told.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let log = open(&instance(&config(bootstrap, name, 2), "child")).await;
    let mut member = Member::join(&*log).await;
    member.until_owned(2).await;
    let mut said = String::new();
    for seq in 1.. {
        let outcome = match member.feed.committer.commit(member.cuts(20, seq)).await {
            Ok(()) => "ok",
            Err(CommitError::Retry(_)) => "retry",
            Err(CommitError::Revoked(_)) => "revoked",
            Err(CommitError::Reopen(_)) => "reopen",
        };
        if said != outcome {
            said = outcome.to_owned();
            println!("member: {outcome}");
        }
        if outcome == "reopen" || outcome == "revoked" {
            return;
        }
        for owned in member.owned.values_mut().filter(|_| outcome == "ok") {
            owned.next_offset += 1;
        }
    }
}

/// Starts the test above in a process of its own, and waits for its first commit.
fn start_member(cluster: &Cluster, name: &str) -> (Child, impl Iterator<Item = String> + use<>) {
    let path = concat!(module_path!(), "::a_member_of_its_own").split_once("::").unwrap().1;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([path, "--exact", "--ignored", "--nocapture"])
        .env("UPROAR_TEST_MEMBER", format!("{} {name}", cluster.bootstrap()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut outcomes = lines.filter_map(|line| Some(line.split_once("member: ")?.1.to_owned()));
    assert_eq!(outcomes.next().as_deref(), Some("ok"));
    (child, outcomes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_killed_in_the_middle_of_a_commit_leaves_offsets_and_aggregates_that_agree() {
    let Some(cluster) = shared() else { return };
    let name = unused_name("killed");
    let config = config(cluster.bootstrap(), &name, 2);
    let log = open(&config).await;
    append_some(&*log, 5_000).await;
    let mut reached = BTreeMap::new();
    for round in 0..4u64 {
        let (mut child, _) = start_member(cluster, &name);
        // Somewhere in its next commits.
        tokio::time::sleep(Duration::from_millis(300 + 7 * round)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let killed = Instant::now();
        let mut next = Member::join(&*log).await;
        next.until_owned(2).await;
        println!("round {round}: taken over after {:?}", killed.elapsed());
        for (partition, owned) in &next.owned {
            assert_eq!(owned.newest.len(), 20);
            let seqs: BTreeSet<u64> = owned.newest.iter().map(|aggregate| aggregate.seq).collect();
            assert_eq!(seqs.len(), 1, "all rooms of a window, or none");
            let to = owned.newest[0].source.to;
            assert_eq!(
                to, owned.next_offset,
                "partition {partition}: the offset of the window that is the newest"
            );
            assert!(reached.insert(*partition, to) <= Some(to), "commits are never taken back");
        }
        next.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_slept_through_the_loss_of_its_partitions_commits_nothing() {
    let Some(cluster) = shared() else { return };
    let name = unused_name("zombie");
    let log = open(&config(cluster.bootstrap(), &name, 2)).await;
    append_some(&*log, 5_000).await;
    let (mut child, mut outcomes) = start_member(cluster, &name);
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let mut next = Member::join(&*log).await;
    next.until_owned(2).await;
    next.feed.committer.commit(next.cuts(20, 1_000_000)).await.unwrap();
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    let last =
        tokio::task::spawn_blocking(move || outcomes.find(|outcome| outcome != "ok" && outcome != "retry"));
    let last = last.await.unwrap();
    assert!(matches!(last.as_deref(), Some("revoked" | "reopen")), "{last:?}");
    child.wait().unwrap();
    next.leave().await;
    let mut check = Member::join(&*log).await;
    check.until_owned(2).await;
    for owned in check.owned.values() {
        assert!(owned.newest.iter().all(|aggregate| aggregate.seq == 1_000_000), "the sleeper wrote");
    }
    check.leave().await;
}

#[tokio::test]
async fn topics_that_do_not_fit_are_refused_with_the_reason() {
    let Some(cluster) = shared() else { return };
    let two = config(cluster.bootstrap(), &unused_name("two"), 2);
    let three = config(cluster.bootstrap(), &unused_name("three"), 3);
    open(&two).await;
    open(&three).await;

    let mut swapped = two.clone();
    std::mem::swap(&mut swapped.kafka.reactions_topic, &mut swapped.kafka.aggregates_topic);
    assert!(refusal(&swapped).await.contains("message.timestamp.type=CreateTime"));
    let mut mixed = two.clone();
    mixed.kafka.aggregates_topic.clone_from(&three.kafka.aggregates_topic);
    assert!(refusal(&mixed).await.contains("2 partitions"));
    let mut missing = config(cluster.bootstrap(), &unused_name("missing"), 2);
    missing.kafka.create_topics = false;
    assert!(refusal(&missing).await.contains("does not exist"));
    missing.kafka.create_topics = true;
    missing.kafka.replication = 5;
    assert!(refusal(&missing).await.contains("5 replicas"));
    let mut unknown = two;
    unknown.kafka.options.insert("sasl.pasword".into(), "x".into());
    assert!(refusal(&unknown).await.contains("sasl.pasword"));
}

#[tokio::test]
async fn a_record_that_is_too_large_is_not_written_and_the_writer_goes_on() {
    let Some(cluster) = shared() else { return };
    let log = open(&config(cluster.bootstrap(), &unused_name("large"), 1)).await;
    let writer = log.writer().await.unwrap();
    let outcome = writer.append(room("r"), Bytes::from(vec![0; 2 << 20])).await;
    assert!(matches!(outcome, Err(AppendError::NotWritten(_))), "{outcome:?}");
    writer.append(room("r"), Bytes::from_static(b"small")).await.unwrap();
}

#[tokio::test]
async fn a_caller_that_does_not_ask_stays_in_the_group_and_loses_nothing() {
    let Some(cluster) = shared() else { return };
    let config = config(cluster.bootstrap(), &unused_name("slow"), 2);
    let log = open(&config).await;
    let mut member = Member::join(&*log).await;
    member.until_owned(2).await;
    append_some(&*log, 60_000).await;
    // More than one session and more than one poll's patience: it has to pause and to go on polling.
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    member.until_each_once(60_000).await;
    assert!(member.revoked.is_empty());
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_while_brokers_die_is_read_exactly_once() {
    // Not the shared one: other tests need its brokers.
    let Some(cluster) = Cluster::start(3) else { return };
    let mut config = config(cluster.bootstrap(), "chaos", 4);
    // It takes the controller 4 s to notice that a broker is gone.
    (config.kafka.session_timeout_ms, config.kafka.transaction_timeout_ms) = (20_000, 20_000);
    let log = open(&config).await;
    let writer = log.writer().await.unwrap();
    let mut member = Member::join(&*log).await;
    member.until_owned(4).await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let chaos = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            for node in 1..=3 {
                std::thread::sleep(Duration::from_secs(2));
                cluster.kill(node);
                std::thread::sleep(Duration::from_secs(5));
                cluster.restart(node);
            }
            stop.store(true, Ordering::Relaxed);
            cluster
        }
    });
    let (mut appends, mut commits, mut slowest) = (Vec::new(), 0, Duration::ZERO);
    for n in 0u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        appends.push(writer.append(room(&format!("room-{}", n % 50)), Bytes::from(n.to_string())));
        if n % 50 == 0 {
            let started = Instant::now();
            let outcome = member.feed.committer.commit(member.cuts(5, u64::from(n) + 1)).await;
            assert!(matches!(outcome, Ok(()) | Err(CommitError::Retry(_))), "{outcome:?}");
            commits += 1;
            slowest = slowest.max(started.elapsed());
        }
        let _ = tokio::time::timeout(Duration::from_millis(10), member.step()).await;
    }
    let mut kept = 0;
    for append in appends {
        append.await.unwrap();
        kept += 1;
    }
    member.until_each_once(kept).await;
    println!("{kept} records, {commits} commits, the slowest took {slowest:?}");
    member.leave().await;
    drop(chaos.join().unwrap());
}

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
                let append = writer.append(room(&format!("room-{n}")), Bytes::from(vec![b'x'; 100]));
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
    for (pace_ms, rooms, count) in
        [(500, 1, 100), (500, 125, 100), (500, 625, 60), (2_000, 1, 40), (2_000, 125, 40)]
    {
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
