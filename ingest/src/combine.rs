//! Counts of one room that wait to become part of a record.

use crate::{config::Ack, refusal::Refusal, request::Ask, tally::Tally};
use smallvec::SmallVec;
use std::borrow::Cow;

/// A room takes no more reactions while so many wait. So low that the returns of all batches in flight, of which there are 64
/// at the most, still fit into a batch.
const COUNT_MAX: u64 = wire::COUNT_MAX / 65;

/// What a room has collected since its last batch was sealed.
#[derive(Debug, Default)]
pub(crate) struct Combined {
    /// Someone waits to hear what became of these: when they can't be written, they are told.
    awaited: Tally,
    /// These were answered already: when they can't be written, they come back and are tried again.
    promised: Tally,
    count: u64,
}

impl Combined {
    /// Adds all of `ask`, or nothing of it.
    pub(crate) fn add(&mut self, ask: &Ask<'_>, ack: Ack, max_distinct: usize) -> Result<(), Refusal> {
        let count = self.count.checked_add(ask.count).filter(|count| *count <= COUNT_MAX);
        let count = count.ok_or(Refusal::RoomTooMany)?;
        let distinct = self.distinct();
        let counts = match ack {
            Ack::Durable => &mut self.awaited,
            Ack::Received => &mut self.promised,
        };
        let new = ask.reactions.iter().filter(|(reaction, _)| !counts.contains(reaction));
        let new = new.map(|(reaction, n)| Ok((reaction.parse()?, *n)));
        let new = new.collect::<Result<SmallVec<[_; 4]>, Refusal>>()?;
        if !new.is_empty() && distinct + new.len() > max_distinct {
            return Err(Refusal::RoomTooDiverse(max_distinct));
        }
        if new.len() < ask.reactions.len() {
            for (reaction, n) in &ask.reactions {
                counts.add(reaction, *n);
            }
        }
        counts.reserve(new.len());
        for (reaction, n) in new {
            counts.insert(reaction, n);
        }
        self.count = count;
        Ok(())
    }

    /// Takes promised counts back that were not written.
    pub(crate) fn give_back(&mut self, promised: Tally) {
        self.count += promised.sum();
        if self.promised.is_empty() {
            self.promised = promised;
        } else {
            promised.iter().for_each(|(reaction, n)| self.promised.insert(reaction.clone(), n));
        }
    }

    /// How many different reactions there are, or more.
    pub(crate) fn distinct(&self) -> usize {
        self.awaited.len() + self.promised.len()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// What was promised of it.
    pub(crate) fn into_promised(self) -> Tally {
        self.promised
    }

    /// All of it.
    pub(crate) fn counts(&self) -> Cow<'_, Tally> {
        if self.promised.is_empty() {
            return Cow::Borrowed(&self.awaited);
        }
        if self.awaited.is_empty() {
            return Cow::Borrowed(&self.promised);
        }
        let mut counts = self.awaited.clone();
        self.promised.iter().for_each(|(reaction, n)| counts.insert(reaction.clone(), n));
        Cow::Owned(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask<'a>(reactions: &[(&'a str, u64)]) -> Ask<'a> {
        let count = reactions.iter().map(|(_, n)| n).sum();
        Ask { reactions: reactions.iter().map(|(r, n)| ((*r).into(), *n)).collect(), count }
    }

    fn tally(reactions: &[(&str, u64)]) -> Tally {
        let mut tally = Tally::default();
        reactions.iter().for_each(|(reaction, n)| tally.insert(reaction.parse().unwrap(), *n));
        tally
    }

    #[test]
    fn equal_reactions_are_added_up() {
        let mut combined = Combined::default();
        combined.add(&ask(&[("a", 1), ("b", 2)]), Ack::Durable, 9).unwrap();
        assert_eq!(*combined.counts(), tally(&[("a", 1), ("b", 2)]));
        combined.add(&ask(&[("a", 3)]), Ack::Received, 9).unwrap();
        assert_eq!((combined.counts().into_owned(), combined.count()), (tally(&[("a", 4), ("b", 2)]), 6));
        assert_eq!(combined.into_promised(), tally(&[("a", 3)]));
    }

    #[test]
    fn too_many_distinct_reactions_are_refused_as_a_whole_and_known_ones_go_on() {
        let mut combined = Combined::default();
        combined.add(&ask(&[("a", 1), ("b", 1)]), Ack::Durable, 3).unwrap();
        let refusal = combined.add(&ask(&[("b", 1), ("c", 1), ("d", 1)]), Ack::Durable, 3);
        assert_eq!(refusal, Err(Refusal::RoomTooDiverse(3)));
        combined.add(&ask(&[("c", 1)]), Ack::Durable, 3).unwrap();
        combined.add(&ask(&[("a", 5), ("b", 5), ("c", 5)]), Ack::Durable, 3).unwrap();
        assert_eq!(*combined.counts(), tally(&[("a", 6), ("b", 6), ("c", 6)]));
    }

    #[test]
    fn a_sum_that_readers_would_get_wrong_is_refused() {
        let mut combined = Combined::default();
        combined.add(&ask(&[("a", COUNT_MAX - 1)]), Ack::Received, 9).unwrap();
        assert_eq!(combined.add(&ask(&[("b", 2)]), Ack::Received, 9), Err(Refusal::RoomTooMany));
        assert_eq!(combined.add(&ask(&[("b", u64::MAX)]), Ack::Received, 9), Err(Refusal::RoomTooMany));
        combined.add(&ask(&[("b", 1)]), Ack::Received, 9).unwrap();
    }

    #[test]
    fn what_comes_back_counts_against_the_limits_but_is_never_refused() {
        let mut combined = Combined::default();
        combined.add(&ask(&[("a", 1)]), Ack::Received, 2).unwrap();
        combined.give_back(tally(&[("a", 2), ("b", 2), ("c", 2)]));
        assert_eq!(combined.add(&ask(&[("d", 1)]), Ack::Durable, 2), Err(Refusal::RoomTooDiverse(2)));
        combined.add(&ask(&[("c", 1)]), Ack::Received, 2).unwrap();
        assert_eq!(*combined.counts(), tally(&[("a", 3), ("b", 2), ("c", 3)]));
        assert_eq!(combined.into_promised(), tally(&[("a", 3), ("b", 2), ("c", 3)]));
    }
}
