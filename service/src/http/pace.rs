//! How often a thread of many connections lets itself be woken. When requests come one by one, each wakes it, and to wake costs
//! more than to answer. So a thread that was woken soon and found little to do pauses before it looks again, and finds several
//! (docs/decisions/0007).

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// With fewer connections a thread never pauses: they may all wait for what it does next.
const MANY: usize = 128;
/// Woken within this, a thread may expect to find several after a pause.
const SOON: Duration = Duration::from_micros(250);
/// From being woken to the end of the pause: little beside what a request waits for a commit.
const GAP: Duration = Duration::from_millis(1);
/// A turn that takes longer served many already.
const LITTLE: Duration = Duration::from_micros(200);

/// The last turn of a thread.
pub(super) struct Pace(Mutex<Turn>);

struct Turn {
    /// When the thread went to rest.
    rested_at: Instant,
    /// When it was woken.
    woke_at: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self(Mutex::new(Turn { rested_at: now, woke_at: now }))
    }

    /// The thread is woken.
    pub(super) fn wake(&self) {
        self.turn().woke_at = Instant::now();
    }

    /// The thread, which has so many connections, goes to rest. It may pause first.
    pub(super) fn rest(&self, connections: usize) {
        // Nobody waits for the lock: only this thread rests and wakes.
        let mut turn = self.turn();
        if connections >= MANY
            && let Some(pause) = turn.pauses(Instant::now())
        {
            std::thread::sleep(pause);
        }
        turn.rested_at = Instant::now();
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// For how long the thread is to pause before it rests.
    fn pauses(&self, now: Instant) -> Option<Duration> {
        let waited = self.woke_at.saturating_duration_since(self.rested_at);
        let worked = now.saturating_duration_since(self.woke_at);
        (waited < SOON && worked < LITTLE).then(|| GAP - worked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(waited_us: u64, worked_us: u64) -> Option<Duration> {
        let rested_at = Instant::now();
        let woke_at = rested_at + Duration::from_micros(waited_us);
        Turn { rested_at, woke_at }.pauses(woke_at + Duration::from_micros(worked_us))
    }

    #[test]
    fn a_thread_that_is_woken_soon_for_little_pauses_for_the_rest_of_a_millisecond() {
        assert_eq!(pauses(200, 40), Some(Duration::from_micros(960)));
        assert_eq!(pauses(0, 0), Some(GAP));
    }

    #[test]
    fn one_that_rested_for_long_or_has_much_to_do_looks_again_at_once() {
        assert_eq!(pauses(250, 40), None);
        assert_eq!(pauses(200, 200), None);
    }
}
