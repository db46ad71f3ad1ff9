//! `rollup.db`: each room's newest aggregate, how far each partition is rolled up, and the windows, which are the history.
//! `control` has the SQL of the orders.

use super::database::{StoreError, int, roll_back, uint};
use crate::{
    Cut,
    windows::table::{self, Inserting},
};
use bytes::Bytes;
use rusqlite::{Connection, Row, Statement, params};
use wire::{RoomName, WindowRecord};

pub(super) const FILE: &str = "rollup.db";

/// A commit removes at least so many old windows, if there are.
const TRIM_LEAST: u32 = 100;

pub(super) const SCHEMA: &str = "
create table meta (key text primary key, value) without rowid;
create table committed (partition integer primary key, next_offset integer not null);
create table aggregates (
  partition integer not null,
  room text not null,
  commit_no integer not null,
  value blob not null,
  primary key (partition, room)
) without rowid;
create table control (key text primary key, version integer not null, value blob not null) without rowid;
insert into meta (key, value) values ('next_commit', 0), ('control_version', 0);
";

/// What is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Committed {
    /// The number of the next commit.
    pub(super) next_commit: u64,
    /// By partition, the offset after the last record that is rolled up.
    pub(super) offsets: Vec<u64>,
}

/// A room's newest aggregate.
#[derive(Clone)]
pub(super) struct NewestOfRoom {
    pub(super) room: RoomName,
    pub(super) partition: u32,
    /// Number of the commit that wrote it.
    pub(super) commit: u64,
    pub(super) value: Bytes,
}

pub(super) fn committed(conn: &Connection, partitions: u32) -> rusqlite::Result<Committed> {
    let mut offsets = vec![0; partitions as usize];
    let mut rows = conn.prepare("select partition, next_offset from committed")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        if let Some(slot) = offsets.get_mut(row.get::<_, u32>(0)? as usize) {
            *slot = uint(row.get(1)?);
        }
    }
    Ok(Committed { next_commit: next_commit(conn)?, offsets })
}

fn next_commit(conn: &Connection) -> rusqlite::Result<u64> {
    conn.query_row("select value from meta where key = 'next_commit'", [], |row| row.get(0).map(uint))
}

/// The newest aggregate of each room, and the number of the first commit that is not in it.
pub(super) fn newest(conn: &Connection) -> Result<(u64, Vec<NewestOfRoom>), StoreError> {
    let tx = conn.unchecked_transaction()?;
    let next_commit = next_commit(&tx)?;
    let mut rows = tx.prepare("select partition, room, commit_no, value from aggregates")?;
    let newest = rows.query_map([], newest_of_room)?.map(|row| row?.try_into()).collect::<Result<_, _>>()?;
    Ok((next_commit, newest))
}

/// The same of one partition, with how far it is rolled up.
pub(super) fn newest_of(conn: &Connection, partition: u32) -> Result<(u64, Vec<NewestOfRoom>), StoreError> {
    let tx = conn.unchecked_transaction()?;
    const OFFSET: &str = "select coalesce(max(next_offset), 0) from committed where partition = ?1";
    let next_offset = tx.query_row(OFFSET, params![partition], |row| row.get(0).map(uint))?;
    let mut rows =
        tx.prepare("select partition, room, commit_no, value from aggregates where partition = ?1")?;
    let rows = rows.query_map(params![partition], newest_of_room)?;
    Ok((next_offset, rows.map(|row| row?.try_into()).collect::<Result<_, _>>()?))
}

/// How many rooms there are.
pub(super) fn rooms(conn: &Connection) -> rusqlite::Result<u64> {
    conn.query_row("select count(*) from aggregates", [], |row| row.get(0).map(uint))
}

/// A row of `aggregates`, whose room is not checked yet.
struct NewestRow {
    room: String,
    partition: u32,
    commit: u64,
    value: Vec<u8>,
}

fn newest_of_room(row: &Row<'_>) -> rusqlite::Result<NewestRow> {
    Ok(NewestRow { partition: row.get(0)?, room: row.get(1)?, commit: uint(row.get(2)?), value: row.get(3)? })
}

impl TryFrom<NewestRow> for NewestOfRoom {
    type Error = StoreError;

    fn try_from(row: NewestRow) -> Result<Self, StoreError> {
        let NewestRow { room, partition, commit, value } = row;
        let room = room
            .parse()
            .map_err(|_| StoreError::Damaged(format!("an aggregate is of {room:?}, which is no room")))?;
        Ok(Self { room, partition, commit, value: value.into() })
    }
}

/// The connection that writes, with its statements.
pub(super) struct Committing<'c> {
    conn: &'c Connection,
    begin: Statement<'c>,
    put: Statement<'c>,
    forget: Statement<'c>,
    offset: Statement<'c>,
    number: Statement<'c>,
    windows: Inserting<'c>,
    commit: Statement<'c>,
}

impl<'c> Committing<'c> {
    pub(super) fn new(conn: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            conn,
            begin: conn.prepare("begin immediate")?,
            put: conn.prepare(
                "insert or replace into aggregates (partition, room, commit_no, value) values (?1, ?2, ?3, ?4)",
            )?,
            forget: conn.prepare("delete from aggregates where partition = ?1 and room = ?2")?,
            offset: conn
                .prepare("insert or replace into committed (partition, next_offset) values (?1, ?2)")?,
            number: conn.prepare("update meta set value = ?1 where key = 'next_commit'")?,
            windows: Inserting::new(conn)?,
            commit: conn.prepare("commit")?,
        })
    }

    /// Writes cuts in one transaction, synced, and removes some of the windows that ended before `windows_from_ms`. After an error
    /// it is not known whether they are in the file.
    pub(super) fn commit(&mut self, number: u64, cuts: &[Cut], windows_from_ms: u64) -> rusqlite::Result<()> {
        self.write(number, cuts, windows_from_ms).inspect_err(|_| roll_back(self.conn))
    }

    fn write_windows(&mut self, partition: u32, windows: &[(RoomName, Bytes)]) -> rusqlite::Result<()> {
        // All records of a cut are of one window.
        let Some((_, first)) = windows.first() else { return Ok(()) };
        let first = WindowRecord::decode(first);
        let window = first.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?.window;
        for (room, value) in windows {
            self.windows.insert(partition, room, window, value)?;
        }
        Ok(())
    }

    fn write(&mut self, number: u64, cuts: &[Cut], windows_from_ms: u64) -> rusqlite::Result<()> {
        self.begin.execute([])?;
        for Cut { partition, next_offset, aggregates, windows, .. } in cuts {
            self.write_windows(*partition, windows)?;
            self.offset.execute(params![partition, int(*next_offset)])?;
            for (room, value) in aggregates {
                match value {
                    Some(value) => self.put.execute(params![partition, &**room, int(number), &value[..]])?,
                    None => self.forget.execute(params![partition, &**room])?,
                };
            }
        }
        // More than a commit adds, so that they get fewer, and not so many that it takes long.
        let added: usize = cuts.iter().map(|cut| cut.windows.len()).sum();
        let most = u32::try_from(added.saturating_mul(2)).unwrap_or(u32::MAX).max(TRIM_LEAST);
        table::trim(self.conn, windows_from_ms, most)?;
        self.number.execute(params![int(number + 1)])?;
        self.commit.execute([])?;
        Ok(())
    }
}
