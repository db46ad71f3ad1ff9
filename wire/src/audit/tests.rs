//! What the audit lets pass, and what it doesn't.

use super::*;
use crate::{Batch, COUNT_MAX};

fn room(name: &str) -> RoomName {
    name.parse().unwrap()
}

/// The aggregate of one room in one window; all of one reaction.
fn aggregate(name: &str, seq: u64, count: u64, total: u64, from: u64, to: u64) -> Aggregate {
    let counts = |n: u64| if n == 0 { Counts::new() } else { [("a".parse().unwrap(), n)].into() };
    Aggregate {
        v: crate::FORMAT_VERSION,
        room: room(name),
        seq,
        since: 1_000,
        window: Window { start: 1_000 * to, end: 1_000 * to + 1_000 },
        count,
        counts: counts(count),
        others: 0,
        slots: vec![count],
        late: 0,
        skewed: 0,
        total,
        totals: counts(total),
        others_total: 0,
        carried: 0,
        source: Source { partition: 0, from, to },
    }
}

fn findings(history: &[Aggregate]) -> Vec<String> {
    audited(Auditor::of_whole_history(), history)
}

fn audited(mut auditor: Auditor, history: &[Aggregate]) -> Vec<String> {
    history.iter().for_each(|aggregate| auditor.aggregate(0, aggregate));
    auditor.report().findings.iter().map(ToString::to_string).collect()
}

fn record(auditor: &mut Auditor, offset: u64, name: &str, count: u64) {
    let batch = Batch::new(room(name), [("a".parse().unwrap(), count)].into()).unwrap();
    auditor.record(0, offset, &batch.encode());
}

#[test]
fn a_history_in_which_everything_chains_is_clean_and_summed_up() {
    let mut auditor = Auditor::of_whole_history();
    for aggregate in [
        aggregate("a", 1, 5, 5, 0, 2),
        aggregate("b", 1, 1, 1, 0, 2),
        aggregate("b", 2, 3, 4, 2, 9),
        aggregate("a", 2, 0, 5, 2, 9),
    ] {
        auditor.aggregate(0, &aggregate);
    }
    auditor.tombstone(0, &room("a"));
    auditor.aggregate(0, &Aggregate { since: 9_000, late: 2, skewed: 1, ..aggregate("a", 1, 7, 7, 9, 10) });
    let report = auditor.report();
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!((report.windows, report.compared, report.uncounted), (3, 0, 0));
    assert_eq!(report.cuts, [(0, 10)].into());
    let a = RoomSums {
        windows: 3,
        counted: 12,
        late: 2,
        skewed: 1,
        at_rest: false,
        total: 7,
        forgotten: 1,
        ..RoomSums::default()
    };
    assert_eq!(report.rooms[&room("a")], a);
    assert_eq!(report.rooms[&room("b")].counted, 4);
}

#[test]
fn records_that_no_window_has_are_a_gap() {
    let history = [aggregate("a", 1, 5, 5, 1, 2), aggregate("a", 2, 5, 10, 4, 5)];
    let gaps = [
        "partition 0: the records 0 to 1 are in no window",
        "partition 0: the records 2 to 4 are in no window",
    ];
    assert_eq!(findings(&history), gaps);
}

#[test]
fn records_that_two_windows_have_are_an_overlap() {
    let history = [aggregate("a", 1, 5, 5, 0, 4), aggregate("a", 2, 5, 10, 2, 5)];
    let overlap = ["partition 0: the records 2 to 4 are in two windows"];
    assert_eq!(findings(&history), overlap);
    // Those of the second window can't be compared any more.
    let mut auditor = Auditor::of_whole_history();
    [(0, 2), (2, 3), (4, 2)].into_iter().for_each(|(offset, n)| record(&mut auditor, offset, "a", n));
    assert_eq!(audited(auditor, &history), overlap);
}

#[test]
fn a_window_that_is_given_twice_is_seen() {
    let history = [aggregate("a", 1, 5, 5, 0, 4), aggregate("a", 1, 5, 5, 0, 4)];
    assert_eq!(findings(&history), ["room a: two aggregates of one window, records 0 to 4"]);
}

#[test]
fn seq_since_and_totals_go_on_within_a_life() {
    let first = || aggregate("a", 1, 5, 5, 0, 4);
    let second = || aggregate("a", 2, 3, 8, 4, 6);
    let of_b = Counts::from([("b".parse().unwrap(), 8)]);
    for (second, finding) in [
        (Aggregate { seq: 3, ..second() }, "room a: seq 3, expected 2"),
        (Aggregate { since: 7, ..second() }, "room a: since 7, expected 1000"),
        (aggregate("a", 2, 3, 4, 4, 6), "room a: total 4 after 5"),
        (aggregate("a", 2, 3, 9, 4, 6), "room a: total 9, expected 8"),
        (
            Aggregate { totals: of_b, counts: Counts::new(), count: 0, slots: vec![], ..second() },
            "room a: total 8, expected 5",
        ),
    ] {
        assert_eq!(findings(&[first(), second]), [finding]);
    }
    let swapped = Aggregate {
        counts: [("b".parse().unwrap(), 3)].into(),
        totals: [("b".parse().unwrap(), 8)].into(),
        ..second()
    };
    assert_eq!(findings(&[first(), swapped]), ["room a: the totals of its reactions don't add up"]);
    let unnamed =
        Aggregate { counts: Counts::new(), others: 3, others_total: 3, totals: first().totals, ..second() };
    assert_eq!(findings(&[first(), unnamed.clone()]), [""; 0]);
    let moved = Aggregate { others_total: 4, totals: [("a".parse().unwrap(), 4)].into(), ..unnamed };
    assert_eq!(findings(&[first(), moved]), ["room a: the totals of its reactions don't add up"]);
}

#[test]
fn a_life_begins_with_seq_1_and_ends_at_rest() {
    assert_eq!(findings(&[aggregate("a", 2, 5, 5, 0, 4)]), ["room a: seq 2, expected 1"]);
    assert_eq!(findings(&[aggregate("a", 1, 5, 6, 0, 4)]), ["room a: total 6, expected 5"]);
    let mut auditor = Auditor::of_whole_history();
    auditor.aggregate(0, &aggregate("a", 1, 5, 5, 0, 4));
    auditor.tombstone(0, &room("a"));
    assert_eq!(auditor.report().findings, [Finding::ForgottenWhileBusy { room: room("a") }]);
}

#[test]
fn aggregates_stand_where_they_say_and_agree_with_themselves() {
    let mut auditor = Auditor::of_whole_history();
    auditor.aggregate(1, &Aggregate { late: 6, ..aggregate("a", 1, 5, 5, 0, 4) });
    let findings: Vec<_> = auditor.report().findings.iter().map(ToString::to_string).collect();
    let expected = [
        "room a, seq 1: more late and skewed than counted",
        "room a: an aggregate in partition 1 names partition 0",
    ];
    assert_eq!(findings, expected);
}

#[test]
fn what_readers_would_pass_over_is_reported() {
    let mut auditor = Auditor::of_whole_history();
    let value = aggregate("a", 1, 5, 5, 0, 4).encode();
    auditor.committed(0, &room("a"), Some(b"{}"));
    auditor.committed(0, &room("b"), Some(&value));
    auditor.committed(0, &room("a"), Some(&value));
    auditor.committed(0, &room("b"), None);
    let report = auditor.report();
    let findings: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(findings[0].starts_with("room a: unreadable: not a valid record"), "{findings:?}");
    assert_eq!(findings[1], "room b: unreadable: it is of room a");
    assert_eq!(report.rooms[&room("a")].counted, 5);
}

#[test]
fn windows_count_what_their_records_hold() {
    let audit = |count: u64| {
        let mut auditor = Auditor::of_whole_history();
        record(&mut auditor, 0, "a", 2);
        auditor.record(0, 1, b"not a batch");
        record(&mut auditor, 2, "a", 3);
        record(&mut auditor, 3, "b", 4);
        auditor.aggregate(0, &aggregate("a", 1, count, count, 0, 3));
        auditor.report()
    };
    let report = audit(5);
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!((report.windows, report.compared, report.uncounted), (1, 1, 4));
    for wrong in [4, 6] {
        let source = Source { partition: 0, from: 0, to: 3 };
        let finding = Finding::Miscounted { room: room("a"), records: source, counted: wrong, accepted: 5 };
        assert_eq!(audit(wrong).findings, [finding]);
    }
}

#[test]
fn a_room_that_its_window_leaves_out_is_miscounted() {
    let mut auditor = Auditor::of_whole_history();
    record(&mut auditor, 0, "a", 2);
    record(&mut auditor, 1, "b", 3);
    auditor.aggregate(0, &aggregate("a", 1, 2, 2, 0, 2));
    let source = Source { partition: 0, from: 0, to: 2 };
    assert_eq!(
        auditor.report().findings,
        [Finding::Miscounted { room: room("b"), records: source, counted: 0, accepted: 3 }]
    );
}

#[test]
fn a_room_of_which_its_window_holds_no_record_is_miscounted() {
    let mut auditor = Auditor::of_whole_history();
    record(&mut auditor, 0, "a", 2);
    let history = [aggregate("a", 1, 2, 2, 0, 1), aggregate("b", 1, 3, 3, 0, 1)];
    assert_eq!(audited(auditor, &history), ["room b: 3 counted, 0 in the records 0 to 1"]);
}

#[test]
fn batches_that_would_fill_a_room_are_expected_to_be_passed_over() {
    let mut auditor = Auditor::of_whole_history();
    // 1,024 x (2^53 - 1) + 1,023 = 2^63 - 1.
    (0..1_024).for_each(|offset| record(&mut auditor, offset, "a", COUNT_MAX));
    record(&mut auditor, 1_024, "a", 1_022);
    record(&mut auditor, 1_025, "a", 2);
    record(&mut auditor, 1_026, "a", 1);
    auditor.aggregate(0, &aggregate("a", 1, TOTAL_MAX, TOTAL_MAX, 0, 1_027));
    assert!(auditor.report().is_clean());
}

#[test]
fn windows_with_records_that_nobody_showed_are_not_compared() {
    let mut auditor = Auditor::of_whole_history();
    record(&mut auditor, 3, "a", 2);
    auditor.aggregate(0, &aggregate("a", 1, 9, 9, 0, 4));
    let report = auditor.report();
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!((report.windows, report.compared, report.uncounted), (1, 0, 0));
}

#[test]
fn a_report_is_bounded() {
    let mut auditor = Auditor::of_whole_history();
    (0..1_500).for_each(|_| auditor.aggregate(0, &aggregate("a", 9, 1, 1, 0, 1)));
    let report = auditor.report();
    assert_eq!(report.findings.len() as u64, 1_000);
    assert!(report.more_findings >= 500, "{}", report.more_findings);
}

#[test]
fn what_partitions_hold_adds_up_and_one_with_a_finding_is_enough() {
    let clean = Report {
        windows: 1,
        compared: 2,
        uncounted: 3,
        uncounted_since_ms: Some(7),
        holes: 4,
        poison: 5,
        foreign: 8,
        foreign_reactions: 9,
        more_findings: 6,
        ..Report::default()
    };
    let mut sum = clean.clone();
    sum.merge(Report { uncounted_since_ms: Some(8), ..clean });
    assert!(sum.is_clean());
    assert_eq!((sum.windows, sum.compared, sum.uncounted), (2, 4, 6));
    assert_eq!((sum.holes, sum.poison, sum.more_findings), (8, 10, 12));
    assert_eq!((sum.foreign, sum.foreign_reactions), (16, 18));
    assert_eq!(sum.uncounted_since_ms, Some(7));

    let mut auditor = Auditor::of_whole_history();
    auditor.aggregate(0, &aggregate("a", 9, 1, 1, 0, 1));
    sum.merge(auditor.report());
    assert!(!sum.is_clean());
}
