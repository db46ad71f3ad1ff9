//! When an audit is clean, and what it says when it is not.

use super::*;
use crate::viewers::audience::Audience;
use wire::Window;

fn counts(of: &[(&str, u64)]) -> Counts {
    of.iter().map(|(reaction, n)| (reaction.parse().unwrap(), *n)).collect()
}

/// A rest frame with these totals.
fn frame(since: u64, total: u64, totals: &[(&str, u64)]) -> Frame {
    Frame {
        v: wire::FORMAT_VERSION,
        room: "r".parse().unwrap(),
        seq: 9,
        since,
        window: Window { start: since, end: since + 100 },
        count: 0,
        counts: Counts::new(),
        others: 0,
        slots: vec![0],
        total,
        totals: counts(totals),
        others_total: 0,
        viewers: None,
        state: Default::default(),
    }
}

fn expected(accepted: &[(&str, u64)], unknown: &[(&str, u64)]) -> Expected {
    Expected {
        baseline: None,
        accepted: accepted.iter().map(|(_, n)| n).sum(),
        accepted_counts: counts(accepted),
        unknown_counts: counts(unknown),
        odd_answers: 0,
    }
}

fn judged(expected: &Expected, viewers: &[Option<&Frame>], snapshot: Option<&Frame>) -> Verdict {
    let viewers: Vec<_> = viewers
        .iter()
        .enumerate()
        .map(|(i, frame)| Witness { name: format!("mqtt {i}"), ..Witness::snapshot(frame.cloned()) })
        .collect();
    judge(expected, &viewers, Ok(&Witness::snapshot(snapshot.cloned())))
}

#[test]
fn clean_when_everybody_counts_what_was_accepted() {
    let seen = frame(5, 100, &[("a", 60), ("b", 40)]);
    let verdict = judged(&expected(&[("a", 60), ("b", 40)], &[]), &[Some(&seen), Some(&seen)], Some(&seen));
    assert_eq!(verdict.findings, [""; 0]);
    assert!(verdict.clean && verdict.snapshot_right);
    assert_eq!((verdict.counted, verdict.viewers_right, verdict.viewers), (Some(100), 2, 2));
    assert_eq!(verdict.remarks, [""; 0]);
}

#[test]
fn reactions_among_the_others_count_in_the_total_and_are_not_checked_one_by_one() {
    let seen = Frame { others_total: 40, ..frame(5, 100, &[("a", 60)]) };
    let verdict = judged(&expected(&[("a", 60), ("b", 40)], &[]), &[Some(&seen)], Some(&seen));
    assert_eq!((verdict.clean, verdict.counted), (true, Some(100)), "{:?}", verdict.findings);
    assert_eq!(verdict.remarks, ["not checked one by one, frames don't show them: b"]);
    let verdict = judged(&expected(&[("a", 60), ("b", 41)], &[]), &[Some(&seen)], Some(&seen));
    assert!(!verdict.clean);
}

#[test]
fn what_was_there_before_is_subtracted() {
    let seen = frame(5, 100, &[("a", 60), ("b", 40)]);
    let mut expected = expected(&[("a", 50)], &[]);
    expected.baseline = Some(frame(5, 50, &[("a", 10), ("b", 40)]));
    let verdict = judged(&expected, &[Some(&seen)], Some(&seen));
    assert_eq!((verdict.clean, verdict.counted, verdict.baseline), (true, Some(50), 50));
}

#[test]
fn a_baseline_of_an_earlier_life_is_not_subtracted() {
    let seen = frame(9_000, 50, &[("a", 50)]);
    let mut expected = expected(&[("a", 50)], &[]);
    expected.baseline = Some(frame(5, 700, &[("a", 700)]));
    assert!(judged(&expected, &[Some(&seen)], Some(&seen)).clean);
}

#[test]
fn one_too_few_is_found() {
    let (right, wrong) = (frame(5, 100, &[("a", 100)]), frame(5, 99, &[("a", 99)]));
    let verdict = judged(&expected(&[("a", 100)], &[]), &[Some(&right), Some(&wrong)], Some(&right));
    assert!(!verdict.clean);
    assert_eq!(
        verdict.findings,
        ["reactions: mqtt 1 counted 99, 1 too few", "a: mqtt 1 counted 99, 1 too few"]
    );
    assert_eq!((verdict.viewers_right, verdict.counted, verdict.snapshot_right), (1, None, true));
}

#[test]
fn one_too_many_is_found_and_a_wrong_snapshot_too() {
    let seen = frame(5, 101, &[("a", 101)]);
    let verdict = judged(&expected(&[("a", 100)], &[]), &[Some(&seen)], Some(&seen));
    assert_eq!(verdict.findings[0], "reactions: mqtt 0, snapshot counted 101, 1 too many");
    assert!(!verdict.clean && !verdict.snapshot_right);
}

#[test]
fn reactions_that_were_swapped_are_found_though_the_total_is_right() {
    let seen = frame(5, 100, &[("a", 61), ("b", 39)]);
    let verdict = judged(&expected(&[("a", 60), ("b", 40)], &[]), &[Some(&seen)], Some(&seen));
    assert_eq!(verdict.viewers_right, 1);
    assert_eq!(
        verdict.findings,
        ["a: mqtt 0, snapshot counted 61, 1 too many", "b: mqtt 0, snapshot counted 39, 1 too few"]
    );
}

#[test]
fn a_viewer_that_saw_nothing_is_found() {
    let seen = frame(5, 100, &[("a", 100)]);
    let verdict = judged(&expected(&[("a", 100)], &[]), &[None, Some(&seen)], Some(&seen));
    assert_eq!(verdict.findings, ["reactions: mqtt 0 counted 0, 100 too few"]);
}

#[test]
fn a_viewer_that_never_connected_is_no_witness_and_the_audit_is_not_clean() {
    let seen = frame(5, 100, &[("a", 100)]);
    let full = "too many open files".to_owned();
    let outside = Witness { name: "mqtt 1".to_owned(), kept_out: Some(full), ..Witness::snapshot(None) };
    let viewers = [Witness::snapshot(Some(seen.clone())), outside];
    let verdict = judge(&expected(&[("a", 100)], &[]), &viewers, Ok(&Witness::snapshot(Some(seen))));
    assert_eq!(verdict.findings, ["never connected: mqtt 1; the first: too many open files"]);
    assert_eq!((verdict.clean, verdict.counted), (false, Some(100)));
    assert_eq!((verdict.viewers_right, verdict.viewers), (1, 2));
    // Nor has it seen that nothing came.
    let verdict = judge(&expected(&[], &[]), &viewers[1..], Ok(&Witness::snapshot(None)));
    assert_eq!((verdict.viewers_right, verdict.viewers), (0, 1));
}

#[test]
fn a_viewer_is_a_witness_once_it_came_in() {
    let mut audience = Audience::new("r".parse().unwrap(), 3);
    audience.connect(0, 0);
    for index in [0, 1] {
        audience.disconnect(index, "refused".to_owned());
    }
    let why = |index: usize| Witness::viewer("mqtt", index, &audience.seats()[index]).kept_out;
    assert_eq!([0, 1, 2].map(why), [None, Some("refused".to_owned()), Some("no answer".to_owned())]);
}

#[test]
fn a_snapshot_that_could_not_be_read_counts_nothing() {
    let seen = frame(5, 100, &[("a", 100)]);
    let away = "cannot connect".to_owned();
    let viewers = [Witness::snapshot(Some(seen))];
    let verdict = judge(&expected(&[("a", 100)], &[]), &viewers, Err(&away));
    assert_eq!(verdict.findings, ["no snapshot: cannot connect"]);
    assert_eq!((verdict.clean, verdict.snapshot_right, verdict.counted), (false, false, Some(100)));
    let alone = judge(&expected(&[("a", 100)], &[]), &[], Err(&away));
    assert_eq!((alone.clean, alone.counted), (false, None), "nobody counted anything, not even 0");
}

#[test]
fn unknown_reactions_may_count_or_not() {
    let expected = expected(&[("a", 100)], &[("a", 10)]);
    for total in [100, 104, 110] {
        let seen = frame(5, total, &[("a", total)]);
        let verdict = judged(&expected, &[Some(&seen)], Some(&seen));
        assert_eq!((verdict.clean, verdict.counted, verdict.unknown), (true, Some(total), 10));
    }
    for total in [99, 111] {
        let seen = frame(5, total, &[("a", total)]);
        assert!(!judged(&expected, &[Some(&seen)], Some(&seen)).clean, "{total}");
    }
}

#[test]
fn with_unknown_reactions_everybody_must_still_agree() {
    let (one, other) = (frame(5, 104, &[("a", 104)]), frame(5, 105, &[("a", 105)]));
    let verdict = judged(&expected(&[("a", 100)], &[("a", 10)]), &[Some(&one), Some(&other)], Some(&other));
    assert_eq!(
        verdict.findings[0],
        "reactions: the witnesses disagree: mqtt 0 counted 104; mqtt 1, snapshot counted 105"
    );
}

#[test]
fn a_reaction_below_the_cut_is_remarked_and_not_judged() {
    // 30 of the total are of reactions that the frame doesn't show.
    let seen = frame(5, 100, &[("a", 70)]);
    let verdict = judged(&expected(&[("a", 70), ("b", 30)], &[]), &[Some(&seen)], Some(&seen));
    assert!(verdict.clean);
    assert_eq!(verdict.remarks, ["not checked one by one, frames don't show them: b"]);
}

#[test]
fn a_reaction_missing_from_a_frame_that_shows_all_was_lost() {
    let seen = frame(5, 100, &[("a", 100)]);
    let verdict = judged(&expected(&[("a", 70), ("b", 30)], &[]), &[Some(&seen)], Some(&seen));
    assert_eq!(verdict.findings[1], "b: mqtt 0, snapshot counted 0, 30 too few");
}

#[test]
fn broken_promises_odd_answers_and_an_empty_run_are_not_clean() {
    let seen = frame(5, 10, &[("a", 10)]);
    let mut expected = expected(&[("a", 10)], &[]);
    let viewer = Witness {
        broken: 2,
        first_broken: Some("went back".to_owned()),
        ..Witness::snapshot(Some(seen.clone()))
    };
    let verdict = judge(&expected, &[viewer], Ok(&Witness::snapshot(Some(seen.clone()))));
    assert_eq!(verdict.findings, ["2 frames that break a promise, seen by snapshot; the first: went back"]);
    expected.odd_answers = 1;
    assert_eq!(judged(&expected, &[], Some(&seen)).findings, ["1 answers of 202 don't say what was sent"]);
    let nothing = judged(&self::expected(&[], &[]), &[], None);
    assert!(nothing.findings[0].starts_with("nothing was accepted"));
}

#[test]
fn a_room_that_is_not_at_rest_is_remarked() {
    let seen = Frame { count: 3, ..frame(5, 10, &[("a", 10)]) };
    let verdict = judged(&expected(&[("a", 10)], &[]), &[Some(&seen)], Some(&seen));
    assert!(verdict.clean);
    assert!(verdict.remarks[0].contains("come to rest"));
}

#[test]
fn long_lists_of_names_are_cut() {
    assert_eq!(list(&["a", "b"]), "a, b");
    assert_eq!(list(&["a", "b", "c", "d", "e", "f", "g"]), "a, b, c, d, e and 2 more");
}
