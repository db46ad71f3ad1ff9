//! What is told, and what it adds up to.

use super::{
    elsewhere::{Bounds, Elsewhere, KEPT, Others, Taken},
    record::{ROOMS_MAX as ROOMS_PER_RECORD, Record, random_node},
    report::{REPORTS_PER_FULL_ONE, Reports},
};
use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use wire::RoomName;

fn room(room: impl std::fmt::Display) -> RoomName {
    format!("r{room}").parse().unwrap()
}

fn viewers(rooms: &[(u32, u32)]) -> Vec<(RoomName, u32)> {
    rooms.iter().map(|(n, viewers)| (room(n), *viewers)).collect()
}

fn record(node: &str, rooms: &[(u32, u32)]) -> Vec<u8> {
    Record::new(node, viewers(rooms).into_iter().collect()).encode().unwrap()
}

/// All that the records tell.
fn told(records: &[Bytes]) -> HashMap<RoomName, u32> {
    records.iter().flat_map(|record| Record::decode(record).unwrap().rooms).collect()
}

fn expected(rooms: &[(u32, u32)]) -> HashMap<RoomName, u32> {
    viewers(rooms).into_iter().collect()
}

fn others() -> (Others, Arc<Elsewhere>) {
    let sums = Arc::<Elsewhere>::default();
    (Others::new("own", Arc::clone(&sums)), sums)
}

#[test]
fn a_record_is_json_with_a_version() {
    let json = String::from_utf8(record("n1", &[(1, 1_234)])).unwrap();
    assert_eq!(json, r#"{"v":1,"node":"n1","rooms":{"r1":1234}}"#);
    let later = json.replace("\"v\":1", "\"mood\":[1],\"v\":1");
    assert!(Record::decode(later.as_bytes()).is_some(), "a later version may add fields");
}

#[test]
fn what_is_none_of_our_records_is_told() {
    let (mut others, sums) = others();
    let many: Vec<_> = (0..=ROOMS_PER_RECORD as u32).map(|n| (n, 1)).collect();
    for foreign in [
        &b""[..],
        b"{}",
        b"\xff",
        br#"{"v":2,"node":"n","rooms":{"r1":1}}"#,
        br#"{"v":1,"node":"","rooms":{"r1":1}}"#,
        br#"{"v":1,"node":"n","rooms":{"r1":-1}}"#,
        br#"{"v":1,"node":"n","rooms":{"r1":4294967296}}"#,
        br#"{"v":1,"node":"n","rooms":{"not/a room":1}}"#,
        br#"{"v":1,"node":"n"}"#,
        &record(&"n".repeat(65), &[(1, 1)]),
        &record("n", &many),
    ] {
        assert_eq!(others.take(foreign, Instant::now()), Taken::Malformed, "{foreign:?}");
    }
    assert!(sums.rooms().is_empty());
}

#[test]
fn every_process_has_a_name_of_its_own() {
    assert_ne!(random_node(), random_node());
    assert!(Record::decode(&record(&random_node(), &[])).is_some());
}

#[test]
fn a_report_is_about_what_changed_and_every_second_one_about_all_rooms() {
    let mut reports = Reports::new("n");
    let mut next = |rooms: &[(u32, u32)]| told(&reports.next(viewers(rooms)).records);
    assert_eq!(REPORTS_PER_FULL_ONE, 2);
    assert_eq!(next(&[(1, 5), (2, 7)]), expected(&[(1, 5), (2, 7)]), "all");
    assert_eq!(next(&[(1, 5), (2, 8)]), expected(&[(2, 8)]));
    assert_eq!(next(&[(1, 5), (2, 8)]), expected(&[(1, 5), (2, 8)]), "all");
    assert_eq!(next(&[(2, 8), (3, 1)]), expected(&[(1, 0), (3, 1)]), "nobody is in the first any more");
    assert_eq!(next(&[(2, 8), (3, 1)]), expected(&[(2, 8), (3, 1)]), "all, and that was told");
    assert_eq!(next(&[(2, 8), (3, 1)]), expected(&[]));
}

#[test]
fn a_report_about_all_rooms_has_a_record_where_there_are_none_and_another_one_has_not() {
    let mut reports = Reports::new("n");
    let lengths: Vec<_> = (0..4).map(|_| reports.next(Vec::new()).records.len()).collect();
    assert_eq!(lengths, [1, 0, 1, 0]);
    assert!(reports.last().is_empty(), "nobody was told of viewers");
}

#[test]
fn the_last_report_says_that_nobody_is_here_any_more() {
    let mut reports = Reports::new("n");
    reports.next(viewers(&[(1, 5), (2, 7)]));
    assert_eq!(told(&reports.last()), expected(&[(1, 0), (2, 0)]));
}

#[test]
fn many_rooms_are_told_in_several_records_and_of_too_many_those_with_most_viewers() {
    let rooms: Vec<_> = (0..3_500).map(|n| (n, 1 + n % 7)).collect();
    let mut reports = Reports::with_rooms_max("n", 3_000);
    let report = reports.next(viewers(&rooms));
    assert_eq!((report.records.len(), report.left_out), (3, 500));
    let told_first = told(&report.records);
    assert_eq!(told_first.len(), 3_000);
    // 500 rooms each have 1, 2, ... 7 viewers.
    assert!(told_first.values().all(|viewers| *viewers > 1));
    assert!(report.records.iter().all(|record| record.len() < 100_000));
    assert!(reports.next(viewers(&rooms)).records.is_empty(), "the same rooms are left out again");
}

#[test]
fn viewers_of_all_others_add_up_and_own_records_do_not() {
    let (mut others, sums) = others();
    let now = Instant::now();
    assert_eq!(others.take(&record("a", &[(1, 5), (2, 1)]), now), Taken::Counted { left_out: 0 });
    others.take(&record("b", &[(1, 7)]), now);
    assert_eq!(others.take(&record("own", &[(1, 100)]), now), Taken::Own);
    assert_eq!((sums.viewers_of(&room(1)), sums.viewers_of(&room(2))), (12, 1));
    others.take(&record("a", &[(1, 6), (2, 0)]), now);
    assert_eq!((sums.viewers_of(&room(1)), sums.viewers_of(&room(2))), (13, 0));
    drop(others);
    assert_eq!(sums.viewers_of(&room(1)), 0, "nobody keeps it up to date any more");
}

#[test]
fn what_is_not_told_again_is_forgotten() {
    let (mut others, sums) = others();
    let start = Instant::now();
    others.take(&record("a", &[(1, 5), (2, 3)]), start);
    others.take(&record("b", &[(1, 7)]), start);
    let almost = start + KEPT - Duration::from_millis(1);
    others.take(&record("a", &[(1, 5)]), almost);
    others.expire(almost);
    assert_eq!((sums.viewers_of(&room(1)), sums.viewers_of(&room(2))), (12, 3));
    others.expire(start + KEPT);
    assert_eq!((sums.viewers_of(&room(1)), sums.viewers_of(&room(2))), (5, 0), "b was killed");
    others.expire(almost + KEPT);
    assert!(sums.rooms().is_empty());
}

#[test]
fn strangers_fill_no_more_than_the_bounds() {
    let sums = Arc::<Elsewhere>::default();
    let mut others = Others::with_bounds("own", Arc::clone(&sums), Bounds { nodes: 2, rooms: 3 });
    let now = Instant::now();
    assert_eq!(others.take(&record("a", &[(1, 1), (2, 1)]), now), Taken::Counted { left_out: 0 });
    assert_eq!(others.take(&record("b", &[(1, 1), (2, 1), (3, 1)]), now), Taken::Counted { left_out: 2 });
    assert_eq!(others.take(&record("c", &[(1, 1)]), now), Taken::TooManyNodes);
    assert_eq!(others.take(&record("a", &[(1, 9)]), now), Taken::Counted { left_out: 0 }, "it is known");
    assert_eq!(sums.rooms().values().sum::<u64>(), 11);
    others.take(&record("a", &[(1, 0), (2, 0)]), now);
    assert_eq!(others.take(&record("c", &[(1, 1)]), now), Taken::Counted { left_out: 0 }, "a has left");
}

/// One event among some processes and rooms.
#[derive(Debug, Clone)]
enum Step {
    Told { node: u8, rooms: Vec<(u32, u32)> },
    TimePasses { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let rooms = vec((0..4_u32, prop_oneof![1 => Just(0), 3 => 1..50_u32]), 0..4);
    prop_oneof![
        3 => (0..4_u8, rooms).prop_map(|(node, rooms)| Step::Told { node, rooms }),
        2 => (0..6_000_u64).prop_map(|ms| Step::TimePasses { ms }),
    ]
}

proptest! {
    #[test]
    fn sums_are_what_the_others_told_last(steps in vec(step(), 0..60)) {
        let (mut others, sums) = others();
        // By node and room: viewers, and when they were told.
        let mut model: HashMap<(u8, RoomName), (u32, Instant)> = HashMap::new();
        let mut now = Instant::now();
        for step in steps {
            match step {
                Step::Told { node, rooms } => {
                    // A record names each room once.
                    let rooms: HashMap<_, _> = viewers(&rooms).into_iter().collect();
                    model.extend(rooms.iter().map(|(room, n)| ((node, room.clone()), (*n, now))));
                    let value = Record::new(&format!("node-{node}"), rooms).encode().unwrap();
                    prop_assert_eq!(others.take(&value, now), Taken::Counted { left_out: 0 });
                }
                Step::TimePasses { ms } => {
                    now += Duration::from_millis(ms);
                    others.expire(now);
                    model.retain(|_, (_, at)| now - *at < KEPT);
                }
            }
            let mut recount: HashMap<RoomName, u64> = HashMap::new();
            for ((_, room), (viewers, _)) in model.iter().filter(|(_, (viewers, _))| *viewers > 0) {
                *recount.entry(room.clone()).or_default() += u64::from(*viewers);
            }
            prop_assert_eq!(sums.rooms(), recount);
        }
    }

    #[test]
    fn who_hears_all_reports_knows_what_each_process_has(reports in vec(vec((0..6_u32, 1..50_u32), 0..6), 1..20)) {
        let (mut others, sums) = others();
        let mut process = Reports::new("n");
        let now = Instant::now();
        for rooms in reports {
            let here: HashMap<_, _> = viewers(&rooms).into_iter().collect();
            for record in process.next(here.clone().into_iter().collect()).records {
                others.take(&record, now);
            }
            let here: HashMap<_, _> = here.into_iter().map(|(room, n)| (room, u64::from(n))).collect();
            prop_assert_eq!(sums.rooms(), here);
        }
        for record in process.last() {
            others.take(&record, now);
        }
        prop_assert!(sums.rooms().is_empty());
    }
}
