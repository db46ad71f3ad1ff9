//! Files of older formats, which had reactions in the database too: these become segments of the journal.
//!
//! An upgrade that was cut short is begun anew: until it is complete, the database is as it was.

use super::{
    journal::{Journal, JournalError, Mark, Medium},
    row::{Group, Header},
    store::{COMMITTED, FORMAT, META, NEWEST, StoreError},
};
use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
};

/// Group number, row.
const GROUPS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("groups");
/// Partition, next offset, committed offset.
const OFFSETS: TableDefinition<'_, u32, (u64, u64)> = TableDefinition::new("offsets");
const MARKS: TableDefinition<'_, u64, Vec<u64>> = TableDefinition::new("marks");
/// Format 1 had aggregates by room,
const BY_ROOM: TableDefinition<'_, &str, (u32, u64, &[u8])> = TableDefinition::new("aggregates");
/// and format 2 by partition and text.
const BY_TEXT: TableDefinition<'_, (u32, &str), (u64, &[u8])> = TableDefinition::new("newest");

/// Brings a database of format 1 or 2 to this one, with its rows as a journal in the folder `segments`.
pub(super) fn run(db: &Database, segments: &Path, partitions: u32) -> Result<(), StoreError> {
    with_each(segments, |path| fs::remove_file(path))?;
    let read = db.begin_read()?;
    let mut offsets = vec![(0, 0); partitions as usize];
    for row in read.open_table(OFFSETS)?.iter()? {
        let (partition, row) = row?;
        if let Some(offsets) = offsets.get_mut(partition.value() as usize) {
            *offsets = row.value();
        }
    }
    let groups = read.open_table(GROUPS)?;
    let start = start(&groups, offsets.iter().map(|(next, _)| *next).collect())?;
    // Synced at the end, as nothing depends on it before.
    let unsynced = Medium { sync: Arc::new(|_| Ok(())), ..Medium::default() };
    let mut journal = Journal::create(segments, start, unsynced)?;
    for row in groups.iter()? {
        journal.append(&Group::decode(Bytes::copy_from_slice(row?.1.value()))?)?;
    }
    drop(journal);
    with_each(segments, |path| File::open(path)?.sync_all())?;
    let tx = db.begin_write()?;
    write(&tx, &offsets)?;
    Ok(tx.commit()?)
}

/// Where the log stood before its oldest row, from where it stands now.
fn start(groups: &impl ReadableTable<u64, &'static [u8]>, next: Vec<u64>) -> Result<Mark, StoreError> {
    let mut mark = Mark { group: 0, timestamp_ms: 0, offsets: next };
    for row in groups.iter()?.rev() {
        let (number, row) = row?;
        let header = Header::decode(row.value())?;
        (mark.group, mark.timestamp_ms) = (number.value(), header.timestamp_ms);
        for (partition, first_offset, _) in header.parts {
            if let Some(offset) = mark.offsets.get_mut(partition as usize) {
                *offset = first_offset;
            }
        }
    }
    Ok(mark)
}

fn write(tx: &WriteTransaction, offsets: &[(u64, u64)]) -> Result<(), StoreError> {
    let mut committed = tx.open_table(COMMITTED)?;
    for (partition, (_, offset)) in (0..).zip(offsets) {
        committed.insert(partition, offset)?;
    }
    let mut aggregates = Vec::new();
    for row in tx.open_table(BY_ROOM)?.iter()? {
        let (room, row) = row?;
        let (partition, commit, value) = row.value();
        aggregates.push((partition, room.value().to_owned(), commit, value.to_owned()));
    }
    // Its name is taken by the table of now.
    tx.delete_table(BY_ROOM)?;
    for row in tx.open_table(BY_TEXT)?.iter()? {
        let (key, row) = row?;
        let ((partition, room), (commit, value)) = (key.value(), row.value());
        aggregates.push((partition, room.to_owned(), commit, value.to_owned()));
    }
    tx.delete_table(BY_TEXT)?;
    let mut newest = tx.open_table(NEWEST)?;
    for (partition, room, commit, value) in &aggregates {
        newest.insert((*partition, room.as_bytes()), (*commit, &value[..]))?;
    }
    tx.delete_table(GROUPS)?;
    tx.delete_table(OFFSETS)?;
    tx.delete_table(MARKS)?;
    tx.open_table(META)?.insert("format", FORMAT)?;
    Ok(())
}

/// Does something with each file of a folder.
fn with_each(dir: &Path, act: impl Fn(&Path) -> io::Result<()>) -> Result<(), JournalError> {
    let in_dir = |error| JournalError::io(dir, error);
    for entry in fs::read_dir(dir).map_err(in_dir)? {
        let path = entry.map_err(in_dir)?.path();
        act(&path).map_err(|error| JournalError::io(&path, error))?;
    }
    Ok(())
}
