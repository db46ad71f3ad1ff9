//! Cases: what a follower gets.

use super::{
    LogFactory,
    member::{read_log, tombstones},
    watcher::{Seen, Watcher},
    within,
};
use crate::FollowEvent;
use futures_util::FutureExt;
use std::{collections::BTreeMap, time::Duration};
use wire::RoomName;

/// All of `rooms` with the same number.
fn all_at(rooms: &[RoomName], seq: u64) -> BTreeMap<RoomName, u64> {
    rooms.iter().map(|room| (room.clone(), seq)).collect()
}

pub(super) async fn a_follower_of_a_log_without_aggregates_is_caught_up_at_once(factory: &dyn LogFactory) {
    let log = factory.open().await;
    let mut watcher = Watcher::open(&*log).await;
    let first = within("the first event", watcher.follower.next()).await;
    assert!(matches!(first, Ok(FollowEvent::CaughtUp)), "{first:?}");
}

pub(super) async fn a_late_follower_gets_the_newest_of_each_room_and_then_what_is_new(
    factory: &dyn LogFactory,
) {
    let (log, rooms, member) = read_log(factory).await;
    for seq in 1..=3 {
        member.commit(member.cuts(&rooms, seq)).await;
    }
    member.commit(tombstones(member.cuts(&rooms[..1], 4))).await;
    let mut watcher = Watcher::open_and_catch_up(&*log).await;
    assert_eq!(watcher.seen.rooms(), all_at(&rooms[1..], 3));

    for seq in 4..=6 {
        member.commit(member.cuts(&rooms[1..2], seq)).await;
        watcher.until("the new aggregate", |seen| seen.newest[&rooms[1]] == Some(seq)).await;
    }
    assert_eq!(watcher.seen.live, [4, 5, 6].map(|seq| (rooms[1].clone(), Some(seq))));
    member.close().await;
}

pub(super) async fn a_commit_is_visible_when_it_resolves(factory: &dyn LogFactory) {
    let (log, rooms, member) = read_log(factory).await;
    for seq in 1..=5 {
        member.commit(member.cuts(&rooms, seq)).await;
        let watcher = Watcher::open_and_catch_up(&*log).await;
        assert_eq!(watcher.seen.rooms(), all_at(&rooms, seq));
    }
    member.close().await;
}

pub(super) async fn all_followers_get_everything(factory: &dyn LogFactory) {
    let (log, rooms, member) = read_log(factory).await;
    let mut one = Watcher::open_and_catch_up(&*log).await;
    let mut two = Watcher::open_and_catch_up(&*log).await;
    for seq in 1..=5 {
        member.commit(member.cuts(&rooms, seq)).await;
        let here = |seen: &Seen| seen.rooms() == all_at(&rooms, seq);
        tokio::join!(one.until("the first follower", here), two.until("the second follower", here));
    }
    assert_eq!(one.seen.live.len(), rooms.len() * 5, "a follower that keeps up gets every record, once");
    assert_eq!(two.seen.live.len(), rooms.len() * 5, "a follower that keeps up gets every record, once");
    member.close().await;
}

pub(super) async fn a_tombstone_reaches_the_follower(factory: &dyn LogFactory) {
    let (log, rooms, member) = read_log(factory).await;
    let mut watcher = Watcher::open_and_catch_up(&*log).await;
    let room = &rooms[0];
    member.commit(member.cuts(&rooms[..1], 1)).await;
    watcher.until("the aggregate", |seen| seen.newest.get(room) == Some(&Some(1))).await;
    member.commit(tombstones(member.cuts(&rooms[..1], 2))).await;
    watcher.until("the tombstone", |seen| seen.newest[room].is_none()).await;
    member.commit(member.cuts(&rooms[..1], 1)).await;
    watcher.until("the room's next life", |seen| seen.newest[room] == Some(1)).await;
    member.close().await;
}

pub(super) async fn a_cancelled_next_loses_no_record(factory: &dyn LogFactory) {
    let (log, rooms, member) = read_log(factory).await;
    let mut watcher = Watcher::open(&*log).await;
    let commits = async {
        for seq in 1..=10 {
            member.commit(member.cuts(&rooms, seq)).await;
        }
    };
    let follow = within("the last commit, by reads that are cancelled", async {
        let mut patience_us = 0;
        while watcher.seen.rooms() != all_at(&rooms, 10) {
            patience_us = (patience_us + 97) % 10_000;
            let next = if patience_us < 2_000 {
                watcher.follower.next().now_or_never()
            } else {
                let patience = Duration::from_micros(patience_us);
                tokio::time::timeout(patience, watcher.follower.next()).await.ok()
            };
            if let Some(event) = next {
                watcher.take(event);
            }
            tokio::task::yield_now().await;
        }
    });
    tokio::join!(commits, follow);
    member.close().await;
}

pub(super) async fn a_follower_that_lags_ends_up_with_the_newest_of_each_room(factory: &dyn LogFactory) {
    let (log, rooms, member) = read_log(factory).await;
    let mut lagging = Watcher::open_and_catch_up(&*log).await;
    for seq in 1..=40 {
        member.commit(member.cuts(&rooms[1..], seq)).await;
    }
    member.commit(tombstones(member.cuts(&rooms[1..2], 41))).await;
    member.commit(member.cuts(&rooms[..1], 1)).await;
    let expected: BTreeMap<_, _> =
        all_at(&rooms[2..], 40).into_iter().chain([(rooms[0].clone(), 1)]).collect();
    lagging.until("the newest of each room", |seen| seen.rooms() == expected).await;
    member.close().await;
}
