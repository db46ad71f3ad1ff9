//! After a clock that went back.

use super::*;

fn now(wall_ms: u64, age_ms: u64) -> Now {
    Now { wall_ms, age_ms }
}

#[test]
fn after_the_clock_went_back_windows_still_come_out() {
    let mut core = rollup();
    fire(&mut core, 0, 1_000_000);
    // An hour back: the open window ends far in the future.
    assert_eq!(only(core.tick_at(100_000, true)).count, 1);
    record(&mut core, 1, 100_100, &[batch("r", &[("🔥", 1)])], 100_100);
    let closed = only(core.tick_at(102_050, true));
    assert_eq!((closed.window.start, closed.count, closed.total), (100_000, 1, 2));
}

#[test]
fn after_the_clock_went_back_silent_rooms_are_still_forgotten() {
    let mut core = rollup();
    fire(&mut core, 0, 1_000_000_000);
    while core.tick_at(1_000_006_000, true).is_some() {}
    // Days back.
    record(&mut core, 1, 100_000, &[batch("new", &[("🔥", 1)])], 100_000);
    let mut forgotten = Vec::new();
    for second in 100..240 {
        while let Some(closed) = core.tick(now(second * 1_000, 1_000_000_000 + second * 1_000), true) {
            forgotten.extend(closed.forgotten());
        }
    }
    let mut names: Vec<_> = forgotten.iter().map(ToString::to_string).collect();
    names.sort();
    assert_eq!(names, ["new", "r"]);
}

#[test]
fn reactions_from_the_future_are_in_the_slot_in_which_they_were_read() {
    let mut core = rollup();
    // The log's clock stands still, until the time that it has seen is there again.
    for (offset, now_ms) in [(0, 10_000), (1, 10_600), (2, 11_200), (3, 11_900)] {
        record(&mut core, offset, 1_000_000, &[batch("r", &[("🔥", 1)])], now_ms);
    }
    assert_eq!(only(core.tick_at(12_050, true)).slots, [1, 1, 1, 1]);
}

/// Names of the rooms that ticks forget, when the clocks say these times.
fn forgotten(core: &mut Rollup, now_ms: u64, age_ms: u64) -> Vec<String> {
    let closed = std::iter::from_fn(|| core.tick(now(now_ms, age_ms), true));
    closed.flat_map(|closed| closed.forgotten()).map(|room| room.to_string()).collect()
}

#[test]
fn a_clock_that_jumps_ahead_forgets_no_room() {
    let mut core = rollup();
    fire(&mut core, 0, 10_000);
    for (now_ms, age_ms) in [(12_050, 2_050), (14_050, 4_050)] {
        assert_eq!(forgotten(&mut core, now_ms, age_ms), [""; 0]);
    }
    // A day ahead, and back.
    for (now_ms, age_ms) in [(86_414_050, 5_050), (86_500_000, 60_000), (74_000, 62_000)] {
        assert_eq!(forgotten(&mut core, now_ms, age_ms), [""; 0]);
    }
    assert_eq!(core.room_count(), 1);
    fire(&mut core, 1, 75_000);
    assert_eq!(only(core.tick(now(77_050, 63_000), true)).total, 2, "the total went on");
}

#[test]
fn a_clock_that_stays_ahead_ends_a_room_after_the_ttl_and_not_before() {
    let mut core = rollup();
    fire(&mut core, 0, 10_000);
    forgotten(&mut core, 12_050, 2_050);
    forgotten(&mut core, 14_050, 4_050);
    assert_eq!(forgotten(&mut core, 86_414_050, 62_049), [""; 0]);
    assert_eq!(forgotten(&mut core, 86_474_050, 122_050), ["r"]);
}

#[test]
fn after_a_restart_a_silent_room_stays_for_one_ttl_more() {
    let mut before = rollup();
    fire(&mut before, 0, 10_000);
    while before.tick_at(12_050, true).is_some() {}
    let rest = only(before.tick_at(14_050, true));
    let mut after = Rollup::new(0, 1, 1, vec![rest], CONFIG);
    assert_eq!(forgotten(&mut after, 10_000_000, 0), [""; 0]);
    assert_eq!(forgotten(&mut after, 10_059_999, 59_999), [""; 0]);
    assert_eq!(forgotten(&mut after, 10_120_000, 120_000), ["r"]);
}

#[test]
fn a_room_that_gets_reactions_is_kept_by_either_clock() {
    let mut core = rollup();
    for n in 0..20 {
        // The wall clock runs ten times as fast.
        let now_ms = 10_000 + n * 500_000;
        fire(&mut core, n, now_ms);
        for after_ms in [0, 2_050, 4_050, 200_000, 400_000] {
            assert_eq!(forgotten(&mut core, now_ms + after_ms, n * 50_000 + after_ms / 10), [""; 0]);
        }
    }
    assert_eq!(core.room_count(), 1);
}

#[test]
fn one_look_forgets_a_bounded_number_of_rooms_and_the_next_ones_go_on() {
    let config = Config { max_rooms: usize::MAX, ..CONFIG };
    let mut core = Rollup::new(0, 1, 0, Vec::new(), config);
    let all: Vec<_> = (0..FORGOTTEN_MAX + 5).map(|n| batch(&format!("r{n}"), &[("🔥", 1)])).collect();
    record(&mut core, 0, 10_000, &all, 10_000);
    for now_ms in [12_050, 14_050] {
        while core.tick_at(now_ms, true).is_some() {}
    }
    assert_eq!(forgotten(&mut core, 1_000_000, 1_000_000).len(), FORGOTTEN_MAX);
    assert_eq!(core.room_count(), 5);
    assert_eq!(forgotten(&mut core, 1_100_000, 1_100_000).len(), 5);
}
