//! The largest total.

use super::*;

/// The newest aggregate of a room that can count one more.
fn nearly_full(room: &str) -> Aggregate {
    let mut core = rollup();
    record(&mut core, 0, 5_000, &[batch(room, &[("a", 1)])], 5_000);
    while core.tick_at(6_050, true).is_some() {}
    let mut rest = only(core.tick_at(8_050, true));
    rest.total = wire::TOTAL_MAX - 1;
    rest.totals = [("a".parse().unwrap(), rest.total)].into();
    rest
}

#[test]
fn a_total_that_javascript_reads_rounded_is_counted_exactly() {
    let mut core = rollup();
    record(&mut core, 0, 10_000, &[batch("r", &[("a", wire::COUNT_MAX)])], 10_000);
    let (_, tally) = record(&mut core, 1, 10_000, &[batch("r", &[("a", 2)])], 10_000);
    assert_eq!((tally, core.position()), (Tally { counted: 2, ..Tally::default() }, 2));
    let closed = only(core.tick_at(12_050, true));
    assert_eq!((closed.total, closed.check()), (wire::COUNT_MAX + 2, Ok(())));
}

#[test]
fn a_batch_that_would_pass_the_limit_says_nothing_against_the_others_of_its_record() {
    let mut core = Rollup::new(0, 1, 1, vec![nearly_full("full")], CONFIG);
    let batches = [
        batch("full", &[("a", 2)]),
        batch("r", &[("a", 3)]),
        batch("full", &[("a", 1)]),
        batch("full", &[("a", 1)]),
    ];
    let (_, tally) = record(&mut core, 1, 10_000, &batches, 10_000);
    assert_eq!(tally, Tally { counted: 4, overflows: 2, ..Tally::default() });
    let totals: Vec<_> = core.tick_at(12_050, true).unwrap().aggregates().iter().map(|a| a.total).collect();
    assert_eq!(totals, [wire::TOTAL_MAX, 3]);
}

#[test]
fn a_record_in_which_nothing_counts_is_passed_over_and_closes_no_window() {
    let mut core = Rollup::new(0, 1, 0, vec![nearly_full("r")], CONFIG);
    record(&mut core, 0, 10_000, &[batch("r", &[("a", 1)])], 10_000);
    let full = [batch("r", &[("a", 1)])];
    assert_eq!(record(&mut core, 1, 12_000, &full, 12_000).0, None);
    assert_eq!(record(&mut core, 2, 12_000, &[], 12_000), (None, Tally::default()));
    assert_eq!(core.position(), 3);
    assert_eq!(only(core.tick_at(12_050, true)).source, Source { partition: 0, from: 0, to: 3 });
    assert_eq!(core.tick_at(12_050, true), None);
    assert_eq!(only(core.tick_at(14_050, true)).count, 0, "it is at rest");
    assert_eq!(record(&mut core, 3, 20_000, &full, 20_000).0, None);
    assert_eq!(core.tick_at(30_000, true), None, "nothing opened a window");
}
