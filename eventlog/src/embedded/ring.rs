//! The newest items of a numbered sequence, within a bound of bytes: where tails are read from.

use std::collections::VecDeque;

/// The newest items, which are cheap to clone; the newest one of all is kept whatever its size.
pub(super) struct Ring<T> {
    /// Each with the bytes that it takes here.
    items: VecDeque<(usize, T)>,
    /// The number that the next item will have.
    next: u64,
    bytes: usize,
    bytes_max: usize,
}

impl<T: Clone> Ring<T> {
    /// What an item takes in the list, which may have room for twice as many.
    const PLACE_BYTES: usize = 2 * size_of::<(usize, T)>();

    pub(super) fn new(next: u64, bytes_max: usize) -> Self {
        Self { items: VecDeque::new(), next, bytes: 0, bytes_max }
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Adds the newest item, which has `bytes` of memory for itself. Gives those that are pushed out: to drop them may take long, and
    /// should not be done under a lock.
    #[must_use]
    pub(super) fn push(&mut self, item: T, bytes: usize) -> Vec<T> {
        let bytes = bytes + Self::PLACE_BYTES;
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
    pub(super) fn from(&self, from: u64, bytes_max: usize) -> Option<Vec<T>> {
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
        Some(wanted.map(|(_, item)| item.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an item of ten bytes takes.
    const ITEM_BYTES: usize = 10 + Ring::<u64>::PLACE_BYTES;

    fn ring() -> Ring<u64> {
        let mut ring = Ring::new(7, 3 * ITEM_BYTES);
        let pushed_out: Vec<_> = (7..12).flat_map(|n| ring.push(n, 10)).collect();
        assert_eq!(pushed_out, [7, 8]);
        ring
    }

    #[test]
    fn it_keeps_the_newest_within_its_bound() {
        let ring = ring();
        assert_eq!(ring.next(), 12);
        assert_eq!(ring.from(9, 1_000), Some(vec![9, 10, 11]));
        assert_eq!(ring.from(8, 1_000), None, "pushed out");
        assert_eq!(ring.from(12, 1_000), Some(vec![]), "not there yet");
        assert_eq!(ring.from(99, 1_000), Some(vec![]), "not there yet");
    }

    #[test]
    fn it_gives_so_many_bytes_but_one_item_at_least() {
        assert_eq!(ring().from(9, 2 * ITEM_BYTES), Some(vec![9, 10]));
        assert_eq!(ring().from(9, 1), Some(vec![9]));
    }

    #[test]
    fn an_item_above_the_bound_stands_alone() {
        let mut ring = ring();
        assert_eq!(ring.push(12, 1_000), [9, 10, 11]);
        assert_eq!(ring.from(12, 1), Some(vec![12]));
        assert_eq!(ring.from(11, 1), None);
    }
}
