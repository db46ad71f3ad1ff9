//! Topics that are deleted and made anew, and groups whose offsets are forgotten.

use super::{append_some, config, member::Member, open, unused_name};
use crate::harness::kafka::{shared, single};
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

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_can_lose_acknowledged_records_are_refused_with_the_command_that_mends_them() {
    let Some(cluster) = shared() else { return };
    let config = config(cluster.bootstrap(), &unused_name("unsafe"), 1);
    // As an operator makes them with the defaults of Kafka, and a little carelessness.
    let (reactions, aggregates) = (&config.kafka.reactions_topic, &config.kafka.aggregates_topic);
    let create = |topic: &str, settings: &[&str]| {
        let start = ["--create", "--topic", topic, "--partitions", "1", "--replication-factor", "3"];
        let settings = settings.iter().flat_map(|setting| ["--config", setting]);
        cluster.topics(&start.into_iter().chain(settings).collect::<Vec<_>>());
    };
    create(reactions, &["min.insync.replicas=1", "message.timestamp.type=LogAppendTime"]);
    create(aggregates, &["cleanup.policy=compact", "unclean.leader.election.enable=true"]);
    for setting in ["min.insync.replicas=2", "unclean.leader.election.enable=false"] {
        let why = super::refusal(&config).await;
        assert!(why.contains(setting), "{why}");
        // The command of the text, as it stands there.
        let (_, command) = why.split_once("(kafka-configs ").unwrap();
        let command: Vec<&str> = command.trim_end_matches(')').split(' ').collect();
        tokio::task::block_in_place(|| cluster.configs(&command));
    }
    append_some(&*open(&config).await, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broker_is_enough_where_the_configuration_says_so_and_else_its_topics_are_refused() {
    let Some(cluster) = tokio::task::block_in_place(single) else { return };
    let mut config = config(cluster.bootstrap(), &unused_name("single"), 2);
    (config.kafka.replication, config.kafka.min_insync) = (1, 1);
    let log = open(&config).await;
    append_some(&*log, 10).await;
    let mut member = Member::join(&*log).await;
    member.until_owned(2).await;
    member.feed.committer.commit(member.cuts(1, 1)).await.unwrap();
    member.leave().await;
    (config.kafka.replication, config.kafka.min_insync) = (3, 2);
    let why = super::refusal(&config).await;
    assert!(why.contains("has 1 replica(s), but log.kafka.min_insync is 2"), "{why}");
}
