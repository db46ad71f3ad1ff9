//! Counts of one room that wait to become part of a record.

use crate::{config::Ack, refusal::Refusal, request::Ask};
use smallvec::SmallVec;
use wire::{COUNT_MAX, Reaction};

/// What a room has collected since its last batch was sealed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Combined {
    /// In the order of the reactions. They lie here as long as they are few, which they often are.
    tallies: SmallVec<[Tally; 4]>,
    /// The sum.
    count: u64,
}

/// How often a reaction was counted.
#[derive(Debug, PartialEq, Eq)]
struct Tally {
    reaction: Reaction,
    /// Someone waits to hear what became of these: when they can't be written, they are told.
    awaited: u64,
    /// These were answered already: when they can't be written, they are tried again.
    promised: u64,
}

impl Combined {
    /// Adds all of `ask`, or nothing of it.
    pub(crate) fn add(&mut self, ask: &Ask, ack: Ack, max_distinct: usize) -> Result<(), Refusal> {
        let count = self.count.checked_add(ask.count).filter(|count| *count <= COUNT_MAX);
        let count = count.ok_or(Refusal::RoomTooMany)?;
        let new = ask.reactions.iter().filter(|(reaction, _)| self.find(reaction).is_err()).count();
        if new > 0 && self.distinct() + new > max_distinct {
            return Err(Refusal::RoomTooDiverse(max_distinct));
        }
        self.tallies.reserve(new);
        for (reaction, n) in &ask.reactions {
            let tally = self.tally(reaction);
            match ack {
                Ack::Durable => tally.awaited += n,
                Ack::Received => tally.promised += n,
            }
        }
        self.count = count;
        Ok(())
    }

    /// How many different reactions there are.
    pub(crate) fn distinct(&self) -> usize {
        self.tallies.len()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// What was promised of it; none of it if nothing was.
    pub(crate) fn into_promised(mut self) -> Option<Self> {
        self.tallies.retain(|tally| tally.promised > 0);
        self.tallies.iter_mut().for_each(|tally| tally.awaited = 0);
        self.count = self.tallies.iter().map(|tally| tally.promised).sum();
        (self.count > 0).then_some(self)
    }

    /// All of it, in the order of the reactions.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&Reaction, u64)> {
        self.tallies.iter().map(|tally| (&tally.reaction, tally.awaited + tally.promised))
    }

    /// The tally of a reaction, which comes in where it is missing.
    fn tally(&mut self, reaction: &Reaction) -> &mut Tally {
        let at = self.find(reaction).unwrap_or_else(|at| {
            self.tallies.insert(at, Tally { reaction: reaction.clone(), awaited: 0, promised: 0 });
            at
        });
        &mut self.tallies[at]
    }

    fn find(&self, reaction: &str) -> Result<usize, usize> {
        self.tallies.binary_search_by(|tally| (*tally.reaction).cmp(reaction))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn ask(reactions: &[(&str, u64)]) -> Ask {
        let count = reactions.iter().map(|(_, n)| n).sum();
        Ask { reactions: reactions.iter().map(|(r, n)| (r.parse().unwrap(), *n)).collect(), count }
    }

    fn counts(combined: &Combined) -> Vec<(&str, u64)> {
        let counts: Vec<_> = combined.counts().map(|(reaction, n)| (&**reaction, n)).collect();
        assert_eq!(combined.count(), counts.iter().map(|(_, n)| n).sum::<u64>());
        counts
    }

    /// What was answered already.
    fn promised(reactions: &[(&str, u64)]) -> Combined {
        let mut combined = Combined::default();
        combined.add(&ask(reactions), Ack::Received, 9).unwrap();
        combined
    }

    #[test]
    fn equal_reactions_are_added_up() {
        let mut combined = Combined::default();
        combined.add(&ask(&[("b", 2), ("a", 1)]), Ack::Durable, 9).unwrap();
        assert_eq!(counts(&combined), [("a", 1), ("b", 2)]);
        combined.add(&ask(&[("a", 3)]), Ack::Received, 9).unwrap();
        assert_eq!(counts(&combined), [("a", 4), ("b", 2)]);
        assert_eq!(combined.into_promised(), Some(promised(&[("a", 3)])));
    }

    #[test]
    fn too_many_distinct_reactions_are_refused_as_a_whole_and_known_ones_go_on() {
        let mut combined = Combined::default();
        combined.add(&ask(&[("a", 1), ("b", 1)]), Ack::Durable, 3).unwrap();
        let refusal = combined.add(&ask(&[("b", 1), ("c", 1), ("d", 1)]), Ack::Durable, 3);
        assert_eq!(refusal, Err(Refusal::RoomTooDiverse(3)));
        combined.add(&ask(&[("c", 1)]), Ack::Durable, 3).unwrap();
        combined.add(&ask(&[("a", 5), ("b", 5), ("c", 5)]), Ack::Durable, 3).unwrap();
        assert_eq!(counts(&combined), [("a", 6), ("b", 6), ("c", 6)]);
        assert_eq!(combined.into_promised(), None);
    }

    #[test]
    fn a_sum_that_readers_would_get_wrong_is_refused() {
        let mut combined = Combined::default();
        combined.add(&ask(&[("a", COUNT_MAX - 1)]), Ack::Received, 9).unwrap();
        assert_eq!(combined.add(&ask(&[("b", 2)]), Ack::Received, 9), Err(Refusal::RoomTooMany));
        assert_eq!(combined.add(&ask(&[("b", u64::MAX)]), Ack::Received, 9), Err(Refusal::RoomTooMany));
        combined.add(&ask(&[("b", 1)]), Ack::Received, 9).unwrap();
    }

    proptest! {
        #[test]
        fn it_counts_as_maps_do(adds in prop::collection::vec(("[a-f]{1,2}", 1..9u64, any::<bool>()), 0..40)) {
            let mut combined = Combined::default();
            let (mut all, mut kept) = (BTreeMap::<&str, u64>::new(), BTreeMap::<&str, u64>::new());
            for (reaction, n, durable) in &adds {
                let ack = if *durable { Ack::Durable } else { Ack::Received };
                combined.add(&ask(&[(reaction, *n)]), ack, 99).unwrap();
                *all.entry(reaction).or_default() += n;
                if !durable {
                    *kept.entry(reaction).or_default() += n;
                }
            }
            prop_assert_eq!(combined.distinct(), all.len());
            prop_assert_eq!(counts(&combined), Vec::from_iter(all));
            let promised = combined.into_promised().unwrap_or_default();
            prop_assert_eq!(counts(&promised), Vec::from_iter(kept));
        }
    }
}
