//! What became of a batch: one cell that all its requests look at. They wait for it in the [`Halls`](crate::halls::Halls).

use std::sync::OnceLock;

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

/// A cell that is set once. Shared by the batch and all who wait for it: one allocation a batch, not one a request.
#[derive(Debug, Default)]
pub(crate) struct Verdict(OnceLock<Outcome>);

impl Verdict {
    /// Gives the verdict; the first one stands. Who waits hears of it when the halls are rung.
    pub(crate) fn give(&self, outcome: Outcome) {
        let _ = self.0.set(outcome);
    }

    pub(crate) fn get(&self) -> Option<Outcome> {
        self.0.get().copied()
    }
}
