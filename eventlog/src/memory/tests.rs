//! What the knobs of the log in memory do. What every log does is tested by the conformance suite.

use super::*;
use crate::{
    CommitError, Cut, FeedError, FeedEvent, FeedEvents, FollowEvent,
    conformance::{self, LogFactory},
};
use futures_util::FutureExt;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

struct InMemory;

impl LogFactory for InMemory {
    fn partitions(&self) -> u32 {
        3
    }
    fn open(&self) -> BoxFuture<'_, Arc<dyn EventLog>> {
        Box::pin(async { MemoryLog::new(3) as Arc<dyn EventLog> })
    }
    fn reopen(&self, log: Arc<dyn EventLog>) -> BoxFuture<'_, Arc<dyn EventLog>> {
        Box::pin(async { log })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    conformance::run(&InMemory).await;
    conformance::run_control(&InMemory).await;
}

fn room(name: &str) -> RoomName {
    name.parse().unwrap()
}

/// What is there to read now.
fn read(events: &mut Box<dyn FeedEvents>) -> Vec<FeedEvent> {
    std::iter::from_fn(|| events.next().now_or_never().map(|event| event.unwrap())).collect()
}

/// Assignments among `events` as (partition, epoch).
fn assigned(events: &[FeedEvent]) -> Vec<(u32, u64)> {
    let assigned = |event: &FeedEvent| match event {
        FeedEvent::Assigned { partition, epoch, .. } => Some((*partition, *epoch)),
        _ => None,
    };
    events.iter().filter_map(assigned).collect()
}

fn revoked(events: &[FeedEvent]) -> Vec<u32> {
    let revoked = |event: &FeedEvent| match event {
        FeedEvent::Revoked { partition } => Some(*partition),
        _ => None,
    };
    events.iter().filter_map(revoked).collect()
}

fn cut(partition: u32, epoch: u64, next_offset: u64) -> Cut {
    let aggregates = vec![(room("final"), Some(Bytes::from_static(b"x")))];
    Cut { partition, epoch, next_offset, aggregates, windows: Vec::new() }
}

#[tokio::test]
async fn held_appends_are_written_in_order_when_they_are_let_go() {
    let log = MemoryLog::new(1);
    let writer = log.writer().await.unwrap();
    log.hold_appends(true);
    let mut first = writer.append(0, "1".into());
    let second = writer.append(0, "2".into());
    assert!((&mut first).now_or_never().is_none());
    assert_eq!((log.held_appends(), log.reactions(0).len()), (2, 0));
    writer.flush(Duration::from_millis(1)).await;
    log.hold_appends(false);
    writer.flush(Duration::from_secs(10)).await;
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(log.reactions(0).iter().map(|r| r.value.clone()).collect::<Vec<_>>(), ["1", "2"]);
}

#[tokio::test]
async fn failed_appends_write_nothing() {
    let log = MemoryLog::new(1);
    let writer = log.writer().await.unwrap();
    log.fail_appends(Some(AppendError::Unknown("gone".into())));
    assert!(matches!(writer.append(0, "1".into()).await, Err(AppendError::Unknown(_))));
    log.fail_appends(None);
    writer.append(0, "2".into()).await.unwrap();
    assert_eq!(log.reactions(0).iter().map(|r| r.value.clone()).collect::<Vec<_>>(), ["2"]);
}

#[tokio::test]
async fn appends_are_stamped_by_the_clock_and_raw_records_are_not() {
    let now = Arc::new(AtomicU64::new(500));
    let hand = Arc::clone(&now);
    let log = MemoryLog::with_clock(1, Arc::new(move || hand.load(Ordering::Relaxed)));
    let writer = log.writer().await.unwrap();
    writer.append(0, "1".into()).await.unwrap();
    now.store(400, Ordering::Relaxed);
    writer.append(0, "2".into()).await.unwrap();
    assert_eq!(log.push_raw(0, 9_000, "raw"), 2);
    now.store(600, Ordering::Relaxed);
    writer.append(0, "3".into()).await.unwrap();
    assert_eq!(log.reactions(0).iter().map(|r| r.timestamp_ms).collect::<Vec<_>>(), [500, 500, 9_000, 600]);
}

#[tokio::test]
async fn several_feeds_share_the_partitions_evenly() {
    let log = MemoryLog::new(4);
    let mut one = log.feed().await.unwrap();
    assert_eq!(assigned(&read(&mut one.events)).len(), 4);
    let mut two = log.feed().await.unwrap();
    assert_eq!(revoked(&read(&mut one.events)), [1, 3]);
    assert_eq!(assigned(&read(&mut two.events)).iter().map(|(p, _)| *p).collect::<Vec<_>>(), [1, 3]);
    drop(one.events);
    assert_eq!(assigned(&read(&mut two.events)).iter().map(|(p, _)| *p).collect::<Vec<_>>(), [0, 2]);
}

#[tokio::test]
async fn a_partition_that_was_taken_and_given_back_has_another_epoch() {
    let log = MemoryLog::new(1);
    let mut feed = log.feed().await.unwrap();
    let (_, old) = assigned(&read(&mut feed.events))[0];
    log.revoke(0);
    let refused = feed.committer.commit(vec![cut(0, old, 1)]).await;
    assert!(matches!(refused, Err(CommitError::Revoked(_))), "{refused:?}");
    assert_eq!(revoked(&read(&mut feed.events)), [0]);
    log.assign(0);
    let (_, new) = assigned(&read(&mut feed.events))[0];
    assert!(feed.committer.commit(vec![cut(0, old, 1)]).await.is_err());
    feed.committer.commit(vec![cut(0, new, 1)]).await.unwrap();
    assert_eq!((log.committed(0), log.aggregates().len()), (1, 1));
}

#[tokio::test]
async fn a_held_commit_is_judged_when_it_is_let_go() {
    let log = MemoryLog::new(1);
    let mut feed = log.feed().await.unwrap();
    let (_, epoch) = assigned(&read(&mut feed.events))[0];
    log.hold_commits(true);
    let mut commit = feed.committer.commit(vec![cut(0, epoch, 1)]);
    assert!((&mut commit).now_or_never().is_none());
    log.revoke(0);
    log.hold_commits(false);
    assert!(matches!(commit.await, Err(CommitError::Revoked(_))));
    assert_eq!(log.committed(0), 0);
}

#[tokio::test]
async fn a_lost_commit_is_written_or_not_and_breaks_the_feed() {
    for (fault, committed) in [(CommitFault::LostBefore, 0), (CommitFault::LostAfter, 1)] {
        let log = MemoryLog::new(1);
        let mut feed = log.feed().await.unwrap();
        let (_, epoch) = assigned(&read(&mut feed.events))[0];
        log.fail_commits([CommitFault::Retry, fault]);
        assert!(matches!(feed.committer.commit(vec![cut(0, epoch, 1)]).await, Err(CommitError::Retry(_))));
        for _ in 0..2 {
            let lost = feed.committer.commit(vec![cut(0, epoch, 1)]).await;
            assert!(matches!(lost, Err(CommitError::Reopen(_))), "{lost:?}");
        }
        assert!(matches!(feed.events.next().await, Err(FeedError::Reopen(_))));
        assert_eq!(log.committed(0), committed);
        let mut next = log.feed().await.unwrap();
        assert_eq!(assigned(&read(&mut next.events)).len(), 1);
    }
}

#[tokio::test]
async fn what_is_broken_says_so_and_can_be_opened_again() {
    let log = MemoryLog::new(1);
    let (mut feed, mut follower) = (log.feed().await.unwrap(), log.follower().await.unwrap());
    log.break_feeds();
    log.break_followers();
    assert!(feed.events.next().await.is_err());
    assert!(follower.next().await.is_err());
    log.fail_opens(1);
    assert!(matches!(log.follower().await.err(), Some(OpenError::Unavailable(_))));
    assert!(matches!(log.follower().await.unwrap().next().await, Ok(FollowEvent::CaughtUp)));
}

#[tokio::test]
async fn one_feed_that_is_broken_leaves_its_partitions_to_the_others() {
    let log = MemoryLog::new(2);
    let (mut one, mut two) = (log.feed().await.unwrap(), log.feed().await.unwrap());
    read(&mut two.events);
    log.break_feed(0);
    assert!(one.events.next().await.is_err());
    assert_eq!(assigned(&read(&mut two.events)).iter().map(|(p, _)| *p).collect::<Vec<_>>(), [0]);
}

#[tokio::test]
async fn records_can_be_given_again() {
    let log = MemoryLog::new(1);
    assert_eq!([1, 2, 3].map(|timestamp_ms| log.push_raw(0, timestamp_ms, "x")), [0, 1, 2]);
    let mut feed = log.feed().await.unwrap();
    read(&mut feed.events);
    assert_eq!(log.taken(0), Some(3));
    log.redeliver(0, 2);
    assert_eq!(log.taken(0), Some(1));
    let again = read(&mut feed.events);
    let offsets = |records: &[Record]| records.iter().map(|record| record.offset).collect::<Vec<_>>();
    assert!(
        matches!(&again[0], FeedEvent::Records { records, .. } if offsets(records) == [1, 2]),
        "{again:?}"
    );
    assert!(matches!(again[1], FeedEvent::CaughtUp { next_offset: 3, .. }), "{again:?}");
}

#[tokio::test]
async fn without_its_fence_the_log_takes_commits_of_those_who_lost_their_partition() {
    let log = MemoryLog::new(1);
    let mut feed = log.feed().await.unwrap();
    let (_, epoch) = assigned(&read(&mut feed.events))[0];
    log.revoke(0);
    log.fence(false);
    feed.committer.commit(vec![cut(0, epoch, 1)]).await.unwrap();
    log.fence(true);
    assert!(feed.committer.commit(vec![cut(0, epoch, 2)]).await.is_err());
    assert_eq!(log.committed(0), 1);
}
