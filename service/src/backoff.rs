//! Pauses between attempts.

use std::time::Duration;

/// Pauses that double from attempt to attempt, up to the longest.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// The pauses of something that has not failed yet.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The pause after one more failure.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }

    /// It worked: the next failure begins with the first pause again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_again_after_a_success() {
        let second = Duration::from_secs;
        let mut backoff = Backoff::new(second(1), second(5));
        let pauses = [(); 5].map(|()| backoff.next_pause());
        assert_eq!(pauses, [1, 2, 4, 5, 5].map(second));
        backoff.reset();
        assert_eq!(backoff.next_pause(), second(1));
    }
}
