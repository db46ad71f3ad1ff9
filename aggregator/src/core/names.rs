//! How many reactions are counted by name: a limit for each room, and one for the partition.

use super::{Tally, share};
use crate::Config;

/// This many reactions of a room get a name also when the partition is full. So a stranger who fills it can't hide the reactions
/// of other rooms.
const ALWAYS_NAMED: usize = 8;

/// The names of a partition, and how many reactions go without one.
#[derive(Debug)]
pub(super) struct Names {
    /// Names of all rooms.
    taken: usize,
    most: usize,
    most_of_room: usize,
    /// Reactions without a name, because their room has its limit.
    beyond_room: u64,
    /// Reactions without a name, because the partition has its limit.
    beyond_partition: u64,
}

impl Names {
    pub(super) fn new(taken: usize, partitions: u32, config: &Config) -> Self {
        let mut names = Self { taken, most: 0, most_of_room: 0, beyond_room: 0, beyond_partition: 0 };
        names.configure(partitions, config);
        names
    }

    /// Takes new limits. Names that are given stay.
    pub(super) fn configure(&mut self, partitions: u32, config: &Config) {
        self.most = share(config.max_distinct, partitions);
        self.most_of_room = config.max_distinct_per_room;
    }

    /// Takes a name for a room that has `of_room` already. False: `count` reactions go without.
    pub(super) fn take(&mut self, of_room: usize, count: u64) -> bool {
        if of_room >= self.most_of_room {
            self.beyond_room += count;
            return false;
        }
        if self.taken >= self.most && of_room >= ALWAYS_NAMED {
            self.beyond_partition += count;
            return false;
        }
        self.taken += 1;
        true
    }

    /// Gives back the names of a room that is forgotten.
    pub(super) fn give_back(&mut self, of_room: usize) {
        self.taken = self.taken.saturating_sub(of_room);
    }

    /// How many names are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Moves the counts of reactions without a name into the tally.
    pub(super) fn drain_into(&mut self, tally: &mut Tally) {
        tally.beyond_room += std::mem::take(&mut self.beyond_room);
        tally.beyond_partition += std::mem::take(&mut self.beyond_partition);
    }
}
