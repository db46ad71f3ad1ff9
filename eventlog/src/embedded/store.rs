//! The file of the aggregates: tables in redb, and what is read and written in one transaction.
//!
//! | table | key | value |
//! |---|---|---|
//! | `committed` | partition | committed offset |
//! | `aggregates` | partition, room | number of the commit, newest aggregate |
//! | `meta` | name | number |
//!
//! Aggregates lie by partition, as they are committed by partition: a commit then writes few pages.

use super::{journal::JournalError, row::RowError};
use crate::Cut;
use bytes::Bytes;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use wire::RoomName;

pub(super) const COMMITTED: TableDefinition<'_, u32, u64> = TableDefinition::new("committed");
pub(super) const NEWEST: Newest = TableDefinition::new("aggregates");
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Names are bytes: to compare texts, redb checks each time that they are UTF-8.
type Newest = TableDefinition<'static, (u32, &'static [u8]), (u64, &'static [u8])>;

pub(super) const FORMAT: u64 = 3;

/// What goes wrong in the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("{0}")]
    Redb(redb::Error),
    #[error("{0}")]
    Row(#[from] RowError),
    #[error("{0}")]
    Journal(#[from] JournalError),
    #[error("a key of table aggregates is no room name: {0:?}")]
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

/// What is committed. Kept by the thread that commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Committed {
    /// The number of the next commit.
    pub(super) next_commit: u64,
    /// By partition, the offset after the last record that is rolled up.
    pub(super) offsets: Vec<u64>,
}

/// A room's newest aggregate.
pub(super) struct NewestOfRoom {
    pub(super) room: RoomName,
    pub(super) partition: u32,
    /// Number of the commit that wrote it.
    pub(super) commit: u64,
    pub(super) value: Bytes,
}

impl Store {
    /// Takes over a database: a new one is made a log of so many partitions, and an old one must be one.
    pub(super) fn prepare(db: Database, partitions: u32) -> Result<(Self, Committed), StoreError> {
        let store = Self { db };
        let tx = store.begin()?;
        let committed = {
            let mut meta = tx.open_table(META)?;
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
            tx.open_table(NEWEST)?;
            let mut offsets = vec![0; partitions as usize];
            for row in tx.open_table(COMMITTED)?.iter()? {
                let (partition, offset) = row?;
                if let Some(slot) = offsets.get_mut(partition.value() as usize) {
                    *slot = offset.value();
                }
            }
            Committed { next_commit: meta.get("next_commit")?.map_or(0, |value| value.value()), offsets }
        };
        tx.commit()?;
        Ok((store, committed))
    }

    /// A number that the log in a database was made with; `None` where there is none in it.
    pub(super) fn meta(db: &Database, key: &str) -> Result<Option<u64>, StoreError> {
        let meta = match db.begin_read()?.open_table(META) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            meta => meta?,
        };
        Ok(meta.get(key)?.map(|value| value.value()))
    }

    fn begin(&self) -> Result<WriteTransaction, StoreError> {
        let mut tx = self.db.begin_write()?;
        // `commit` returns after the pages, and then the root that leads to them, were synced.
        tx.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
        Ok(tx)
    }

    /// Writes cuts, synced, and counts them as committed. After an error nobody knows what is committed.
    pub(super) fn commit(&self, committed: &mut Committed, cuts: &[Cut]) -> Result<(), StoreError> {
        let tx = self.begin()?;
        {
            let (mut offsets, mut newest) = (tx.open_table(COMMITTED)?, tx.open_table(NEWEST)?);
            for cut in cuts {
                committed.offsets[cut.partition as usize] = cut.next_offset;
                offsets.insert(cut.partition, cut.next_offset)?;
                for (room, value) in &cut.aggregates {
                    match value {
                        Some(value) => {
                            drop(newest.insert(
                                (cut.partition, room.as_bytes()),
                                (committed.next_commit, &**value),
                            )?);
                        }
                        None => drop(newest.remove((cut.partition, room.as_bytes()))?),
                    }
                }
            }
        }
        committed.next_commit += 1;
        tx.open_table(META)?.insert("next_commit", committed.next_commit)?;
        Ok(tx.commit()?)
    }

    /// The newest aggregate of each room, and the number of the first commit that is not in it.
    pub(super) fn newest(&self) -> Result<(u64, Vec<NewestOfRoom>), StoreError> {
        let tx = self.db.begin_read()?;
        let next_commit = tx.open_table(META)?.get("next_commit")?.map_or(0, |value| value.value());
        let mut newest = Vec::new();
        for row in tx.open_table(NEWEST)?.iter()? {
            let (key, row) = row?;
            let ((partition, room), (commit, value)) = (key.value(), row.value());
            let name = str::from_utf8(room).ok().and_then(|room| room.parse().ok());
            let room = name.ok_or_else(|| StoreError::Room(String::from_utf8_lossy(room).into_owned()))?;
            newest.push(NewestOfRoom { room, partition, commit, value: Bytes::copy_from_slice(value) });
        }
        Ok((next_commit, newest))
    }
}
