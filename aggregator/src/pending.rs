//! Windows that are closed and not committed yet, in order.

use crate::core::{Closed, Kind};
use eventlog::Cut;
use std::{collections::VecDeque, mem};

/// A closed window on its way into the log.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    pub(crate) cut: Cut,
    pub(crate) kind: Kind,
}

impl Window {
    /// How many records its commit writes.
    fn records(&self) -> usize {
        self.cut.aggregates.len() + self.cut.windows.len()
    }
}

/// How much may wait, and how much goes at once, in records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// What a commit takes at the most, unless its first window alone has more.
    pub(crate) commit: usize,
    /// What may wait; beyond, reading pauses. Each window has a record.
    pub(crate) waiting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { commit: 10_000, waiting: 100_000 }
    }
}

/// What waits for a commit. One commit takes all that is there, up to a limit of records.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    limits: Limits,
    windows: VecDeque<Window>,
    records: usize,
}

impl Pending {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(crate) fn push(&mut self, partition: u32, epoch: u64, closed: Closed) {
        let Closed { to: next_offset, kind, records: aggregates, windows, .. } = closed;
        let window = Window { cut: Cut { partition, epoch, next_offset, aggregates, windows }, kind };
        self.records += window.records();
        self.windows.push_back(window);
    }

    /// Takes the next commit's windows.
    pub(crate) fn take(&mut self) -> Vec<Window> {
        let mut taken = Vec::new();
        let mut records = 0;
        while let Some(window) = self.windows.front() {
            records += window.records();
            if records > self.limits.commit && !taken.is_empty() {
                break;
            }
            self.records -= window.records();
            taken.extend(self.windows.pop_front());
        }
        taken
    }

    /// Puts windows that were not committed back in front of those that came since.
    pub(crate) fn put_back(&mut self, windows: Vec<Window>) {
        self.records += windows.iter().map(Window::records).sum::<usize>();
        let later = mem::replace(&mut self.windows, windows.into());
        self.windows.extend(later);
    }

    /// Drops the windows of a partition that is not ours any more.
    pub(crate) fn drop_partition(&mut self, partition: u32) {
        self.windows.retain(|window| window.cut.partition != partition);
        self.records = self.windows.iter().map(Window::records).sum();
    }

    pub(crate) fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether reading should pause: the log takes windows more slowly than they are made.
    pub(crate) fn is_full(&self) -> bool {
        self.records >= self.limits.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(rooms: usize) -> Closed {
        let records = (0..rooms).map(|n| (format!("r{n}").parse().unwrap(), None)).collect();
        Closed { from: 0, to: 1, kind: Kind::Silent, records, windows: Vec::new() }
    }

    #[test]
    fn one_commit_takes_all_that_is_due_up_to_its_limit() {
        let mut pending = Pending::default();
        for partition in 0..3 {
            pending.push(partition, 1, closed(4_000));
        }
        let first = pending.take();
        assert_eq!(first.iter().map(|w| w.cut.partition).collect::<Vec<_>>(), [0, 1]);
        pending.push(3, 1, closed(20_000));
        pending.put_back(first);
        assert_eq!(pending.take().len(), 2);
        assert_eq!(pending.take().len(), 1);
        assert_eq!(pending.take().len(), 1, "a window with more than the limit goes alone");
        assert_eq!((pending.len(), pending.records), (0, 0));
    }

    #[test]
    fn a_partition_that_is_gone_leaves_nothing_behind() {
        let mut pending = Pending::default();
        pending.push(0, 1, closed(60_000));
        pending.push(1, 1, closed(60_000));
        assert!(pending.is_full());
        pending.drop_partition(0);
        assert!(!pending.is_full());
        assert_eq!(pending.take()[0].cut.partition, 1);
    }
}
