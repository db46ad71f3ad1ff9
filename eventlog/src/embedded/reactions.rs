//! `reactions.db`: the records of `reactions`, a row each.

use super::{
    database::{int, roll_back, uint},
    recent::Group,
};
use crate::Record;
use bytes::Bytes;
use rusqlite::{Connection, Statement, params};
use std::ops::Range;

pub(super) const FILE: &str = "reactions.db";

pub(super) const SCHEMA: &str = "
create table meta (key text primary key, value) without rowid;
create table reactions (
  partition integer not null,
  offset integer not null,
  at_ms integer not null,
  value blob not null,
  primary key (partition, offset)
) without rowid;
";

/// By partition: the oldest offset, and the one after the newest. Both are 0 where there was never a record, because the
/// newest record of a partition is never trimmed.
pub(super) fn spans(conn: &Connection, partitions: u32) -> rusqlite::Result<Vec<Range<u64>>> {
    (0..partitions).map(|partition| span(conn, partition)).collect()
}

/// The same of one partition.
pub(super) fn span(conn: &Connection, partition: u32) -> rusqlite::Result<Range<u64>> {
    const ENDS: &str = "select
        (select offset from reactions where partition = ?1 order by offset limit 1),
        (select offset from reactions where partition = ?1 order by offset desc limit 1)";
    let ends = conn.query_row(ENDS, params![partition], |row| {
        Ok(Option::zip(row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?))
    })?;
    Ok(ends.map_or(0..0, |(oldest, newest)| uint(oldest)..uint(newest) + 1))
}

/// Records of a partition with these offsets, some `bytes_max` of them: one at least, if there is one.
pub(super) fn read(
    conn: &Connection,
    partition: u32,
    offsets: Range<u64>,
    bytes_max: usize,
) -> rusqlite::Result<Vec<Record>> {
    const RECORDS: &str = "select offset, at_ms, value from reactions
        where partition = ?1 and offset >= ?2 and offset < ?3 order by offset";
    let mut records = conn.prepare(RECORDS)?;
    let mut rows = records.query(params![partition, int(offsets.start), int(offsets.end)])?;
    let (mut read, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let value = Bytes::from(row.get::<_, Vec<u8>>(2)?);
        bytes += size_of::<Record>() + value.len();
        read.push(Record { offset: uint(row.get(0)?), timestamp_ms: uint(row.get(1)?), value });
        if bytes >= bytes_max {
            break;
        }
    }
    Ok(read)
}

/// What may be trimmed of a partition.
pub(super) struct Trim {
    pub(super) partition: u32,
    /// Only records before this offset.
    pub(super) before: u64,
    /// Only records whose time is further than `retention_ms` from this.
    pub(super) now_ms: u64,
    pub(super) retention_ms: u64,
}

/// Why a group was not written.
pub(super) enum Failure {
    /// No part of it is in the file, nor will be.
    NotWritten(rusqlite::Error),
    /// It may be in the file.
    Unknown(rusqlite::Error),
}

/// The connection that writes, with its statements.
pub(super) struct Appending<'c> {
    conn: &'c Connection,
    begin: Statement<'c>,
    insert: Statement<'c>,
    oldest: Statement<'c>,
    delete: Statement<'c>,
    commit: Statement<'c>,
}

impl<'c> Appending<'c> {
    pub(super) fn new(conn: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            conn,
            begin: conn.prepare("begin immediate")?,
            insert: conn
                .prepare("insert into reactions (partition, offset, at_ms, value) values (?1, ?2, ?3, ?4)")?,
            oldest: conn.prepare(
                "select offset, at_ms from reactions where partition = ?1 and offset < ?2 order by offset limit ?3",
            )?,
            delete: conn.prepare("delete from reactions where partition = ?1 and offset <= ?2")?,
            commit: conn.prepare("commit")?,
        })
    }

    /// Writes a group and trims in one transaction, synced. Removes `trims_max` records at the most; those of `trims` that may have more to
    /// remove stay in it.
    pub(super) fn append(
        &mut self,
        group: &Group,
        trims: &mut Vec<Trim>,
        trims_max: usize,
    ) -> Result<(), Failure> {
        if let Err(error) = self.write(group, trims, trims_max) {
            roll_back(self.conn);
            // Without the last frame of a commit, whatever is in the WAL counts for nothing.
            return Err(Failure::NotWritten(error));
        }
        match self.commit.execute([]) {
            Ok(_) => Ok(()),
            Err(error) => {
                roll_back(self.conn);
                // The disk was full for a frame, so the commit's last frame is not whole. Other errors may come after it.
                let is_full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
                Err(if is_full { Failure::NotWritten(error) } else { Failure::Unknown(error) })
            }
        }
    }

    /// Whether the file takes a commit.
    pub(super) fn probe(&mut self) -> rusqlite::Result<()> {
        let probe = "begin immediate; insert or replace into meta values ('probe', random()); commit";
        self.conn.execute_batch(probe).inspect_err(|_| roll_back(self.conn))
    }

    fn write(&mut self, group: &Group, trims: &mut Vec<Trim>, trims_max: usize) -> rusqlite::Result<()> {
        self.begin.execute([])?;
        for (partition, record) in group {
            let (offset, at_ms) = (int(record.offset), int(record.timestamp_ms));
            self.insert.execute(params![partition, offset, at_ms, &record.value[..]])?;
        }
        let mut left = trims_max;
        while let Some(trim) = trims.last().filter(|_| left > 0) {
            let removed = self.trim(trim, left)?;
            let is_done = removed < left;
            // To find nothing takes time too.
            left -= removed.max(1);
            if is_done {
                trims.pop();
            }
        }
        Ok(())
    }

    /// Removes from the front of a partition, `most` records at the most, and says how many.
    fn trim(&mut self, trim: &Trim, most: usize) -> rusqlite::Result<usize> {
        let mut rows = self.oldest.query(params![
            trim.partition,
            int(trim.before),
            i64::try_from(most).unwrap_or(i64::MAX)
        ])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            // A record from the future is no younger: a clock was wrong, and it must not keep those behind it.
            if uint(row.get(1)?).abs_diff(trim.now_ms) <= trim.retention_ms {
                break;
            }
            last = Some(row.get::<_, i64>(0)?);
        }
        drop(rows);
        match last {
            Some(last) => self.delete.execute(params![trim.partition, last]),
            None => Ok(0),
        }
    }
}
