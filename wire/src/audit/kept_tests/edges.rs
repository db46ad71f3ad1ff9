//! Where what can be known ends: just inside it a fault is found, and just outside a good history stays clean.

use super::*;

fn kinds(log: &Log) -> Vec<&'static str> {
    log.audit().findings.iter().map(Finding::kind).collect()
}

#[test]
fn a_room_of_which_only_records_are_left_may_be_forgotten_once_its_ttl_has_passed() {
    let mut log = good();
    log.newest_only();
    log.aggregates.retain(|(_, of, _)| *of != room("b"));
    let newest_ms = log.records[4].1;
    log.now_ms = newest_ms + TTL_MS;
    assert_eq!((log.findings().as_slice(), log.audit().rooms[&room("b")].bygone), (&[][..], 12));
    log.now_ms -= 1;
    assert_eq!(log.findings(), ["room b: 12 in the records 1 to 5 are in no aggregate"]);
}

#[test]
fn what_a_total_grew_by_is_compared_while_all_records_since_the_last_cut_are_left() {
    let mut log = good();
    log.aggregates.retain(|(_, of, it)| *of != room("a") || it.as_ref().unwrap().seq != 2);
    let a = log.nth("a", 1);
    (a.total, a.totals) = (14, counts(&[("x", 7), ("y", 7)]));
    log.trim(2);
    let sum = "room a: total 11 at seq 3, 10 in the records 2 to 5".to_owned();
    assert!(log.findings().contains(&sum), "{:?}", log.findings());
    log.trim(3);
    assert_eq!(kinds(&log), ["seq"]);
}

#[test]
fn a_record_behind_a_tombstone_that_the_new_life_leaves_out_is_found() {
    let mut log = good();
    log.silence();
    log.append("a", &[("x", 9)]);
    log.open.clear();
    log.append("b", &[("x", 2)]);
    log.close();
    log.append("a", &[("x", 1)]);
    log.close();
    assert_eq!(log.findings(), ["room a: 9 in the records 6 to 7 are in no aggregate"]);
    assert_eq!(log.audit().rooms[&room("a")].bygone, 0, "all of the first life is in its aggregates");
}

#[test]
fn a_life_that_begins_again_in_its_middle_is_no_first_that_is_left() {
    let mut log = good();
    log.silence();
    log.append("a", &[("x", 9)]);
    log.close();
    let a = log.nth("a", 5);
    (a.seq, a.total, a.totals) = (2, 14, counts(&[("x", 14)]));
    assert_eq!(kinds(&log), ["seq"]);
}

#[test]
fn a_life_is_whole_from_a_minute_after_the_oldest_record_on() {
    let mut log = good();
    log.silence();
    for n in [9, 1] {
        log.append("c", &[("x", n)]);
        log.close();
    }
    log.newest_only();
    log.trim(1);
    let minute_ms = log.records[0].1 + 60_000;
    let c = log.nth("c", 0);
    (c.since, c.total, c.totals) = (minute_ms, 11, counts(&[("x", 11)]));
    assert_eq!(kinds(&log), ["sum"]);
    log.nth("c", 0).since -= 1;
    assert_eq!(kinds(&log), [""; 0]);
}

/// A room whose first record came late, before the window in which its life began.
fn born_late(mut log: Log) -> Log {
    log.append("c", &[("x", 3)]);
    log.now_ms += 1_000;
    log.append("c", &[("y", 4)]);
    log.close();
    log.append("c", &[("x", 1)]);
    log.close();
    log.newest_only();
    log
}

#[test]
fn late_records_are_of_the_life_whose_total_they_make_up() {
    let mut log = born_late(good());
    let report = log.audit();
    assert!(report.is_clean(), "{:?}", report.findings);
    let c = &report.rooms[&room("c")];
    assert_eq!((c.total, c.verified, c.bygone), (8, 8, 0));
    log.nth("c", 0).totals = counts(&[("x", 5), ("y", 3)]);
    assert_eq!(kinds(&log), ["misattributed"]);
    // Though there may have been records before the oldest.
    log.trim(1);
    assert_eq!(kinds(&log), ["misattributed"]);
}

#[test]
fn a_total_between_what_its_life_must_hold_and_what_it_may_hold_is_not_verified() {
    let mut log = good();
    log.append("c", &[("x", 5)]);
    log.silence();
    let report = born_late(log).audit();
    assert!(report.is_clean(), "{:?}", report.findings);
    let c = &report.rooms[&room("c")];
    assert_eq!((c.total, c.verified), (8, 1), "of the newest window only");
}

#[test]
fn a_room_that_is_just_full_has_counted_all_of_its_records() {
    let mut log = Log { now_ms: 1_000_000, ..Log::default() };
    log.fill("a", 1);
    log.close();
    let mut left_out = log.clone();
    left_out.close();
    log.append("a", &[("x", 1)]);
    log.close();
    log.newest_only();
    assert_eq!(log.findings(), [""; 0]);
    let a = log.nth("a", 0);
    (a.total, a.totals) = (TOTAL_MAX - 1, counts(&[("x", TOTAL_MAX - 1)]));
    assert_eq!(kinds(&log), ["sum"]);

    left_out.append("a", &[("x", 1)]);
    left_out.open.clear();
    left_out.append("b", &[("x", 1)]);
    left_out.close();
    assert_eq!(left_out.findings(), ["room a: 1 in the records 1 to 2 are in no aggregate"]);
}

#[test]
fn an_aggregate_that_stands_where_it_does_not_belong_verifies_no_records() {
    let mut elsewhere = good();
    elsewhere.nth("a", 1).source.partition = 1;
    let mut misnamed = good();
    misnamed.aggregates[2].1 = room("c");
    for (log, kind) in [(elsewhere, "wrong_partition"), (misnamed, "unreadable")] {
        assert_eq!(kinds(&log)[0], kind);
        assert_eq!(log.audit().rooms[&room("a")].verified, 3 + 6);
    }
}
