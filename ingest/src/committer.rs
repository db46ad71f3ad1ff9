//! Turns open batches into records, and finds those who wait too long.

use crate::{Error, batches::Abandoned, config::Config, shared::Shared};
use eventlog::Writer;
use service::{CancellationToken, Condition};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// While there is something to do, those who have waited too long are looked for so often, and gauges are set.
const LOOK: Duration = Duration::from_millis(50);

/// Idempotency keys that fill half of their table or more are warned of so often.
const KEYS_WARNING: Duration = Duration::from_secs(60);

/// The one task that appends what no request appends.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    writer: Arc<dyn Writer>,
    ready: Condition,
    /// When it was last looked for those who have waited too long.
    looked_at: Instant,
    /// When idempotency keys were warned of last.
    keys_warned_at: Option<Instant>,
    /// Nobody waits and nothing is open, and the gauges say so.
    at_rest: bool,
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, writer: Arc<dyn Writer>, ready: Condition) -> Self {
        Self { shared, writer, ready, looked_at: Instant::now(), keys_warned_at: None, at_rest: true }
    }

    /// Lets requests in. Commits until the shutdown, then what was accepted before it.
    pub(crate) async fn run(
        mut self,
        mut config: watch::Receiver<Arc<Config>>,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        self.shared.batches.open(self.writer.partitions());
        self.shared.handover.open(Arc::clone(&self.writer));
        self.shared.gate.open();
        self.ready.hold();
        tracing::info!("ingest is open");
        let mut stop = std::pin::pin!(shutdown.cancelled());
        let mut reloads = true;
        loop {
            tokio::select! {
                () = &mut stop => break,
                changed = config.changed(), if reloads => match changed {
                    Ok(()) => self.reload(config.borrow_and_update().clone()),
                    Err(_) => reloads = false,
                },
                () = self.turn() => {}
            }
        }
        self.drain().await
    }

    fn reload(&mut self, config: Arc<Config>) {
        self.shared.set_config(config);
        tracing::info!("configuration of ingest is in force");
    }

    /// Waits for the next thing to do, and does it. Safe to cancel.
    async fn turn(&mut self) {
        let shared = Arc::clone(&self.shared);
        let busy = !self.at_rest || shared.gate.inside() > 0;
        tokio::select! {
            is_due = due(&shared) => {
                if is_due {
                    shared.crowd.waits_no_longer();
                    shared.hand_over();
                }
                self.at_rest = false;
            }
            () = shared.handover.until_early() => if shared.everyone_waits() {
                shared.hand_over_early(Instant::now());
            },
            () = sleep_until(self.looked_at + LOOK), if busy => {}
        }
        if self.looked_at.elapsed() >= LOOK {
            self.look();
        }
    }

    /// Finds those who have waited too long, and shows how things stand.
    fn look(&mut self) {
        let Shared { batches, gate, halls, ledger, meters, .. } = &*self.shared;
        self.looked_at = Instant::now();
        halls.ring();
        let mut troubles = self.shared.troubles();
        troubles.report(self.looked_at.into_std());
        self.shared.observed.forget(self.looked_at.into_std());
        let keys = (ledger.keys(), self.shared.live().config.max_idempotency_keys);
        warn_of_keys(keys, &mut self.keys_warned_at, self.looked_at);
        let inside = gate.inside();
        meters.open_rooms.set(batches.rooms() as f64);
        meters.idempotency_keys.set(keys.0 as f64);
        meters.waiting.set(inside as f64);
        self.at_rest = batches.is_empty() && inside == 0 && troubles.are_told();
    }

    /// Lets nobody in, and commits what was accepted. At the deadline everyone who still waits is told.
    async fn drain(mut self) -> Result<(), Error> {
        self.shared.gate.close();
        self.ready.fail("shutting down");
        let deadline = Instant::now() + Duration::from_millis(self.shared.live().config.drain_ms);
        let mut late = std::pin::pin!(sleep_until(deadline));
        // In this order: whoever is inside may still open a batch.
        while self.shared.gate.inside() > 0 || !self.shared.batches.is_empty() {
            tokio::select! {
                () = &mut late => break,
                () = self.turn() => {}
            }
        }
        let Abandoned { rooms, unresolved, lost } = self.shared.batches.abandon();
        self.shared.meters.in_doubt.increment(lost);
        self.look();
        self.shared.handover.close();
        self.shared.troubles().close();
        self.writer.flush(deadline.saturating_duration_since(Instant::now())).await;
        if rooms + unresolved > 0 || lost > 0 {
            return Err(Error::Drain { rooms, unresolved, lost });
        }
        tracing::info!("ingest has committed all that it accepted");
        Ok(())
    }
}

/// Resolves when there is something to do: with `true` if batches are open and may be handed over, with `false` if others may have
/// handed them over meanwhile, whose verdicts are to be waited for. The first after a rest go at once, so that nobody waits
/// for others who don't come; while there is traffic, batches collect for the commit interval since the last ones. In this
/// order: within the interval nobody has to wake this task.
async fn due(shared: &Shared) -> bool {
    let passed_at = shared.handover.passed_at();
    if let Some(at) = passed_at {
        let next = at + Duration::from_millis(shared.live().config.commit_interval_ms);
        let now = Instant::now();
        sleep_until(next.min(now + LOOK)).await;
        if next > now + LOOK {
            return false;
        }
    }
    shared.batches.until_filled().await;
    shared.handover.passed_at() == passed_at && shared.batches.is_filled()
}

/// Warns, once a minute at the most, while the table of idempotency keys is half full. Whether it did.
fn warn_of_keys((kept, max): (usize, usize), warned_at: &mut Option<Instant>, now: Instant) -> bool {
    let is_half_full = max > 0 && kept >= max.div_ceil(2);
    if !is_half_full || warned_at.is_some_and(|at| now.saturating_duration_since(at) < KEYS_WARNING) {
        return false;
    }
    *warned_at = Some(now);
    tracing::warn!(
        kept,
        max,
        "half of the places for idempotency keys are taken; raise ingest.max_idempotency_keys or lower idempotency_ttl_ms"
    );
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_warned_of_from_half_full_on_and_once_a_minute() {
        let (start, mut warned_at) = (Instant::now(), None);
        let second = Duration::from_secs(1);
        let warned = [(49, 0), (50, 1), (99, 2), (100, 60), (60, 61), (10, 200), (50, 201)]
            .map(|(kept, at)| warn_of_keys((kept, 100), &mut warned_at, start + at * second));
        assert_eq!(warned, [false, true, false, false, true, false, true]);
        assert!(!warn_of_keys((0, 0), &mut None, start), "no keys are taken");
    }
}
