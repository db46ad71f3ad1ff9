//! Cases: what becomes of an append.

use super::{
    LogFactory, WAIT,
    member::{Member, append_to, writer},
    room, rooms, within,
};
use bytes::Bytes;
use futures_util::{FutureExt, future::join_all};
use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

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

pub(super) async fn a_room_keeps_to_one_partition_and_to_the_order_of_its_appends(factory: &dyn LogFactory) {
    let log = factory.open().await;
    let (rooms, writer) = (rooms(factory), writer(&*log).await);
    let mut appends = Vec::new();
    for n in 0..20 {
        for room in &rooms {
            appends.push(writer.append(room.clone(), format!("{room} {n}").into()));
        }
    }
    // Order is that of the calls, not that of the polls.
    appends.reverse();
    within("the appends", join_all(appends)).await.into_iter().for_each(|result| result.unwrap());

    let mut member = Member::join(&*log).await;
    member.until_records(rooms.len() * 20).await;
    let mut homes = BTreeMap::new();
    for room in &rooms {
        let home = member.partition_of(room);
        let values = member.values();
        let of_room: Vec<_> = values.iter().filter(|v| v.starts_with(&format!("{room} "))).collect();
        assert_eq!(
            of_room,
            (0..20).map(|n| format!("{room} {n}")).collect::<Vec<_>>().iter().collect::<Vec<_>>()
        );
        let at_home = &member.owned[&home].records;
        let count = at_home.iter().filter(|r| r.value.starts_with(format!("{room} ").as_bytes())).count();
        assert_eq!(count, 20, "{room} is in partition {home} and in another");
        homes.insert(home, ());
    }
    assert_eq!(homes.len(), factory.partitions() as usize, "rooms are spread over all partitions");
    member.close().await;
}

pub(super) async fn concurrent_appends_arrive_exactly_once(factory: &dyn LogFactory) {
    let log = factory.open().await;
    let (rooms, writer) = (rooms(factory), writer(&*log).await);
    let mut member = Member::join(&*log).await;
    let appender = |appender: usize| {
        let (rooms, writer) = (&rooms, &writer);
        async move {
            for n in 0..10 {
                let room = rooms[(appender + n) % rooms.len()].clone();
                let value = format!("{room} {appender}.{n}");
                writer.append(room, value.into()).await.unwrap();
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
        within("an append", writer.append(room("final"), value.clone())).await.unwrap();
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
    drop(writer.append(room("final"), "never polled".into()));
    let mut polled = writer.append(room("final"), "polled once".into());
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
    let appends: Vec<_> = (0..50).map(|n| writer.append(room(&format!("room-{n}")), "tap".into())).collect();
    within("the flush", writer.flush(WAIT)).await;
    for append in appends {
        append.now_or_never().expect("an append that is resolved").unwrap();
    }
    within("a flush of nothing", writer.flush(WAIT)).await;
}
