//! A record of topic `occupancy`: the viewers that some rooms of one process have.

use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};
use wire::RoomName;

/// Version of the format.
const VERSION: u32 = 1;
/// Most rooms of a record: it stays below 100 kB.
pub(super) const ROOMS_MAX: usize = 1_000;
/// Longest name of a process.
const NODE_BYTES_MAX: usize = 64;

/// What one process tells of some of its rooms. 0 viewers: none any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    v: u32,
    /// Names the process, from its start to its end.
    pub(super) node: String,
    pub(super) rooms: HashMap<RoomName, u32>,
}

impl Record {
    pub(super) fn new(node: &str, rooms: HashMap<RoomName, u32>) -> Self {
        Self { v: VERSION, node: node.to_owned(), rooms }
    }

    /// Its JSON. `None` can't happen: keys are strings, and nothing else can fail.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    /// Reads a record that anybody may have written. `None`: it is none of ours. Fields that this version doesn't know are passed
    /// over.
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let record: Self = serde_json::from_slice(value).ok()?;
        let named = 1..=NODE_BYTES_MAX;
        let is_ours =
            record.v == VERSION && named.contains(&record.node.len()) && record.rooms.len() <= ROOMS_MAX;
        is_ours.then_some(record)
    }
}

/// A name for this process that no other one has.
pub(super) fn random_node() -> String {
    let half = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", half(), half())
}
