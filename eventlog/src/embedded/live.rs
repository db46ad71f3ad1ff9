//! Which entries of the blocks are the newest of their rooms, so that it is known what may go.
//!
//! Blocks go oldest first. So a tombstone is never gone before what it forgets.

use super::{block::Entry, row::RowError};
use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};
use wire::RoomName;

/// So many bytes that nobody needs are left alone.
const SLACK_BYTES: usize = 1 << 20;

/// Where the newest aggregates of all rooms are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Live {
    /// By partition.
    rooms: Vec<HashMap<RoomName, Place>>,
    /// By number.
    blocks: BTreeMap<u64, Size>,
    /// Of all blocks.
    total: Size,
}

#[derive(Debug, PartialEq, Eq)]
struct Place {
    block: u64,
    bytes: Range<usize>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Size {
    bytes: usize,
    /// Of these, what is the newest of its room.
    live: usize,
}

/// What is to be done with the oldest block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Oldest {
    /// Nothing of it is needed.
    Dead(u64),
    /// Something of it is needed, but too much of all blocks is not.
    Sparse(u64),
    Stays,
}

impl Live {
    pub(super) fn new(partitions: u32) -> Self {
        let rooms = (0..partitions).map(|_| HashMap::new()).collect();
        Self { rooms, blocks: BTreeMap::new(), total: Size::default() }
    }

    /// Bytes of all blocks, and of these the bytes that are needed.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> (usize, usize) {
        (self.total.bytes, self.total.live)
    }

    /// The number of the newest block; 0 before the first.
    pub(super) fn newest_block(&self) -> u64 {
        self.blocks.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// Begins a block, with a number above that of all others.
    pub(super) fn begin(&mut self, number: u64) {
        self.blocks.insert(number, Size::default());
    }

    /// An entry is at these bytes of the newest block, and nothing is behind it yet.
    pub(super) fn add(&mut self, entry: &Entry, bytes: Range<usize>) -> Result<(), RowError> {
        let (block, len) = (self.newest_block(), bytes.len());
        let rooms = self.rooms.get_mut(entry.partition as usize);
        let rooms = rooms.ok_or_else(|| RowError::Value(format!("partition {}", entry.partition)))?;
        let before = match &entry.value {
            Some(_) => rooms.insert(entry.room.clone(), Place { block, bytes }),
            None => rooms.remove(&entry.room),
        };
        let live = if entry.value.is_some() { len } else { 0 };
        self.change(block, |size| *size = Size { bytes: size.bytes + len, live: size.live + live });
        if let Some(Place { block, bytes }) = before {
            self.change(block, |size| size.live -= bytes.len());
        }
        Ok(())
    }

    fn change(&mut self, block: u64, change: impl Fn(&mut Size)) {
        if let Some(size) = self.blocks.get_mut(&block) {
            change(size);
            change(&mut self.total);
        }
    }

    /// Whether the entry at these bytes of a block is the newest of its room.
    pub(super) fn is_newest(&self, entry: &Entry, block: u64, bytes: &Range<usize>) -> bool {
        let place = self.rooms.get(entry.partition as usize).and_then(|rooms| rooms.get(&entry.room));
        place.is_some_and(|place| place.block == block && place.bytes == *bytes)
    }

    /// What is to be done with the oldest block. The newest stays.
    pub(super) fn oldest(&self) -> Oldest {
        let is_sparse = self.total.bytes > 2 * self.total.live + SLACK_BYTES;
        match self.blocks.first_key_value() {
            Some((number, _)) if *number == self.newest_block() => Oldest::Stays,
            Some((number, size)) if size.live == 0 => Oldest::Dead(*number),
            Some((number, _)) if is_sparse => Oldest::Sparse(*number),
            _ => Oldest::Stays,
        }
    }

    /// The oldest block is gone, with nothing in it that is the newest of a room.
    pub(super) fn forget_oldest(&mut self) {
        if let Some((_, size)) = self.blocks.pop_first() {
            self.total.bytes -= size.bytes;
        }
    }
}
