//! Cases: what a restart of the process leaves.

use super::{
    LogFactory,
    member::{Member, append_to},
    rooms,
    watcher::Watcher,
};
use std::collections::BTreeMap;

pub(super) async fn a_restart_keeps_records_offsets_and_aggregates(factory: &dyn LogFactory) {
    let mut log = factory.open().await;
    let rooms = rooms(factory);
    append_to(&*log, &rooms, "counted").await;
    let mut member = Member::join(&*log).await;
    member.until_records(rooms.len()).await;
    member.commit(member.cuts(&rooms, 7)).await;
    append_to(&*log, &rooms, "open").await;
    member.until_records(rooms.len() * 2).await;
    let mut open = BTreeMap::new();
    for (partition, owned) in &member.owned {
        let records = owned.records.iter().filter(|record| record.value.ends_with(b" open"));
        open.insert(*partition, records.cloned().collect::<Vec<_>>());
    }
    member.close().await;

    for _ in 0..2 {
        log = factory.reopen(log).await;
        let mut member = Member::join(&*log).await;
        member.until_records(rooms.len()).await;
        for (partition, owned) in &member.owned {
            assert_eq!(owned.records, open[partition], "partition {partition}");
            assert!(owned.newest.values().all(|newest| newest.seq == 7));
        }
        assert_eq!(member.owned.values().map(|owned| owned.newest.len()).sum::<usize>(), rooms.len());
        member.close().await;
        let watcher = Watcher::open_and_catch_up(&*log).await;
        assert_eq!(watcher.seen.rooms(), rooms.iter().map(|room| (room.clone(), 7)).collect());
    }
}

pub(super) async fn a_restart_goes_on_with_larger_offsets(factory: &dyn LogFactory) {
    let mut log = factory.open().await;
    let rooms = rooms(factory);
    for round in 1..=3 {
        append_to(&*log, &rooms, &format!("{round}")).await;
        log = factory.reopen(log).await;
    }
    // The member checks offsets and timestamps.
    let mut member = Member::join(&*log).await;
    member.until_records(rooms.len() * 3).await;
    for room in &rooms {
        let of_room = member.values().into_iter().filter(|value| value.starts_with(&format!("{room} ")));
        assert!(of_room.eq((1..=3).map(|round| format!("{room} {round}"))), "{room}");
    }
    member.close().await;
}
