//! Counts by reaction, made for the one or few that a room has at a time: sorted, and without an allocation for the first.

use smallvec::SmallVec;
use wire::Reaction;

/// How often each reaction was counted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally(SmallVec<[(Reaction, u64); 1]>);

impl Tally {
    /// How many distinct reactions there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds `n` to a reaction that is there. Whether it is.
    pub(crate) fn add(&mut self, reaction: &str, n: u64) -> bool {
        let found = self.find(reaction);
        if let Ok(at) = found {
            self.0[at].1 += n;
        }
        found.is_ok()
    }

    /// Adds `n` to a reaction, which comes in where it is missing.
    pub(crate) fn insert(&mut self, reaction: Reaction, n: u64) {
        match self.find(&reaction) {
            Ok(at) => self.0[at].1 += n,
            Err(at) => self.0.insert(at, (reaction, n)),
        }
    }

    /// Makes place for more reactions.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.0.reserve(more);
    }

    pub(crate) fn contains(&self, reaction: &str) -> bool {
        self.find(reaction).is_ok()
    }

    /// In the order of the reactions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Reaction, u64)> {
        self.0.iter().map(|(reaction, n)| (reaction, *n))
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|(_, n)| n).sum()
    }

    fn find(&self, reaction: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(reaction))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_counts_as_a_map_does(adds in prop::collection::vec(("[a-f]{1,2}", 1..9u64), 0..40)) {
            let (mut tally, mut map) = (Tally::default(), BTreeMap::<String, u64>::new());
            for (reaction, n) in adds {
                prop_assert_eq!(tally.contains(&reaction), map.contains_key(&reaction));
                if !tally.add(&reaction, n) {
                    tally.insert(reaction.parse().unwrap(), n);
                }
                *map.entry(reaction).or_default() += n;
            }
            prop_assert_eq!((tally.len(), tally.sum()), (map.len(), map.values().sum()));
            prop_assert!(tally.iter().map(|(reaction, n)| (&**reaction, n)).eq(map.iter().map(|(r, n)| (&**r, *n))));
        }
    }
}
