//! The tier: finds an archive of windows, and serves it.

use crate::{
    Settings, follow,
    http::{self, Routes},
};
use eventlog::{EventLog, OpenError, WindowArchive};
use service::{CancellationToken, Clock, Condition, Readiness};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time,
};

/// How long after a failure the log is asked again.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// What the tier is given.
pub struct Deps {
    /// The log whose `windows` are served.
    pub log: Arc<dyn EventLog>,
    /// Gets the condition `history`, which holds while the archive has all windows.
    pub readiness: Readiness,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The tier ended, and starting it again will not help until somebody changes something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log or the index refused for good.
    #[error(transparent)]
    Log(OpenError),
}

/// The tier, ready to run. Serve [`History::router`] while it runs.
pub struct History {
    shared: Arc<Shared>,
    deps: Deps,
    condition: Condition,
}

/// What requests read.
pub(crate) enum Archive {
    /// It is not complete yet.
    Starting,
    /// The log keeps no history.
    Off,
    /// All windows that were committed before the tier started are in it.
    Ready(Arc<dyn WindowArchive>),
}

/// State that the routes and the follower share.
pub(crate) struct Shared {
    pub(crate) settings: watch::Receiver<Arc<Settings>>,
    pub(crate) archive: watch::Sender<Archive>,
    /// One permit for each request that is answered.
    pub(crate) queries: Arc<Semaphore>,
    /// A request found the archive damaged.
    pub(crate) damaged: Notify,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Shared {
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }
}

impl History {
    /// The tier, not started yet. `max_queries` and `dir` are read once.
    pub fn new(settings: watch::Receiver<Arc<Settings>>, deps: Deps) -> Self {
        let max_queries = settings.borrow().config.max_queries;
        let shared = Shared {
            settings,
            archive: watch::Sender::new(Archive::Starting),
            queries: Arc::new(Semaphore::new(max_queries)),
            damaged: Notify::new(),
            clock: Arc::clone(&deps.clock),
        };
        let condition = deps.readiness.condition("history");
        Self { shared: Arc::new(shared), deps, condition }
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The route of the history.
    pub fn router(&self) -> axum::Router {
        http::router(Routes(Arc::clone(&self.shared)))
    }

    /// Keeps the archive complete until `shutdown` or a failure.
    ///
    /// # Errors
    ///
    /// The log or the index can't be opened until somebody changes something.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        while !shutdown.is_cancelled() {
            let Some(ended) = shutdown.run_until_cancelled(self.serve()).await else { break };
            match ended {
                Err(error @ OpenError::Invalid(_)) => return Err(Error::Log(error)),
                Err(error @ OpenError::Unavailable(_)) => {
                    tracing::warn!(%error, "the history waits for the log");
                    self.condition.fail(error.to_string());
                }
                Ok(Reopen { why }) => {
                    tracing::warn!(why, "following windows again");
                    self.condition.fail(why);
                }
            }
            shutdown.run_until_cancelled(time::sleep(RETRY)).await;
        }
        Ok(())
    }

    /// Serves an archive until that fails.
    async fn serve(&self) -> Result<Reopen, OpenError> {
        if let Some(archive) = self.deps.log.archive().await? {
            self.shared.archive.send_replace(Archive::Ready(archive));
            self.condition.hold();
            loop {
                // The log itself is damaged: nothing can be made again here.
                self.shared.damaged.notified().await;
                tracing::error!("the log's windows are damaged; `uproar audit` says more");
            }
        }
        follow::follow(&*self.deps.log, &self.shared, &self.condition).await
    }
}

/// Following failed, and may go on.
pub(crate) struct Reopen {
    pub(crate) why: String,
}
