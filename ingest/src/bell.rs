//! When those who wait are woken. Records that were handed over together end one by one where each is a request to a broker of
//! its own, and to wake the threads of HTTP for each costs more than to wake them once, with the last (docs/performance.md).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

/// A record that ended isn't kept secret for longer because of others, as long as any end. If none does, the committer rings.
const PATIENCE: Duration = Duration::from_millis(5);

/// Records that were handed over together, one of which holds this.
#[derive(Clone)]
pub(crate) struct Group(Arc<AtomicUsize>);

impl Group {
    pub(crate) fn of(records: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(records)))
    }

    /// One of its records has ended. Whether it was the last.
    pub(crate) fn ends(&self) -> bool {
        self.0.fetch_sub(1, SeqCst) == 1
    }
}

/// Knows for how long ends were not rung for.
#[derive(Default)]
pub(crate) struct Bell(Mutex<Option<Instant>>);

impl Bell {
    /// A record has ended, the `last` of its group or another one. Whether it is time to ring.
    pub(crate) fn is_due(&self, last: bool, now: Instant) -> bool {
        let mut owed_since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *owed_since.get_or_insert(now);
        let due = last || now.saturating_duration_since(since) >= PATIENCE;
        if due {
            *owed_since = None;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rings_with_the_last_of_a_group() {
        let (bell, group, now) = (Bell::default(), Group::of(3), Instant::now());
        let rings = [(); 3].map(|()| bell.is_due(group.ends(), now));
        assert_eq!(rings, [false, false, true]);
    }

    #[test]
    fn one_that_takes_long_does_not_keep_the_others_from_being_told() {
        let (bell, slow, now) = (Bell::default(), Group::of(3), Instant::now());
        assert!(!bell.is_due(slow.ends(), now));
        assert!(!bell.is_due(slow.ends(), now + PATIENCE / 2));
        let next = Group::of(2);
        assert!(bell.is_due(next.ends(), now + PATIENCE), "any end will do");
        assert!(bell.is_due(next.ends(), now + PATIENCE));
        assert!(bell.is_due(slow.ends(), now + 9 * PATIENCE));
        assert!(!bell.is_due(Group::of(2).ends(), now + 9 * PATIENCE), "nothing is owed any more");
    }
}
