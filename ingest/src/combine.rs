//! Counts of one room that wait to become a record.

use crate::{config::Ack, refusal::Refusal, request::Ask};
use smallvec::SmallVec;
use wire::{Batch, Counts, RoomName};

/// A room takes no more reactions while so many wait: the largest whole number that every JSON reader gets right.
/// Low enough that the returns of all batches in flight fit into u64 as well.
const COUNT_MAX: u64 = 1 << 53;

/// What a room has collected since its last batch was sealed.
#[derive(Debug, Default)]
pub(crate) struct Combined {
    /// Someone waits to hear what became of these: when they can't be written, they are told.
    awaited: Counts,
    /// These were answered already: when they can't be written, they come back and are tried again.
    promised: Counts,
    count: u64,
}

impl Combined {
    /// Adds all of `ask`, or nothing of it.
    pub(crate) fn add(&mut self, ask: &Ask<'_>, ack: Ack, max_distinct: usize) -> Result<(), Refusal> {
        let count = self.count.checked_add(ask.count).filter(|count| *count <= COUNT_MAX);
        let count = count.ok_or(Refusal::RoomTooMany)?;
        let distinct = self.awaited.len() + self.promised.len();
        let counts = match ack {
            Ack::Durable => &mut self.awaited,
            Ack::Received => &mut self.promised,
        };
        let new = ask.reactions.iter().filter(|(reaction, _)| !counts.contains_key(&**reaction));
        let new = new.map(|(reaction, n)| Ok((reaction.parse()?, *n)));
        let new = new.collect::<Result<SmallVec<[_; 4]>, Refusal>>()?;
        if !new.is_empty() && distinct + new.len() > max_distinct {
            return Err(Refusal::RoomTooDiverse(max_distinct));
        }
        for (reaction, n) in &ask.reactions {
            if let Some(sum) = counts.get_mut(&**reaction) {
                *sum += n;
            }
        }
        counts.extend(new);
        self.count = count;
        Ok(())
    }

    /// Takes promised counts back that were not written.
    pub(crate) fn give_back(&mut self, promised: Counts) {
        for (reaction, n) in promised {
            self.count += n;
            *self.promised.entry(reaction).or_default() += n;
        }
    }

    /// How many were promised.
    pub(crate) fn promised(&self) -> u64 {
        self.promised.values().sum()
    }

    /// The record, and the part of it that was promised.
    #[expect(
        clippy::expect_used,
        reason = "requests count at least one of something, and `add` bounds the sum"
    )]
    pub(crate) fn into_batch(self, room: RoomName) -> (Batch, Counts) {
        let mut counts = self.awaited;
        for (reaction, n) in &self.promised {
            *counts.entry(reaction.clone()).or_default() += n;
        }
        (Batch::new(room, counts).expect("counts are above zero and their sum fits"), self.promised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask<'a>(reactions: &[(&'a str, u64)]) -> Ask<'a> {
        let count = reactions.iter().map(|(_, n)| n).sum();
        Ask { reactions: reactions.iter().map(|(r, n)| ((*r).into(), *n)).collect(), count }
    }

    fn counts(reactions: &[(&str, u64)]) -> Counts {
        reactions.iter().map(|(r, n)| (r.parse().unwrap(), *n)).collect()
    }

    #[test]
    fn equal_reactions_are_added_up() {
        let mut combined = Combined::default();
        combined.add(&ask(&[("a", 1), ("b", 2)]), Ack::Durable, 9).unwrap();
        combined.add(&ask(&[("a", 3)]), Ack::Received, 9).unwrap();
        assert_eq!(combined.promised(), 3);
        let (batch, promised) = combined.into_batch("r".parse().unwrap());
        assert_eq!((batch.counts, batch.count), (counts(&[("a", 4), ("b", 2)]), 6));
        assert_eq!(promised, counts(&[("a", 3)]));
    }

    #[test]
    fn too_many_distinct_reactions_are_refused_as_a_whole_and_known_ones_go_on() {
        let mut combined = Combined::default();
        combined.add(&ask(&[("a", 1), ("b", 1)]), Ack::Durable, 3).unwrap();
        let refusal = combined.add(&ask(&[("b", 1), ("c", 1), ("d", 1)]), Ack::Durable, 3);
        assert_eq!(refusal, Err(Refusal::RoomTooDiverse(3)));
        combined.add(&ask(&[("c", 1)]), Ack::Durable, 3).unwrap();
        combined.add(&ask(&[("a", 5), ("b", 5), ("c", 5)]), Ack::Durable, 3).unwrap();
        let (batch, _) = combined.into_batch("r".parse().unwrap());
        assert_eq!(batch.counts, counts(&[("a", 6), ("b", 6), ("c", 6)]));
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
        combined.give_back(counts(&[("a", 2), ("b", 2), ("c", 2)]));
        assert_eq!(combined.add(&ask(&[("d", 1)]), Ack::Durable, 2), Err(Refusal::RoomTooDiverse(2)));
        combined.add(&ask(&[("c", 1)]), Ack::Received, 2).unwrap();
        let (batch, promised) = combined.into_batch("r".parse().unwrap());
        assert_eq!(batch.counts, counts(&[("a", 3), ("b", 2), ("c", 3)]));
        assert_eq!(promised, batch.counts);
    }
}
