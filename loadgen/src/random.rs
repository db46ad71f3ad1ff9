//! A little randomness: names that nobody used before, and jitter. Not for secrets.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// Eight hexadecimal digits.
pub(crate) fn token() -> String {
    format!("{:08x}", number() >> 32)
}

/// A time from zero up to `limit`.
pub(crate) fn up_to(limit: Duration) -> Duration {
    let limit_us = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(number().checked_rem(limit_us.saturating_add(1)).unwrap_or(0))
}

/// How long to wait before attempt `attempt` + 1: doubles from 20 ms up to `limit`, half of it random, so that those
/// who were cut off together don't come back together.
pub(crate) fn backoff(attempt: u32, limit: Duration) -> Duration {
    let full = Duration::from_millis(20).saturating_mul(1 << attempt.min(16)).min(limit);
    full / 2 + up_to(full / 2)
}

/// Any number. The standard library seeds each of these hashers differently.
pub(crate) fn number() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_have_eight_digits() {
        let (a, b) = (token(), token());
        assert_ne!(a, b);
        assert_eq!((a.len(), b.len()), (8, 8));
    }

    #[test]
    fn backoff_grows_up_to_its_limit() {
        let limit = Duration::from_secs(1);
        assert!(backoff(0, limit) <= Duration::from_millis(20));
        assert!((3..100).all(|attempt| backoff(attempt, limit) >= Duration::from_millis(80)));
        assert!((0..100).all(|attempt| backoff(attempt, limit) <= limit));
    }

    #[test]
    fn jitter_stays_within_its_limit() {
        assert_eq!(up_to(Duration::ZERO), Duration::ZERO);
        assert!((0..1_000).all(|_| up_to(Duration::from_micros(3)) <= Duration::from_micros(3)));
    }
}
