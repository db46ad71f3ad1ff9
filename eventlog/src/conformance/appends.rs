//! Cases: what becomes of an append.

use super::{
    LogFactory, WAIT,
    member::{Member, append_to, writer},
    room, within,
};
use crate::{Append, AppendError, Done};
use bytes::Bytes;
use futures_util::{FutureExt, future::join_all};
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) async fn an_appended_record_comes_to_the_feed_as_it_was(factory: &dyn LogFactory) {
    let log = factory.open().await;
    append_to(&*log, &[room("final")], "goal").await;
    let mut member = Member::join(&*log).await;
    member.until_records(1).await;
    let record = &member.owned[&member.partition_of(&room("final"))].records[0];
    assert_eq!(record.value, "final goal");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    assert!(record.timestamp_ms.abs_diff(now) < 600_000, "stamped {}, now {now}", record.timestamp_ms);
    member.close().await;
}

pub(super) async fn records_come_to_their_partition_in_the_order_of_their_appends(factory: &dyn LogFactory) {
    let log = factory.open().await;
    let writer = writer(&*log).await;
    assert_eq!(writer.partitions(), factory.partitions());
    let value = |partition, n| format!("{partition} {n}");
    let mut appends = Vec::new();
    for n in 0..20 {
        for partition in 0..factory.partitions() {
            appends.push(writer.append(partition, value(partition, n).into()));
        }
    }
    // Order is that of the calls, not that of the polls.
    appends.reverse();
    let count = appends.len();
    within("the appends", join_all(appends)).await.into_iter().for_each(|result| result.unwrap());

    let mut member = Member::join(&*log).await;
    member.until_records(count).await;
    for (partition, owned) in &member.owned {
        let expected = (0..20).map(|n| Bytes::from(value(*partition, n)));
        assert!(
            owned.records.iter().map(|record| record.value.clone()).eq(expected),
            "partition {partition}"
        );
    }
    member.close().await;
}

pub(super) async fn a_partition_that_does_not_exist_takes_nothing(factory: &dyn LogFactory) {
    let log = factory.open().await;
    let writer = writer(&*log).await;
    for partition in [factory.partitions(), u32::MAX] {
        let refused = within("an append", writer.append(partition, "tap".into())).await;
        assert!(matches!(refused, Err(AppendError::NotWritten(_))), "{refused:?}");
    }
    within("the flush", writer.flush(WAIT)).await;
    let member = Member::join_and_catch_up(&*log, factory.partitions()).await;
    assert_eq!(member.values(), [""; 0]);
    member.close().await;
}

pub(super) async fn records_that_are_handed_over_together_end_each_by_themselves(factory: &dyn LogFactory) {
    let log = factory.open().await;
    let writer = writer(&*log).await;
    let (said, mut heard) = tokio::sync::mpsc::channel(4);
    let append = |(n, partition): (usize, u32)| {
        let said = said.clone();
        let done: Done = Box::new(move |result| drop(said.try_send((n, result))));
        Append { partition, value: n.to_string().into(), done }
    };
    writer.send([1, factory.partitions(), 0, 1].into_iter().enumerate().map(append).collect());
    writer.send(Vec::new());
    let mut ends = Vec::new();
    while ends.len() < 4 {
        ends.extend(within("an end", heard.recv()).await);
    }
    ends.sort_by_key(|(n, _)| *n);
    let is_written: Vec<_> = ends.iter().map(|(n, result)| (*n, result.is_ok())).collect();
    assert_eq!(is_written, [(0, true), (1, false), (2, true), (3, true)]);
    let mut member = Member::join(&*log).await;
    member.until_records(3).await;
    let values =
        |partition| member.owned[&partition].records.iter().map(|it| it.value.clone()).collect::<Vec<_>>();
    assert_eq!((values(0), values(1)), (vec!["2".into()], vec!["0".into(), "3".into()]));
    member.close().await;
}

pub(super) async fn concurrent_appends_arrive_exactly_once(factory: &dyn LogFactory) {
    let log = factory.open().await;
    let writer = writer(&*log).await;
    let mut member = Member::join(&*log).await;
    let appender = |appender: u32| {
        let writer = &writer;
        async move {
            for n in 0..10 {
                let partition = (appender + n) % writer.partitions();
                writer.append(partition, format!("{appender}.{n}").into()).await.unwrap();
            }
        }
    };
    let appends = within("the appends", join_all((0..64).map(appender)));
    tokio::join!(appends, member.until_records(640));
    let mut values = member.values();
    values.sort_unstable();
    values.dedup();
    assert_eq!(values.len(), 640, "a record arrived twice");
    member.close().await;
}

pub(super) async fn poison_values_pass_untouched(factory: &dyn LogFactory) {
    let log = factory.open().await;
    let writer = writer(&*log).await;
    let values = [
        Bytes::new(),
        Bytes::from_static(b"\xff\x00\xfe"),
        Bytes::from_static(b"{\"v\":"),
        vec![7; 100_000].into(),
    ];
    for value in &values {
        within("an append", writer.append(0, value.clone())).await.unwrap();
    }
    let mut member = Member::join(&*log).await;
    member.until_records(values.len()).await;
    let records = member.owned.values().flat_map(|owned| &owned.records);
    assert!(records.map(|record| &record.value).eq(&values), "values differ");
    member.close().await;
}

pub(super) async fn a_dropped_append_is_written_all_the_same(factory: &dyn LogFactory) {
    let log = factory.open().await;
    let writer = writer(&*log).await;
    drop(writer.append(0, "never polled".into()));
    let mut polled = writer.append(0, "polled once".into());
    let _ = (&mut polled).now_or_never();
    drop(polled);
    let mut member = Member::join(&*log).await;
    member.until_records(2).await;
    assert_eq!(member.values(), ["never polled", "polled once"]);
    member.close().await;
}

pub(super) async fn flush_waits_for_every_append(factory: &dyn LogFactory) {
    let log = factory.open().await;
    let writer = writer(&*log).await;
    let appends: Vec<_> = (0..50).map(|n| writer.append(n % writer.partitions(), "tap".into())).collect();
    within("the flush", writer.flush(WAIT)).await;
    for append in appends {
        append.now_or_never().expect("an append that is resolved").unwrap();
    }
    within("a flush of nothing", writer.flush(WAIT)).await;
}
