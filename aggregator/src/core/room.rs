//! What is known of a room beyond the open window.

use super::open::RoomWindow;
use wire::{Aggregate, Batch, COUNT_MAX, Counts, FORMAT_VERSION, OTHER, Reaction, RoomName, Source, Window};

/// A room's sums so far. They include the open window: what is not committed is dropped whole, never taken back.
#[derive(Debug)]
pub(super) struct RoomState {
    seq: u64,
    since: u64,
    total: u64,
    totals: Counts,
    /// When the last window with reactions of this room ended, or began if it is open.
    pub(super) active_ms: u64,
}

impl RoomState {
    pub(super) fn new(since: u64) -> Self {
        Self { seq: 0, since, total: 0, totals: Counts::new(), active_ms: since }
    }

    pub(super) fn from_newest(newest: Aggregate) -> Self {
        let Aggregate { seq, since, total, totals, window, .. } = newest;
        Self { seq, since, total, totals, active_ms: window.end }
    }

    /// Whether the room can count so many more exactly.
    pub(super) fn has_place_for(&self, count: u64) -> bool {
        self.total.checked_add(count).is_some_and(|total| total <= COUNT_MAX)
    }

    /// Adds a batch to the totals. Returns it by the names it was counted under, and how many became [`OTHER`].
    pub(super) fn add(&mut self, batch: &Batch, max_distinct: usize) -> (Vec<(Reaction, u64)>, u64) {
        let mut folded = 0;
        let mut named = Vec::with_capacity(batch.counts.len());
        for (reaction, n) in &batch.counts {
            let known = self.totals.contains_key(reaction) || self.totals.len() < max_distinct;
            let name = if known { Some(reaction.clone()) } else { OTHER.parse().ok() };
            let name = name.unwrap_or_else(|| reaction.clone());
            folded += if known { 0 } else { *n };
            *self.totals.entry(name.clone()).or_default() += n;
            named.push((name, *n));
        }
        self.total += batch.count;
        (named, folded)
    }

    /// The aggregate of a window that closes.
    pub(super) fn close(
        &mut self,
        room: RoomName,
        part: RoomWindow,
        window: Window,
        source: Source,
    ) -> Aggregate {
        let RoomWindow { count, counts, slots, late, skewed } = part;
        self.seq += 1;
        if count > 0 {
            self.active_ms = window.end;
        }
        Aggregate {
            v: FORMAT_VERSION,
            room,
            seq: self.seq,
            since: self.since,
            window,
            count,
            counts,
            slots,
            late,
            skewed,
            total: self.total,
            totals: self.totals.clone(),
            source,
        }
    }
}
