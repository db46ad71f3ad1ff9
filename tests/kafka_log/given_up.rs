//! Records that are given up while brokers hang.

use super::{config, member::Member, open};
use crate::harness::kafka;
use bytes::Bytes;
use eventlog::AppendError;
use std::{collections::BTreeSet, time::Duration};

/// The client library forgets a record whose time is up, and starts a new epoch for those behind it. What the request held
/// besides may be written already, and in another epoch the broker can't tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_given_up_does_not_make_those_of_its_request_come_twice() {
    let Some(cluster) = kafka::own() else { return };
    let mut config = config(cluster.bootstrap(), "given-up", 1);
    // Both records go into one request, of which one is given up before the other.
    (config.kafka.linger_ms, config.kafka.delivery_timeout_ms) = (3_000, 5_000);
    let log = open(&config).await;
    let writer = log.writer().await.unwrap();
    writer.append(0, Bytes::from_static(b"warm")).await.unwrap();
    let first = writer.append(0, Bytes::from_static(b"first"));
    // Not a wait: this is how much later the second one's time is up. The library looks once a second.
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    let second = writer.append(0, Bytes::from_static(b"second"));
    // The request is sent to brokers that hang. They read it later, when nobody waits for their answer.
    tokio::task::block_in_place(|| (1..=3).for_each(|broker| cluster.pause(broker)));
    let first = first.await;
    assert!(matches!(first, Err(AppendError::Unknown(_))), "{first:?}");
    tokio::task::block_in_place(|| (1..=3).for_each(|broker| cluster.resume(broker)));
    println!("the second: {:?}", second.await);
    writer.append(0, Bytes::from_static(b"last")).await.unwrap();
    let mut member = Member::join(&*log).await;
    member.until_each_once(&BTreeSet::from([Bytes::from_static(b"last")])).await;
    for value in [&b"first"[..], b"second"] {
        let found = member.owned[&0].values.iter().filter(|(_, found)| found == value).count();
        assert!(found <= 1, "{} times {:?}", found, String::from_utf8_lossy(value));
    }
    member.leave().await;
}
