//! Turns open batches into records, and says what became of them.

use crate::{
    Error, batches::Sealed, config::Config, metrics::BATCHES, shared::Shared, troubles::Troubles,
    verdict::Outcome,
};
use eventlog::{AppendError, Writer};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use service::{CancellationToken, Condition};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// While there is something to do, those who have waited too long are looked for so often, and gauges are set.
const LOOK: Duration = Duration::from_millis(50);

type Appended = (Sealed, Result<(), AppendError>);

/// The one task that appends.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    writer: Arc<dyn Writer>,
    ready: Condition,
    /// Bounded by rooms times batches in flight of each.
    appends: FuturesUnordered<BoxFuture<'static, Appended>>,
    /// When batches were handed over last. The next ones are a commit interval later, or at once if that has passed.
    passed_at: Option<Instant>,
    /// When those who wait were last asked to look up.
    rang_at: Instant,
    /// Nobody waits and nothing is open, and the gauges say so.
    at_rest: bool,
    troubles: Troubles,
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, writer: Arc<dyn Writer>, ready: Condition) -> Self {
        Self {
            shared,
            writer,
            ready,
            appends: FuturesUnordered::new(),
            passed_at: None,
            rang_at: Instant::now(),
            at_rest: true,
            troubles: Troubles::default(),
        }
    }

    /// Lets requests in. Commits until the shutdown, then what was accepted before it.
    pub(crate) async fn run(
        mut self,
        mut config: watch::Receiver<Arc<Config>>,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
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
            () = due(&shared, self.passed_at) => self.hand_over(),
            Some(appended) = self.appends.next() => {
                self.ended(appended);
                while let Some(Some(appended)) = self.appends.next().now_or_never() {
                    self.ended(appended);
                }
                self.ring();
            }
            () = sleep_until(self.rang_at + LOOK), if busy => {}
        }
        if self.rang_at.elapsed() >= LOOK {
            self.ring();
            self.gauge();
            self.troubles.report(Instant::now().into_std());
        }
    }

    /// Appends every batch that may be.
    fn hand_over(&mut self) {
        let live = self.shared.live();
        let now = Instant::now();
        self.passed_at = Some(now);
        self.at_rest = false;
        for sealed in self.shared.batches.seal(&live.config, now.into_std()) {
            let append = self.writer.append(sealed.room.clone(), sealed.value.clone());
            self.appends.push(append.map(|result| (sealed, result)).boxed());
        }
    }

    fn ring(&mut self) {
        self.rang_at = Instant::now();
        self.shared.halls.ring();
    }

    fn gauge(&mut self) {
        let (rooms, inside) = (self.shared.batches.rooms(), self.shared.gate.inside());
        self.shared.meters.open_rooms.set(rooms as f64);
        self.shared.meters.idempotency_keys.set(self.shared.ledger.keys() as f64);
        self.shared.meters.waiting.set(inside as f64);
        self.at_rest = rooms == 0 && inside == 0 && self.troubles.are_told();
    }

    fn ended(&mut self, (sealed, result): Appended) {
        let now = Instant::now().into_std();
        let (outcome, label) = match &result {
            Ok(()) => (Outcome::Committed, "committed"),
            Err(AppendError::NotWritten(_)) => (Outcome::NotWritten, "not_written"),
            Err(AppendError::Unknown(_)) => (Outcome::Unknown, "unknown"),
        };
        match result {
            Ok(()) => self.shared.meters.committed.increment(sealed.count),
            Err(error) => {
                let in_doubt = if outcome == Outcome::Unknown { sealed.promised() } else { 0 };
                self.shared.meters.in_doubt.increment(in_doubt);
                self.troubles.add(&sealed, error, in_doubt);
            }
        }
        metrics::counter!(BATCHES, "outcome" => label).increment(1);
        self.shared.meters.commit_seconds.record(now.saturating_duration_since(sealed.since));
        self.shared.batches.end(sealed, outcome, now);
    }

    /// Lets nobody in, and commits what was accepted. At the deadline everyone who still waits is told.
    async fn drain(mut self) -> Result<(), Error> {
        self.shared.gate.close();
        self.ready.fail("shutting down");
        let deadline = Instant::now() + Duration::from_millis(self.shared.live().config.drain_ms);
        let mut late = std::pin::pin!(sleep_until(deadline));
        // In this order: whoever is inside may still open a batch.
        while self.shared.gate.inside() > 0 || self.shared.batches.rooms() > 0 {
            tokio::select! {
                () = &mut late => break,
                () = self.turn() => {}
            }
        }
        self.troubles.close();
        self.gauge();
        let rooms = self.shared.batches.rooms();
        let lost = self.shared.batches.abandon();
        let unresolved = self.appends.len();
        self.appends.clear();
        self.ring();
        self.writer.flush(deadline.saturating_duration_since(Instant::now())).await;
        self.shared.meters.in_doubt.increment(lost);
        if rooms > 0 {
            return Err(Error::Drain { rooms, unresolved, lost });
        }
        tracing::info!("ingest has committed all that it accepted");
        Ok(())
    }
}

/// Resolves when batches are open and may be handed over. The first after a rest go at once, so that nobody waits for
/// others who don't come; while there is traffic, batches collect for the commit interval.
async fn due(shared: &Shared, passed_at: Option<Instant>) {
    shared.batches.until_filled().await;
    if let Some(at) = passed_at {
        sleep_until(at + Duration::from_millis(shared.live().config.commit_interval_ms)).await;
    }
}
