//! What is known of a room.

use wire::{
    Aggregate, BatchRef, COUNT_MAX, Counts, FORMAT_VERSION, OTHER, Reaction, RoomName, Source, Window,
};

/// A room's sums so far. They include the open window: what is not committed is dropped whole, never taken back.
#[derive(Debug)]
pub(super) struct RoomState {
    name: RoomName,
    seq: u64,
    since: u64,
    total: u64,
    totals: Counts,
    /// When the last window with reactions of this room ended, or began if it is open.
    pub(super) active_ms: u64,
    /// What the open window holds of the room.
    part: Part,
}

/// A room's part of a window.
#[derive(Debug, Default)]
struct Part {
    count: u64,
    counts: Counts,
    /// Empty as long as there are no reactions.
    slots: Vec<u64>,
    late: u64,
    skewed: u64,
}

/// Where in the open window a record counts, and as what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// When the window began.
    pub(super) start_ms: u64,
    pub(super) slot: usize,
    /// How many slots the window has.
    pub(super) slots: usize,
    pub(super) late: bool,
    pub(super) skewed: bool,
}

impl RoomState {
    pub(super) fn new(name: RoomName, since: u64) -> Self {
        let (totals, part) = (Counts::new(), Part::default());
        Self { name, seq: 0, since, total: 0, totals, active_ms: since, part }
    }

    pub(super) fn from_newest(newest: Aggregate) -> Self {
        let Aggregate { room: name, seq, since, total, totals, window, .. } = newest;
        Self { name, seq, since, total, totals, active_ms: window.end, part: Part::default() }
    }

    pub(super) fn name(&self) -> &RoomName {
        &self.name
    }

    /// Whether the open window holds reactions of the room.
    pub(super) fn is_in_window(&self) -> bool {
        self.part.count > 0
    }

    /// Whether the room can count so many more exactly.
    pub(super) fn has_place_for(&self, count: u64) -> bool {
        self.total.checked_add(count).is_some_and(|total| total <= COUNT_MAX)
    }

    /// Adds a batch to the open window and to the totals. Gives how many of it became [`OTHER`].
    pub(super) fn add(&mut self, batch: &BatchRef<'_>, place: Place, max_distinct: usize) -> u64 {
        let Self { totals, part, .. } = self;
        let mut folded = 0;
        for (reaction, n) in &batch.counts {
            let named = totals.len() < max_distinct || totals.contains_key(&**reaction);
            let name = if named { reaction } else { OTHER };
            folded += if named { 0 } else { *n };
            let new = || name.parse().unwrap_or_else(|_| reaction.into());
            add(totals, name, *n, new);
            // They share the name.
            add(&mut part.counts, name, *n, || {
                totals.get_key_value(name).map_or_else(new, |it| it.0.clone())
            });
        }
        if part.slots.is_empty() {
            part.slots = vec![0; place.slots];
        }
        part.slots[place.slot] += batch.count;
        part.count += batch.count;
        part.late += if place.late { batch.count } else { 0 };
        part.skewed += if place.skewed { batch.count } else { 0 };
        self.total += batch.count;
        self.active_ms = self.active_ms.max(place.start_ms);
        folded
    }

    /// The aggregate of the window, which closes and has so many slots.
    pub(super) fn close(&mut self, window: Window, slots: usize, source: Source) -> Aggregate {
        let Part { count, counts, slots: used, late, skewed } = std::mem::take(&mut self.part);
        self.seq += 1;
        if count > 0 {
            self.active_ms = window.end;
        }
        Aggregate {
            v: FORMAT_VERSION,
            room: self.name.clone(),
            seq: self.seq,
            since: self.since,
            window,
            count,
            counts,
            slots: if used.is_empty() { vec![0; slots] } else { used },
            late,
            skewed,
            total: self.total,
            totals: self.totals.clone(),
            source,
        }
    }
}

fn add(counts: &mut Counts, name: &str, n: u64, new: impl FnOnce() -> Reaction) {
    match counts.get_mut(name) {
        Some(sum) => *sum += n,
        None => drop(counts.insert(new(), n)),
    }
}
