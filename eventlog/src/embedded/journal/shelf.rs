//! The segments that there are: kept by the thread that writes them, looked up by those who read.

use super::Mark;
use std::{
    collections::VecDeque,
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
    /// The first group that is not synced.
    end: u64,
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
    pub(super) fn new(dir: PathBuf, marks: impl IntoIterator<Item = Mark>, end: u64) -> Self {
        Self { dir, state: Mutex::new(State { marks: marks.into_iter().collect(), end }) }
    }

    /// Of a log that nothing was written to yet, and where it ends.
    pub(in super::super) fn empty(dir: PathBuf, partitions: u32) -> (Arc<Self>, Mark) {
        let mark = Mark::zero(partitions);
        (Arc::new(Self::new(dir, [mark.clone()], 0)), mark)
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

    pub(super) fn place(&self, group: u64) -> Place {
        let state = self.lock();
        if group >= state.end {
            return Place::Ahead;
        }
        let after = state.marks.partition_point(|mark| mark.group <= group);
        after.checked_sub(1).map_or(Place::Gone, |index| Place::Segment(state.marks[index].group))
    }

    /// Groups below this one are synced.
    pub(super) fn set_end(&self, end: u64) {
        self.lock().end = end;
    }

    pub(super) fn push(&self, mark: Mark) {
        self.lock().marks.push_back(mark);
    }

    /// Takes away the oldest segment, if all of it is consumed and older than `before_ms`, and another follows it. Gives its file.
    pub(super) fn pop(&self, committed: &[u64], before_ms: u64) -> Option<PathBuf> {
        let mut state = self.lock();
        let next = state.marks.get(1)?;
        if next.timestamp_ms >= before_ms || !next.is_below(committed) {
            return None;
        }
        let oldest = state.marks.pop_front()?;
        Some(self.path(oldest.group))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
