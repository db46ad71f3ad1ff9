//! When a member is told that the group took it, and what it is told where the group does not.

use super::{append_some, config, instance, member::Member, open, topics::refusal, unused_name};
use crate::harness::kafka::shared;
use std::collections::BTreeMap;

#[tokio::test]
async fn a_member_is_told_that_it_joined_once_its_partitions_are_there_also_where_it_gets_none() {
    let Some(cluster) = shared() else { return };
    let config = config(cluster.bootstrap(), &unused_name("idle"), 1);
    let (one, two) = (open(&config).await, open(&instance(&config, "two")).await);
    append_some(&*one, 10).await;
    let mut first = Member::join(&*one).await;
    first.until("it to have joined", |member| member.joined).await;
    assert_eq!(first.owned.keys().collect::<Vec<_>>(), [&0]);
    let mut second = Member::join(&*two).await;
    // The first one is asked, too: it answers the group's questions.
    tokio::select! {
        () = second.until("it to have joined", |member| member.joined) => {}
        () = first.until("no end", |_| false) => {}
    }
    assert_eq!(second.owned.len(), 0);
    second.leave().await;
    first.leave().await;
}

#[tokio::test]
async fn a_member_that_the_group_does_not_take_is_told_why() {
    let Some(cluster) = shared() else { return };
    let mut config = config(cluster.bootstrap(), &unused_name("kept-out"), 1);
    // Above the brokers' limit.
    config.kafka.session_timeout_ms = 2_000_000;
    config.kafka.options = BTreeMap::from([("max.poll.interval.ms".into(), "3000000".into())]);
    let why = refusal(&*open(&config).await).await;
    assert!(why.contains("session timeout"), "{why}");
}
