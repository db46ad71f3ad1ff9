//! Appends that failed, summed up: an outage must not write a line for each record.

use crate::batches::Sealed;
use eventlog::AppendError;
use std::time::{Duration, Instant};

/// At most one report in this time.
const PERIOD: Duration = Duration::from_secs(1);

/// What failed since the last report.
#[derive(Default)]
pub(crate) struct Troubles {
    not_written: u64,
    unknown: u64,
    in_doubt: u64,
    last: Option<(u32, AppendError)>,
    reported_at: Option<Instant>,
}

impl Troubles {
    /// An append failed; `in_doubt` of its reactions were answered with 202 and are perhaps lost.
    pub(crate) fn add(&mut self, sealed: &Sealed, error: AppendError, in_doubt: u64) {
        match error {
            AppendError::NotWritten(_) => self.not_written += 1,
            AppendError::Unknown(_) => self.unknown += 1,
        }
        self.in_doubt += in_doubt;
        self.last = Some((sealed.partition, error));
    }

    /// Writes a line if something failed and the last line is old enough.
    pub(crate) fn report(&mut self, now: Instant) {
        if self.reported_at.is_none_or(|at| now.saturating_duration_since(at) >= PERIOD) {
            self.write(Some(now));
        }
    }

    /// Whether nothing is left to report.
    pub(crate) fn are_told(&self) -> bool {
        self.last.is_none()
    }

    /// Writes what is left.
    pub(crate) fn close(&mut self) {
        self.write(None);
    }

    fn write(&mut self, now: Option<Instant>) {
        let Some((partition, error)) = self.last.take() else { return };
        let Self { not_written, unknown, in_doubt, .. } = std::mem::take(self);
        self.reported_at = now;
        if in_doubt > 0 {
            tracing::error!(
                not_written, unknown, in_doubt, last_partition = partition, last_error = %error,
                "appends failed, reactions that were answered with 202 may be lost"
            );
        } else {
            tracing::warn!(not_written, unknown, last_partition = partition, last_error = %error, "appends failed");
        }
    }
}
