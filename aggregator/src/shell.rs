//! The tier: opens the feed, runs a session on it, and again when the session is lost.

use crate::{
    Config,
    pending::Limits,
    session::{Ended, Session},
};
use eventlog::{EventLog, Feed, OpenError};
use service::{CancellationToken, Clock, Readiness};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time};

/// How long after a failure the feed is opened again.
const RETRY: Duration = Duration::from_secs(1);
/// How long leaving the group may take.
const CLOSE: Duration = Duration::from_secs(10);

/// What the tier is given.
pub struct Deps {
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// Where it says whether it can work.
    pub readiness: Readiness,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The tier ended, and starting it again will not help until somebody changes something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log refused for good.
    #[error("the aggregator can't join its group: {0}")]
    Log(OpenError),
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
            // While the log is away this may take long.
            let Some(opened) = shutdown.run_until_cancelled(self.deps.log.feed()).await else { break };
            let Feed { mut events, committer } = match opened {
                Ok(feed) => feed,
                Err(error @ OpenError::Invalid(_)) => return Err(Error::Log(error)),
                Err(error @ OpenError::Unavailable(_)) => {
                    tracing::warn!(%error, "can't join the group, trying again");
                    condition.fail(error.to_string());
                    shutdown.run_until_cancelled(time::sleep(RETRY)).await;
                    continue;
                }
            };
            let (config, clock) = (self.config.clone(), Arc::clone(&self.deps.clock));
            let session = Session::new(committer, config, clock, self.limits, condition.clone())
                .with_windows(self.deps.log.keeps_windows());
            match session.run(events.as_mut(), &shutdown).await {
                Ended::Shutdown => events.close(CLOSE).await,
                Ended::Reopen(why) => {
                    tracing::warn!(why, "joining the group again");
                    condition.fail(why);
                    events.close(CLOSE).await;
                    shutdown.run_until_cancelled(time::sleep(RETRY)).await;
                }
            }
        }
        Ok(())
    }
}
