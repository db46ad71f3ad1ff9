//! What an audit found.

use super::Finding;
use crate::RoomName;
use std::collections::BTreeMap;

/// Findings that a report spells out; the rest is only counted.
const FINDINGS_MAX: usize = 1_000;

/// What an audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, in the order of the history; the first 1,000.
    pub findings: Vec<Finding>,
    /// How many findings there are beyond those.
    pub more_findings: u64,
    /// What each room counted.
    pub rooms: BTreeMap<RoomName, RoomSums>,
    /// Where the last window of each partition was cut, as its aggregates tell.
    pub cuts: BTreeMap<u32, u64>,
    /// Windows in the history.
    pub windows: u64,
    /// How many of them were compared with their records.
    pub compared: u64,
    /// Reactions in records that no window has taken.
    pub uncounted: u64,
    /// When the oldest of those records came, ms since the epoch, where that is known.
    pub uncounted_since_ms: Option<u64>,
    /// Places where compaction may have taken windows away.
    pub holes: u64,
    /// Lines in records of `reactions` that hold no batch; nothing of them is counted anywhere.
    pub poison: u64,
    /// Batches in a partition in which their rooms don't live. All readers pass them over.
    pub foreign: u64,
    /// Reactions in those.
    pub foreign_reactions: u64,
}

/// What a room counted, over all of its lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomSums {
    /// Aggregates.
    pub windows: u64,
    /// Reactions.
    pub counted: u64,
    /// How many of them were late.
    pub late: u64,
    /// How many of them came from the future.
    pub skewed: u64,
    /// Whether its last window had no reactions, or it is forgotten.
    pub at_rest: bool,
    /// Its partition.
    pub partition: u32,
    /// Its newest total; 0 when it is forgotten.
    pub total: u64,
    /// How often it was forgotten.
    pub forgotten: u64,
    /// Aggregates that were compacted away, as far as `seq` tells.
    pub compacted: u64,
    /// Reactions that were compared with their records.
    pub verified: u64,
    /// Reactions in records that belong to lives of the room of which nothing else is left.
    pub bygone: u64,
    /// Reactions in records that no window has taken yet.
    pub open: u64,
    /// Findings about it.
    pub findings: u64,
}

impl RoomSums {
    /// Takes over what is not known here.
    fn complete(&mut self, other: &Self) {
        if other.windows > 0 || self.windows == 0 {
            self.partition = other.partition;
        }
        self.total = self.total.max(other.total);
        self.at_rest |= other.at_rest;
        for (here, there) in [
            (&mut self.windows, other.windows),
            (&mut self.counted, other.counted),
            (&mut self.late, other.late),
            (&mut self.skewed, other.skewed),
            (&mut self.forgotten, other.forgotten),
            (&mut self.compacted, other.compacted),
            (&mut self.verified, other.verified),
            (&mut self.bygone, other.bygone),
            (&mut self.open, other.open),
            (&mut self.findings, other.findings),
        ] {
            *here = here.saturating_add(there);
        }
    }
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Adds what was found in another partition.
    pub fn merge(&mut self, other: Self) {
        for (room, sums) in &other.rooms {
            let there = self.rooms.get(room).filter(|there| there.windows > 0 && sums.windows > 0);
            if let Some(first) = there.map(|there| there.partition) {
                let (room, second) = (room.clone(), sums.partition);
                self.add(Finding::Scattered { room, first, second });
            }
        }
        self.complete(other);
    }

    /// Adds what was found in another way.
    pub(super) fn complete(&mut self, other: Self) {
        other.findings.into_iter().for_each(|finding| self.keep(finding));
        self.more_findings += other.more_findings;
        for (room, sums) in other.rooms {
            self.rooms.entry(room).or_default().complete(&sums);
        }
        self.cuts.extend(other.cuts);
        self.windows += other.windows;
        self.compared += other.compared;
        self.uncounted = self.uncounted.saturating_add(other.uncounted);
        let oldest = [self.uncounted_since_ms, other.uncounted_since_ms].into_iter().flatten().min();
        self.uncounted_since_ms = oldest;
        self.holes += other.holes;
        self.poison += other.poison;
        self.foreign += other.foreign;
        self.foreign_reactions = self.foreign_reactions.saturating_add(other.foreign_reactions);
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if let Some(room) = finding.room() {
            self.rooms.entry(room.clone()).or_default().findings += 1;
        }
        self.keep(finding);
    }

    fn keep(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.more_findings += 1;
        }
    }
}
