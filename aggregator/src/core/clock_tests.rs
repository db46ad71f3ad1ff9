//! After a clock that went back.

use super::*;

#[test]
fn after_the_clock_went_back_windows_still_come_out() {
    let mut core = rollup();
    fire(&mut core, 0, 1_000_000);
    // An hour back: the open window ends far in the future.
    assert_eq!(only(core.tick(100_000, true)).count, 1);
    record(&mut core, 1, 100_100, &[batch("r", &[("🔥", 1)])], 100_100);
    let closed = only(core.tick(102_050, true));
    assert_eq!((closed.window.start, closed.count, closed.total), (100_000, 1, 2));
}

#[test]
fn after_the_clock_went_back_silent_rooms_are_still_forgotten() {
    let mut core = rollup();
    fire(&mut core, 0, 1_000_000_000);
    while core.tick(1_000_006_000, true).is_some() {}
    // Days back.
    record(&mut core, 1, 100_000, &[batch("new", &[("🔥", 1)])], 100_000);
    let mut forgotten = Vec::new();
    for second in 100..240 {
        while let Some(closed) = core.tick(second * 1_000, true) {
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
    assert_eq!(only(core.tick(12_050, true)).slots, [1, 1, 1, 1]);
}
