//! What the audience counts, and which frames it calls broken.

use super::*;
use wire::{Counts, Window};

const SECOND_US: u64 = 1_000_000;

fn frame(since: u64, seq: u64, count: u64, total: u64) -> Frame {
    let counts: Counts = [("🔥".parse().unwrap(), count)].into();
    Frame {
        v: wire::FORMAT_VERSION,
        room: "r".parse().unwrap(),
        seq,
        since,
        window: Window { start: since + seq * 1_000 - 1_000, end: since + seq * 1_000 },
        count,
        counts,
        others: 0,
        slots: vec![count],
        total,
        totals: [("🔥".parse().unwrap(), total)].into(),
        others_total: 0,
        viewers: None,
        state: Default::default(),
    }
}

/// One viewer who is connected since the epoch and timed from the start.
fn audience() -> Audience {
    let mut audience = Audience::new("r".parse().unwrap(), 1);
    audience.timed_from_us = 0;
    audience.connect(0, 0);
    audience
}

fn show(audience: &mut Audience, frames: &[Frame]) {
    for frame in frames {
        audience.receive(0, &frame.encode(), frame.window.end * 1_000);
    }
}

#[test]
fn frames_that_follow_each_other_are_neither_skips_nor_broken() {
    let mut audience = audience();
    show(&mut audience, &[frame(0, 7, 2, 10), frame(0, 8, 5, 15), frame(0, 9, 0, 15)]);
    let seat = &audience.seats()[0];
    assert_eq!((seat.frames, seat.skips, seat.missed, seat.broken), (3, 0, 0, 0));
    assert_eq!(seat.last.as_ref().unwrap().total, 15);
}

#[test]
fn a_gap_is_a_skip_while_connected_and_missed_after_a_reconnect() {
    let mut audience = audience();
    show(&mut audience, &[frame(0, 1, 1, 1), frame(0, 4, 1, 9)]);
    audience.disconnect(0, "reset".to_owned());
    assert_eq!(audience.connected(), 0);
    audience.connect(0, 5 * SECOND_US);
    show(&mut audience, &[frame(0, 9, 3, 30), frame(0, 11, 1, 40)]);
    let seat = &audience.seats()[0];
    assert_eq!((seat.skips, seat.missed, seat.connects, seat.broken), (3, 4, 2, 0));
}

#[test]
fn the_same_snapshot_again_is_fine() {
    let mut audience = audience();
    show(&mut audience, &[frame(0, 3, 1, 9), frame(0, 3, 1, 9)]);
    assert_eq!(audience.seats()[0].broken, 0);
}

#[test]
fn a_new_life_starts_from_nothing() {
    let mut audience = audience();
    show(&mut audience, &[frame(0, 30, 1, 900), frame(90_000, 1, 4, 4), frame(90_000, 2, 1, 5)]);
    assert_eq!((audience.seats()[0].broken, audience.seats()[0].skips), (0, 0));
}

#[test]
fn each_broken_promise_is_counted_and_said() {
    for (frames, why) in [
        ([frame(0, 5, 1, 50), frame(0, 6, 0, 49)], "went back: seq 6 total 49 after seq 5 total 50"),
        ([frame(0, 5, 1, 50), frame(0, 4, 1, 50)], "went back"),
        ([frame(0, 5, 1, 50), frame(0, 5, 1, 51)], "two frames of one number"),
        ([frame(0, 5, 1, 50), frame(0, 6, 3, 54)], "seq 6 total 54 after seq 5 total 50 with a count of 3"),
        ([frame(90_000, 1, 4, 4), frame(0, 30, 1, 900)], "life that began at 0 came back"),
        ([frame(0, 30, 1, 900), frame(90_000, 1, 4, 5)], "with a count of 4"),
    ] {
        let mut audience = audience();
        show(&mut audience, &frames);
        let seat = &audience.seats()[0];
        assert_eq!(seat.broken, 1, "{why}");
        assert!(seat.first_broken.as_ref().unwrap().contains(why), "{:?}", seat.first_broken);
    }
}

#[test]
fn what_is_no_frame_of_the_room_is_broken() {
    let mut audience = audience();
    audience.receive(0, b"hello", 0);
    assert!(audience.seats()[0].first_broken.as_ref().unwrap().starts_with("no frame"));
    let other = Frame { room: "other".parse().unwrap(), ..frame(0, 1, 1, 1) };
    audience.receive(0, &other.encode(), 0);
    assert_eq!(audience.seats()[0].broken, 2);
    assert!(audience.seats()[0].last.is_none());
}

#[test]
fn the_delay_is_from_the_windows_end_to_the_receipt() {
    let mut audience = audience();
    audience.receive(0, &frame(0, 2, 1, 1).encode(), 2 * SECOND_US + 30_000);
    assert_eq!(audience.newest_delay_us, Some(30_000));
    assert_eq!(audience.delays.quantiles().unwrap().samples, 1);
    // Who came at the window's very end, and has it at once.
    audience.connect(0, 3 * SECOND_US);
    audience.receive(0, &frame(0, 3, 1, 2).encode(), 3 * SECOND_US);
    assert_eq!(audience.newest_delay_us, Some(0));
    assert_eq!(audience.delays.quantiles().unwrap().samples, 2);
    assert_eq!(audience.ahead, 0);
}

#[test]
fn snapshots_and_the_warm_up_are_not_timed() {
    let mut audience = audience();
    audience.connect(0, 3 * SECOND_US);
    audience.receive(0, &frame(0, 2, 1, 1).encode(), 9 * SECOND_US);
    audience.timed_from_us = 8 * SECOND_US;
    audience.receive(0, &frame(0, 7, 1, 9).encode(), 9 * SECOND_US);
    assert_eq!(audience.delays.quantiles(), None);
    assert_eq!(audience.seats()[0].frames, 2);
}

#[test]
fn a_frame_from_the_future_is_counted_as_such() {
    let mut audience = audience();
    audience.receive(0, &frame(0, 2, 1, 1).encode(), SECOND_US);
    assert_eq!((audience.ahead, audience.newest_delay_us), (1, Some(0)));
}
