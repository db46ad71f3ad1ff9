//! Kafka is away as a whole, under load: answers stay truthful, memory stays flat, and work goes on as soon as it is back.

use super::{
    Chaos, number_from_env,
    open_loop::{Answered, OpenLoop},
    rounds,
    tiers::{PARTITIONS, Shape, Tiers},
    turn,
};
use crate::harness::{
    http,
    kafka::{self, Cluster},
    probe,
    process::Uproar,
    wait::until,
};
use std::{
    collections::BTreeMap,
    iter::repeat_n,
    thread,
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

const BROKERS: [u32; 3] = [1, 2, 3];
const ROOMS: usize = 64;
const PER_SECOND: u64 = 1_000;
/// `ingest.stall_ms` as it is by default: for so long the posts of a room wait before all further ones are refused.
const STALL: Duration = Duration::from_secs(2);
/// More than can wait at a time: opened before the outage, so that memory for connections is not what grows in it.
const CONNECTIONS: usize = 3_500;
/// What ingest may hold more than before the outage.
const MEMORY_KIB: u64 = 16 << 10;
/// From the moment at which Kafka takes records until the first post is answered 202.
const BACK_WITHIN: Duration = Duration::from_secs(2);
/// What a machine with other work may add to it.
const SLACK: Duration = Duration::from_secs(3);
/// An answer at once, on such a machine. Half of what a post waits for at the most.
const AT_ONCE: Duration = Duration::from_millis(2_500);
/// An answer to operators, on such a machine.
const ANSWER: Duration = Duration::from_secs(10);

/// The ways of being away.
#[derive(Debug, Clone, Copy)]
enum Away {
    /// They hang: connections stay open.
    Hung,
    /// They hang, and take no new connections: what is sent to open one is lost, as in a network that is cut.
    Cut,
    /// They are killed, and started again.
    Dead,
}

/// What an outage was like.
struct Outage {
    /// No broker was there from here ...
    from: Instant,
    /// ... to here.
    to: Instant,
    /// The last broker was let go on, or was ready again.
    let_go: Instant,
    /// A record was acknowledged by all in-sync replicas.
    writable: Instant,
}

#[tokio::test(flavor = "multi_thread")]
async fn while_kafka_is_away_answers_are_truthful_and_memory_is_flat_and_then_work_goes_on_at_once() {
    let _turn = turn().await;
    let Some(cluster) = kafka::own() else { return };
    let long = number_from_env("UPROAR_OUTAGE_S").map(Duration::from_secs);
    let length = long.unwrap_or(Duration::from_secs(12));
    // So that batches are given up while Kafka is away, too.
    let delivery = (length * 2 / 3).min(Duration::from_secs(30));
    let mut chaos = Chaos::new("outage");
    let shape = Shape {
        rooms: ROOMS,
        sets: vec![format!("log.kafka.delivery_timeout_ms={}", delivery.as_millis())],
        ..Shape::default()
    };
    let tiers = Tiers::start_with(shape, &cluster, &["one"], &mut chaos).await;
    let accounts = &tiers.posters.accounts;
    let topic = "probe";
    let partitions = PARTITIONS.to_string();
    cluster.topics(&["--create", "--topic", topic, "--partitions", &partitions, "--replication-factor", "3"]);
    let mut load =
        OpenLoop::start(&tiers.ingest.http, &tiers.rooms, accounts, CONNECTIONS, PER_SECOND, &mut chaos)
            .await;
    for round in 0..rounds(1) {
        let ways: &[_] =
            if long.is_some() { &[Away::Hung, Away::Cut, Away::Dead] } else { &[Away::Hung, Away::Dead] };
        for &away in ways {
            tiers.until_all_go_on().await;
            let before = sample(&tiers.ingest, Duration::from_secs(3)).await;
            go_away(&cluster, away);
            let from = Instant::now();
            let crowd = if matches!(away, Away::Cut) { Some(crowd(&cluster)) } else { None };
            let during = sample(&tiers.ingest, length).await;
            drop(crowd);
            let to = Instant::now();
            let (let_go, writable) = tokio::join!(
                come_back(&cluster, away),
                probe::writable(cluster.bootstrap(), topic, PARTITIONS)
            );
            let outage = Outage { from, to, let_go, writable };
            let first = first_accepted(&load, to).await;
            let all = tiers.until_all_go_on().await;
            println!("outage {round}, {away:?}: all rooms go on {all:?} later");
            outage.check_answers(&load.answered());
            outage.check_return(first, if long.is_some() { Duration::ZERO } else { SLACK });
            check_memory(&tiers.ingest, before, during).await;
        }
    }
    load.stop().await;
    println!("outage: {} posts found all connections waiting", load.unsent());
    tiers.audit(&format!("{length:?} without Kafka")).await;
}

fn go_away(cluster: &Cluster, away: Away) {
    for_each_broker(|broker| match away {
        Away::Hung | Away::Cut => cluster.pause(broker),
        Away::Dead => cluster.kill(broker),
    });
}

/// More connections to each broker than its kernel keeps for it while it does not accept them (50).
fn crowd(cluster: &Cluster) -> JoinSet<()> {
    let brokers = cluster.bootstrap().split(',');
    let connect = async |broker: String| {
        let _connection = TcpStream::connect(broker).await;
        std::future::pending::<()>().await;
    };
    brokers.flat_map(|broker| repeat_n(broker.to_owned(), 80)).map(connect).collect()
}

/// Says when the last one was let go on.
async fn come_back(cluster: &Cluster, away: Away) -> Instant {
    tokio::task::block_in_place(|| {
        for_each_broker(|broker| match away {
            Away::Hung | Away::Cut => cluster.resume(broker),
            Away::Dead => cluster.restart(broker),
        });
    });
    Instant::now()
}

/// All at once: a broker that starts waits for the others.
fn for_each_broker(act: impl Fn(u32) + Sync) {
    thread::scope(|scope| {
        for broker in BROKERS {
            let act = &act;
            scope.spawn(move || act(broker));
        }
    });
}

/// The most memory that the process has in that time, KiB. It answers its operators all the time, and is ready: who posts
/// is to hear what is the matter from it.
async fn sample(ingest: &Uproar, length: Duration) -> u64 {
    let (started, mut most) = (Instant::now(), 0);
    while started.elapsed() < length {
        most = most.max(ingest.resident_kib());
        let answer = timeout(ANSWER, http::get(&ingest.admin, "/readyz")).await;
        assert!(matches!(answer, Ok(Some(http::Answer { status: 200, .. }))), "not ready: {answer:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    most
}

/// Waits for the first 202 to a post that was sent after `since`, and says when it came.
async fn first_accepted(load: &OpenLoop, since: Instant) -> Instant {
    until("the first 202", async || {
        let answered = load.answered();
        let accepted = answered.iter().filter(|post| post.sent >= since && post.status == Some(202));
        accepted.map(|post| post.at).min()
    })
    .await
}

impl Outage {
    /// What was sent and answered while nobody could make it durable.
    fn check_answers(&self, all: &[Answered]) {
        let posts: Vec<_> = all.iter().filter(|post| post.sent >= self.from && post.at <= self.to).collect();
        let mut statuses: BTreeMap<Option<u16>, usize> = BTreeMap::new();
        posts.iter().for_each(|post| *statuses.entry(post.status).or_default() += 1);
        let slow = posts.iter().filter(|post| post.took() > AT_ONCE).count();
        println!("outage: answers meanwhile {statuses:?}, {slow} of them not at once");
        assert!(!posts.is_empty());
        for post in posts {
            match post.status {
                Some(503) => assert!(post.retry_after, "{post:?}"),
                Some(504) => {}
                _ => panic!("answered while no broker was there: {post:?}"),
            }
        }
        // Posts wait until their room has stalled. When its records are given up a few more do: those that try again.
        let most = 2 * STALL.as_millis() as u64 * PER_SECOND / 1_000;
        assert!((slow as u64) < most, "{slow} posts waited, {most} are the most");
    }

    fn check_return(&self, first: Instant, slack: Duration) {
        let since = |moment: Instant| first.saturating_duration_since(moment);
        println!(
            "outage: writable {:?} after it was over; first 202 {:?} after that, {:?} after the last broker was let go on",
            self.writable - self.to,
            since(self.writable),
            since(self.let_go)
        );
        assert!(since(self.writable) <= BACK_WITHIN + slack, "the first 202 came late");
    }
}

async fn check_memory(ingest: &Uproar, before: u64, during: u64) {
    let most = before + MEMORY_KIB;
    let after = until("memory to come back", async || {
        let now = ingest.resident_kib();
        (now < most).then_some(now)
    })
    .await;
    println!("outage: ingest had {before} KiB before, {during} at most meanwhile, {after} after");
    assert!(during < most, "{before} KiB before, {during} meanwhile");
}
