//! The pure core: one [`Rollup`] a partition. Fed records and ticks, it returns closed windows.
//!
//! The rules:
//! - All batches of a record count in the same window.
//! - A record before the open window's end counts in it. A record at or after the end closes the window at that
//!   record's offset (the cut), opens the window that holds it, and counts there.
//! - A record older than its window is `late`: it counts in the open one. A record from past now + one interval is
//!   `skewed`: it counts in the open one, and never opens a window that time has not reached.
//! - When the log is read to its end and the clock is past the end plus grace, a tick closes the window.
//! - A closed window yields an aggregate for each room with reactions in it, and one of zero for each that had some in
//!   the window before.
//! - A room without reactions for its TTL is forgotten. When a window has closed, so are of too many rooms those silent the
//!   longest; not those of this window or the next one.
//! - Windows of partition p of P are shifted by p/P of the interval, which spreads commits and broadcasts over time.
//!
//! Offsets decide what a window holds, times only where it is cut: whatever clocks do, every record counts once.

mod open;
mod rollup;
mod room;

pub use rollup::{Closed, Kind, Rollup};

/// That of tests.
#[cfg(test)]
const CONFIG: crate::Config = crate::Config {
    interval_ms: 2_000,
    slots: 4,
    grace_ms: 50,
    room_ttl_ms: 60_000,
    max_rooms: 1_000,
    max_distinct_per_room: 3,
};

/// How many of `max_rooms` a partition of so many may have: an equal share.
pub fn share_of_rooms(max_rooms: usize, partitions: u32) -> usize {
    max_rooms.div_ceil(partitions.max(1) as usize)
}

/// What became of records.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Reactions that count in a window.
    pub counted: u64,
    /// Of these, that came before the window's start.
    pub late: u64,
    /// Of these, from the future.
    pub skewed: u64,
    /// Of these, counted as `other`.
    pub folded: u64,
    /// Batches that were passed over, since their room's total would pass [`wire::COUNT_MAX`].
    pub overflows: u64,
    /// Records whose offset was taken before.
    pub replayed: u64,
}
