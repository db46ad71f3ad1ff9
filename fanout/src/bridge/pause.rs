//! How long the bridge waits before it connects again.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

/// Pauses that double, each cut short by chance, so that the clients of a broker don't all come back at once.
#[derive(Debug)]
pub(super) struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Pauses {
    /// The next pause: half of it is certain, the other half is up to chance.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        // Each state has other keys.
        let chance = RandomState::new().hash_one(()) % 1_000;
        pause / 2 + (pause / 2).mul_f64(chance as f64 / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_differ_by_chance() {
        let mut pauses = Pauses::default();
        let mut longest = FIRST;
        for _ in 0..20 {
            let pause = pauses.next();
            assert!((longest / 2..=longest).contains(&pause), "{pause:?} of {longest:?}");
            longest = (longest * 2).min(LONGEST);
        }
        let first: std::collections::BTreeSet<_> = (0..20).map(|_| Pauses::default().next()).collect();
        assert!(first.len() > 1);
    }
}
