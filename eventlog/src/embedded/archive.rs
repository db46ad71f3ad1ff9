//! Reads the log once, for auditors: beside the process that writes to it, or as a stopped or killed process left it.
//!
//! Of each partition, `rollup.db` is read first and then one state of `reactions.db`. A record is synced before it is rolled up, so
//! the reactions reach at least as far as the aggregates say.

use super::{
    database::{self, StoreError},
    reactions,
    rollup::{self, NewestOfRoom},
};
use crate::{
    EmbeddedConfig, OpenError, Record,
    history::{History, HistoryAggregate, HistorySpan, Records},
    windows::{FollowedWindow, table},
};
use rusqlite::Connection;
use std::{cell::RefCell, collections::VecDeque, fs, ops::Range, path::PathBuf};
use wire::Aggregate;

/// Records are read in steps of so many bytes.
const READ_BYTES: usize = 4 << 20;

/// The log, to be read once.
pub(crate) struct EmbeddedArchive {
    reactions: ArchivedFile,
    rollup: ArchivedFile,
    partitions: u32,
    /// Of the partition that was asked for last.
    newest: RefCell<Option<(u32, Vec<NewestOfRoom>)>>,
}

struct ArchivedFile {
    path: PathBuf,
    conn: Connection,
}

impl ArchivedFile {
    fn open(path: PathBuf) -> Result<Self, OpenError> {
        let invalid =
            |error: &dyn std::fmt::Display| OpenError::Invalid(format!("{}: {error}", path.display()));
        // SQLite doesn't say why it can't open a file.
        fs::metadata(&path).map_err(|error| invalid(&error))?;
        let conn = database::reader(&path).map_err(|error| invalid(&error))?;
        Ok(Self { path, conn })
    }

    fn broken(&self, error: impl Into<StoreError>) -> OpenError {
        self.unreadable(&error.into())
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> OpenError {
        OpenError::Invalid(format!("{} can't be read: {error}", self.path.display()))
    }
}

impl EmbeddedArchive {
    pub(crate) fn open(config: &EmbeddedConfig) -> Result<Self, OpenError> {
        let rollup = ArchivedFile::open(config.dir.join(rollup::FILE))?;
        let reactions = ArchivedFile::open(config.dir.join(reactions::FILE))?;
        let partitions = database::partitions(&rollup.conn).map_err(|error| rollup.broken(error))?;
        Ok(Self { reactions, rollup, partitions, newest: RefCell::new(None) })
    }

    /// Reads how far a partition is rolled up, and keeps its newest aggregates in the order in which they were committed.
    fn read_rollup(&self, partition: u32) -> Result<u64, OpenError> {
        let (committed, mut newest) =
            rollup::newest_of(&self.rollup.conn, partition).map_err(|error| self.rollup.broken(error))?;
        // One commit may hold several windows of a partition.
        newest.sort_by_cached_key(|row| {
            let cut = Aggregate::decode(&row.value).map_or(0, |aggregate| aggregate.source.to);
            (row.commit, cut, row.room.clone())
        });
        self.newest.replace(Some((partition, newest)));
        Ok(committed)
    }

    /// Ends the state of `reactions.db` that was read before, and begins to read the one of now.
    fn read_reactions(&self, partition: u32) -> rusqlite::Result<Range<u64>> {
        let conn = &self.reactions.conn;
        // While it is read, its WAL can't start again. So it is one partition at a time.
        conn.execute_batch(if conn.is_autocommit() { "begin" } else { "commit; begin" })?;
        reactions::span(conn, partition)
    }
}

impl History for EmbeddedArchive {
    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn size(&self) -> Result<u64, OpenError> {
        let rooms = rollup::rooms(&self.rollup.conn).map_err(|error| self.rollup.broken(error))?;
        let spans = reactions::spans(&self.reactions.conn, self.partitions)
            .map_err(|error| self.reactions.broken(error))?;
        Ok(rooms + spans.iter().map(|span| span.end - span.start).sum::<u64>())
    }

    fn span(&self, partition: u32) -> Result<HistorySpan, OpenError> {
        let committed = self.read_rollup(partition)?;
        let reactions = self.read_reactions(partition).map_err(|error| self.reactions.broken(error))?;
        Ok(HistorySpan { aggregates: 0..u64::MAX, reactions, committed: Some(committed) })
    }

    fn aggregates<'a>(
        &'a self,
        partition: u32,
        _: &HistorySpan,
    ) -> Result<Records<'a, HistoryAggregate>, OpenError> {
        if self.newest.borrow().as_ref().is_none_or(|(of, _)| *of != partition) {
            self.read_rollup(partition)?;
        }
        let newest = self.newest.borrow().as_ref().map(|(_, newest)| newest.clone()).unwrap_or_default();
        Ok(Box::new(newest.into_iter().zip(0..).map(|(NewestOfRoom { room, value, .. }, offset)| {
            Ok(HistoryAggregate { offset, room: Some(room), value: Some(value) })
        })))
    }

    fn reactions<'a>(&'a self, partition: u32, span: &HistorySpan) -> Result<Records<'a, Record>, OpenError> {
        let offsets = span.reactions.clone();
        Ok(Box::new(Rows { archive: self, partition, offsets, records: VecDeque::new() }))
    }

    fn windows(
        &self,
        partition: u32,
        since_ms: u64,
    ) -> Result<Option<Records<'_, FollowedWindow>>, OpenError> {
        let windows = table::Windows::new(&self.rollup.conn, partition, since_ms);
        Ok(Some(Box::new(windows.map(|window| window.map_err(|error| self.rollup.unreadable(&error))))))
    }
}

/// The records of a partition, step by step.
struct Rows<'a> {
    archive: &'a EmbeddedArchive,
    partition: u32,
    /// What was not read yet.
    offsets: Range<u64>,
    records: VecDeque<Record>,
}

impl Iterator for Rows<'_> {
    type Item = Result<Record, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.records.is_empty() && !self.offsets.is_empty() {
            let file = &self.archive.reactions;
            let end = self.offsets.end;
            match reactions::read(&file.conn, self.partition, self.offsets.clone(), READ_BYTES) {
                Ok(records) => self.records = records.into(),
                Err(error) => {
                    self.offsets = end..end;
                    return Some(Err(file.broken(error)));
                }
            }
            self.offsets.start = self.records.back().map_or(end, |last| last.offset + 1);
        }
        self.records.pop_front().map(Ok)
    }
}
