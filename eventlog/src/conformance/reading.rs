//! Cases: what a feed gives to read.

use super::{
    LogFactory,
    member::{Member, append_to, writer},
    room, rooms, within,
};
use futures_util::{FutureExt, future::join_all};
use std::{collections::BTreeSet, time::Duration};

pub(super) async fn a_log_without_records_is_assigned_and_caught_up(factory: &dyn LogFactory) {
    let log = factory.open().await;
    let member = Member::join_and_catch_up(&*log, factory.partitions()).await;
    assert!(member.owned.keys().copied().eq(0..factory.partitions()), "all partitions of the log");
    assert!(member.joined, "it was told before anything was read");
    for owned in member.owned.values() {
        assert_eq!(owned.end, Some(owned.start));
        assert!(owned.records.is_empty() && owned.newest.is_empty());
    }
    member.close().await;
}

pub(super) async fn caught_up_comes_again_after_more_records(factory: &dyn LogFactory) {
    let log = factory.open().await;
    let mut member = Member::join_and_catch_up(&*log, factory.partitions()).await;
    for round in 1..=3 {
        append_to(&*log, &[room("final")], "tap").await;
        member.until_records(round).await;
        let home = member.partition_of(&room("final"));
        member.until("the end of the partition", |owned| owned[&home].end.is_some()).await;
    }
    member.close().await;
}

pub(super) async fn a_backlog_is_read_from_its_first_record(factory: &dyn LogFactory) {
    let log = factory.open().await;
    let writer = writer(&*log).await;
    // More than fits into one event, or one read.
    for chunk in 0..8 {
        let append = |n| writer.append(0, format!("final {n:01000}").into());
        let results = within("the appends", join_all((chunk * 250..chunk * 250 + 250).map(append))).await;
        results.into_iter().for_each(|result| result.unwrap());
    }
    let mut member = Member::join(&*log).await;
    member.until_records(2_000).await;
    for (n, value) in member.values().into_iter().enumerate() {
        assert_eq!(value, format!("final {n:01000}"));
    }
    member.close().await;
}

pub(super) async fn what_was_not_committed_is_read_again(factory: &dyn LogFactory) {
    let log = factory.open().await;
    let rooms = rooms(factory);
    append_to(&*log, &rooms, "tap").await;
    let mut first = Member::join(&*log).await;
    first.until_records(rooms.len()).await;
    let read: Vec<_> = first.owned.values().map(|owned| owned.records.clone()).collect();
    first.close().await;

    let mut second = Member::join(&*log).await;
    second.until_records(rooms.len()).await;
    assert!(second.owned.values().map(|owned| &owned.records).eq(&read), "other records than before");
    second.close().await;
}

pub(super) async fn a_cancelled_next_loses_no_event(factory: &dyn LogFactory) {
    let log = factory.open().await;
    let rooms = rooms(factory);
    let mut member = Member::join(&*log).await;
    let append = async {
        for round in 0..10 {
            append_to(&*log, &rooms, &format!("{round}")).await;
        }
    };
    let count = rooms.len() * 10;
    let read = within("all records, by reads that are cancelled", async {
        let mut patience_us = 0;
        while member.values().len() < count {
            // From a single poll up to waits that are long enough for an event to come.
            patience_us = (patience_us + 97) % 10_000;
            let next = if patience_us < 2_000 {
                member.events.next().now_or_never()
            } else {
                let patience = Duration::from_micros(patience_us);
                tokio::time::timeout(patience, member.events.next()).await.ok()
            };
            if let Some(event) = next {
                member.take(event);
            }
            tokio::task::yield_now().await;
        }
    });
    tokio::join!(append, read);
    let values: BTreeSet<_> = member.values().into_iter().collect();
    assert_eq!(values.len(), count, "a record was read twice");
    member.close().await;
}

pub(super) async fn an_epoch_is_never_used_again(factory: &dyn LogFactory) {
    let log = factory.open().await;
    let mut epochs = BTreeSet::new();
    for _ in 0..3 {
        let member = Member::join_and_catch_up(&*log, factory.partitions()).await;
        let owned = member.owned.iter().map(|(partition, owned)| (*partition, owned.epoch));
        owned.for_each(|epoch| assert!(epochs.insert(epoch), "{epoch:?} was used before"));
        member.close().await;
    }
}
