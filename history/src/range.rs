//! Which time a request asks for, and in which steps.

use crate::{POINTS_MAX, http::Refusal, time};

/// The time before `to` where a request does not say `from`.
const DEFAULT_MS: u64 = 600_000;
/// Steps that people read easily, in ms. A default step is one of them.
const NICE_MS: [u64; 18] = [
    1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000,
    3_600_000, 7_200_000, 10_800_000, 21_600_000, 43_200_000, 86_400_000,
];

/// A time in steps: at least one, at most [`POINTS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    /// Windows that start at this time or later,
    pub(crate) from_ms: u64,
    /// and before this time.
    pub(crate) to_ms: u64,
    /// Length of a step.
    pub(crate) step_ms: u64,
}

impl Range {
    /// Reads the parameters of a request that comes at `now_ms`, where a window lasts `window_ms`.
    ///
    /// # Errors
    ///
    /// The refusal says which parameter is wrong, and what would be right.
    pub(crate) fn parse(
        parameters: &[(String, String)],
        now_ms: u64,
        window_ms: u64,
    ) -> Result<Self, Refusal> {
        let (mut from, mut to, mut step) = (None, None, None);
        for (name, value) in parameters {
            let slot = match name.as_str() {
                "from" => &mut from,
                "to" => &mut to,
                "step" => &mut step,
                _ => return Err(Refusal::Parameter(name.clone())),
            };
            if slot.replace(value).is_some() {
                return Err(Refusal::Repeated(name.clone()));
            }
        }
        let time = |name: &'static str, value: Option<&String>| match value {
            Some(value) => time::parse(value).map(Some).ok_or(Refusal::Time(name)),
            None => Ok(None),
        };
        let (from, to) = (time("from", from)?, time("to", to)?);
        // The window that is open now is not there yet.
        let to_ms = to.unwrap_or(now_ms - now_ms % window_ms);
        let from_ms = from.unwrap_or(to_ms.saturating_sub(DEFAULT_MS));
        if from_ms >= to_ms {
            return Err(Refusal::Backwards { from_ms, to_ms });
        }
        let len_ms = to_ms - from_ms;
        let step_ms = match step {
            None => default_step(len_ms, window_ms),
            // A number of 64 bits with a sign, as the document of the API says.
            Some(step) => step
                .parse::<i64>()
                .ok()
                .and_then(|step| step.try_into().ok())
                .filter(|step| *step > 0)
                .ok_or(Refusal::Step)?,
        };
        if step_ms < window_ms {
            return Err(Refusal::ShortStep { window_ms });
        }
        if len_ms.div_ceil(step_ms) > POINTS_MAX {
            let fits_ms = default_step(len_ms, window_ms);
            return Err(Refusal::TooManyPoints { points: len_ms.div_ceil(step_ms), fits_ms });
        }
        Ok(Self { from_ms, to_ms, step_ms })
    }
}

/// The shortest step of whole windows that gives at most [`POINTS_MAX`] points: one that people read easily, if there is one.
fn default_step(len_ms: u64, window_ms: u64) -> u64 {
    let least_ms = len_ms.div_ceil(POINTS_MAX).max(window_ms);
    let nice = NICE_MS.into_iter().find(|step| *step >= least_ms && step % window_ms == 0);
    nice.unwrap_or(least_ms.div_ceil(window_ms) * window_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_763_000_001_234;

    fn parse(query: &[(&str, &str)]) -> Result<Range, Refusal> {
        let query: Vec<_> = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Range::parse(&query, NOW, 2_000)
    }

    #[test]
    fn the_last_ten_minutes_are_the_default() {
        let expected = Range { from_ms: 1_762_999_400_000, to_ms: 1_763_000_000_000, step_ms: 2_000 };
        assert_eq!(parse(&[]), Ok(expected));
        let day = parse(&[("from", "2026-11-29T00:00:00Z"), ("to", "2026-11-30T00:00:00Z")]).unwrap();
        assert_eq!((day.to_ms - day.from_ms, day.step_ms), (86_400_000, 120_000));
        let given = parse(&[("from", "1000"), ("to", "9000"), ("step", "3000")]);
        assert_eq!(given, Ok(Range { from_ms: 1_000, to_ms: 9_000, step_ms: 3_000 }));
    }

    #[test]
    fn a_default_step_is_the_shortest_nice_one_of_whole_windows_that_fits() {
        for (len_ms, window_ms, step_ms) in [
            (600_000, 2_000, 2_000),
            (600_000, 500, 1_000),
            (600_000, 1_500, 15_000),
            (600_000, 700, 700),
            (2_000_000, 2_000, 2_000),
            (2_000_001, 2_000, 10_000),
            (604_800_000, 2_000, 900_000),
            (31_536_000_000, 2_000, 43_200_000),
            (315_360_000_000, 2_000, 315_360_000),
            (1, 60_000, 60_000),
        ] {
            assert_eq!(default_step(len_ms, window_ms), step_ms, "{len_ms} {window_ms}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_what_would_be_right() {
        for (query, why) in [
            (&[("since", "1")][..], "unknown parameter \"since\""),
            (&[("to", "1"), ("to", "2")], "to comes twice"),
            (&[("from", "yesterday")], "from has to be"),
            (&[("from", "5000"), ("to", "5000")], "from (5000) has to be before to (5000)"),
            (&[("to", "0")], "has to be before"),
            (&[("from", "9007199254740991")], "has to be before"),
            (&[("step", "0")], "step has to be"),
            (&[("step", "2s")], "step has to be"),
            (&[("step", "9223372036854775808")], "step has to be"),
            (&[("step", "1999")], "a step is at least one window, 2000 ms"),
            (
                &[("from", "0"), ("to", "2002001"), ("step", "2000")],
                "1002 points: at most 1000; step=10000 fits",
            ),
        ] {
            let refusal = parse(query).unwrap_err().to_string();
            assert!(refusal.contains(why), "{query:?}: {refusal}");
        }
        assert!(parse(&[("from", "0"), ("to", "2000000"), ("step", "2000")]).is_ok());
    }

    proptest! {
        #[test]
        fn a_default_step_always_fits(len_ms in 1u64..time::TIME_MAX_MS, window_ms in 100u64..60_000) {
            let step_ms = default_step(len_ms, window_ms);
            prop_assert!(len_ms.div_ceil(step_ms) <= POINTS_MAX);
            prop_assert_eq!(step_ms % window_ms, 0);
        }
    }
}
