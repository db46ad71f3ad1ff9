//! The file: tables of the log in redb, and what is read and written in one transaction.
//!
//! | table | key | value |
//! |---|---|---|
//! | `groups` | group number, contiguous | a row (see `row`) |
//! | `offsets` | partition | next offset, committed offset |
//! | `newest` | partition, room | number of the commit, newest aggregate |
//! | `marks` | every 256th group number | next offset of each partition before that group |
//! | `meta` | name | number |
//!
//! The newest row is never trimmed: it holds the group number and the time that the log goes on with. Offsets have a
//! table of their own, so that a trimmed log forgets none. Aggregates lie by partition, as they are committed by partition:
//! a commit then writes few pages.

use super::row::{Group, Header, RowError};
use crate::Cut;
use bytes::Bytes;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::sync::Arc;
use wire::RoomName;

const GROUPS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("groups");
const OFFSETS: TableDefinition<'_, u32, (u64, u64)> = TableDefinition::new("offsets");
const NEWEST: TableDefinition<'_, (u32, &str), (u64, &[u8])> = TableDefinition::new("newest");
const MARKS: TableDefinition<'_, u64, Vec<u64>> = TableDefinition::new("marks");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

const FORMAT: u64 = 2;
/// A mark stands before every so many groups.
const MARK_GROUPS: u64 = 256;
/// Rows that are trimmed with one write, at the most: more than one is written, so that the disk stays flat, and few,
/// so that no write is slow.
const TRIM_STEP: usize = 8;

/// What goes wrong in the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("{0}")]
    Redb(redb::Error),
    #[error("{0}")]
    Row(#[from] RowError),
    #[error("a key of table newest is no room name: {0:?}")]
    Room(String),
    #[error("it was made with {key} {found}, this is {expected}")]
    Differs { key: &'static str, found: u64, expected: u64 },
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Redb(error.into())
    }
}

pub(super) struct Store {
    db: Database,
}

/// Where the log goes on. Kept by the writing thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) next_group: u64,
    pub(super) next_commit: u64,
    /// No record is stamped earlier.
    pub(super) last_timestamp_ms: u64,
    /// By partition.
    pub(super) offsets: Vec<Offsets>,
    /// The oldest row, where it is known.
    pub(super) oldest: Option<(u64, Header)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Offsets {
    pub(super) next: u64,
    pub(super) committed: u64,
}

/// A room's newest aggregate.
pub(super) struct NewestOfRoom {
    pub(super) room: RoomName,
    pub(super) partition: u32,
    /// Number of the commit that wrote it.
    pub(super) commit: u64,
    pub(super) value: Bytes,
}

/// Rows that are consumed and older than this are trimmed.
#[derive(Debug, Clone, Copy)]
pub(super) struct TrimBefore(pub(super) u64);

impl Store {
    /// Takes over a database: a new one is made a log of so many partitions, and an old one must be one.
    pub(super) fn prepare(db: Database, partitions: u32) -> Result<(Self, Head), StoreError> {
        let store = Self { db };
        let tx = store.begin()?;
        let head = {
            let mut meta = tx.open_table(META)?;
            let format = meta.get("format")?.map(|value| value.value());
            if format == Some(1) {
                by_partition(&tx)?;
                meta.insert("format", FORMAT)?;
            }
            for (key, expected) in [("format", FORMAT), ("partitions", u64::from(partitions))] {
                let found = meta.get(key)?.map(|value| value.value());
                match found {
                    Some(found) if found != expected => {
                        return Err(StoreError::Differs { key, found, expected });
                    }
                    Some(_) => {}
                    None => drop(meta.insert(key, expected)?),
                }
            }
            let next_commit = meta.get("next_commit")?.map_or(0, |value| value.value());
            let (groups, table) = (tx.open_table(GROUPS)?, tx.open_table(OFFSETS)?);
            tx.open_table(NEWEST)?;
            tx.open_table(MARKS)?;
            let mut offsets = vec![Offsets::default(); partitions as usize];
            for row in table.iter()? {
                let (partition, row) = row?;
                let (next, committed) = row.value();
                if let Some(offsets) = offsets.get_mut(partition.value() as usize) {
                    *offsets = Offsets { next, committed };
                }
            }
            let newest = groups.last()?;
            let (next_group, last_timestamp_ms) = match newest {
                Some((number, row)) => (number.value() + 1, Header::decode(row.value())?.timestamp_ms),
                None => (0, 0),
            };
            Head { next_group, next_commit, last_timestamp_ms, offsets, oldest: None }
        };
        tx.commit()?;
        Ok((store, head))
    }

    /// How many partitions the log in a database has; `None` where there is none in it.
    pub(super) fn partitions(db: &Database) -> Result<Option<u32>, StoreError> {
        let meta = match db.begin_read()?.open_table(META) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            meta => meta?,
        };
        Ok(meta.get("partitions")?.and_then(|value| u32::try_from(value.value()).ok()))
    }

    fn begin(&self) -> Result<WriteTransaction, StoreError> {
        let mut tx = self.db.begin_write()?;
        // `commit` returns after the pages, and then the root that leads to them, were synced.
        tx.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
        Ok(tx)
    }

    /// Writes a group, synced, and moves the head past it. After an error the head can't be trusted.
    pub(super) fn write_group(
        &self,
        head: &mut Head,
        group: &Group,
        trim: TrimBefore,
    ) -> Result<(), StoreError> {
        let tx = self.begin()?;
        if head.next_group.is_multiple_of(MARK_GROUPS) {
            let next: Vec<u64> = head.offsets.iter().map(|offsets| offsets.next).collect();
            tx.open_table(MARKS)?.insert(head.next_group, next)?;
        }
        tx.open_table(GROUPS)?.insert(head.next_group, group.encode().as_slice())?;
        for part in &group.parts {
            head.offsets[part.partition as usize].next = part.next_offset();
        }
        head.next_group += 1;
        head.last_timestamp_ms = group.timestamp_ms;
        write_offsets(&tx, head, group.parts.iter().map(|part| part.partition))?;
        trim_oldest(&tx, head, trim)?;
        Ok(tx.commit()?)
    }

    /// Writes cuts, synced, and moves the head. After an error the head can't be trusted.
    pub(super) fn commit(&self, head: &mut Head, cuts: &[Cut], trim: TrimBefore) -> Result<(), StoreError> {
        let tx = self.begin()?;
        {
            let mut table = tx.open_table(NEWEST)?;
            for cut in cuts {
                head.offsets[cut.partition as usize].committed = cut.next_offset;
                for (room, value) in &cut.aggregates {
                    match value {
                        Some(value) => {
                            drop(table.insert((cut.partition, &**room), (head.next_commit, &**value))?);
                        }
                        None => drop(table.remove((cut.partition, &**room))?),
                    }
                }
            }
        }
        head.next_commit += 1;
        tx.open_table(META)?.insert("next_commit", head.next_commit)?;
        write_offsets(&tx, head, cuts.iter().map(|cut| cut.partition))?;
        trim_oldest(&tx, head, trim)?;
        Ok(tx.commit()?)
    }

    /// The groups from number `from` on that are still there, with their numbers; some `bytes_max`, one at least.
    pub(super) fn read_groups(
        &self,
        from: u64,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Arc<Group>)>, StoreError> {
        let table = self.db.begin_read()?.open_table(GROUPS)?;
        let (mut groups, mut bytes) = (Vec::new(), 0);
        for row in table.range(from..)? {
            let (number, row) = row?;
            bytes += row.value().len();
            if bytes > bytes_max && !groups.is_empty() {
                break;
            }
            let group = Group::decode(Bytes::copy_from_slice(row.value()))?;
            groups.push((number.value(), Arc::new(group)));
        }
        Ok(groups)
    }

    /// A group before which there is nothing but what lies below `committed` (by partition), and not long before the
    /// first that holds more.
    pub(super) fn first_group(&self, committed: &[u64]) -> Result<u64, StoreError> {
        let tx = self.db.begin_read()?;
        for mark in tx.open_table(MARKS)?.iter()?.rev() {
            let (number, next) = mark?;
            if next.value().iter().zip(committed).all(|(next, committed)| next <= committed) {
                return Ok(number.value());
            }
        }
        Ok(tx.open_table(GROUPS)?.first()?.map_or(0, |(number, _)| number.value()))
    }

    /// The offset of the oldest record of a partition that is left.
    pub(super) fn oldest_offset(&self, partition: u32) -> Result<Option<u64>, StoreError> {
        let table = self.db.begin_read()?.open_table(GROUPS)?;
        for row in table.iter()? {
            let header = Header::decode(row?.1.value())?;
            let part = header.parts.iter().find(|(of, _, count)| *of == partition && *count > 0);
            if let Some((_, first_offset, _)) = part {
                return Ok(Some(*first_offset));
            }
        }
        Ok(None)
    }

    /// The newest aggregate of each room, and the number of the first commit that is not in it.
    pub(super) fn newest(&self) -> Result<(u64, Vec<NewestOfRoom>), StoreError> {
        let tx = self.db.begin_read()?;
        let next_commit = tx.open_table(META)?.get("next_commit")?.map_or(0, |value| value.value());
        let mut newest = Vec::new();
        for row in tx.open_table(NEWEST)?.iter()? {
            let (key, row) = row?;
            let ((partition, room), (commit, value)) = (key.value(), row.value());
            let room = room.parse().map_err(|_| StoreError::Room(room.to_owned()))?;
            newest.push(NewestOfRoom { room, partition, commit, value: Bytes::copy_from_slice(value) });
        }
        Ok((next_commit, newest))
    }
}

/// Format 1 had aggregates by room, all over the file.
fn by_partition(tx: &WriteTransaction) -> Result<(), StoreError> {
    const BY_ROOM: TableDefinition<'_, &str, (u32, u64, &[u8])> = TableDefinition::new("aggregates");
    let mut newest = tx.open_table(NEWEST)?;
    for row in tx.open_table(BY_ROOM)?.iter()? {
        let (room, row) = row?;
        let (partition, commit, value) = row.value();
        newest.insert((partition, room.value()), (commit, value))?;
    }
    tx.delete_table(BY_ROOM)?;
    Ok(())
}

fn write_offsets(
    tx: &WriteTransaction,
    head: &Head,
    partitions: impl Iterator<Item = u32>,
) -> Result<(), StoreError> {
    let mut table = tx.open_table(OFFSETS)?;
    for partition in partitions {
        let Offsets { next, committed } = head.offsets[partition as usize];
        table.insert(partition, (next, committed))?;
    }
    Ok(())
}

/// Removes some of the oldest rows, as long as they may go.
fn trim_oldest(tx: &WriteTransaction, head: &mut Head, trim: TrimBefore) -> Result<(), StoreError> {
    // Most of the time the oldest row has to stay, and the disk need not be asked.
    if head.oldest.as_ref().is_some_and(|(number, header)| !may_go(head, *number, header, trim)) {
        return Ok(());
    }
    head.oldest = None;
    let mut groups = tx.open_table(GROUPS)?;
    for _ in 0..TRIM_STEP {
        let oldest = groups.first()?.map(|(number, row)| (number.value(), Header::decode(row.value())));
        let Some((number, header)) = oldest else { break };
        let header = header?;
        if !may_go(head, number, &header, trim) {
            head.oldest = Some((number, header));
            break;
        }
        groups.remove(number)?;
        if number.is_multiple_of(MARK_GROUPS) {
            tx.open_table(MARKS)?.remove(number)?;
        }
    }
    Ok(())
}

/// A row may be trimmed when it is consumed and old, and not the newest.
fn may_go(head: &Head, number: u64, header: &Header, trim: TrimBefore) -> bool {
    let mut parts = header.parts.iter();
    number + 1 < head.next_group
        && header.timestamp_ms < trim.0
        && parts.all(|(partition, first, count)| {
            let offsets = head.offsets.get(*partition as usize);
            offsets.is_some_and(|offsets| first + count <= offsets.committed)
        })
}
