//! The newest frame of each room, and how many viewers watch it.
//!
//! A viewer has no queue: it is shown what its room shows. A room that has neither a frame nor a viewer is not here.
//!
//! Anybody may watch a room that shows nothing, also under a name that nobody will ever use. `max_rooms_watched` bounds these
//! rooms only. A room with a frame never counts, because the aggregator bounds how many there are. Neither does a room that the
//! configuration names. So strangers can't keep viewers out of either.

use crate::{
    Config,
    frames::Encoded,
    metrics::{Meters, Protocol, refused},
};
use dashmap::{DashMap, Entry};
use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::watch;
use wire::RoomName;

/// What a room shows.
pub(crate) type Shown = Option<Arc<Encoded>>;

/// All rooms of this process, and who has a seat.
#[derive(Debug)]
pub(crate) struct Registry {
    rooms: DashMap<RoomName, Room>,
    /// Seats by address, counted only where there is a limit.
    addresses: DashMap<IpAddr, usize>,
    viewers: watch::Sender<usize>,
    /// The rooms that the configuration names.
    named: watch::Receiver<Arc<HashSet<RoomName>>>,
    /// Rooms with [`Room::counts`]. Changed only under the lock of the room.
    empty_rooms_watched: AtomicUsize,
    /// Viewers that watch all rooms.
    all_watches: AtomicUsize,
    meters: Arc<Meters>,
}

#[derive(Debug, Default)]
struct Room {
    shown: Shown,
    /// While somebody watches it.
    watched: Option<Watched>,
    /// It is watched, shows nothing, and was not named when that began.
    counts: bool,
}

#[derive(Debug)]
struct Watched {
    news: watch::Sender<Shown>,
    watches: usize,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// Its room already showed it, or a newer one.
    Stale,
    /// It is shown, and nobody watches.
    Unwatched,
    /// It is shown, and somebody watches the room, or all.
    Watched,
}

/// How many may watch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_viewers: usize,
    /// 0: no limit.
    pub(crate) max_viewers_per_address: usize,
    /// Watched rooms that show nothing, and that the configuration does not name.
    pub(crate) max_rooms_watched: usize,
}

/// Why one more viewer is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// There are as many viewers as there may be.
    Viewers,
    /// There are as many viewers from this address as there may be.
    Address,
    /// This room shows nothing, nobody watches it, and viewers watch as many such rooms as they may.
    Rooms,
}

/// A viewer's place in this process; dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Seat {
    registry: Arc<Registry>,
    /// Where it is counted under its address.
    address: Option<IpAddr>,
    pub(crate) protocol: Protocol,
}

/// Keeps a room here while somebody watches it.
#[derive(Debug)]
pub(crate) struct Watch {
    registry: Arc<Registry>,
    pub(crate) room: RoomName,
    /// What the room shows.
    pub(crate) shown: watch::Receiver<Shown>,
}

/// Says that somebody watches all rooms.
#[derive(Debug)]
pub(crate) struct WatchAll(Arc<Registry>);

impl Limits {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            max_viewers: config.max_viewers,
            max_viewers_per_address: config.max_viewers_per_address,
            max_rooms_watched: config.max_rooms_watched,
        }
    }
}

impl Full {
    /// Counts the refusal.
    pub(crate) fn refuse(self) {
        refused(self.why().0);
    }

    /// The cause as metrics have it, and in words.
    pub(crate) fn why(self) -> (&'static str, &'static str) {
        match self {
            Self::Viewers => ("viewers", "this node has as many viewers as it may have"),
            Self::Address => ("address", "this node has as many viewers from your address as it may have"),
            Self::Rooms => ("rooms", "viewers of this node watch as many rooms without a frame as they may"),
        }
    }
}

impl Registry {
    /// A registry whose rooms have no names beforehand.
    #[cfg(test)]
    pub(crate) fn new(meters: Arc<Meters>) -> Arc<Self> {
        Self::with_named(meters, watch::Sender::default().subscribe())
    }

    /// `named`: the rooms that the configuration names, if it names any.
    pub(crate) fn with_named(
        meters: Arc<Meters>,
        named: watch::Receiver<Arc<HashSet<RoomName>>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            named,
            rooms: DashMap::new(),
            addresses: DashMap::new(),
            viewers: watch::Sender::new(0),
            empty_rooms_watched: AtomicUsize::new(0),
            all_watches: AtomicUsize::new(0),
            meters,
        })
    }

    /// Shows `frame` in its room, unless the room already shows it or a newer one. Later viewers find it there.
    pub(crate) fn publish(&self, frame: &Arc<Encoded>) -> Published {
        let mut room = match self.rooms.get_mut(&frame.room) {
            Some(room) => room,
            None => self.rooms.entry(frame.room.clone()).or_default(),
        };
        if room.shown.as_ref().is_some_and(|shown| !frame.is_newer_than(shown)) {
            return Published::Stale;
        }
        let before = room.shown.replace(Arc::clone(frame));
        let news = room.watched.as_ref().map(|watched| watched.news.clone());
        self.uncount(&mut room);
        // Viewers are woken without the lock, so that other rooms and snapshots go on.
        drop(room);
        if before.is_none() {
            self.meters.rooms.increment(1.0);
        }
        let is_watched = news.is_some() || self.all_watches.load(Ordering::SeqCst) > 0;
        if let Some(news) = news {
            news.send_replace(Some(Arc::clone(frame)));
        }
        if is_watched { Published::Watched } else { Published::Unwatched }
    }

    /// Forgets what the room shows. Its viewers stay, and wait for its next life: the room counts as empty then, also beyond
    /// the bound.
    pub(crate) fn forget(&self, room: &RoomName) -> bool {
        let Entry::Occupied(mut entry) = self.rooms.entry(room.clone()) else { return false };
        let Room { shown, watched, counts } = entry.get_mut();
        let forgotten = shown.take().is_some();
        if forgotten {
            self.meters.rooms.decrement(1.0);
        }
        match watched {
            Some(watched) => {
                if forgotten && !self.is_named(room) {
                    *counts = true;
                    self.empty_rooms_watched.fetch_add(1, Ordering::Relaxed);
                }
                drop(watched.news.send_replace(None));
            }
            None => drop(entry.remove()),
        }
        forgotten
    }

    /// What the room shows.
    pub(crate) fn snapshot(&self, room: &RoomName) -> Shown {
        self.rooms.get(room)?.shown.clone()
    }

    /// The rooms that show something.
    pub(crate) fn rooms_shown(&self) -> Vec<RoomName> {
        let shown = self.rooms.iter().filter(|room| room.shown.is_some());
        shown.map(|room| room.key().clone()).collect()
    }

    /// What each room shows.
    pub(crate) fn frames(&self) -> Vec<Arc<Encoded>> {
        self.rooms.iter().filter_map(|room| room.shown.clone()).collect()
    }

    /// All rooms that are here: shown, or watched.
    #[cfg(test)]
    pub(crate) fn rooms(&self) -> Vec<RoomName> {
        self.rooms.iter().map(|room| room.key().clone()).collect()
    }

    /// Gives a viewer a place.
    pub(crate) fn admit(
        self: &Arc<Self>,
        protocol: Protocol,
        address: IpAddr,
        limits: Limits,
    ) -> Result<Seat, Full> {
        let counted = limits.max_viewers_per_address > 0;
        if counted {
            let mut seats = self.addresses.entry(address).or_insert(0);
            if *seats >= limits.max_viewers_per_address {
                return Err(Full::Address);
            }
            *seats += 1;
        }
        let taken = self.viewers.send_if_modified(|viewers| {
            let free = *viewers < limits.max_viewers;
            *viewers += usize::from(free);
            free
        });
        let address = counted.then_some(address);
        if !taken {
            self.release(address);
            return Err(Full::Viewers);
        }
        self.meters.of(protocol).viewers.increment(1.0);
        Ok(Seat { registry: Arc::clone(self), address, protocol })
    }

    /// Watches a room, whether it shows something or not.
    ///
    /// # Errors
    /// [`Full::Rooms`] where the room shows nothing, nobody watches it, and the bound is reached.
    pub(crate) fn watch(self: &Arc<Self>, name: &RoomName, limits: Limits) -> Result<Watch, Full> {
        let entry = self.rooms.entry(name.clone());
        // A room is not here unless it shows something or is watched.
        let counts = matches!(entry, Entry::Vacant(_)) && !self.is_named(name);
        if counts {
            let one_more = |empty| (empty < limits.max_rooms_watched).then_some(empty + 1);
            let counted =
                self.empty_rooms_watched.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
            counted.map_err(|_| Full::Rooms)?;
        }
        let mut room = entry.or_default();
        room.counts |= counts;
        let Room { shown, watched, .. } = &mut *room;
        let watched =
            watched.get_or_insert_with(|| Watched { news: watch::Sender::new(shown.clone()), watches: 0 });
        watched.watches += 1;
        let shown = watched.news.subscribe();
        Ok(Watch { registry: Arc::clone(self), room: name.clone(), shown })
    }

    /// Watches all rooms.
    pub(crate) fn watch_all(self: &Arc<Self>) -> WatchAll {
        self.all_watches.fetch_add(1, Ordering::SeqCst);
        WatchAll(Arc::clone(self))
    }

    /// How many viewers there are.
    pub(crate) fn viewers(&self) -> watch::Receiver<usize> {
        self.viewers.subscribe()
    }

    fn is_named(&self, room: &RoomName) -> bool {
        self.named.borrow().contains(room)
    }

    /// The room shows something, or nobody watches it any more.
    fn uncount(&self, room: &mut Room) {
        if std::mem::take(&mut room.counts) {
            self.empty_rooms_watched.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn release(&self, address: Option<IpAddr>) {
        if let Some(address) = address
            && let Entry::Occupied(mut seats) = self.addresses.entry(address)
        {
            *seats.get_mut() -= 1;
            if *seats.get() == 0 {
                seats.remove();
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.registry.release(self.address);
        self.registry.viewers.send_modify(|viewers| *viewers -= 1);
        self.registry.meters.of(self.protocol).viewers.decrement(1.0);
    }
}

impl Drop for WatchAll {
    fn drop(&mut self) {
        self.0.all_watches.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.registry.rooms.entry(self.room.clone()) {
            let room = entry.get_mut();
            let left = room.watched.as_mut().map_or(0, |watched| {
                watched.watches -= 1;
                watched.watches
            });
            if left == 0 {
                room.watched = None;
                self.registry.uncount(room);
                if room.shown.is_none() {
                    entry.remove();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
        let registry = Registry::with_named(Arc::new(Meters::new()), named.subscribe());
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
}
