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
//! - Where history is kept, a closed window also yields a record of what came in it, for each room with reactions in it.
//! - A room without reactions for its TTL is forgotten. Two clocks have to say so: the wall clock, since the last window
//!   with its reactions ended, and a clock that never jumps, since then or since this core was loaded. So a wall clock
//!   that jumps deletes nothing, and after a restart a silent room stays for one TTL more.
//! - One look for silent rooms forgets a bounded number of them.
//! - When a window has closed, of too many rooms those silent the longest are forgotten; not those of this window or the
//!   next one.
//! - A room counts a limited number of reactions by name, and so does a partition. All others of a room are summed up
//!   as its `others`. A name that was given stays for the life of the room.
//! - Windows of partition p of P are shifted by p/P of the interval, which spreads commits and broadcasts over time.
//!
//! Offsets decide what a window holds, times only where it is cut: whatever clocks do, every record counts once.

mod names;
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
    max_distinct: 1_000_000,
};

/// The time, by two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, ms since the epoch. It may jump.
    pub wall_ms: u64,
    /// How long ago the [`Rollup`] was loaded, ms. The clock behind it never jumps.
    pub age_ms: u64,
}

/// How much of a limit a partition of so many has: an equal share.
pub fn share(limit: usize, partitions: u32) -> usize {
    limit.div_ceil(partitions.max(1) as usize)
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
    /// Of these, counted among the others, because their room has its limit of distinct ones.
    pub beyond_room: u64,
    /// Of these, counted among the others, because the partition has its limit of distinct ones.
    pub beyond_partition: u64,
    /// Batches that were passed over, since their room's total would pass [`wire::TOTAL_MAX`].
    pub overflows: u64,
    /// Records whose offset was taken before.
    pub replayed: u64,
}
