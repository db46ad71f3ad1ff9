//! How a time was spread: a histogram in microseconds, and the few figures of it that people read.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;

/// Longer times count as this long.
const LONGEST_US: u64 = 600_000_000;

/// Durations from a microsecond to ten minutes, to three digits.
#[derive(Debug)]
pub(crate) struct Spread(Histogram<u64>);

/// What is reported of a [`Spread`], in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) samples: u64,
    pub(crate) p50_us: u64,
    pub(crate) p90_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
}

impl Default for Spread {
    #[expect(clippy::expect_used, reason = "the bounds are constants that are valid")]
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_US, 3).expect("valid bounds"))
    }
}

impl Spread {
    pub(crate) fn record(&mut self, time: Duration) {
        self.record_us(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn record_us(&mut self, time_us: u64) {
        self.0.saturating_record(time_us.min(LONGEST_US));
    }

    /// Adds all of `other`.
    pub(crate) fn add(&mut self, other: &Self) {
        // It has the same bounds: adding can't fail.
        let _ = self.0.add(&other.0);
    }

    /// `None` when nothing was recorded: no figure is better than a zero that looks like a good one.
    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        let at = |quantile| self.0.value_at_quantile(quantile);
        (!self.0.is_empty()).then(|| Quantiles {
            samples: self.0.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.0.max(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_recorded_gives_no_figures() {
        assert_eq!(Spread::default().quantiles(), None);
    }

    #[test]
    fn quantiles_are_true_to_three_digits() {
        let mut spread = Spread::default();
        (1..=2_000).for_each(|ms| spread.record(Duration::from_millis(ms)));
        let figures = spread.quantiles().unwrap();
        assert_eq!(figures.samples, 2_000);
        for (figure, ms) in [
            (figures.p50_us, 1_000),
            (figures.p90_us, 1_800),
            (figures.p99_us, 1_980),
            (figures.p999_us, 1_998),
            (figures.max_us, 2_000),
        ] {
            assert!(figure.abs_diff(ms * 1_000) <= ms, "{figure} us for {ms} ms");
        }
    }

    #[test]
    fn times_beyond_the_range_count_as_its_end() {
        let mut spread = Spread::default();
        spread.record(Duration::from_secs(86_400));
        assert!(spread.quantiles().unwrap().max_us >= LONGEST_US);
    }
}
