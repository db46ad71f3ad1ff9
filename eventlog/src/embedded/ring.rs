//! The newest items of a numbered sequence, within a bound of bytes: where tails are read from.

use std::{collections::VecDeque, sync::Arc};

/// The newest items; the newest one of all is kept whatever its size.
pub(super) struct Ring<T> {
    items: VecDeque<(usize, Arc<T>)>,
    /// The number that the next item will have.
    next: u64,
    bytes: usize,
    bytes_max: usize,
}

impl<T> Ring<T> {
    pub(super) fn new(next: u64, bytes_max: usize) -> Self {
        Self { items: VecDeque::new(), next, bytes: 0, bytes_max }
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Adds the newest item. Gives those that are pushed out: to drop them may take long, and should not be done under a lock.
    #[must_use]
    pub(super) fn push(&mut self, item: Arc<T>, bytes: usize) -> Vec<Arc<T>> {
        self.items.push_back((bytes, item));
        self.next += 1;
        self.bytes += bytes;
        let mut pushed_out = Vec::new();
        while self.bytes > self.bytes_max && self.items.len() > 1 {
            if let Some((bytes, item)) = self.items.pop_front() {
                self.bytes -= bytes;
                pushed_out.push(item);
            }
        }
        pushed_out
    }

    /// The items from number `from` on, some `bytes_max` of them at the most; empty when there are none yet, `None`
    /// when the first of them is not kept any more.
    pub(super) fn from(&self, from: u64, bytes_max: usize) -> Option<Vec<Arc<T>>> {
        if from >= self.next {
            return Some(Vec::new());
        }
        let skip = from.checked_sub(self.next - self.items.len() as u64)?;
        let mut bytes = 0;
        let wanted = self.items.iter().skip(skip as usize).take_while(|(size, _)| {
            let first = bytes == 0;
            bytes += size;
            first || bytes <= bytes_max
        });
        Some(wanted.map(|(_, item)| Arc::clone(item)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> Ring<u64> {
        let mut ring = Ring::new(7, 30);
        let pushed_out: Vec<_> = (7..12).flat_map(|n| ring.push(Arc::new(n), 10)).collect();
        assert_eq!(pushed_out, [7, 8].map(Arc::new));
        ring
    }

    fn from(ring: &Ring<u64>, from: u64, bytes_max: usize) -> Option<Vec<u64>> {
        Some(ring.from(from, bytes_max)?.iter().map(|n| **n).collect())
    }

    #[test]
    fn it_keeps_the_newest_within_its_bound() {
        let ring = ring();
        assert_eq!(ring.next(), 12);
        assert_eq!(from(&ring, 9, 100), Some(vec![9, 10, 11]));
        assert_eq!(from(&ring, 8, 100), None, "pushed out");
        assert_eq!(from(&ring, 12, 100), Some(vec![]), "not there yet");
        assert_eq!(from(&ring, 99, 100), Some(vec![]), "not there yet");
    }

    #[test]
    fn it_gives_so_many_bytes_but_one_item_at_least() {
        assert_eq!(from(&ring(), 9, 20), Some(vec![9, 10]));
        assert_eq!(from(&ring(), 9, 1), Some(vec![9]));
    }

    #[test]
    fn an_item_above_the_bound_stands_alone() {
        let mut ring = ring();
        assert_eq!(ring.push(Arc::new(12), 1_000), [9, 10, 11].map(Arc::new));
        assert_eq!(from(&ring, 12, 1), Some(vec![12]));
        assert_eq!(from(&ring, 11, 1), None);
    }
}
