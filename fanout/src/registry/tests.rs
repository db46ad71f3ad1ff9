//! What the registry promises, under every order of events.

use super::*;
use crate::tests::harness::aggregate;
use proptest::{collection::vec, prelude::*};
use std::net::Ipv4Addr;
use wire::Aggregate;

const LIMITS: Limits = Limits { max_viewers: 3, max_viewers_per_address: 2, max_rooms_watched: 2 };

fn registry() -> Arc<Registry> {
    Registry::new(Arc::new(Meters::new()))
}

fn frame(room: &str, since: u64, seq: u64) -> Arc<Encoded> {
    Arc::new(Encoded::of(&Aggregate { since, ..aggregate(room, seq) }, 10))
}

fn watch(registry: &Arc<Registry>, room: &str) -> Result<Watch, Full> {
    registry.watch(&room.parse().unwrap(), LIMITS)
}

fn etag(shown: &Shown) -> String {
    shown.as_ref().map_or_else(String::new, |frame| frame.etag())
}

#[test]
fn who_watches_sees_only_the_newest_frame_however_many_came() {
    let registry = registry();
    let mut watch = watch(&registry, "r").unwrap();
    for seq in 1..=100 {
        assert_eq!(registry.publish(&frame("r", 5, seq)), Published::Watched);
    }
    assert!(watch.shown.has_changed().unwrap());
    assert_eq!(etag(&watch.shown.borrow_and_update()), "W/\"5-100\"");
    assert!(!watch.shown.has_changed().unwrap());
}

#[test]
fn what_is_not_newer_is_ignored_and_wakes_nobody() {
    let registry = registry();
    let mut watch = watch(&registry, "r").unwrap();
    assert_eq!(registry.publish(&frame("r", 5, 2)), Published::Watched);
    watch.shown.mark_unchanged();
    for (since, seq) in [(5, 2), (5, 1), (4, 9)] {
        assert_eq!(registry.publish(&frame("r", since, seq)), Published::Stale);
    }
    assert!(!watch.shown.has_changed().unwrap());
    assert_eq!(registry.publish(&frame("r", 6, 1)), Published::Watched, "a new life");
}

#[test]
fn a_forgotten_room_shows_nothing_and_who_watches_it_sees_its_next_life() {
    let registry = registry();
    let watch = watch(&registry, "r").unwrap();
    registry.publish(&frame("r", 5, 9));
    assert!(registry.forget(&watch.room));
    assert!(!registry.forget(&watch.room), "already forgotten");
    assert!(registry.snapshot(&watch.room).is_none());
    assert_eq!(registry.publish(&frame("r", 6, 1)), Published::Watched);
    assert_eq!(etag(&watch.shown.borrow()), "W/\"6-1\"");
}

#[test]
fn rooms_with_neither_frame_nor_viewer_leave() {
    let registry = registry();
    drop(watch(&registry, "watched").unwrap());
    assert_eq!(registry.rooms.len(), 0);
    let both = watch(&registry, "both").unwrap();
    registry.publish(&frame("both", 5, 1));
    registry.forget(&both.room);
    assert_eq!(registry.rooms.len(), 1);
    drop(both);
    assert_eq!(registry.rooms.len(), 0);
    registry.publish(&frame("shown", 5, 1));
    drop(watch(&registry, "shown").unwrap());
    assert_eq!(registry.rooms_shown(), ["shown".parse().unwrap()]);
    registry.forget(&"shown".parse().unwrap());
    assert_eq!(registry.rooms.len(), 0);
}

#[test]
fn a_room_is_watched_while_somebody_watches_it_or_all() {
    let registry = registry();
    let mut seqs = 1..;
    let mut publish = || registry.publish(&frame("r", 5, seqs.next().unwrap()));
    assert_eq!(publish(), Published::Unwatched);
    let one = watch(&registry, "r").unwrap();
    assert_eq!(publish(), Published::Watched);
    drop(one);
    assert_eq!(publish(), Published::Unwatched);
    let all = registry.watch_all();
    assert_eq!(publish(), Published::Watched);
    drop(all);
    assert_eq!(publish(), Published::Unwatched);
}

#[test]
fn who_comes_to_watch_is_shown_what_the_room_shows() {
    let registry = registry();
    registry.publish(&frame("r", 5, 1));
    let first = watch(&registry, "r").unwrap();
    assert_eq!(etag(&first.shown.borrow()), "W/\"5-1\"");
    registry.publish(&frame("r", 5, 2));
    assert_eq!(etag(&watch(&registry, "r").unwrap().shown.borrow()), "W/\"5-2\"");
    drop(first);
    registry.publish(&frame("r", 5, 3));
    assert_eq!(etag(&watch(&registry, "r").unwrap().shown.borrow()), "W/\"5-3\"");
}

#[test]
fn empty_rooms_that_are_watched_have_a_bound_and_their_places_come_back() {
    let registry = registry();
    let (a, _b) = (watch(&registry, "a").unwrap(), watch(&registry, "b").unwrap());
    assert_eq!(watch(&registry, "c").unwrap_err(), Full::Rooms);
    let again = watch(&registry, "a").unwrap();
    drop(a);
    assert_eq!(watch(&registry, "c").unwrap_err(), Full::Rooms, "a is still watched");
    drop(again);
    assert!(watch(&registry, "c").is_ok(), "a was left by all");
}

#[test]
fn rooms_that_show_something_do_not_count() {
    let registry = registry();
    let _strangers = [watch(&registry, "x").unwrap(), watch(&registry, "y").unwrap()];
    registry.publish(&frame("final", 5, 1));
    let _final = watch(&registry, "final").expect("it shows something");
    assert_eq!(watch(&registry, "z").unwrap_err(), Full::Rooms);
    registry.publish(&frame("x", 5, 1));
    let z = watch(&registry, "z").expect("x shows something now");
    registry.forget(&"x".parse().unwrap());
    drop(z);
    assert_eq!(watch(&registry, "z").unwrap_err(), Full::Rooms, "x counts again");
}

#[test]
fn rooms_that_the_configuration_names_do_not_count() {
    let names = |names: &[&str]| Arc::new(names.iter().map(|name| name.parse().unwrap()).collect());
    let named = watch::Sender::new(names(&["final"]));
    let registry = Registry::with_named(Arc::new(Meters::new()), named.subscribe(), Arc::default());
    let _strangers = [watch(&registry, "x").unwrap(), watch(&registry, "y").unwrap()];
    let waits = watch(&registry, "final").expect("it is expected");
    assert_eq!(watch(&registry, "z").unwrap_err(), Full::Rooms);
    registry.publish(&frame("final", 5, 1));
    registry.forget(&waits.room);
    assert_eq!(registry.empty_rooms_watched.load(Ordering::Relaxed), 2);
    named.send_replace(names(&["x", "z"]));
    let _z = watch(&registry, "z").expect("it is named now");
    drop(waits);
    assert_eq!(registry.empty_rooms_watched.load(Ordering::Relaxed), 2, "x counts until it is left");
}

/// Watched rooms that show nothing, counted one by one.
fn recount(registry: &Registry) -> usize {
    registry.rooms.iter().filter(|room| room.watched.is_some() && room.shown.is_none()).count()
}

/// Does one thing to one of eight rooms, as `choice` says.
fn step(registry: &Arc<Registry>, watches: &mut Vec<Watch>, choice: u8, seq: u64) {
    let name = format!("r{}", choice & 7);
    match choice >> 3 & 3 {
        0 => drop(registry.publish(&frame(&name, 5, seq))),
        1 => drop(registry.forget(&name.parse().unwrap())),
        2 => watches.extend(watch(registry, &name)),
        _ if watches.is_empty() => {}
        _ => drop(watches.swap_remove(usize::from(choice) % watches.len())),
    }
}

proptest! {
    #[test]
    fn the_count_of_empty_rooms_is_right_whatever_happens(choices in vec(any::<u8>(), 0..200)) {
        let (registry, mut watches) = (registry(), Vec::new());
        for (seq, choice) in (1..).zip(choices) {
            step(&registry, &mut watches, choice, seq);
            prop_assert_eq!(registry.empty_rooms_watched.load(Ordering::Relaxed), recount(&registry));
        }
        drop(watches);
        prop_assert_eq!(registry.empty_rooms_watched.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn the_count_of_empty_rooms_is_right_when_threads_meet() {
    let registry = registry();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let registry = &registry;
            scope.spawn(move || {
                let (mut watches, mut dice) = (Vec::new(), thread + 1);
                for seq in 1..2_000 {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(thread | 1);
                    step(registry, &mut watches, (dice >> 56) as u8, seq);
                }
            });
        }
    });
    assert_eq!(registry.empty_rooms_watched.load(Ordering::Relaxed), recount(&registry));
    assert_eq!(recount(&registry), 0, "all watches are gone");
}

/// What happens to the viewers of a room, of which each watch stands for any number.
#[derive(Debug, Clone, Copy)]
enum Change {
    Watch { room: u8 },
    Unwatch { which: usize },
    Join { which: usize },
    Leave { which: usize },
    Publish { room: u8 },
    Forget { room: u8 },
}

fn change() -> impl Strategy<Value = Change> {
    let (room, which) = (|| 0..3_u8, || 0..100_usize);
    prop_oneof![
        2 => room().prop_map(|room| Change::Watch { room }),
        1 => which().prop_map(|which| Change::Unwatch { which }),
        4 => which().prop_map(|which| Change::Join { which }),
        3 => which().prop_map(|which| Change::Leave { which }),
        1 => room().prop_map(|room| Change::Publish { room }),
        1 => room().prop_map(|room| Change::Forget { room }),
    ]
}

proptest! {
    #[test]
    fn the_viewers_of_a_room_are_those_that_joined_and_did_not_leave(changes in vec(change(), 0..200)) {
        let registry = registry();
        let name = |room: u8| format!("r{room}");
        // Each with its own count of those that joined.
        let mut watches: Vec<(Watch, u64)> = Vec::new();
        for (seq, change) in (1..).zip(changes) {
            let which = |which: usize, watches: &Vec<_>| (!watches.is_empty()).then(|| which % watches.len());
            match change {
                Change::Watch { room } => watches.extend(watch(&registry, &name(room)).map(|watch| (watch, 0))),
                Change::Unwatch { which: n } => {
                    if let Some(n) = which(n, &watches) {
                        drop(watches.swap_remove(n));
                    }
                }
                Change::Join { which: n } => {
                    if let Some(n) = which(n, &watches) {
                        watches[n].0.join();
                        watches[n].1 += 1;
                    }
                }
                Change::Leave { which: n } => {
                    if let Some(n) = which(n, &watches).filter(|n| watches[*n].1 > 0) {
                        watches[n].0.leave();
                        watches[n].1 -= 1;
                    }
                }
                Change::Publish { room } => drop(registry.publish(&frame(&name(room), 5, seq))),
                Change::Forget { room } => drop(registry.forget(&name(room).parse().unwrap())),
            }
            for room in (0..3).map(|room| name(room).parse::<RoomName>().unwrap()) {
                let of_room = watches.iter().filter(|(watch, _)| watch.room == room);
                let viewers: u64 = of_room.map(|(_, joined)| joined).sum();
                prop_assert_eq!(registry.viewers_of(&room), viewers);
                let listed = registry.viewers_here().into_iter().find(|(listed, _)| *listed == room);
                prop_assert_eq!(listed.map_or(0, |(_, viewers)| u64::from(viewers)), viewers);
            }
        }
    }
}

#[test]
fn viewers_have_a_bound_in_all_and_by_address_and_their_places_come_back() {
    let registry = registry();
    let admit = |last: u8| registry.admit(Protocol::Mqtt, Ipv4Addr::new(127, 0, 0, last).into(), LIMITS);
    let seats = [admit(1).unwrap(), admit(1).unwrap()];
    assert_eq!(admit(1).unwrap_err(), Full::Address);
    let _other = admit(2).unwrap();
    assert_eq!(admit(2).unwrap_err(), Full::Viewers);
    assert_eq!(*registry.viewers().borrow(), 3);
    drop(seats);
    assert_eq!(*registry.viewers().borrow(), 1);
    assert!(admit(2).is_ok(), "who was refused for another reason is not counted");
    assert_eq!(registry.addresses.len(), 1);
}
