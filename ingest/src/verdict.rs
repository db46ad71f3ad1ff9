//! What became of a batch: one cell that all its requests wait for.

use std::sync::OnceLock;
use tokio::sync::Notify;

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
pub(crate) struct Verdict {
    outcome: OnceLock<Outcome>,
    given: Notify,
}

impl Verdict {
    /// Gives the verdict and wakes all who wait; the first one stands.
    pub(crate) fn give(&self, outcome: Outcome) {
        if self.outcome.set(outcome).is_ok() {
            self.given.notify_waiters();
        }
    }

    /// Waits for the verdict.
    pub(crate) async fn wait(&self) -> Outcome {
        loop {
            // Made before the look, so that a verdict between the two is not missed.
            let given = self.given.notified();
            if let Some(outcome) = self.get() {
                return outcome;
            }
            given.await;
        }
    }

    pub(crate) fn get(&self) -> Option<Outcome> {
        self.outcome.get().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;

    #[tokio::test]
    async fn all_who_wait_get_the_first_verdict_and_so_do_those_who_come_late() {
        let verdict = Verdict::default();
        let early = join_all((0..100).map(|_| verdict.wait()));
        let judge = async {
            tokio::task::yield_now().await;
            verdict.give(Outcome::NotWritten);
            verdict.give(Outcome::Committed);
        };
        let (early, ()) = tokio::join!(early, judge);
        assert_eq!(early, [Outcome::NotWritten; 100]);
        assert_eq!(verdict.wait().await, Outcome::NotWritten);
    }
}
