//! What became of the batches that were sealed together: one cell that all their requests look at. They wait for it in the
//! [`Halls`](crate::halls::Halls).

use std::sync::{Arc, OnceLock};

/// How a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Durable.
    Committed,
    /// Not in the log, and never will be.
    NotWritten,
    /// Nobody knows.
    Unknown,
}

/// A cell that is set once. Shared by the batches and all who wait for them: one allocation a commit, not one a request. Where
/// the batches became several records, each record has an outcome of its own.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// The outcome of the only record, or of those that have none of their own.
    all: OnceLock<Outcome>,
    records: OnceLock<Box<Records>>,
}

/// The outcomes of several records.
#[derive(Debug)]
struct Records {
    /// By the number of a room in its commit: the record that has its batch.
    of_room: Vec<u32>,
    outcomes: Box<[OnceLock<Outcome>]>,
}

impl Verdict {
    /// Gives the verdict of all; the first one stands. The requests hear of it when the halls are rung.
    pub(crate) fn give(&self, outcome: Outcome) {
        let _ = self.all.set(outcome);
    }

    /// The batches became `records` records. Has to be said before one of them ends.
    pub(crate) fn split(&self, of_room: Vec<u32>, records: usize) {
        let outcomes = (0..records).map(|_| OnceLock::new()).collect();
        let _ = self.records.set(Box::new(Records { of_room, outcomes }));
    }

    /// Gives the verdict of one record.
    pub(crate) fn give_record(&self, record: u32, outcome: Outcome) {
        match self.records.get() {
            Some(records) => {
                if let Some(cell) = records.outcomes.get(record as usize) {
                    let _ = cell.set(outcome);
                }
            }
            None => self.give(outcome),
        }
    }

    /// How the batch of a room ended.
    fn of_room(&self, room: u32) -> Option<Outcome> {
        let own = self.records.get().and_then(|records| {
            let record = records.of_room.get(room as usize)?;
            records.outcomes.get(*record as usize)?.get()
        });
        own.or_else(|| self.all.get()).copied()
    }
}

/// The verdict of one room's batch.
#[derive(Debug, Clone)]
pub(crate) struct RoomVerdict {
    verdict: Arc<Verdict>,
    /// The number of the room in its commit.
    room: u32,
}

impl RoomVerdict {
    pub(crate) fn new(verdict: &Arc<Verdict>, room: u32) -> Self {
        Self { verdict: Arc::clone(verdict), room }
    }

    pub(crate) fn get(&self) -> Option<Outcome> {
        self.verdict.of_room(self.room)
    }
}

#[cfg(test)]
impl RoomVerdict {
    /// Whether both are of one commit.
    pub(crate) fn is_of(&self, verdict: &Arc<Verdict>) -> bool {
        Arc::ptr_eq(&self.verdict, verdict)
    }
}

#[cfg(test)]
impl Verdict {
    /// How all ended, where it is one record.
    pub(crate) fn get(&self) -> Option<Outcome> {
        self.of_room(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_has_its_outcome_and_the_rest_that_of_all() {
        let verdict = Arc::<Verdict>::default();
        let rooms = [0, 1, 2, 3].map(|room| RoomVerdict::new(&verdict, room));
        verdict.split(vec![0, 2, 0, 1], 3);
        let outcomes = || rooms.each_ref().map(RoomVerdict::get);
        verdict.give_record(2, Outcome::NotWritten);
        assert_eq!(outcomes(), [None, Some(Outcome::NotWritten), None, None]);
        verdict.give_record(0, Outcome::Committed);
        verdict.give_record(0, Outcome::Unknown);
        let (done, lost, open) = (Some(Outcome::Committed), Some(Outcome::NotWritten), None);
        assert_eq!(outcomes(), [done, lost, done, open]);
        verdict.give(Outcome::Unknown);
        assert_eq!(outcomes(), [done, lost, done, Some(Outcome::Unknown)]);
    }
}
