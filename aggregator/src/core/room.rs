//! What is known of a room.

use super::names::Names;
use std::ops::Range;
use wire::{Aggregate, BatchRef, Outline, Reaction, RoomName, Source, TOTAL_MAX, Window};

/// A room's sums so far. They include the open window: what is not committed is dropped whole, never taken back.
#[derive(Debug)]
pub(super) struct RoomState {
    name: RoomName,
    seq: u64,
    since: u64,
    total: u64,
    /// In the order of their reactions.
    sums: Vec<Sum>,
    /// How many of `total` are of reactions that are not counted by name.
    others_total: u64,
    /// How many reactions of `total` were counted in an earlier log.
    carried: u64,
    /// When the last closed window with reactions of this room ended; before, when the room came.
    pub(super) active_ms: u64,
    /// The same by the age of the core; 0 for a room that it was loaded with.
    pub(super) active_age_ms: u64,
    /// What the open window holds of the room.
    part: Part,
}

/// How often a reaction came.
#[derive(Debug)]
struct Sum {
    reaction: Reaction,
    total: u64,
    /// Of these, in the open window.
    in_window: u64,
}

/// A room's part of a window, beside its sums by reaction.
#[derive(Debug, Default)]
struct Part {
    count: u64,
    /// How many of `count` are of reactions that are not counted by name.
    others: u64,
    /// As many as the window has once there are reactions; before, they are of an earlier window.
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

/// A window that closes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closing {
    pub(super) window: Window,
    /// How many slots the window has.
    pub(super) slots: usize,
    pub(super) source: Source,
    /// The core's age.
    pub(super) age_ms: u64,
}

impl RoomState {
    /// A room whose first window begins at `since`, when the core has that age.
    pub(super) fn new(name: RoomName, since: u64, active_age_ms: u64) -> Self {
        Self {
            name,
            seq: 0,
            since,
            total: 0,
            sums: Vec::new(),
            others_total: 0,
            carried: 0,
            active_ms: since,
            active_age_ms,
            part: Part::default(),
        }
    }

    pub(super) fn from_newest(newest: Aggregate) -> Self {
        let Aggregate { room: name, seq, since, total, totals, others_total, carried, window, .. } = newest;
        let sums =
            totals.into_iter().map(|(reaction, total)| Sum { reaction, total, in_window: 0 }).collect();
        let (active_ms, part) = (window.end, Part::default());
        Self { name, seq, since, total, sums, others_total, carried, active_ms, active_age_ms: 0, part }
    }

    pub(super) fn name(&self) -> &RoomName {
        &self.name
    }

    pub(super) fn into_name(self) -> RoomName {
        self.name
    }

    /// Whether the open window holds reactions of the room.
    pub(super) fn is_in_window(&self) -> bool {
        self.part.count > 0
    }

    /// How many reactions it counts by name.
    pub(super) fn distinct(&self) -> usize {
        self.sums.len()
    }

    /// Whether it has no aggregate yet.
    pub(super) fn is_new(&self) -> bool {
        self.seq == 0
    }

    /// Whether the room's total can take so many more.
    pub(super) fn has_place_for(&self, count: u64) -> bool {
        self.total.checked_add(count).is_some_and(|total| total <= TOTAL_MAX)
    }

    /// Adds a batch to the open window and to the totals. A reaction that is new to the room gets a name if `names` has a
    /// place for it; otherwise it counts among the others.
    pub(super) fn add(&mut self, batch: &BatchRef<'_>, place: Place, names: &mut Names) {
        for (reaction, n) in &batch.counts {
            let at = match self.find(reaction) {
                Ok(at) => at,
                Err(at) if names.take(self.sums.len(), *n) => {
                    self.sums.insert(at, Sum { reaction: Reaction::from(reaction), total: 0, in_window: 0 });
                    at
                }
                Err(_) => {
                    self.others_total += n;
                    self.part.others += n;
                    continue;
                }
            };
            let sum = &mut self.sums[at];
            sum.total += n;
            sum.in_window += n;
        }
        let part = &mut self.part;
        if part.count == 0 {
            empty(&mut part.slots, place.slots);
        }
        part.slots[place.slot] += batch.count;
        part.count += batch.count;
        part.late += if place.late { batch.count } else { 0 };
        part.skewed += if place.skewed { batch.count } else { 0 };
        self.total += batch.count;
    }

    /// Where the reaction is among the sums, or would be.
    fn find(&self, reaction: &str) -> Result<usize, usize> {
        self.sums.binary_search_by(|sum| (*sum.reaction).cmp(reaction))
    }

    /// Writes the room's aggregate of the window that closes. Returns where the totals stand in it.
    pub(super) fn close(&mut self, closing: Closing, value: &mut Vec<u8>) -> Range<usize> {
        let Self { name, seq, since, total, sums, others_total, carried, active_ms, active_age_ms, part } =
            self;
        let Closing { window, slots, source, age_ms } = closing;
        *seq += 1;
        if part.count > 0 {
            (*active_ms, *active_age_ms) = (window.end, age_ms);
        } else {
            empty(&mut part.slots, slots);
        }
        let outline = Outline {
            room: name,
            seq: *seq,
            since: *since,
            window,
            count: part.count,
            others: part.others,
            slots: &part.slots,
            late: part.late,
            skewed: part.skewed,
            total: *total,
            others_total: *others_total,
            carried: *carried,
            source,
        };
        let counts = sums.iter().filter(|sum| sum.in_window > 0).map(|sum| (&sum.reaction, sum.in_window));
        let totals = outline.write(value, counts, sums.iter().map(|sum| (&sum.reaction, sum.total)));
        (part.count, part.others, part.late, part.skewed) = (0, 0, 0, 0);
        sums.iter_mut().for_each(|sum| sum.in_window = 0);
        totals
    }
}

fn empty(slots: &mut Vec<u64>, len: usize) {
    slots.clear();
    slots.resize(len, 0);
}
