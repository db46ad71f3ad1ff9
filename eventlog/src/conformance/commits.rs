//! Cases: what a commit does, and whom it refuses.

use super::{
    LogFactory, aggregate,
    member::{Member, append_to, commit, read_log, tombstones},
    watcher::Watcher,
    within,
};
use crate::{CommitError, EventLog};
use std::{collections::BTreeMap, sync::Arc};

/// Nothing of any commit is there: neither offsets nor aggregates.
async fn assert_untouched(log: &dyn EventLog, partitions: u32, starts: &BTreeMap<u32, u64>) {
    let watcher = Watcher::open_and_catch_up(log).await;
    assert_eq!(watcher.seen.rooms(), BTreeMap::new(), "a refused commit is visible");
    let member = Member::join_and_catch_up(log, partitions).await;
    for (partition, owned) in &member.owned {
        assert_eq!(owned.start, starts[partition], "a refused commit moved partition {partition}");
        assert!(owned.newest.is_empty(), "a refused commit left aggregates in partition {partition}");
    }
    member.close().await;
}

fn starts(member: &Member) -> BTreeMap<u32, u64> {
    member.owned.iter().map(|(partition, owned)| (*partition, owned.start)).collect()
}

pub(super) async fn the_next_feed_goes_on_where_the_commit_ended(factory: &dyn LogFactory) {
    let (log, rooms, first) = read_log(factory).await;
    // Half of the partitions, and not all of what was read.
    let home = first.partition_of(&rooms[0]);
    let mut cut = first.cut(home);
    cut.next_offset = first.owned[&home].records[1].offset;
    first.commit(vec![cut.clone()]).await;
    let before = starts(&first);
    let left: Vec<_> = first.owned[&home].records[1..].to_vec();
    first.close().await;

    let second = Member::join_and_catch_up(&*log, factory.partitions()).await;
    for (partition, owned) in &second.owned {
        let expected = if *partition == home { cut.next_offset } else { before[partition] };
        assert_eq!(owned.start, expected, "partition {partition}");
    }
    assert_eq!(second.owned[&home].records, left);
    second.close().await;
}

pub(super) async fn the_next_feed_has_the_newest_aggregates_of_each_partition(factory: &dyn LogFactory) {
    let (log, rooms, first) = read_log(factory).await;
    for seq in 1..=3 {
        first.commit(first.cuts(&rooms, seq)).await;
    }
    first.commit(first.cuts(&rooms[..1], 4)).await;
    let homes: BTreeMap<_, _> = rooms.iter().map(|room| (room.clone(), first.partition_of(room))).collect();
    first.close().await;

    let second = Member::join_and_catch_up(&*log, factory.partitions()).await;
    assert_eq!(second.values(), [""; 0], "everything was committed");
    for (partition, owned) in &second.owned {
        let here = homes.iter().filter(|(_, home)| *home == partition).map(|(room, _)| {
            (room.clone(), aggregate(room, if *room == rooms[0] { 4 } else { 3 }, *partition))
        });
        assert_eq!(owned.newest, here.collect(), "partition {partition}");
    }
    second.close().await;
}

pub(super) async fn a_commit_over_partitions_is_all_or_nothing(factory: &dyn LogFactory) {
    let (log, rooms, first) = read_log(factory).await;
    let before = starts(&first);
    let mut cuts = first.cuts(&rooms, 1);
    assert_eq!(cuts.len(), factory.partitions() as usize);
    // The last one is not ours: the good ones before it must not be written either.
    cuts.last_mut().unwrap().epoch += 1_000_000;
    let refused = within("the refusal", first.committer.commit(cuts)).await;
    assert!(matches!(refused, Err(CommitError::Revoked(_))), "{refused:?}");
    first.close().await;
    assert_untouched(&*log, factory.partitions(), &before).await;

    let mut second = Member::join(&*log).await;
    second.until_records(rooms.len()).await;
    second.commit(second.cuts(&rooms, 1)).await;
    second.close().await;
    let third = Member::join_and_catch_up(&*log, factory.partitions()).await;
    assert_eq!(third.values(), [""; 0], "all partitions were committed");
    assert_eq!(third.owned.values().map(|owned| owned.newest.len()).sum::<usize>(), rooms.len());
    third.close().await;
}

pub(super) async fn a_cut_of_an_earlier_assignment_is_refused(factory: &dyn LogFactory) {
    let (log, rooms, first) = read_log(factory).await;
    let (before, stale) = (starts(&first), first.cuts(&rooms, 1));
    first.close().await;

    let mut second = Member::join(&*log).await;
    second.until_records(rooms.len()).await;
    let refused = within("the refusal", second.committer.commit(stale)).await;
    assert!(matches!(refused, Err(CommitError::Revoked(_))), "{refused:?}");
    // Its own cuts are as good as before.
    second.commit(Vec::new()).await;
    second.close().await;
    assert_untouched(&*log, factory.partitions(), &before).await;
}

pub(super) async fn the_committer_of_a_closed_feed_is_refused(factory: &dyn LogFactory) {
    let (log, rooms, first) = read_log(factory).await;
    let (before, zombie, cuts) = (starts(&first), Arc::clone(&first.committer), first.cuts(&rooms, 1));
    first.close().await;
    for _ in 0..2 {
        let refused = within("the refusal", zombie.commit(cuts.clone())).await;
        assert!(matches!(refused, Err(CommitError::Revoked(_) | CommitError::Reopen(_))), "{refused:?}");
        // The second time, somebody else owns the partitions.
        Member::join_and_catch_up(&*log, factory.partitions()).await.close().await;
    }
    assert_untouched(&*log, factory.partitions(), &before).await;
}

pub(super) async fn a_commit_without_aggregates_moves_the_offset(factory: &dyn LogFactory) {
    let (log, _, first) = read_log(factory).await;
    let cuts: Vec<_> = (0..factory.partitions()).map(|partition| first.cut(partition)).collect();
    first.commit(cuts.clone()).await;
    first.close().await;
    let second = Member::join_and_catch_up(&*log, factory.partitions()).await;
    assert!(starts(&second).into_iter().eq(cuts.iter().map(|cut| (cut.partition, cut.next_offset))));
    assert_eq!(second.values(), [""; 0]);
    second.close().await;
}

pub(super) async fn reading_goes_on_beside_a_commit(factory: &dyn LogFactory) {
    let (log, rooms, mut member) = read_log(factory).await;
    let committer = Arc::clone(&member.committer);
    let all: Vec<Vec<_>> = (1..=10).map(|seq| member.cuts(&rooms, seq)).collect();
    let commits = async {
        for cuts in all {
            commit(&*committer, cuts).await;
        }
    };
    let appends = async {
        for round in 0..10 {
            append_to(&*log, &rooms, &format!("more {round}")).await;
        }
    };
    tokio::join!(commits, appends, member.until_records(rooms.len() * 11));
    drop(committer);
    member.close().await;

    let second = Member::join_and_catch_up(&*log, factory.partitions()).await;
    assert_eq!(second.values().len(), rooms.len() * 10, "what came beside the commits was not committed");
    assert!(second.owned.values().flat_map(|owned| owned.newest.values()).all(|newest| newest.seq == 10));
    second.close().await;
}

pub(super) async fn a_second_commit_waits_for_the_first(factory: &dyn LogFactory) {
    let (log, rooms, member) = read_log(factory).await;
    let mut watcher = Watcher::open_and_catch_up(&*log).await;
    let (first, second) = (member.cuts(&rooms, 1), member.cuts(&rooms, 2));
    tokio::join!(member.commit(first), member.commit(second));
    // The watcher checks that no room goes back.
    watcher
        .until("the second commit", |seen| {
            seen.rooms().values().filter(|seq| **seq == 2).count() == rooms.len()
        })
        .await;
    member.close().await;
}

pub(super) async fn a_tombstone_forgets_the_room(factory: &dyn LogFactory) {
    let (log, rooms, first) = read_log(factory).await;
    first.commit(first.cuts(&rooms, 1)).await;
    first.commit(tombstones(first.cuts(&rooms[..2], 2))).await;
    // One of the two begins anew.
    first.commit(first.cuts(&rooms[..1], 1)).await;
    first.close().await;

    let second = Member::join_and_catch_up(&*log, factory.partitions()).await;
    let expected = rooms.iter().filter(|room| **room != rooms[1]).map(|room| (room.clone(), 1));
    assert_eq!(second.newest(), expected.collect());
    second.close().await;
}

pub(super) async fn a_room_may_be_forgotten_and_begin_again_in_one_commit(factory: &dyn LogFactory) {
    let (log, rooms, first) = read_log(factory).await;
    first.commit(first.cuts(&rooms, 7)).await;
    let mut watcher = Watcher::open_and_catch_up(&*log).await;
    let mut cuts = tombstones(first.cuts(&rooms[..2], 8));
    cuts.extend(first.cuts(&rooms[..1], 1));
    first.commit(cuts).await;
    let left = rooms.iter().filter(|room| **room != rooms[1]);
    let left: BTreeMap<_, _> =
        left.map(|room| (room.clone(), if *room == rooms[0] { 1 } else { 7 })).collect();
    watcher.until("the commit", |seen| seen.rooms() == left).await;
    assert_eq!(Watcher::open_and_catch_up(&*log).await.seen.rooms(), left);
    first.close().await;

    let second = Member::join_and_catch_up(&*log, factory.partitions()).await;
    assert_eq!(second.newest(), left);
    second.close().await;
}
