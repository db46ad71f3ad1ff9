//! The newest frame of each room, and how many viewers watch it.
//!
//! A viewer has no queue: it is shown what its room shows. A room that has neither a frame nor a viewer is not here.
//!
//! Anybody may watch a room that shows nothing, also under a name that nobody will ever use. `max_rooms_watched` bounds these
//! rooms only. A room with a frame never counts, because the aggregator bounds how many there are. Neither does a room that the
//! configuration names or that an operator declared. So strangers can't keep viewers out of either.

#[cfg(test)]
mod tests;

use crate::{
    Config,
    frames::Encoded,
    metrics::{Meters, Protocol, refused},
    occupancy::Elsewhere,
};
use control::Orders;
use dashmap::{DashMap, Entry};
use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
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
    /// The rooms that operators declared.
    orders: Arc<Orders>,
    /// Rooms with [`Room::counts`]. Changed only under the lock of the room.
    empty_rooms_watched: AtomicUsize,
    /// Viewers that watch all rooms.
    all_watches: AtomicUsize,
    /// Viewers of other processes, by room.
    elsewhere: Arc<Elsewhere>,
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
    /// Viewers that watch the room by name. Shared with each [`Watch`], so that no join or leave looks the room up.
    viewers: Arc<AtomicU32>,
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
    /// All viewers of the room in this process.
    viewers: Arc<AtomicU32>,
    /// Those of them that this watch stands for.
    joined: u32,
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
        Self::with_named(meters, watch::Sender::default().subscribe(), Arc::default())
    }

    /// `named`: the rooms that the configuration names, if it names any. `orders`: those that operators declared.
    pub(crate) fn with_named(
        meters: Arc<Meters>,
        named: watch::Receiver<Arc<HashSet<RoomName>>>,
        orders: Arc<Orders>,
    ) -> Arc<Self> {
        Arc::new(Self {
            named,
            orders,
            rooms: DashMap::new(),
            addresses: DashMap::new(),
            viewers: watch::Sender::new(0),
            empty_rooms_watched: AtomicUsize::new(0),
            all_watches: AtomicUsize::new(0),
            elsewhere: Arc::default(),
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

    /// Whether somebody watches the room, by its name or among all.
    pub(crate) fn is_watched(&self, room: &RoomName) -> bool {
        let is_watched = self.rooms.get(room).is_some_and(|room| room.watched.is_some());
        is_watched || self.all_watches.load(Ordering::SeqCst) > 0
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
        let watched = watched.get_or_insert_with(|| Watched {
            news: watch::Sender::new(shown.clone()),
            watches: 0,
            viewers: Arc::default(),
        });
        watched.watches += 1;
        let (shown, viewers) = (watched.news.subscribe(), Arc::clone(&watched.viewers));
        Ok(Watch { registry: Arc::clone(self), room: name.clone(), shown, viewers, joined: 0 })
    }

    /// Watches all rooms.
    pub(crate) fn watch_all(self: &Arc<Self>) -> WatchAll {
        self.all_watches.fetch_add(1, Ordering::SeqCst);
        WatchAll(Arc::clone(self))
    }

    /// The viewers of a room: those here, and those of other processes as far as they are known. Viewers of all rooms are not
    /// among them.
    pub(crate) fn viewers_of(&self, room: &RoomName) -> u64 {
        let here = self.rooms.get(room).and_then(|room| room.watched.as_ref().map(Watched::viewers));
        u64::from(here.unwrap_or(0)) + self.elsewhere.viewers_of(room)
    }

    /// The viewers that each room has in this process. Rooms without any are left out.
    pub(crate) fn viewers_here(&self) -> Vec<(RoomName, u32)> {
        let viewers_of = |room: &Room| room.watched.as_ref().map_or(0, Watched::viewers);
        let rooms = self.rooms.iter().map(|room| (viewers_of(&room), room));
        let rooms = rooms.filter(|(viewers, _)| *viewers > 0);
        rooms.map(|(viewers, room)| (room.key().clone(), viewers)).collect()
    }

    /// Viewers of other processes, by room.
    pub(crate) fn elsewhere(&self) -> &Arc<Elsewhere> {
        &self.elsewhere
    }

    /// How many viewers there are.
    pub(crate) fn viewers(&self) -> watch::Receiver<usize> {
        self.viewers.subscribe()
    }

    fn is_named(&self, room: &RoomName) -> bool {
        self.named.borrow().contains(room) || self.orders.is_declared(room)
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

impl Watched {
    fn viewers(&self) -> u32 {
        self.viewers.load(Ordering::Relaxed)
    }
}

impl Watch {
    /// One more viewer watches the room by this.
    pub(crate) fn join(&mut self) {
        self.joined += 1;
        self.viewers.fetch_add(1, Ordering::Relaxed);
    }

    /// One of the viewers that watch the room by this is gone.
    pub(crate) fn leave(&mut self) {
        debug_assert!(self.joined > 0, "nobody joined {}", self.room);
        self.joined = self.joined.saturating_sub(1);
        self.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.viewers.fetch_sub(self.joined, Ordering::Relaxed);
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
