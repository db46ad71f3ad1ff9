//! How viewers leave when the process stops: one after the other, so that they don't all come to the next node at once.

use crate::{Config, registry::Registry};
use service::CancellationToken;
use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Longest wait for a viewer to answer a close.
pub(crate) const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// The plan by which viewers leave. Each asks for its turn once the drain has begun.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    begun: CancellationToken,
    pace: OnceLock<Pace>,
    turns: AtomicU32,
}

#[derive(Debug)]
struct Pace {
    start: Instant,
    step: Duration,
}

impl Drain {
    /// Sends all viewers away, and waits until they are gone, `drain_ms` at the most. `tell` tells those who don't
    /// wait for the drain's beginning.
    pub(crate) async fn run(&self, registry: &Registry, config: &Config, tell: impl FnOnce()) {
        let mut viewers = registry.viewers();
        let count = *viewers.borrow();
        let longest = Duration::from_millis(config.drain_ms);
        let step = step(count, config.drain_viewers_per_s, longest);
        let _ = self.pace.set(Pace { start: Instant::now(), step });
        self.begun.cancel();
        tell();
        tracing::info!(viewers = count, step_us = step.as_micros(), "sending the viewers away");
        // The sender lives in the registry, so that only the deadline can fail.
        if tokio::time::timeout(longest, viewers.wait_for(|count| *count == 0)).await.is_err() {
            tracing::warn!(viewers = *viewers.borrow(), "viewers were left behind at the deadline");
        }
    }

    /// Whether viewers are being sent away.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Waits until viewers are sent away.
    pub(crate) async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// When the caller's viewer has to leave. Each call takes a turn.
    pub(crate) fn turn(&self) -> Instant {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        self.pace.get().map_or_else(Instant::now, |pace| pace.start + pace.step * turn)
    }
}

/// Time between two viewers: as the rate says, or less where all would not be gone in time.
fn step(viewers: usize, per_s: u32, longest: Duration) -> Duration {
    let for_goodbyes = CLOSE_WAIT.min(longest / 2);
    let viewers = u32::try_from(viewers).unwrap_or(u32::MAX);
    (Duration::from_secs(1) / per_s.max(1)).min((longest - for_goodbyes) / viewers.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Meters;
    use std::sync::Arc;

    #[test]
    fn viewers_leave_at_the_rate_or_faster_where_all_must_be_gone_in_time() {
        let ten_s = Duration::from_secs(10);
        assert_eq!(step(100, 500, ten_s), Duration::from_millis(2));
        assert_eq!(step(9_000, 500, ten_s), Duration::from_millis(1));
        assert_eq!(step(9_000, 500, Duration::ZERO), Duration::ZERO);
        assert_eq!(step(0, 500, ten_s), Duration::from_millis(2));
    }

    #[tokio::test(start_paused = true)]
    async fn each_viewer_has_its_own_turn() {
        let drain = Drain::default();
        let config = crate::tests::harness::config();
        let start = Instant::now();
        drain.run(&Registry::new(Arc::new(Meters::new())), &config, || {}).await;
        let step = Duration::from_secs(1) / config.drain_viewers_per_s;
        assert!(drain.has_begun());
        assert_eq!([drain.turn(), drain.turn(), drain.turn()], [start, start + step, start + 2 * step]);
    }
}
