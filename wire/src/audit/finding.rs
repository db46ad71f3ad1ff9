//! What can be wrong with a history.

use crate::{RoomName, Source};

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
    /// Records of a room lie in windows that have no aggregate of it.
    #[error("room {room}: {count} in the records {} to {} are in no aggregate", records.from, records.to)]
    Uncounted {
        /// The room.
        room: RoomName,
        /// From the first to the last of them.
        records: Source,
        /// Reactions.
        count: u64,
    },
    /// A total is not what the room's records hold.
    #[error("room {room}: total {total} at seq {seq}, {accepted} in the records {} to {}", records.from, records.to)]
    Sum {
        /// The room.
        room: RoomName,
        /// The aggregate.
        seq: u64,
        /// Its total; the growth of it since the aggregate before, where one is missing between the two.
        total: u64,
        /// What was summed up.
        records: Source,
        /// The sum.
        accepted: u64,
    },
    /// The sum is right, and not how it is spread over reactions.
    #[error("room {room}: the reactions of seq {seq} are not those in the records {} to {}", records.from, records.to)]
    Misattributed {
        /// The room.
        room: RoomName,
        /// The aggregate.
        seq: u64,
        /// What was compared.
        records: Source,
    },
    /// The windows of a partition cover more records than there ever were.
    #[error("partition {partition}: windows up to record {cut}, but `reactions` ends at {end}")]
    BeyondEnd {
        /// The partition.
        partition: u32,
        /// Where the last window was cut.
        cut: u64,
        /// The offset that the next record will have.
        end: u64,
    },
    /// A room has aggregates in two partitions.
    #[error("room {room}: aggregates in partition {first} and in partition {second}")]
    Scattered {
        /// The room.
        room: RoomName,
        /// One of them.
        first: u32,
        /// The other.
        second: u32,
    },
    /// A record of `aggregates` whose key is no room. Its readers pass it over.
    #[error("partition {partition}: the key of the aggregate at {offset} is not a room")]
    Alien {
        /// The partition.
        partition: u32,
        /// Its offset in `aggregates`.
        offset: u64,
    },
    /// A window has more than one record in `windows`.
    #[error("room {room}: two records of the window of seq {seq}")]
    WindowTwice {
        /// The room.
        room: RoomName,
        /// The window.
        seq: u64,
    },
    /// A window with reactions has no record in `windows`.
    #[error("room {room}: the window of seq {seq} is missing")]
    WindowMissing {
        /// The room.
        room: RoomName,
        /// The window.
        seq: u64,
    },
    /// The windows of a life are not its total, or are spread over other reactions.
    #[error("room {room}: total {total} at seq {seq}, {sum} in its windows")]
    WindowSum {
        /// The room.
        room: RoomName,
        /// The aggregate.
        seq: u64,
        /// Its total.
        total: u64,
        /// The sum of the windows that are left.
        sum: u64,
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

impl Finding {
    /// The room, where it is about one.
    pub fn room(&self) -> Option<&RoomName> {
        match self {
            Self::Gap { .. } | Self::Overlap { .. } | Self::BeyondEnd { .. } | Self::Alien { .. } => None,
            Self::Unreadable { room, .. }
            | Self::Inconsistent { room, .. }
            | Self::WrongPartition { room, .. }
            | Self::Twice { room, .. }
            | Self::Seq { room, .. }
            | Self::Since { room, .. }
            | Self::TotalBack { room, .. }
            | Self::Total { room, .. }
            | Self::Totals { room }
            | Self::ForgottenWhileBusy { room }
            | Self::Uncounted { room, .. }
            | Self::Sum { room, .. }
            | Self::Misattributed { room, .. }
            | Self::Scattered { room, .. }
            | Self::WindowTwice { room, .. }
            | Self::WindowMissing { room, .. }
            | Self::WindowSum { room, .. }
            | Self::Miscounted { room, .. } => Some(room),
        }
    }

    /// The partition, where it is about one as a whole.
    pub fn partition(&self) -> Option<u32> {
        match self {
            Self::Gap { partition, .. }
            | Self::Overlap { partition, .. }
            | Self::BeyondEnd { partition, .. }
            | Self::Alien { partition, .. } => Some(*partition),
            _ => None,
        }
    }

    /// A name for programs that read reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::Inconsistent { .. } => "inconsistent",
            Self::WrongPartition { .. } => "wrong_partition",
            Self::Gap { .. } => "gap",
            Self::Overlap { .. } => "overlap",
            Self::Twice { .. } => "twice",
            Self::Seq { .. } => "seq",
            Self::Since { .. } => "since",
            Self::TotalBack { .. } => "total_back",
            Self::Total { .. } => "total",
            Self::Totals { .. } => "totals",
            Self::ForgottenWhileBusy { .. } => "forgotten_while_busy",
            Self::Uncounted { .. } => "uncounted",
            Self::Sum { .. } => "sum",
            Self::Misattributed { .. } => "misattributed",
            Self::BeyondEnd { .. } => "beyond_end",
            Self::Alien { .. } => "alien",
            Self::Scattered { .. } => "scattered",
            Self::WindowTwice { .. } => "window_twice",
            Self::WindowMissing { .. } => "window_missing",
            Self::WindowSum { .. } => "window_sum",
            Self::Miscounted { .. } => "miscounted",
        }
    }
}
