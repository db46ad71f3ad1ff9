//! The tier that accepts reactions and commits them as batches.
//!
//! The way of a reaction: `http` checks the request (`request`, `refusal`), knows a client that is too fast and a request that
//! is a repeat (`limits`), and lets it in (`gate`); `batches` adds it to its room's open batch (`combine`); the
//! `committer` has the open batches of each partition sealed, at once after a rest and else after the commit interval, or a
//! request does when all wait who are expected (`crowd`), and the `handover` gives them to the log as a record; the `ending` of
//! a record gives the `verdict` for all requests in it, which wait in the `halls` until the `bell` rings.
//!
//! - 202 is durable (`ack = "durable"`), 503 and 429 are not counted, 504 is unknown.
//! - While the log is away, counts go on combining in place; a partition that makes no progress refuses requests at once.
//! - On shutdown nobody new is let in, all that was accepted is committed, and all who wait are answered.

mod batches;
mod bell;
mod catalogue;
mod client;
mod combine;
mod committer;
mod config;
mod crowd;
mod ending;
mod gate;
mod halls;
mod handover;
mod http;
mod idempotency;
mod ids;
mod limits;
pub mod metrics;
mod observed;
mod openapi;
mod rate;
mod refusal;
mod request;
mod shared;
mod troubles;
mod verdict;

#[cfg(test)]
mod tests;

pub use client::ForwardedHeader;
pub use config::{Ack, Config, CountOverMax};
pub use http::Front;
pub use openapi::openapi;

use committer::Committer;
use control::Orders;
use eventlog::{EventLog, OpenError, Writer};
use service::{Backoff, CancellationToken, Condition, Readiness};
use shared::Shared;
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::sleep};

/// First and longest pause between attempts to open the log.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What this tier needs of others.
pub struct Deps {
    /// Where batches go.
    pub log: Arc<dyn EventLog>,
    /// Gets the condition `ingest`, which holds while requests are let in.
    pub readiness: Readiness,
    /// What operators ordered.
    pub orders: Arc<Orders>,
}

/// Why the tier did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log will not open until somebody changes something.
    #[error(transparent)]
    Open(OpenError),
    /// The shutdown's deadline passed. Whoever still waited was told 503 or 504; what had been answered before it was
    /// durable (`ack = "received"`) is lost.
    #[error(
        "{rooms} rooms had reactions that were not handed to the log when the drain's deadline came; {unresolved} records without an answer, {lost} reactions lost that were answered before"
    )]
    Drain {
        /// Rooms with batches that were not handed to the log.
        rooms: usize,
        /// Records whose outcome is unknown.
        unresolved: usize,
        /// Reactions that were answered with 202 and are not in the log, whether it never got them or took none of them.
        lost: u64,
    },
}

/// The tier.
pub struct Ingest {
    shared: Arc<Shared>,
    config: watch::Receiver<Arc<Config>>,
    log: Arc<dyn EventLog>,
    ready: Condition,
}

impl Ingest {
    /// A tier that lets nobody in yet. `config` must have passed [`Config::validate`], then and at each change; all
    /// but the address of the listener is live.
    pub fn new(mut config: watch::Receiver<Arc<Config>>, deps: Deps) -> Self {
        let first = config.borrow_and_update().clone();
        if let Some(warning) = first.warning() {
            tracing::warn!("{warning}");
        }
        let shared = Arc::new(Shared::new(first, deps.orders));
        let ready = deps.readiness.condition("ingest");
        Self { shared, config, log: deps.log, ready }
    }

    /// What answers requests; 503 while [`Ingest::run`] has not opened the log.
    pub fn front(&self) -> Front {
        Front { shared: Arc::clone(&self.shared), routes: http::router(&self.shared) }
    }

    /// What the desk on the admin listener asks of this tier.
    pub fn desk_router(&self) -> axum::Router {
        http::desk::router(&self.shared)
    }

    /// Commits until `shutdown`, then what was accepted before it.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let open = async {
            let writer = self.open().await?;
            // A closed room must not take a reaction because this process has just been started.
            self.shared.orders.until_read().await;
            Ok(writer)
        };
        let writer = tokio::select! {
            writer = open => writer?,
            () = shutdown.cancelled() => {
                self.shared.gate.close();
                return Ok(());
            }
        };
        Committer::new(self.shared, writer, self.ready).run(self.config, shutdown).await
    }

    /// Opens the log, however long it takes.
    async fn open(&self) -> Result<Arc<dyn Writer>, Error> {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            match self.log.writer().await {
                Ok(writer) => return Ok(writer),
                Err(OpenError::Unavailable(why)) => {
                    tracing::warn!(error = why, "the event log can't be opened yet");
                    self.ready.fail(format!("the event log can't be opened yet: {why}"));
                }
                Err(error) => return Err(Error::Open(error)),
            }
            sleep(backoff.next_pause()).await;
        }
    }
}
