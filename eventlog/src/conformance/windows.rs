//! Cases: windows are written with their commit, and never without it. A log that keeps no windows has nothing to show.

use super::{
    LogFactory, counting,
    member::{Member, read_log},
    within,
};
use crate::{
    CommitError, Cut, EventLog, partition_of,
    windows::{FollowedWindow, WindowArchive, WindowEvent, WindowOffsets, WindowQuery},
};
use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};
use wire::{Aggregate, RoomName, Window, WindowRecord};

/// By room, the numbers of its windows in their order.
type Seen = BTreeMap<RoomName, Vec<u64>>;

/// All windows that can be read now, in each way that the log has.
async fn read(log: &dyn EventLog, rooms: &[RoomName], partitions: u32) -> Seen {
    let archive = within("an archive", log.archive()).await.unwrap();
    let followed = follow(log, WindowOffsets::new()).await;
    let searched = archive.map(|archive| search(&*archive, rooms, partitions));
    let followed = followed.map(|records| {
        let mut seen = Seen::new();
        for record in records {
            seen.entry(record.room.clone()).or_default().push(decode(&record).seq);
        }
        seen
    });
    if let (Some(searched), Some(followed)) = (&searched, &followed) {
        assert_eq!(searched, followed, "the archive and the follower differ");
    }
    searched.or(followed).expect("a log that keeps windows lets them be read")
}

fn search(archive: &dyn WindowArchive, rooms: &[RoomName], partitions: u32) -> Seen {
    let mut seen = Seen::new();
    for room in rooms {
        let partition = partition_of(room, partitions);
        let query = WindowQuery { room, partition, span: 0..u64::MAX, max_windows: 1_000 };
        let mut of_room = Vec::new();
        let searched = archive.search(&query, &mut |record: WindowRecord| of_room.push(record.seq)).unwrap();
        assert_eq!(searched.is_known, !of_room.is_empty());
        assert!(searched.reached_ms.is_some() || of_room.is_empty());
        if !of_room.is_empty() {
            seen.insert(room.clone(), of_room);
        }
    }
    seen
}

/// All windows from these offsets on. `None`: the log can't be followed.
async fn follow(log: &dyn EventLog, from: WindowOffsets) -> Option<Vec<FollowedWindow>> {
    let mut follower = within("a follower of windows", log.window_follower(from)).await.unwrap()?;
    let first = within("the starts", follower.next()).await.unwrap();
    let WindowEvent::Starts(mut next) = first else { panic!("{first:?} comes before the starts") };
    let mut all = Vec::new();
    loop {
        match within("windows", follower.next()).await.unwrap() {
            WindowEvent::Starts(_) => panic!("the starts come twice"),
            WindowEvent::CaughtUp => return Some(all),
            WindowEvent::Records(records) => {
                assert!(!records.is_empty(), "an event has at least one record");
                for record in &records {
                    let next = next.entry(record.partition).or_default();
                    assert!(record.offset >= *next, "offsets grow");
                    *next = record.offset + 1;
                }
                all.extend(records);
            }
        }
    }
}

fn decode(record: &FollowedWindow) -> WindowRecord {
    WindowRecord::decode_of(&record.room, &record.value).unwrap()
}

/// A cut of each partition, with a window and an aggregate of number `seq` for each room.
fn cuts(member: &Member, rooms: &[RoomName], seq: u64) -> Vec<Cut> {
    let mut cuts: BTreeMap<u32, Cut> = BTreeMap::new();
    for room in rooms {
        let partition = member.partition_of(room);
        let cut = cuts.entry(partition).or_insert_with(|| member.cut(partition));
        let start = recent_ms() + seq * 1_000;
        let window = Window { start, end: start + 1_000 };
        let aggregate = Aggregate { window, ..counting(room, seq, partition) };
        cut.windows.push((room.clone(), aggregate.encode_window().unwrap().into()));
        cut.aggregates.push((room.clone(), Some(aggregate.encode().into())));
    }
    cuts.into_values().collect()
}

/// A minute ago: a log removes windows that are too old.
fn recent_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64 - 60_000
}

fn all(rooms: &[RoomName], seqs: &[u64]) -> Seen {
    rooms.iter().map(|room| (room.clone(), seqs.to_vec())).collect()
}

pub(super) async fn windows_are_there_when_their_commit_resolves(factory: &dyn LogFactory) {
    let (log, rooms, member) = read_log(factory).await;
    if !log.keeps_windows() {
        return member.close().await;
    }
    assert_eq!(read(&*log, &rooms, factory.partitions()).await, Seen::new());
    for seq in 1..=3 {
        member.commit(cuts(&member, &rooms, seq)).await;
        let expected: Vec<u64> = (1..=seq).collect();
        assert_eq!(read(&*log, &rooms, factory.partitions()).await, all(&rooms, &expected));
    }
    member.close().await;
}

pub(super) async fn a_refused_commit_writes_no_window(factory: &dyn LogFactory) {
    let (log, rooms, member) = read_log(factory).await;
    if !log.keeps_windows() {
        return member.close().await;
    }
    let mut refused = cuts(&member, &rooms, 1);
    // The last one is not ours: the windows of the others must not be written either.
    refused.last_mut().unwrap().epoch += 1_000_000;
    let result = within("the refusal", member.committer.commit(refused)).await;
    assert!(matches!(result, Err(CommitError::Revoked(_))), "{result:?}");
    member.close().await;
    assert_eq!(read(&*log, &rooms, factory.partitions()).await, Seen::new());
}

pub(super) async fn a_restart_keeps_windows(factory: &dyn LogFactory) {
    let (mut log, rooms, member) = read_log(factory).await;
    let keeps_windows = log.keeps_windows();
    if keeps_windows {
        member.commit(cuts(&member, &rooms, 1)).await;
    }
    member.close().await;
    if keeps_windows {
        log = factory.reopen(log).await;
        assert_eq!(read(&*log, &rooms, factory.partitions()).await, all(&rooms, &[1]));
    }
}

pub(super) async fn a_follower_of_windows_goes_on_from_its_offsets(factory: &dyn LogFactory) {
    let (log, rooms, member) = read_log(factory).await;
    member.commit(if log.keeps_windows() { cuts(&member, &rooms, 1) } else { Vec::new() }).await;
    let Some(first) = follow(&*log, WindowOffsets::new()).await else { return member.close().await };
    member.commit(cuts(&member, &rooms, 2)).await;
    let mut offsets = WindowOffsets::new();
    for record in &first {
        offsets.insert(record.partition, record.offset + 1);
    }
    let second = follow(&*log, offsets.clone()).await.unwrap();
    assert_eq!(second.len(), rooms.len());
    assert!(second.iter().all(|record| decode(record).seq == 2));
    // Offsets that the log never had are of another log: reading starts before them.
    offsets.values_mut().for_each(|offset| *offset += 1_000_000);
    let mut follower = within("a follower", log.window_follower(offsets.clone())).await.unwrap().unwrap();
    let Ok(WindowEvent::Starts(starts)) = within("the starts", follower.next()).await else {
        panic!("no starts")
    };
    assert!(starts.iter().all(|(partition, start)| *start < offsets[partition]), "{starts:?}");
    member.close().await;
}
