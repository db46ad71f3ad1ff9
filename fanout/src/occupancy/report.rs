//! What this process tells the others of its rooms.

use super::record::{ROOMS_MAX as ROOMS_PER_RECORD, Record};
use bytes::Bytes;
use std::{cmp::Reverse, collections::HashMap};
use wire::RoomName;

/// Rooms that are told of, at the most: those with the most viewers.
pub(super) const ROOMS_MAX: usize = 10_000;
/// Of this many reports one is about all rooms, and the others are about those that changed.
pub(super) const REPORTS_PER_FULL_ONE: u32 = 2;

/// What the others were told, and what is to be told next.
#[derive(Debug)]
pub(super) struct Reports {
    node: String,
    /// What the others know, unless a record was lost. No room has 0 viewers here.
    told: HashMap<RoomName, u32>,
    /// Reports so far.
    number: u32,
    rooms_max: usize,
}

/// One report.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) records: Vec<Bytes>,
    /// Rooms with viewers that are not told of, because too many rooms have viewers.
    pub(super) left_out: usize,
}

impl Reports {
    pub(super) fn new(node: &str) -> Self {
        Self::with_rooms_max(node, ROOMS_MAX)
    }

    pub(super) fn with_rooms_max(node: &str, rooms_max: usize) -> Self {
        Self { node: node.to_owned(), told: HashMap::new(), number: 0, rooms_max }
    }

    /// The next report, where these rooms have these viewers. One about all rooms has a record even where no room has viewers: by
    /// its own records a process sees that the channel works.
    pub(super) fn next(&mut self, mut viewers: Vec<(RoomName, u32)>) -> Report {
        let is_full = self.number.is_multiple_of(REPORTS_PER_FULL_ONE);
        self.number = self.number.wrapping_add(1);
        let left_out = viewers.len().saturating_sub(self.rooms_max);
        if left_out > 0 {
            // By name where they are equal, so that the same rooms are left out again.
            viewers.select_nth_unstable_by(self.rooms_max, |(a, m), (b, n)| {
                (Reverse(m), a).cmp(&(Reverse(n), b))
            });
            viewers.truncate(self.rooms_max);
        }
        let viewers: HashMap<_, _> = viewers.into_iter().collect();
        let gone = self.told.keys().filter(|room| !viewers.contains_key(*room)).map(|room| (room.clone(), 0));
        let here = viewers.iter().map(|(room, viewers)| (room.clone(), *viewers));
        let here = here.filter(|(room, viewers)| is_full || self.told.get(room) != Some(viewers));
        let rooms: Vec<_> = gone.chain(here).collect();
        let records = self.records(&rooms, is_full);
        self.told = viewers;
        Report { records, left_out }
    }

    /// The last report: nobody is here any more.
    pub(super) fn last(&mut self) -> Vec<Bytes> {
        let rooms: Vec<_> = self.told.drain().map(|(room, _)| (room, 0)).collect();
        self.records(&rooms, false)
    }

    fn records(&self, rooms: &[(RoomName, u32)], also_of_none: bool) -> Vec<Bytes> {
        let parts = rooms.chunks(ROOMS_PER_RECORD);
        let none = (rooms.is_empty() && also_of_none).then_some(&[][..]);
        let record = |rooms: &[(RoomName, u32)]| Record::new(&self.node, rooms.iter().cloned().collect());
        parts.chain(none).filter_map(|rooms| record(rooms).encode()).map(Bytes::from).collect()
    }
}
