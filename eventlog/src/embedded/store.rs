//! The file of the aggregates: tables in redb, and what is read and written in one transaction.
//!
//! | table | key | value |
//! |---|---|---|
//! | `committed` | partition | committed offset |
//! | `blocks` | number, growing | aggregates and tombstones as they were committed (`block`) |
//! | `meta` | name | number |

use super::{
    block::{self, Entry},
    blocks::Blocks,
    journal::JournalError,
    live::Live,
    row::RowError,
};
use crate::Cut;
use bytes::Bytes;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::collections::BTreeMap;
use wire::RoomName;

pub(super) const COMMITTED: TableDefinition<'_, u32, u64> = TableDefinition::new("committed");
pub(super) const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

pub(super) const FORMAT: u64 = 4;

/// What goes wrong in the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("{0}")]
    Redb(redb::Error),
    #[error("{0}")]
    Row(#[from] RowError),
    #[error("{0}")]
    Journal(#[from] JournalError),
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
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Committed {
    /// The number of the next commit.
    pub(super) next_commit: u64,
    /// By partition, the offset after the last record that is rolled up.
    pub(super) offsets: Vec<u64>,
    /// Where the newest aggregates are.
    pub(super) live: Live,
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
            // A folder of an earlier format is upgraded where its partitions are right.
            for (key, expected) in [("partitions", u64::from(partitions)), ("format", FORMAT)] {
                let found = meta.get(key)?.map(|value| value.value());
                match found {
                    Some(found) if found != expected => {
                        return Err(StoreError::Differs { key, found, expected });
                    }
                    Some(_) => {}
                    None => drop(meta.insert(key, expected)?),
                }
            }
            let mut offsets = vec![0; partitions as usize];
            for row in tx.open_table(COMMITTED)?.iter()? {
                let (partition, offset) = row?;
                if let Some(slot) = offsets.get_mut(partition.value() as usize) {
                    *slot = offset.value();
                }
            }
            let live = live(&tx.open_table(BLOCKS)?, partitions)?;
            Committed {
                next_commit: meta.get("next_commit")?.map_or(0, |value| value.value()),
                offsets,
                live,
            }
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
        let commit = committed.next_commit;
        {
            let mut offsets = tx.open_table(COMMITTED)?;
            let mut blocks = Blocks::new(tx.open_table(BLOCKS)?, &mut committed.live);
            for Cut { partition, next_offset, aggregates, .. } in cuts {
                committed.offsets[*partition as usize] = *next_offset;
                offsets.insert(*partition, *next_offset)?;
                for (room, value) in aggregates {
                    let (partition, room, value) = (*partition, room.clone(), value.clone());
                    blocks.add(&Entry { partition, commit, room, value })?;
                }
            }
            blocks.finish()?;
        }
        committed.next_commit += 1;
        tx.open_table(META)?.insert("next_commit", committed.next_commit)?;
        Ok(tx.commit()?)
    }

    /// The newest aggregate of each room, and the number of the first commit that is not in it.
    pub(super) fn newest(&self) -> Result<(u64, Vec<NewestOfRoom>), StoreError> {
        let tx = self.db.begin_read()?;
        let next_commit = tx.open_table(META)?.get("next_commit")?.map_or(0, |value| value.value());
        let mut newest = BTreeMap::new();
        for row in tx.open_table(BLOCKS)?.iter()? {
            let block = Bytes::copy_from_slice(row?.1.value());
            for (_, Entry { partition, commit, room, value }) in block::decode(block)? {
                match value {
                    // A copy, so that one that stays doesn't keep its whole block.
                    Some(value) => {
                        newest.insert((partition, room), (commit, Bytes::copy_from_slice(&value)));
                    }
                    None => drop(newest.remove(&(partition, room))),
                }
            }
        }
        let newest = newest.into_iter().map(|((partition, room), (commit, value))| NewestOfRoom {
            room,
            partition,
            commit,
            value,
        });
        Ok((next_commit, newest.collect()))
    }
}

/// Where the newest aggregates are in these blocks.
fn live(blocks: &impl ReadableTable<u64, &'static [u8]>, partitions: u32) -> Result<Live, StoreError> {
    let mut live = Live::new(partitions);
    for row in blocks.iter()? {
        let (number, row) = row?;
        live.begin(number.value());
        for (bytes, entry) in block::decode(Bytes::copy_from_slice(row.value()))? {
            live.add(&entry, bytes)?;
        }
    }
    Ok(live)
}
