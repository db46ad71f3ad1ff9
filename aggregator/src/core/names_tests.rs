//! Which reactions are counted by name.

use super::*;

fn by_name(counts: &wire::Counts) -> Vec<(String, u64)> {
    counts.iter().map(|(reaction, n)| (reaction.to_string(), *n)).collect()
}

/// Gives the core one record of one room, with reactions that count once.
fn react(core: &mut Rollup, offset: u64, room: &str, reactions: &[&str]) -> Tally {
    let counts: Vec<_> = reactions.iter().map(|reaction| (*reaction, 1)).collect();
    record(core, offset, 10_000, &[batch(room, &counts)], 10_000).1
}

#[test]
fn reactions_beyond_a_rooms_limit_of_distinct_ones_are_its_others() {
    let mut core = rollup();
    record(&mut core, 0, 10_000, &[batch("r", &[("a", 1), ("b", 1), ("c", 1)])], 10_000);
    let (_, taken) = record(&mut core, 1, 10_001, &[batch("r", &[("a", 1), ("d", 4), ("other", 5)])], 10_001);
    assert_eq!(taken, Tally { counted: 10, beyond_room: 9, ..Tally::default() });
    let first = only(core.tick_at(12_050, true));
    assert_eq!(by_name(&first.counts), [("a".into(), 2), ("b".into(), 1), ("c".to_owned(), 1)]);
    assert_eq!((first.counts == first.totals, first.others, first.others_total), (true, 9, 9));
    record(&mut core, 2, 12_100, &[batch("r", &[("a", 1), ("others", 2)])], 12_100);
    let second = only(core.tick_at(14_050, true));
    assert_eq!((second.count, second.others, second.total, second.others_total), (3, 2, 16, 11));
    assert_eq!(core.tick_at(14_050, true), None);
    let rest = only(core.tick_at(16_050, true));
    assert_eq!((rest.others, rest.others_total), (0, 11));
    // A new owner goes on from there.
    let mut after = Rollup::new(0, 1, 3, vec![rest], CONFIG);
    react(&mut after, 3, "r", &["e"]);
    assert_eq!(only(after.tick_at(18_050, true)).others_total, 12);
}

#[test]
fn the_names_of_the_overflow_are_ordinary_reactions() {
    let mut core = rollup();
    react(&mut core, 0, "r", &["other", "others"]);
    let closed = only(core.tick_at(12_050, true));
    assert_eq!(by_name(&closed.counts), [("other".to_owned(), 1), ("others".to_owned(), 1)]);
    assert_eq!((closed.others, closed.others_total), (0, 0));
}

#[test]
fn a_full_partition_names_no_more_reactions_than_a_few_in_each_room() {
    let config = Config { max_distinct: 20, max_distinct_per_room: 64, ..CONFIG };
    let mut core = Rollup::new(0, 2, 0, Vec::new(), config);
    let names: Vec<_> = (0..30).map(|n| format!("n{n:02}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    // Its share is 10.
    assert_eq!(react(&mut core, 0, "greedy", &names).beyond_partition, 20);
    assert_eq!(core.distinct_count(), 10);
    assert_eq!(react(&mut core, 1, "final", &names[..9]).beyond_partition, 1);
    assert_eq!(core.distinct_count(), 18);
    assert_eq!(react(&mut core, 2, "greedy", &names[..12]).beyond_partition, 2, "names that were given stay");
    core.configure(Config { max_distinct: 100, ..config });
    assert_eq!(react(&mut core, 3, "greedy", &names).beyond_partition, 0);
}

#[test]
fn the_names_of_a_forgotten_room_are_free_again() {
    let config = Config { max_distinct: 3, max_distinct_per_room: 64, ..CONFIG };
    let mut core = Rollup::new(0, 1, 0, Vec::new(), config);
    react(&mut core, 0, "r", &["a", "b", "c"]);
    for now_ms in [12_050, 14_050, 200_000] {
        while core.tick_at(now_ms, true).is_some() {}
    }
    assert_eq!((core.room_count(), core.distinct_count()), (0, 0));
}

#[test]
fn a_new_owner_knows_how_many_names_there_are() {
    let mut before = rollup();
    react(&mut before, 0, "r", &["a", "b"]);
    let newest = before.tick_at(12_050, true).unwrap().aggregates();
    assert_eq!(Rollup::new(0, 1, 1, newest, CONFIG).distinct_count(), 2);
}
