//! The SQLite table of windows: the embedded log has it in its own file, and the index of a log that can't be searched.
//!
//! Rows are numbered in the order of the log. So new rows go to the end of the table and old ones leave at its beginning,
//! and only the index by room is written at random places.

use super::{ArchiveError, FollowedWindow, Searched, WindowQuery};
use rusqlite::{Connection, ErrorCode, Statement, params};
use std::collections::VecDeque;
use wire::{RoomName, Window, WindowRecord};

pub(crate) const SCHEMA: &str = "
create table windows (
  number integer primary key,
  partition integer not null,
  room text not null,
  start_ms integer not null,
  end_ms integer not null,
  value blob not null
);
create index windows_of_room on windows (room, start_ms);
";

/// How many of the newest windows are looked through for those of one partition.
const LATELY: u32 = 1_000;
/// Rows that are read at a time.
const STEP_ROWS: u32 = 1_000;

/// Adds windows. Runs within a transaction of the caller.
pub(crate) struct Inserting<'c>(Statement<'c>);

impl<'c> Inserting<'c> {
    pub(crate) fn new(conn: &'c Connection) -> rusqlite::Result<Self> {
        const INSERT: &str =
            "insert into windows (partition, room, start_ms, end_ms, value) values (?1, ?2, ?3, ?4, ?5)";
        conn.prepare(INSERT).map(Self)
    }

    pub(crate) fn insert(
        &mut self,
        partition: u32,
        room: &RoomName,
        window: Window,
        value: &[u8],
    ) -> rusqlite::Result<()> {
        self.0.execute(params![partition, &**room, int(window.start), int(window.end), value])?;
        Ok(())
    }
}

/// Removes at most `most` of the oldest windows that ended before `before_ms`. Returns how many it removed. Runs in one
/// transaction, so a small `most` keeps the writer's pauses short.
pub(crate) fn trim(conn: &Connection, before_ms: u64, most: u32) -> rusqlite::Result<usize> {
    const TRIM: &str = "delete from windows where number in \
                        (select number from windows order by number limit ?1) and end_ms < ?2";
    conn.prepare(TRIM)?.execute(params![most, int(before_ms)])
}

/// The windows of one partition in the order of the log, read in steps. Those that ended before a time are left out.
pub(crate) struct Windows<'c> {
    conn: &'c Connection,
    partition: u32,
    since_ms: u64,
    /// The row after the last one that was read; `None` after the end or an error.
    next: Option<i64>,
    rows: VecDeque<FollowedWindow>,
}

impl<'c> Windows<'c> {
    pub(crate) fn new(conn: &'c Connection, partition: u32, since_ms: u64) -> Self {
        Self { conn, partition, since_ms, next: Some(i64::MIN), rows: VecDeque::new() }
    }

    /// Reads the next rows, whatever partition they are of: a step is as long as it is, however rare the partition's are.
    fn step(&mut self, from: i64) -> Result<Option<i64>, ArchiveError> {
        const STEP: &str = "select number, partition, room, end_ms, value from windows \
                            where number >= ?1 order by number limit ?2";
        let mut select = self.conn.prepare(STEP)?;
        let mut rows = select.query(params![from, STEP_ROWS])?;
        let mut next = None;
        while let Some(row) = rows.next()? {
            let number: i64 = row.get(0)?;
            next = Some(number + 1);
            if row.get::<_, u32>(1)? != self.partition || row.get::<_, i64>(3)? < int(self.since_ms) {
                continue;
            }
            let room: String = row.get(2)?;
            let room = room.parse();
            let room =
                room.map_err(|error| ArchiveError::Damaged(format!("window {number} has no room: {error}")))?;
            let value: Vec<u8> = row.get(4)?;
            let offset = number.cast_unsigned();
            self.rows.push_back(FollowedWindow {
                partition: self.partition,
                offset,
                room,
                value: value.into(),
            });
        }
        Ok(next)
    }
}

impl Iterator for Windows<'_> {
    type Item = Result<FollowedWindow, ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.rows.is_empty() {
            let from = self.next.take()?;
            match self.step(from) {
                Ok(next) => self.next = next,
                Err(error) => return Some(Err(error)),
            }
        }
        self.rows.pop_front().map(Ok)
    }
}

/// See [`super::WindowArchive::search`].
pub(crate) fn search(
    conn: &Connection,
    query: &WindowQuery<'_>,
    each: &mut dyn FnMut(WindowRecord),
) -> Result<Searched, ArchiveError> {
    // One state of the file for all statements.
    let tx = conn.unchecked_transaction()?;
    let WindowQuery { room, partition, span, max_windows } = query;
    let (start, end) = (int(span.start), int(span.end));
    // The index alone answers this, so that a refusal costs little.
    const COUNT: &str = "select count(*) from (select 1 from windows \
                         where room = ?1 and start_ms >= ?2 and start_ms < ?3 limit ?4)";
    let limit = int(*max_windows as u64 + 1);
    let found: u32 = tx.prepare(COUNT)?.query_row(params![&***room, start, end, limit], |row| row.get(0))?;
    if found as usize > *max_windows {
        return Err(ArchiveError::TooMany(*max_windows));
    }
    const SELECT: &str = "select value from windows \
                          where room = ?1 and start_ms >= ?2 and start_ms < ?3 order by start_ms, number";
    let mut select = tx.prepare(SELECT)?;
    let mut rows = select.query(params![&***room, start, end])?;
    while let Some(row) = rows.next()? {
        let value = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        let record = WindowRecord::decode_of(room, value);
        each(record.map_err(|error| ArchiveError::Damaged(format!("a window of room {room}: {error}")))?);
    }
    const KNOWN: &str = "select exists (select 1 from windows where room = ?1)";
    let is_known =
        found > 0 || tx.prepare(KNOWN)?.query_row(params![&***room], |row| row.get::<_, bool>(0))?;
    const REACHED: &str = "select max(start_ms) from (select partition, start_ms from windows \
                           order by number desc limit ?1) where partition = ?2";
    let reached_ms: Option<i64> =
        tx.prepare(REACHED)?.query_row(params![LATELY, partition], |row| row.get(0))?;
    Ok(Searched { is_known, reached_ms: reached_ms.map(i64::cast_unsigned) })
}

impl From<rusqlite::Error> for ArchiveError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// A number for a column. SQLite's integers have a sign; larger numbers than they hold become the largest.
pub(crate) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
