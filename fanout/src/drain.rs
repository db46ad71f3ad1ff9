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

/// How long a viewer may take to answer a goodbye, by closing its side. Less in a short drain.
const GOODBYE: Duration = Duration::from_secs(1);

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
    goodbye: Duration,
}

impl Drain {
    /// Sends all viewers away, and waits until they are gone, `drain_ms` at the most. `notify` is called once the plan
    /// stands, for the shards, which don't await it.
    pub(crate) async fn run(&self, registry: &Registry, config: &Config, notify: impl FnOnce()) {
        let viewers = self.send_away(registry, config, notify).await;
        if viewers > 0 {
            tracing::warn!(viewers, "viewers were left behind at the deadline");
        }
    }

    /// The same. Returns how many viewers are left at the deadline.
    pub(crate) async fn send_away(
        &self,
        registry: &Registry,
        config: &Config,
        notify: impl FnOnce(),
    ) -> usize {
        let mut viewers = registry.viewers();
        let count = *viewers.borrow();
        let longest = Duration::from_millis(config.drain_ms);
        let pace = Pace::new(count, config.drain_viewers_per_s, longest);
        tracing::info!(viewers = count, step_us = pace.step.as_micros(), "sending the viewers away");
        let _ = self.pace.set(pace);
        self.begun.cancel();
        notify();
        // The sender lives in the registry, so that only the deadline can fail.
        let _ = tokio::time::timeout(longest, viewers.wait_for(|count| *count == 0)).await;
        *viewers.borrow()
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

    /// How long a viewer may take to answer a goodbye.
    pub(crate) fn goodbye(&self) -> Duration {
        self.pace.get().map_or(GOODBYE, |pace| pace.goodbye)
    }
}

impl Pace {
    /// Viewers leave at the rate, or faster where the last would not have its time for a goodbye by the end.
    fn new(viewers: usize, per_s: u32, longest: Duration) -> Self {
        let goodbye = GOODBYE.min(longest / 2);
        // Shards need some time of their own, so half a goodbye more stays free.
        let for_turns = longest - goodbye - goodbye / 2;
        let viewers = u32::try_from(viewers).unwrap_or(u32::MAX);
        let step = (Duration::from_secs(1) / per_s.max(1)).min(for_turns / viewers.max(1));
        Self { start: Instant::now(), step, goodbye }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Meters;
    use std::sync::Arc;

    #[test]
    fn viewers_leave_at_the_rate_or_faster_where_all_must_be_gone_in_time() {
        let step = |viewers, longest_s| Pace::new(viewers, 500, Duration::from_secs(longest_s)).step;
        assert_eq!(step(100, 10), Duration::from_millis(2));
        assert_eq!(step(8_500, 10), Duration::from_millis(1));
        assert_eq!(step(9_000, 0), Duration::ZERO);
        assert_eq!(step(0, 10), Duration::from_millis(2));
    }

    #[test]
    fn the_last_viewer_has_its_whole_goodbye_before_the_deadline() {
        for longest_ms in [10, 100, 1_999, 2_000, 15_000] {
            let longest = Duration::from_millis(longest_ms);
            let Pace { step, goodbye, .. } = Pace::new(60, 1, longest);
            assert!(goodbye >= GOODBYE.min(longest / 2));
            assert!(step * 59 + goodbye < longest, "{longest_ms} ms: {step:?}, {goodbye:?}");
        }
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
