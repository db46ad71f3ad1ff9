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
    time::{Instant, Interval, MissedTickBehavior, interval, sleep_until},
};

type Appended = (Sealed, Result<(), AppendError>);

/// The one task that appends.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    writer: Arc<dyn Writer>,
    ready: Condition,
    /// Bounded by rooms times batches in flight of each.
    appends: FuturesUnordered<BoxFuture<'static, Appended>>,
    tick: Interval,
    troubles: Troubles,
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, writer: Arc<dyn Writer>, ready: Condition) -> Self {
        let tick = ticker(&shared.live().config);
        let (appends, troubles) = (FuturesUnordered::new(), Troubles::default());
        Self { shared, writer, ready, appends, tick, troubles }
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
                _ = self.tick.tick() => self.hand_over(),
                Some((sealed, result)) = self.appends.next() => self.ended(sealed, result),
            }
        }
        self.drain().await
    }

    fn reload(&mut self, config: Arc<Config>) {
        if self.tick.period() != commit_interval(&config) {
            self.tick = ticker(&config);
        }
        self.shared.set_config(config);
        tracing::info!("configuration of ingest is in force");
    }

    /// Appends every batch that may be.
    fn hand_over(&mut self) {
        let live = self.shared.live();
        let now = Instant::now().into_std();
        for sealed in self.shared.batches.seal(&live.config, now) {
            let append = self.writer.append(sealed.room.clone(), sealed.value.clone());
            self.appends.push(append.map(|result| (sealed, result)).boxed());
        }
        self.troubles.report(now);
        self.gauge();
    }

    fn gauge(&self) {
        self.shared.meters.open_rooms.set(self.shared.batches.rooms() as f64);
        self.shared.meters.waiting.set(self.shared.gate.inside() as f64);
    }

    fn ended(&mut self, sealed: Sealed, result: Result<(), AppendError>) {
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
                _ = self.tick.tick() => self.hand_over(),
                Some((sealed, result)) = self.appends.next() => self.ended(sealed, result),
            }
        }
        self.troubles.close();
        self.gauge();
        let rooms = self.shared.batches.rooms();
        let lost = self.shared.batches.abandon();
        let unresolved = self.appends.len();
        self.appends.clear();
        self.writer.flush(deadline.saturating_duration_since(Instant::now())).await;
        self.shared.meters.in_doubt.increment(lost);
        if rooms > 0 {
            return Err(Error::Drain { rooms, unresolved, lost });
        }
        tracing::info!("ingest has committed all that it accepted");
        Ok(())
    }
}

fn commit_interval(config: &Config) -> Duration {
    Duration::from_millis(config.commit_interval_ms)
}

fn ticker(config: &Config) -> Interval {
    let mut tick = interval(commit_interval(config));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}
