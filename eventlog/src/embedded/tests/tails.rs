//! Cases: readers that fall behind what is in memory.

use super::*;
use crate::{FollowEvent, Follower};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn a_feed_that_is_far_behind_reads_the_file_and_then_goes_on_in_memory() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(&config(&dir), 1, HISTORY_MS).await.unwrap();
    let mut reader = Reader::open(&log).await;
    let value = |n: u8| Bytes::from(vec![n; MIB]);
    for n in 0..24 {
        append(&log, 0, value(n)).await;
    }
    assert!(
        log.shared.recent.look().unwrap().groups.from(0, 1).is_none(),
        "the first group is still in memory"
    );
    reader.catch_up().await;
    append(&log, 0, value(24)).await;
    reader.catch_up().await;
    assert!(reader.values().into_iter().eq((0..25).map(value)));
}

/// Reads until there are so many records; if there are more, the caller finds them here or in its next call.
async fn take(follower: &mut dyn Follower, count: usize) -> Vec<(RoomName, Option<u8>)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        if let FollowEvent::Records(records) = within(follower.next()).await.unwrap() {
            seen.extend(records.into_iter().map(|r| (r.room, r.value.map(|value| value[0]))));
        }
    }
    seen
}

#[tokio::test]
async fn a_follower_that_is_far_behind_gets_the_newest_of_what_it_missed_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(&config(&dir), 1, HISTORY_MS).await.unwrap();
    let reader = Reader::open(&log).await;
    let mut follower = log.follower().await.unwrap();
    let commit = async |name: &str, value: Option<u8>| {
        let value = value.map(|n| Bytes::from(vec![n; MIB]));
        let cut = Cut { aggregates: vec![(room(name), value)], ..reader.cut(0, 0) };
        reader.committer.commit(vec![cut]).await.unwrap();
    };
    for name in ["changed", "forgotten", "reborn", "untouched"] {
        commit(name, Some(1)).await;
    }
    assert_eq!(take(&mut *follower, 4).await.len(), 4);

    commit("forgotten", None).await;
    commit("reborn", None).await;
    for n in 2..22 {
        commit("changed", Some(n)).await;
    }
    commit("reborn", Some(9)).await;
    commit("new", Some(1)).await;
    assert!(
        log.shared.recent.look().unwrap().commits.from(4, 1).is_none(),
        "the commits are still in memory"
    );
    let mut seen = take(&mut *follower, 4).await;
    seen.sort();
    let expected = [("changed", Some(21)), ("forgotten", None), ("new", Some(1)), ("reborn", Some(9))];
    assert_eq!(seen, expected.map(|(name, value)| (room(name), value)));

    commit("untouched", Some(2)).await;
    assert_eq!(take(&mut *follower, 1).await, [(room("untouched"), Some(2))]);
}
