//! Brokers that die while records are written, read and committed.

use super::{config, member::Member, open};
use crate::harness::{kafka, wait::until_now};
use bytes::Bytes;
use eventlog::CommitError;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_while_brokers_die_is_read_exactly_once() {
    // Not the shared one: other tests need its brokers.
    let Some(cluster) = kafka::own() else { return };
    let mut config = config(cluster.bootstrap(), "chaos", 4);
    // It takes the controller 4 s to notice that a broker is gone.
    (config.kafka.session_timeout_ms, config.kafka.transaction_timeout_ms) = (20_000, 20_000);
    let log = open(&config).await;
    let writer = log.writer().await.unwrap();
    let mut member = Member::join(&*log).await;
    member.until_owned(4).await;
    let done = Arc::new(Done::default());
    let chaos = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            for node in 1..=3 {
                done.await_more();
                cluster.kill(node);
                done.await_more();
                cluster.restart(node);
                until_now("the replicas to catch up", || cluster.is_in_sync().then_some(()));
            }
            done.stop.store(true, Ordering::Relaxed);
            cluster
        }
    });
    let (mut appends, mut unknown, mut slowest) = (JoinSet::new(), 0, Duration::ZERO);
    for n in 0u32.. {
        if done.stop.load(Ordering::Relaxed) {
            break;
        }
        let value = Bytes::from(n.to_string());
        let append = writer.append(n % writer.partitions(), value.clone());
        let counted = Arc::clone(&done);
        appends.spawn(async move {
            let outcome = append.await;
            counted.appends.fetch_add(u32::from(outcome.is_ok()), Ordering::Relaxed);
            outcome.map(|()| value)
        });
        if n % 50 == 0 {
            let started = Instant::now();
            match member.feed.committer.commit(member.cuts(5, u64::from(n) + 1)).await {
                Ok(()) => drop(done.commits.fetch_add(1, Ordering::Relaxed)),
                Err(CommitError::Retry(_)) => {}
                Err(error) => {
                    println!("after {:?}: {error}", started.elapsed());
                    unknown += 1;
                    member = member.reopen(&*log).await;
                }
            }
            slowest = slowest.max(started.elapsed());
        }
        let _ = tokio::time::timeout(Duration::from_millis(10), member.step()).await;
    }
    let cluster = chaos.join().unwrap();
    let mut acknowledged = BTreeSet::new();
    for outcome in appends.join_all().await {
        match outcome {
            Ok(value) => assert!(acknowledged.insert(value)),
            Err(error) => println!("{error}"),
        }
    }
    let commits = done.commits.load(Ordering::Relaxed);
    println!("{} records, {commits} commits, {unknown} unknown, slowest {slowest:?}", acknowledged.len());
    assert!(acknowledged.len() >= 6 * MORE_APPENDS as usize && commits >= 6 * MORE_COMMITS);
    member.until_each_once(&acknowledged).await;
    member.leave().await;
    drop(cluster);
}

/// Appends and commits that have to succeed before each change of the brokers.
const MORE_APPENDS: u32 = 100;
const MORE_COMMITS: u32 = 2;

/// What has succeeded so far.
#[derive(Default)]
struct Done {
    appends: AtomicU32,
    commits: AtomicU32,
    stop: AtomicBool,
}

impl Done {
    fn await_more(&self) {
        let now = || (self.appends.load(Ordering::Relaxed), self.commits.load(Ordering::Relaxed));
        let (appends, commits) = now();
        until_now("appends and commits", || {
            let more = now();
            (more.0 >= appends + MORE_APPENDS && more.1 >= commits + MORE_COMMITS).then_some(())
        });
    }
}
