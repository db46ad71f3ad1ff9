//! What an audit found.

use crate::{RoomName, Source};
use std::collections::BTreeMap;

/// Findings that a report spells out; the rest is only counted.
const FINDINGS_MAX: usize = 1_000;

/// What an audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, in the order of the history; the first 1,000.
    pub findings: Vec<Finding>,
    /// How many findings there are beyond those.
    pub more_findings: u64,
    /// What each room counted.
    pub rooms: BTreeMap<RoomName, RoomSums>,
    /// Where the last window of each partition was cut.
    pub cuts: BTreeMap<u32, u64>,
    /// Windows in the history.
    pub windows: u64,
    /// How many of them were compared with their records.
    pub compared: u64,
    /// Reactions in records that no window has taken.
    pub uncounted: u64,
}

/// What a room counted, over all of its lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomSums {
    /// Aggregates.
    pub windows: u64,
    /// Reactions.
    pub counted: u64,
    /// How many of them were late.
    pub late: u64,
    /// How many of them came from the future.
    pub skewed: u64,
    /// Whether its last window had no reactions, or it is forgotten.
    pub at_rest: bool,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.more_findings += 1;
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// A record can't be read, or is of another room than its key says. Its readers pass it over.
    #[error("room {room}: unreadable: {why}")]
    Unreadable {
        /// The room of its key.
        room: RoomName,
        /// Why.
        why: String,
    },
    /// An aggregate contradicts itself.
    #[error("room {room}, seq {seq}: {why}")]
    Inconsistent {
        /// The room.
        room: RoomName,
        /// The aggregate.
        seq: u64,
        /// How.
        why: &'static str,
    },
    /// An aggregate says that it is of another partition than the one it stands in.
    #[error("room {room}: an aggregate in partition {partition} names partition {names}")]
    WrongPartition {
        /// The room.
        room: RoomName,
        /// Where it stands.
        partition: u32,
        /// What it says.
        names: u32,
    },
    /// Records were not counted.
    #[error("partition {partition}: the records {from} to {to} are in no window")]
    Gap {
        /// The partition.
        partition: u32,
        /// The first of them.
        from: u64,
        /// The first one after them.
        to: u64,
    },
    /// Records were counted again.
    #[error("partition {partition}: the records {from} to {to} are in two windows")]
    Overlap {
        /// The partition.
        partition: u32,
        /// The first of them.
        from: u64,
        /// The first one after them.
        to: u64,
    },
    /// A window gave two aggregates for one room.
    #[error("room {room}: two aggregates of one window, records {} to {}", records.from, records.to)]
    Twice {
        /// The room.
        room: RoomName,
        /// What the window covers.
        records: Source,
    },
    /// `seq` has a gap, or goes back.
    #[error("room {room}: seq {found}, expected {expected}")]
    Seq {
        /// The room.
        room: RoomName,
        /// What should have come.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// A room has another beginning than before, and was not forgotten.
    #[error("room {room}: since {found}, expected {expected}")]
    Since {
        /// The room.
        room: RoomName,
        /// What should have come.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// A total went back.
    #[error("room {room}: total {found} after {before}")]
    TotalBack {
        /// The room.
        room: RoomName,
        /// The total before.
        before: u64,
        /// The total after it.
        found: u64,
    },
    /// A total is not the last one and what the window counted.
    #[error("room {room}: total {found}, expected {expected}")]
    Total {
        /// The room.
        room: RoomName,
        /// What should have come.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The sum is right, and its parts are not.
    #[error("room {room}: the totals of its reactions don't add up")]
    Totals {
        /// The room.
        room: RoomName,
    },
    /// A tombstone came for a room whose last window had reactions.
    #[error("room {room}: forgotten while it was busy")]
    ForgottenWhileBusy {
        /// The room.
        room: RoomName,
    },
    /// A window counts something else than its records hold.
    #[error("room {room}: {counted} counted, {accepted} in the records {} to {}", records.from, records.to)]
    Miscounted {
        /// The room.
        room: RoomName,
        /// What the window covers.
        records: Source,
        /// What it counted.
        counted: u64,
        /// What its records hold.
        accepted: u64,
    },
}
