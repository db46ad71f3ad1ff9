//! The tier: opens the feed, runs a session on it, and again when the session is lost.

use crate::{
    Config, Error,
    pending::Limits,
    session::{Ended, Session},
};
use eventlog::{EventLog, OpenError};
use service::{CancellationToken, Clock, Readiness};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time};

/// How long after a failure the feed is opened again.
const RETRY: Duration = Duration::from_secs(1);

/// What the tier is given.
pub struct Deps {
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// Where it says whether it can work.
    pub readiness: Readiness,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The tier that rolls reactions up.
pub struct Aggregator {
    config: watch::Receiver<Arc<Config>>,
    deps: Deps,
    limits: Limits,
}

impl Aggregator {
    /// The tier, not started yet. Changes of `config` apply to the next windows.
    pub fn new(config: watch::Receiver<Arc<Config>>, deps: Deps) -> Self {
        Self { config, deps, limits: Limits::default() }
    }

    /// The same with other limits, to reach them in tests.
    #[cfg(test)]
    pub(crate) fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Rolls up until `shutdown`. What is not committed then is read again by whoever goes on.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let condition = self.deps.readiness.condition("aggregator");
        while !shutdown.is_cancelled() {
            let feed = match self.deps.log.feed().await {
                Ok(feed) => feed,
                Err(error @ OpenError::Invalid(_)) => return Err(error.into()),
                Err(error @ OpenError::Unavailable(_)) => {
                    tracing::warn!(%error, "can't join the group, trying again");
                    condition.fail(error.to_string());
                    pause(&shutdown).await;
                    continue;
                }
            };
            condition.hold();
            let (config, clock) = (self.config.clone(), Arc::clone(&self.deps.clock));
            if let Ended::Reopen(why) = Session::run(feed, config, clock, self.limits, &shutdown).await {
                tracing::warn!(why, "joining the group again");
                condition.fail(why);
                pause(&shutdown).await;
            }
        }
        Ok(())
    }
}

async fn pause(shutdown: &CancellationToken) {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = time::sleep(RETRY) => {}
    }
}
