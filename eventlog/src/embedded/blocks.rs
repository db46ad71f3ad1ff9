//! Writes what a commit says of rooms into table `blocks`, and keeps the table small.
//!
//! A row for each room takes more than twice as long (docs/decisions/0013): a window has as many aggregates as rooms that are
//! alive, and each insert into a B-tree copies pages. Blocks are rows of many aggregates, added at the end. `live` knows
//! what of them is needed: a block of which nothing is goes, and where too much lies about, what is needed of the oldest
//! block is written anew.

use super::{
    block::{self, Entry},
    live::{Live, Oldest},
    row::RowError,
    store::StoreError,
};
use bytes::Bytes;
use redb::{ReadableTable, Table};

/// A block is closed at this size: just below a size of the database's pages.
const BLOCK_BYTES: usize = 60 << 10;
/// So much is written anew at the most, for each byte that a commit says.
const REWRITE_RATIO: usize = 4;

/// The table while a commit is written. After an error, neither it nor `live` may be used.
pub(super) struct Blocks<'a, 'tx> {
    table: Table<'tx, u64, &'static [u8]>,
    live: &'a mut Live,
    /// The newest block, as far as it is made.
    block: Vec<u8>,
    written: usize,
}

impl<'a, 'tx> Blocks<'a, 'tx> {
    pub(super) fn new(table: Table<'tx, u64, &'static [u8]>, live: &'a mut Live) -> Self {
        Self { table, live, block: Vec::new(), written: 0 }
    }

    /// Adds an entry, which is the newest of its room.
    pub(super) fn add(&mut self, entry: &Entry) -> Result<(), StoreError> {
        if self.block.is_empty() {
            self.live.begin(self.live.newest_block() + 1);
        }
        let start = self.block.len();
        entry.encode_into(&mut self.block);
        self.live.add(entry, start..self.block.len())?;
        self.written += self.block.len() - start;
        if self.block.len() >= BLOCK_BYTES { self.close() } else { Ok(()) }
    }

    /// Makes a row of what was added.
    fn close(&mut self) -> Result<(), StoreError> {
        if !self.block.is_empty() {
            self.table.insert(self.live.newest_block(), &self.block[..])?;
            self.block.clear();
        }
        Ok(())
    }

    /// Closes the last block, and removes old ones.
    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        let rewrite_until = (1 + REWRITE_RATIO) * self.written;
        self.close()?;
        loop {
            let number = match self.live.oldest() {
                Oldest::Dead(number) => number,
                Oldest::Sparse(number) if self.written < rewrite_until => {
                    self.rewrite(number)?;
                    number
                }
                Oldest::Sparse(_) | Oldest::Stays => break,
            };
            self.table.remove(number)?;
            self.live.forget_oldest();
        }
        self.close()
    }

    /// Adds what is needed of an old block.
    fn rewrite(&mut self, number: u64) -> Result<(), StoreError> {
        let row = self.table.get(number)?.map(|row| Bytes::copy_from_slice(row.value()));
        for (bytes, entry) in block::decode(row.ok_or(RowError::Short)?)? {
            if self.live.is_newest(&entry, number, &bytes) {
                self.add(&entry)?;
            }
        }
        Ok(())
    }
}
