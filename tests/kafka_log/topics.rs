//! Topics that are deleted and made anew, and groups whose offsets are forgotten.

use super::{append_some, config, member::Member, open, unused_name};
use crate::harness::kafka::shared;
use eventlog::{Config, EventLog, FeedError, FollowEvent};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

const COUNTED: u32 = 200;

/// A log of which `COUNTED` records are counted, and its member gone.
async fn counted_log(config: &Config) -> Arc<dyn EventLog> {
    let log = open(config).await;
    append_some(&*log, COUNTED).await;
    let mut member = Member::join(&*log).await;
    let read = |member: &Member| member.owned.values().map(|owned| owned.values.len()).sum::<usize>();
    member.until("all records", |member| read(member) == COUNTED as usize).await;
    // Windows end after their records.
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
    member.feed.committer.commit(member.cuts(1, now_ms + 1_000)).await.unwrap();
    member.leave().await;
    log
}

/// Why a new member's feed breaks.
pub(super) async fn refusal(log: &dyn EventLog) -> String {
    let mut feed = log.feed().await.unwrap();
    let broken = async {
        loop {
            if let Err(error) = feed.events.next().await {
                return error.to_string();
            }
        }
    };
    let why = tokio::time::timeout(super::WAIT, broken).await.expect("the feed to break");
    feed.events.close(Duration::from_secs(10)).await;
    why
}

#[tokio::test(flavor = "multi_thread")]
async fn reactions_that_were_made_anew_are_neither_skipped_nor_counted_as_others() {
    let Some(cluster) = shared() else { return };
    let name = unused_name("anew");
    let config = config(cluster.bootstrap(), &name, 1);
    drop(counted_log(&config).await);
    let topic = &config.kafka.reactions_topic;
    cluster.topics(&["--delete", "--topic", topic]);
    // Made by this.
    let log = open(&config).await;
    append_some(&*log, COUNTED / 2).await;
    let why = refusal(&*log).await;
    assert!(why.contains("made anew") && why.contains("docs/operations.md"), "fewer than counted: {why}");
    append_some(&*log, COUNTED).await;
    let why = refusal(&*log).await;
    assert!(why.contains("made anew"), "more than counted: {why}");

    let group = &config.kafka.group;
    let what = ["--reset-offsets", "--to-earliest", "--execute"];
    cluster.groups(&[&["--group", group, "--topic", topic], &what[..]].concat());
    let mut member = Member::join(&*log).await;
    let all = (COUNTED / 2 + COUNTED) as usize;
    member.until("all records", |member| member.owned.get(&0).is_some_and(|it| it.values.len() == all)).await;
    assert_eq!(member.owned[&0].newest.len(), 1, "totals go on");
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_of_aggregates_that_were_made_anew_is_told_to_begin_again() {
    let Some(cluster) = shared() else { return };
    let config = config(cluster.bootstrap(), &unused_name("renewed"), 1);
    let log = counted_log(&config).await;
    let mut follower = log.follower().await.unwrap();
    while !matches!(follower.next().await.unwrap(), FollowEvent::CaughtUp) {}
    cluster.topics(&["--delete", "--topic", &config.kafka.aggregates_topic]);
    // Made by this, with fewer than were followed.
    drop(open(&config).await);
    let told = async {
        loop {
            if let Err(FeedError::Reopen(why)) = follower.next().await {
                return why;
            }
        }
    };
    tokio::time::timeout(super::WAIT, told).await.expect("it to be told");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_groups_offsets_are_forgotten_the_aggregates_tell_where_to_go_on() {
    let Some(cluster) = shared() else { return };
    let config = config(cluster.bootstrap(), &unused_name("forgotten"), 1);
    let log = counted_log(&config).await;
    cluster.groups(&["--delete", "--group", &config.kafka.group]);
    let mut member = Member::join(&*log).await;
    member.until_owned(1).await;
    assert_eq!(member.owned[&0].next_offset, u64::from(COUNTED));
    member.leave().await;
}
