//! Reads what a log keeps, once, and changes nothing: no group is joined, no offset committed, nothing created.
//!
//! For auditors. All of it blocks. Partition by partition: first [`History::span`], which says up to where there are
//! committed records now, then the records up to there.

use crate::{
    Config, LogKind, OpenError, Record, embedded::EmbeddedArchive, kafka::KafkaHistory,
    windows::FollowedWindow,
};
use bytes::Bytes;
use std::ops::Range;
use wire::RoomName;

/// Records in the order of the log, until one can't be read.
pub type Records<'a, T> = Box<dyn Iterator<Item = Result<T, OpenError>> + 'a>;

/// A log that is read once. One iterator of each topic at a time; windows take the place of aggregates.
pub trait History {
    /// How many partitions it has.
    fn partitions(&self) -> u32;

    /// How many records both topics hold, at the most.
    fn size(&self) -> Result<u64, OpenError>;

    /// What there is in a partition now.
    fn span(&self, partition: u32) -> Result<HistorySpan, OpenError>;

    /// What is left of a partition of `aggregates`, up to the end of `span`, committed records only.
    fn aggregates<'a>(
        &'a self,
        partition: u32,
        span: &HistorySpan,
    ) -> Result<Records<'a, HistoryAggregate>, OpenError>;

    /// What is left of a partition of `reactions`, up to the end of `span`.
    fn reactions<'a>(&'a self, partition: u32, span: &HistorySpan) -> Result<Records<'a, Record>, OpenError>;

    /// What is left of a partition of `windows`, up to its end as it is now, committed records only. Windows that were
    /// committed before `since_ms` (ms since the epoch) may be left out. `None`: the log keeps no windows.
    fn windows(
        &self,
        _partition: u32,
        _since_ms: u64,
    ) -> Result<Option<Records<'_, FollowedWindow>>, OpenError> {
        Ok(None)
    }
}

/// What there is in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistorySpan {
    /// Offsets of `aggregates`, oldest and next; some of them may be gone.
    pub aggregates: Range<u64>,
    /// Offsets of `reactions`, oldest and next. It reaches at least as far as the windows in `aggregates` say.
    pub reactions: Range<u64>,
    /// Where the last window was cut, where the log says so apart from its aggregates.
    pub committed: Option<u64>,
}

/// A record of `aggregates`. Nothing in it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryAggregate {
    /// Its offset, or its place in the order.
    pub offset: u64,
    /// The room; `None` where the key is no room.
    pub room: Option<RoomName>,
    /// The aggregate; `None` is a tombstone.
    pub value: Option<Bytes>,
}

/// Opens the log that the config names, which has to be there. Blocks.
pub fn history(config: &Config) -> Result<Box<dyn History>, OpenError> {
    match config.kind {
        LogKind::Embedded => Ok(Box::new(EmbeddedArchive::open(&config.embedded)?)),
        LogKind::Kafka => Ok(Box::new(KafkaHistory::open(&config.kafka)?)),
    }
}
