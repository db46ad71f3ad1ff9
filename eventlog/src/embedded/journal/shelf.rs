//! The segments that there are: those who append add to them, those who commit remove the oldest, those who read look them up.

use super::Mark;
use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The segments, in order, and where they end.
pub(in super::super) struct Shelf {
    dir: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// What each segment begins with; one at least.
    marks: VecDeque<Mark>,
    /// Where the log stands after the last group that is synced.
    end: Mark,
}

/// Where a group is.
pub(super) enum Place {
    /// In the segment that begins with this group.
    Segment(u64),
    /// Trimmed.
    Gone,
    /// Not written yet.
    Ahead,
}

impl Shelf {
    pub(super) fn new(dir: PathBuf, marks: impl IntoIterator<Item = Mark>, end: Mark) -> Self {
        Self { dir, state: Mutex::new(State { marks: marks.into_iter().collect(), end }) }
    }

    /// Of a log that nothing was written to yet, and where it ends.
    pub(in super::super) fn empty(dir: PathBuf, partitions: u32) -> (Arc<Self>, Mark) {
        let mark = Mark::zero(partitions);
        (Arc::new(Self::new(dir, [mark.clone()], mark.clone())), mark)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file of the segment that begins with this group.
    pub(super) fn path(&self, group: u64) -> PathBuf {
        self.dir.join(format!("{group:020}.log"))
    }

    /// A group before which there is nothing but what lies below `committed` (by partition), and not long before the
    /// first that holds more.
    pub(in super::super) fn first_group(&self, committed: &[u64]) -> u64 {
        let state = self.lock();
        let passed = state.marks.iter().rev().find(|mark| mark.is_below(committed));
        passed.or(state.marks.front()).map_or(0, |mark| mark.group)
    }

    /// The offset of the oldest record of a partition that is left, or else of its next.
    pub(in super::super) fn oldest_offset(&self, partition: u32) -> u64 {
        let state = self.lock();
        let oldest = state.marks.front().and_then(|mark| mark.offsets.get(partition as usize));
        oldest.copied().unwrap_or_default()
    }

    /// The offset that the next record of a partition will have.
    pub(in super::super) fn next_offset(&self, partition: u32) -> u64 {
        self.lock().end.offsets.get(partition as usize).copied().unwrap_or_default()
    }

    pub(super) fn place(&self, group: u64) -> Place {
        let state = self.lock();
        if group >= state.end.group {
            return Place::Ahead;
        }
        let after = state.marks.partition_point(|mark| mark.group <= group);
        after.checked_sub(1).map_or(Place::Gone, |index| Place::Segment(state.marks[index].group))
    }

    /// What is before this is synced.
    pub(super) fn set_end(&self, end: &Mark) {
        self.lock().end.clone_from(end);
    }

    pub(super) fn push(&self, mark: Mark) {
        self.lock().marks.push_back(mark);
    }

    /// Removes segments of which all is consumed and further than `retention_ms` from now; never the newest. Further in the
    /// future too: after the clock went back records keep the time of the last one until it is there again, and would
    /// fill the disk.
    pub(in super::super) fn trim(&self, committed: &[u64], now_ms: u64, retention_ms: u64) {
        while let Some(path) = self.pop(committed, now_ms, retention_ms) {
            if let Err(error) = fs::remove_file(&path) {
                let file = path.display();
                tracing::warn!(%error, %file, "a segment that is no longer needed can't be removed");
            }
        }
    }

    /// Takes the oldest segment off, if it may go. Gives its file.
    fn pop(&self, committed: &[u64], now_ms: u64, retention_ms: u64) -> Option<PathBuf> {
        let mut state = self.lock();
        let next = state.marks.get(1)?;
        if next.timestamp_ms.abs_diff(now_ms) <= retention_ms || !next.is_below(committed) {
            return None;
        }
        let oldest = state.marks.pop_front()?;
        Some(self.path(oldest.group))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
