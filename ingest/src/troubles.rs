//! Appends that failed, summed up: an outage must not write a line for each record.

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
    /// An append to `partition` failed; `in_doubt` of its reactions were answered with 202 and are perhaps lost.
    pub(crate) fn add(&mut self, partition: u32, error: AppendError, in_doubt: u64) {
        match error {
            AppendError::NotWritten(_) => self.not_written += 1,
            AppendError::Unknown(_) => self.unknown += 1,
        }
        self.in_doubt += in_doubt;
        self.last = Some((partition, error));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_at_once_then_once_a_second_and_what_is_left_at_the_end() {
        let (mut troubles, start) = (Troubles::default(), Instant::now());
        let mut fails_at = |at: Duration| {
            troubles.add(3, AppendError::Unknown("no answer".into()), 7);
            assert!(!troubles.are_told());
            troubles.report(start + at);
            troubles.are_told()
        };
        assert!(fails_at(Duration::ZERO));
        assert!(!fails_at(PERIOD - Duration::from_millis(1)));
        assert!(fails_at(PERIOD));
        assert!(!fails_at(PERIOD));
        assert_eq!((troubles.unknown, troubles.in_doubt), (1, 7), "what was told is not told again");
        troubles.close();
        assert!(troubles.are_told());
    }
}
