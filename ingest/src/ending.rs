//! The end of a record: what the log says of it goes to its partition, to the metrics, and to those who wait.

use crate::{batches::Sealed, bell::Group, shared::Shared, verdict::Outcome};
use eventlog::{AppendError, Done};
use std::sync::Arc;
use tokio::time::Instant;

/// A record that is with the log. Dropped, its outcome is unknown.
pub(crate) struct Ending {
    shared: Arc<Shared>,
    group: Group,
    sealed: Option<Sealed>,
}

impl Ending {
    /// What the log is to call for a record of `group`.
    pub(crate) fn of(sealed: Sealed, group: &Group, shared: &Arc<Shared>) -> Done {
        let mut ending = Self { shared: Arc::clone(shared), group: group.clone(), sealed: Some(sealed) };
        Box::new(move |result| ending.end(result))
    }

    fn end(&mut self, result: Result<(), AppendError>) {
        let Some(sealed) = self.sealed.take() else { return };
        let (meters, now) = (&self.shared.meters, Instant::now().into_std());
        meters.commit_seconds.record(now.saturating_duration_since(sealed.since));
        let outcome = match result {
            Ok(()) => {
                meters.committed.increment(sealed.count);
                meters.batches_committed.increment(sealed.batches);
                Outcome::Committed
            }
            Err(error) => self.failed(&sealed, error),
        };
        self.shared.batches.end(sealed, outcome, now);
        if self.shared.bell.is_due(self.group.ends(), now) {
            self.shared.halls.ring();
        }
    }

    fn failed(&self, sealed: &Sealed, error: AppendError) -> Outcome {
        let meters = &self.shared.meters;
        let (outcome, counter, in_doubt) = match &error {
            AppendError::NotWritten(_) => (Outcome::NotWritten, &meters.batches_not_written, 0),
            AppendError::Unknown(_) => (Outcome::Unknown, &meters.batches_unknown, sealed.promised()),
        };
        counter.increment(sealed.batches);
        meters.in_doubt.increment(in_doubt);
        self.shared.troubles().add(sealed.partition, error, in_doubt);
        outcome
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.end(Err(AppendError::Unknown("the log is gone".into())));
    }
}
