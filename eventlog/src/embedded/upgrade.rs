//! Files of older formats. The first two had reactions in the database too: these become segments of the journal. The third, as
//! they, had a row for each room's aggregate.
//!
//! An upgrade that was cut short is begun anew: until it is complete, the database is as it was.

use super::{
    block::{self, Entry},
    blocks::Blocks,
    journal::{Journal, JournalError, Mark, Medium},
    live::Live,
    row::{Group, Header},
    store::{BLOCKS, COMMITTED, FORMAT, META, StoreError},
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
/// format 2 by partition and text,
const BY_TEXT: TableDefinition<'_, (u32, &str), (u64, &[u8])> = TableDefinition::new("newest");
/// and format 3 by partition and bytes.
const BY_BYTES: ByBytes = TableDefinition::new("aggregates");

type ByBytes = TableDefinition<'static, (u32, &'static [u8]), (u64, &'static [u8])>;

/// Brings a database of an earlier format to this one. The rows of the first two become a journal in the folder `segments`.
pub(super) fn run(db: &Database, format: u64, segments: &Path, partitions: u32) -> Result<(), StoreError> {
    let offsets = if format < 3 { Some(reactions(db, segments, partitions)?) } else { None };
    let tx = db.begin_write()?;
    if let Some(offsets) = offsets {
        let mut committed = tx.open_table(COMMITTED)?;
        for (partition, (_, offset)) in (0..).zip(offsets) {
            committed.insert(partition, offset)?;
        }
        tx.delete_table(GROUPS)?;
        tx.delete_table(OFFSETS)?;
        tx.delete_table(MARKS)?;
    }
    let mut live = Live::new(partitions);
    let mut blocks = Blocks::new(tx.open_table(BLOCKS)?, &mut live);
    for entry in aggregates(&tx, format)? {
        blocks.add(&entry)?;
    }
    blocks.finish()?;
    tx.open_table(META)?.insert("format", FORMAT)?;
    Ok(tx.commit()?)
}

/// Makes a journal of the rows. Gives next and committed offset of each partition.
fn reactions(db: &Database, segments: &Path, partitions: u32) -> Result<Vec<(u64, u64)>, StoreError> {
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
    Ok(offsets)
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

/// Takes the aggregates out of their table.
fn aggregates(tx: &WriteTransaction, format: u64) -> Result<Vec<Entry>, StoreError> {
    let mut entries = Vec::new();
    let mut add = |partition, room: &[u8], commit, value: &[u8]| {
        let (room, value) = (block::room(room)?, Some(Bytes::copy_from_slice(value)));
        entries.push(Entry { partition, commit, room, value });
        Ok::<_, StoreError>(())
    };
    match format {
        1 => {
            for row in tx.open_table(BY_ROOM)?.iter()? {
                let (room, row) = row?;
                let (partition, commit, value) = row.value();
                add(partition, room.value().as_bytes(), commit, value)?;
            }
            tx.delete_table(BY_ROOM)?;
        }
        2 => {
            for row in tx.open_table(BY_TEXT)?.iter()? {
                let (key, row) = row?;
                let ((partition, room), (commit, value)) = (key.value(), row.value());
                add(partition, room.as_bytes(), commit, value)?;
            }
            tx.delete_table(BY_TEXT)?;
        }
        _ => {
            for row in tx.open_table(BY_BYTES)?.iter()? {
                let (key, row) = row?;
                let ((partition, room), (commit, value)) = (key.value(), row.value());
                add(partition, room, commit, value)?;
            }
            tx.delete_table(BY_BYTES)?;
        }
    }
    Ok(entries)
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
