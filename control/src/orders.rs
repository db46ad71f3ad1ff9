//! The orders that are in force. Every request looks here, so a look costs one load while there are no orders, and else one more
//! look-up in a map. A change copies the map: orders are few and seldom.

use arc_swap::{ArcSwap, Guard};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::watch;
use wire::{
    Reaction, RoomName, SkinTones,
    control::{RoomOrder, RoomState},
};

/// The newest order of one room, and what is looked up in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Room {
    /// What was ordered.
    pub order: RoomOrder,
    /// The version of the record, as the log gave it.
    pub version: u64,
    /// The catalogue, for those that fold skin tones and for those that keep them. `None`: it has none of its own, or allows all.
    allowed: Option<[HashSet<Reaction>; 2]>,
}

impl Room {
    /// The room of a record.
    pub fn new(order: RoomOrder, version: u64) -> Self {
        let entries = order.catalogue.as_deref().filter(|entries| !entries.is_empty());
        let allowed = entries.map(|entries| {
            [SkinTones::Fold, SkinTones::Keep].map(|tones| {
                let canonical = |text: &str| Reaction::canonical(text, tones).ok();
                entries.iter().filter_map(|entry| canonical(&entry.reaction)).collect()
            })
        });
        Self { order, version, allowed }
    }

    /// Whether it takes no reactions.
    pub fn is_closed(&self) -> bool {
        self.order.state == RoomState::Closed
    }

    /// Whether a reaction in its canonical form is allowed. `None`: this room has no catalogue of its own.
    pub fn allows(&self, reaction: &Reaction, tones: SkinTones) -> Option<bool> {
        self.order.catalogue.as_ref()?;
        let Some([folded, kept]) = &self.allowed else { return Some(true) };
        Some(match tones {
            SkinTones::Fold => folded.contains(reaction),
            SkinTones::Keep => kept.contains(reaction),
        })
    }
}

/// All rooms with orders.
pub type Rooms = HashMap<RoomName, Arc<Room>>;

/// The orders that are in force in this process.
#[derive(Debug)]
pub struct Orders {
    /// Whether there are any.
    has_any: AtomicBool,
    rooms: ArcSwap<Rooms>,
    /// Whether all that the log holds was read once.
    is_read: watch::Sender<bool>,
    changes: watch::Sender<()>,
    /// Held by a change: one that a request made and one that was read don't lose each other.
    changing: Mutex<()>,
}

impl Default for Orders {
    fn default() -> Self {
        Self {
            has_any: AtomicBool::new(false),
            rooms: ArcSwap::default(),
            is_read: watch::Sender::new(false),
            changes: watch::Sender::new(()),
            changing: Mutex::default(),
        }
    }
}

impl Orders {
    /// The rooms with orders; `None` where there are none.
    pub fn any(&self) -> Option<Guard<Arc<Rooms>>> {
        self.has_any.load(Ordering::Relaxed).then(|| self.rooms.load())
    }

    /// The orders of a room.
    pub fn room(&self, name: &str) -> Option<Arc<Room>> {
        self.any()?.get(name).cloned()
    }

    /// Whether a room takes reactions.
    pub fn state_of(&self, name: &str) -> RoomState {
        self.any().and_then(|rooms| rooms.get(name).map(|room| room.order.state)).unwrap_or_default()
    }

    /// Whether all that the log holds was read once.
    pub fn is_read(&self) -> bool {
        *self.is_read.borrow()
    }

    /// Waits until all that the log holds was read once.
    pub async fn until_read(&self) {
        // The sender lives in `self`, so it can't be gone.
        let _ = self.is_read.subscribe().wait_for(|is_read| *is_read).await;
    }

    /// The orders of a log that holds none, as if it was read.
    pub fn none() -> Arc<Self> {
        let orders = Self::default();
        orders.set_read();
        Arc::new(orders)
    }

    /// All that the log holds was read.
    pub fn set_read(&self) {
        self.is_read.send_replace(true);
    }

    /// Whether something is ordered of a room: then it is no room that a stranger made up.
    pub fn is_declared(&self, name: &str) -> bool {
        self.any().is_some_and(|rooms| rooms.contains_key(name))
    }

    /// All rooms with orders.
    pub fn rooms(&self) -> Guard<Arc<Rooms>> {
        self.rooms.load()
    }

    /// Tells of each change.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Takes records over: the newest version of a room stands. `None`: the room's orders are forgotten.
    pub fn apply(&self, records: impl IntoIterator<Item = (RoomName, u64, Option<RoomOrder>)>) {
        self.change(|rooms| {
            for (name, version, order) in records {
                let is_newer = rooms.get(&name).is_none_or(|room| room.version < version);
                match order {
                    Some(order) if is_newer => drop(rooms.insert(name, Arc::new(Room::new(order, version)))),
                    None if is_newer => drop(rooms.remove(&name)),
                    _ => {}
                }
            }
        });
    }

    /// Forgets all rooms that are not in `names`: the log does not hold them any more.
    pub fn retain(&self, names: &HashSet<RoomName>) {
        self.change(|rooms| rooms.retain(|name, _| names.contains(name)));
    }

    fn change(&self, change: impl FnOnce(&mut Rooms)) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.rooms.load_full();
        let mut rooms = Rooms::clone(&before);
        change(&mut rooms);
        if rooms == *before {
            return;
        }
        metrics::gauge!(crate::metrics::ROOMS).set(rooms.len() as f64);
        let has_any = !rooms.is_empty();
        self.rooms.store(Arc::new(rooms));
        self.has_any.store(has_any, Ordering::Relaxed);
        self.changes.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::control::CatalogueEntry;

    fn name(room: &str) -> RoomName {
        room.parse().unwrap()
    }

    fn order(room: &str, state: RoomState) -> RoomOrder {
        RoomOrder { state, ..RoomOrder::new(name(room), "produce", 1) }
    }

    #[test]
    fn the_newest_version_of_a_room_stands_and_each_change_is_told() {
        let orders = Orders::default();
        let mut changes = orders.changes();
        assert!(orders.room("a").is_none() && !orders.is_declared("a"));
        orders.apply([(name("a"), 2, Some(order("a", RoomState::Closed)))]);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert!(orders.room("a").unwrap().is_closed() && orders.is_declared("a"));
        orders.apply([(name("a"), 1, Some(order("a", RoomState::Open))), (name("a"), 2, None)]);
        assert!(orders.room("a").unwrap().is_closed());
        assert!(!changes.has_changed().unwrap(), "older records change nothing");
        orders.apply([(name("a"), 3, None)]);
        assert!(orders.room("a").is_none() && orders.rooms().is_empty());
    }

    #[test]
    fn what_the_log_does_not_hold_any_more_is_forgotten() {
        let orders = Orders::default();
        let rooms = ["a", "b"].map(|room| (name(room), 1, Some(order(room, RoomState::Open))));
        orders.apply(rooms);
        orders.retain(&HashSet::from([name("b")]));
        assert!(!orders.is_declared("a") && orders.is_declared("b"));
    }

    #[test]
    fn a_catalogue_allows_every_form_of_its_reactions() {
        let entry =
            |reaction: &str| CatalogueEntry { reaction: reaction.parse().unwrap(), name: None, image: None };
        let with = |catalogue| Room::new(RoomOrder { catalogue, ..order("a", RoomState::Open) }, 1);
        let canonical = |text: &str, tones| Reaction::canonical(text, tones).unwrap();
        let (fold, keep) = (SkinTones::Fold, SkinTones::Keep);
        let own = with(Some(vec![entry("❤"), entry("👏")]));
        assert_eq!(own.allows(&canonical("❤", fold), fold), Some(true));
        assert_eq!(own.allows(&canonical("👏🏽", fold), fold), Some(true));
        assert_eq!(own.allows(&canonical("👏🏽", keep), keep), Some(false));
        assert_eq!(own.allows(&canonical("🔥", fold), fold), Some(false));
        assert_eq!(with(Some(vec![])).allows(&canonical("🔥", fold), fold), Some(true), "all are allowed");
        assert_eq!(with(None).allows(&canonical("🔥", fold), fold), None, "as everywhere");
    }
}
