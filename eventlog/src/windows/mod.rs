//! `windows`, the history: one record for each window and room with reactions, kept for a time.
//!
//! A log that can be searched gives a [`WindowArchive`]. A log that can only be read in its order gives a [`WindowFollower`]; a
//! [`WindowIndex`] makes an archive of it, in a file of its own.
//!
//! - `table`: the SQLite table of windows. `readers`: searches it. `index`: fills it from a follower.

mod index;
pub(crate) mod readers;
pub(crate) mod table;
#[cfg(test)]
mod tests;

pub use index::WindowIndex;

use crate::{BoxFuture, FeedError};
use bytes::Bytes;
use std::{collections::BTreeMap, ops::Range};
use wire::{RoomName, WindowRecord};

/// By partition of `windows`, the offset of the next record.
pub type WindowOffsets = BTreeMap<u32, u64>;

/// One record of `windows`. The value is not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowedWindow {
    /// Its partition.
    pub partition: u32,
    /// Its offset in the partition.
    pub offset: u64,
    /// The room.
    pub room: RoomName,
    /// The value of a [`WindowRecord`].
    pub value: Bytes,
}

/// Reads all partitions of `windows`, committed records only.
pub trait WindowFollower: Send {
    /// The next events; waits while there are none. Safe to cancel. First [`WindowEvent::Starts`] once, then the records of each
    /// partition in their order; [`WindowEvent::CaughtUp`] comes once among them.
    fn next(&mut self) -> BoxFuture<'_, Result<WindowEvent, FeedError>>;
}

/// What a [`WindowFollower`] sees.
#[derive(Debug, PartialEq, Eq)]
pub enum WindowEvent {
    /// Where reading starts. That is later than asked for where older records were deleted. It is earlier where the log has never
    /// had that offset: then it is another log, and an index of it has to begin again.
    Starts(WindowOffsets),
    /// Never empty.
    Records(Vec<FollowedWindow>),
    /// All records that were there when the follower started have been given.
    CaughtUp,
}

/// Searches `windows` by room and time.
pub trait WindowArchive: Send + Sync + 'static {
    /// Gives `each` the windows of a room, ordered by their start. All of it is one state of the archive. Blocks.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`]; `each` may have been given some windows before.
    fn search(
        &self,
        query: &WindowQuery<'_>,
        each: &mut dyn FnMut(WindowRecord),
    ) -> Result<Searched, ArchiveError>;
}

/// Which windows are searched for.
#[derive(Debug, Clone)]
pub struct WindowQuery<'a> {
    /// Of this room,
    pub room: &'a RoomName,
    /// which lives in this partition.
    pub partition: u32,
    /// Those that start within it, ms since the epoch.
    pub span: Range<u64>,
    /// More windows than these are not read: the search is refused.
    pub max_windows: usize,
}

/// What else a search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Searched {
    /// Whether there is any window of the room, whenever it was.
    pub is_known: bool,
    /// Start of the newest of the windows that the room's partition committed lately, ms since the epoch. Windows before it are
    /// complete, because a partition commits them in their order. `None`: the partition committed none lately.
    pub reached_ms: Option<u64>,
}

/// Why a search has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The span holds more windows than the query allows.
    #[error("there are more than {0} windows in this time")]
    TooMany(usize),
    /// The archive's file can't be read.
    #[error("the history can't be read: {0}")]
    Failed(String),
    /// The archive's file does not hold what was written.
    #[error("the history is damaged: {0}")]
    Damaged(String),
}
