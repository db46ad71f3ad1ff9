//! Brokers that die while records are written, read and committed.

use super::{config, member::Member, open};
use crate::harness::kafka;
use bytes::Bytes;
use eventlog::CommitError;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

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
    let stop = Arc::new(AtomicBool::new(false));
    let chaos = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            for node in 1..=3 {
                // The one before has caught up.
                std::thread::sleep(Duration::from_secs(3));
                cluster.kill(node);
                std::thread::sleep(Duration::from_secs(5));
                cluster.restart(node);
            }
            stop.store(true, Ordering::Relaxed);
            cluster
        }
    });
    let (mut appends, mut commits, mut unknown, mut slowest) = (Vec::new(), 0, 0, Duration::ZERO);
    for n in 0u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let value = Bytes::from(n.to_string());
        let append = writer.append(n % writer.partitions(), value.clone());
        appends.push(async { append.await.map(|()| value) });
        if n % 50 == 0 {
            let started = Instant::now();
            match member.feed.committer.commit(member.cuts(5, u64::from(n) + 1)).await {
                Ok(()) | Err(CommitError::Retry(_)) => {}
                Err(error) => {
                    println!("after {:?}: {error}", started.elapsed());
                    unknown += 1;
                    member = member.reopen(&*log).await;
                }
            }
            commits += 1;
            slowest = slowest.max(started.elapsed());
        }
        let _ = tokio::time::timeout(Duration::from_millis(10), member.step()).await;
    }
    let mut acknowledged = BTreeSet::new();
    for append in appends {
        match append.await {
            Ok(value) => assert!(acknowledged.insert(value)),
            Err(error) => println!("{error}"),
        }
    }
    member.until_each_once(&acknowledged).await;
    println!("{} records, {commits} commits, {unknown} unknown, slowest {slowest:?}", acknowledged.len());
    member.leave().await;
    drop(chaos.join().unwrap());
}
