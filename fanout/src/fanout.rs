//! The tier's face: what it needs, how it runs and stops.

use crate::{
    Config,
    broker::{self, Death},
    drain::Drain,
    follow::Follow,
    http,
    registry::Registry,
};
use eventlog::{EventLog, OpenError};
use service::{CancellationToken, Condition, Readiness};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::watch;

/// What the tier needs of others.
pub struct Deps {
    /// The log whose `aggregates` are followed.
    pub log: Arc<dyn EventLog>,
    /// Gets the condition `fanout`, which holds while the log is followed.
    pub readiness: Readiness,
}

/// Why the tier can't start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log can't be opened until somebody changes something.
    #[error(transparent)]
    Log(OpenError),
    /// The MQTT broker's address is taken, or not ours.
    #[error("fanout.broker.listen: can't listen on {address}: {source}; is another process there?")]
    BrokerListen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The MQTT broker died. It can't be started twice in a process.
    #[error("the MQTT broker failed: {0}")]
    Broker(String),
}

/// The tier, ready to run. Serve [`Fanout::router`], and run it beside.
pub struct Fanout {
    pub(crate) shared: Arc<Shared>,
    log: Arc<dyn EventLog>,
    condition: Condition,
    broker: Option<broker::Running>,
}

/// What routes, viewers and the follower share.
pub(crate) struct Shared {
    config: watch::Receiver<Arc<Config>>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) drain: Drain,
    caught_up: AtomicBool,
}

impl Shared {
    /// The configuration as it is now.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// Whether the log was read to its end once: before that, a room that is not here may exist.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    pub(crate) fn set_caught_up(&self) {
        self.caught_up.store(true, Ordering::Release);
    }
}

impl Fanout {
    /// Starts the MQTT broker, where there is to be one; nothing else happens before [`Self::run`].
    pub fn new(config: watch::Receiver<Arc<Config>>, deps: Deps) -> Result<Self, Error> {
        let broker = {
            let config = &config.borrow().broker;
            if config.enabled { Some(broker::start(config)?) } else { None }
        };
        let shared = Shared {
            config,
            registry: Registry::new(),
            drain: Drain::default(),
            caught_up: AtomicBool::new(false),
        };
        let condition = deps.readiness.condition("fanout");
        Ok(Self { shared: Arc::new(shared), log: deps.log, condition, broker })
    }

    /// The routes of viewers.
    pub fn router(&self) -> axum::Router {
        http::router(Arc::clone(&self.shared))
    }

    /// Where the MQTT broker listens, if there is one. Tells the port where the configured one is 0.
    pub fn broker_address(&self) -> Option<SocketAddr> {
        self.broker.as_ref().map(|broker| broker.address)
    }

    /// Follows the log until `shutdown` or a failure, and sends the viewers away before it returns. They get frames
    /// until they leave. The MQTT broker can't be stopped: its threads and its clients go with the process.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { shared, log, condition, broker } = self;
        let (outlet, death) = broker.map_or((None, None), |b| (Some(b.outlet), Some(b.death)));
        let follow =
            Follow { log, shared: Arc::clone(&shared), broker: outlet, condition: condition.clone() };
        let follow_log = follow.run();
        tokio::pin!(follow_log);
        let result = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            error = &mut follow_log => Err(Error::Log(error)),
            reason = reason_of(death) => Err(Error::Broker(reason)),
        };
        condition.fail("stopping");
        let config = shared.config();
        let drained = shared.drain.run(&shared.registry, &config);
        if matches!(result, Err(Error::Log(_))) {
            drained.await;
        } else {
            tokio::pin!(drained);
            tokio::select! {
                () = &mut drained => {}
                _ = &mut follow_log => drained.await,
            }
        }
        result
    }
}

/// Waits for the broker's death; for ever where there is no broker.
async fn reason_of(death: Option<Death>) -> String {
    match death {
        Some(mut death) => death.reason().await,
        None => std::future::pending().await,
    }
}
