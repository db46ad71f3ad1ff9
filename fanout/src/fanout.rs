//! The tier's face: what it needs, how it runs and stops.

use crate::{
    Config,
    bridge::{self, Bridge, FLUSH_TIMEOUT},
    broker::{self, Death},
    busiest::Busiest,
    drain::Drain,
    edge::{Edge, Ended},
    follow::Follow,
    frames::FrameOptions,
    hello::Hellos,
    http,
    metrics::Meters,
    occupancy::Sharing,
    outlet::Outlet,
    registry::Registry,
};
use control::Orders;
use eventlog::{EventLog, OpenError};
use service::{CancellationToken, Condition, Readiness, http::cannot_listen};
use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{sync::watch, task::JoinSet};
use wire::RoomName;

/// What the tier needs of others.
pub struct Deps {
    /// The log whose `aggregates` are followed.
    pub log: Arc<dyn EventLog>,
    /// Gets the condition `fanout`, which holds while the log is followed.
    pub readiness: Readiness,
    /// The reactions that viewers may post, as they are displayed; empty: all. Changes apply to new viewers.
    pub catalogue: watch::Receiver<Arc<Vec<String>>>,
    /// The rooms that exist, where the configuration names them. Viewers may always wait for them.
    pub rooms: watch::Receiver<Arc<HashSet<RoomName>>>,
    /// What operators ordered.
    pub orders: Arc<Orders>,
}

/// Why the tier can't start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log can't be opened until somebody changes something.
    #[error(transparent)]
    Log(OpenError),
    /// The address of a listener is taken, or not ours.
    #[error("{key}: {error}")]
    Listen {
        /// The key that names the address.
        key: &'static str,
        /// The address, and what the system says.
        error: io::Error,
    },
    /// A part of the viewers' edge can't start, or died.
    #[error("the viewers' edge failed: {0}")]
    Edge(String),
    /// The MQTT broker died. It can't be started twice in a process.
    #[error("the MQTT broker failed: {0}")]
    Broker(String),
    /// The bridge's configuration can't be used.
    #[error("the bridge can't start: {0}")]
    Bridge(String),
}

impl Error {
    pub(crate) fn listen(key: &'static str, address: SocketAddr, error: &io::Error) -> Self {
        Self::Listen { key, error: cannot_listen(address, error) }
    }
}

/// The tier, ready to run. Serve [`Fanout::router`], and run it beside.
pub struct Fanout {
    pub(crate) shared: Arc<Shared>,
    edge: Arc<Edge>,
    busiest: Arc<Busiest>,
    edge_ended: Ended,
    log: Arc<dyn EventLog>,
    condition: Condition,
    broker: Option<broker::Running>,
    bridge: Option<(Outlet, Bridge)>,
}

/// What routes, shards and the follower share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: watch::Receiver<Arc<Config>>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) drain: Drain,
    pub(crate) meters: Arc<Meters>,
    pub(crate) hellos: Hellos,
    pub(crate) orders: Arc<Orders>,
    caught_up: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new(
        config: watch::Receiver<Arc<Config>>,
        catalogue: watch::Receiver<Arc<Vec<String>>>,
        rooms: watch::Receiver<Arc<HashSet<RoomName>>>,
        orders: Arc<Orders>,
    ) -> Arc<Self> {
        let meters = Arc::new(Meters::new());
        Arc::new(Self {
            hellos: Hellos::new(config.clone(), catalogue, Arc::clone(&orders)),
            config,
            registry: Registry::with_named(Arc::clone(&meters), rooms, Arc::clone(&orders)),
            orders,
            drain: Drain::default(),
            meters,
            caught_up: watch::Sender::new(false),
        })
    }

    /// The configuration as it is now.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// How frames are made now.
    pub(crate) fn frame_options(&self) -> FrameOptions {
        let config = self.config.borrow();
        let viewers = config.occupancy.then(|| Arc::downgrade(&self.registry));
        FrameOptions { top_n: config.top_n, viewers }
    }

    /// Whether the log was read to its end once: before that, a room that is not here may exist.
    pub(crate) fn is_caught_up(&self) -> bool {
        *self.caught_up.borrow()
    }

    /// Waits until it is.
    pub(crate) async fn until_caught_up(&self) {
        // The sender lives here.
        let _ = self.caught_up.subscribe().wait_for(|caught_up| *caught_up).await;
    }

    pub(crate) fn set_caught_up(&self) {
        self.caught_up.send_replace(true);
    }
}

impl Fanout {
    /// Starts the shards, and the MQTT broker where there is to be one; checks what the bridge needs. Viewers are accepted once [`Self::run`] has read
    /// the log.
    pub fn new(config: watch::Receiver<Arc<Config>>, deps: Deps) -> Result<Self, Error> {
        let broker = {
            let config = &config.borrow().broker;
            if config.enabled { Some(broker::start(config)?) } else { None }
        };
        let shared = Shared::new(config, deps.catalogue, deps.rooms, deps.orders);
        let bridge = {
            let config = &shared.config.borrow().bridge;
            let registry = Arc::clone(&shared.registry);
            if config.enabled { Some(bridge::bridge(config, registry)?) } else { None }
        };
        let (edge, edge_ended) = Edge::start(&shared)?;
        let condition = deps.readiness.condition("fanout");
        let busiest = Arc::default();
        Ok(Self { shared, edge, busiest, edge_ended, log: deps.log, condition, broker, bridge })
    }

    /// The routes of viewers.
    pub fn router(&self) -> axum::Router {
        http::router(self.routes())
    }

    pub(crate) fn routes(&self) -> http::Routes {
        http::Routes {
            shared: Arc::clone(&self.shared),
            edge: Arc::clone(&self.edge),
            busiest: Arc::clone(&self.busiest),
        }
    }

    /// What the desk reads: the rooms and their frames.
    pub fn desk_router(&self) -> axum::Router {
        http::desk_router(self.routes())
    }

    /// Where MQTT viewers connect, if they may. Tells the port where the configured one is 0.
    pub fn mqtt_address(&self) -> Option<SocketAddr> {
        self.edge.mqtt
    }

    /// Where the MQTT broker for trusted clients listens, if there is one. Tells the port where the configured one is 0.
    pub fn broker_address(&self) -> Option<SocketAddr> {
        self.broker.as_ref().map(|broker| broker.address)
    }

    /// Follows the log until `shutdown` or a failure, and sends the viewers away before it returns. They get frames
    /// until they leave, and the bridge hands over the last. The MQTT broker can't be stopped: its threads and its clients
    /// go with the process.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { shared, edge, mut edge_ended, log, condition, broker, bridge, busiest: _ } = self;
        let (broker, death) = broker.map_or((None, None), |b| (Some(b.outlet), Some(b.death)));
        let mut bridging = JoinSet::new();
        let bridge = bridge.map(|(outlet, bridge)| {
            bridging.spawn(bridge.run());
            outlet
        });
        let (mut sharing, all_left) = (JoinSet::new(), CancellationToken::new());
        sharing.spawn(Sharing { log: Arc::clone(&log), shared: Arc::clone(&shared) }.run(all_left.clone()));
        let follow = Follow {
            log,
            shared: Arc::clone(&shared),
            edge: Arc::clone(&edge),
            outlets: broker.into_iter().chain(bridge).collect(),
            condition: condition.clone(),
            ordered: Mutex::default(),
        };
        let mut follow_log = Box::pin(async move { follow.run().await });
        let result = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            error = &mut follow_log => Err(Error::Log(error)),
            why = edge_ended.recv() => Err(Error::Edge(why.unwrap_or_else(|| "all shards ended".into()))),
            reason = reason_of(death) => Err(Error::Broker(reason)),
        };
        condition.fail("stopping");
        let config = shared.config();
        let drained = shared.drain.run(&shared.registry, &config, || edge.drain());
        if matches!(result, Err(Error::Log(_))) {
            drained.await;
        } else {
            tokio::pin!(drained);
            tokio::select! {
                () = &mut drained => {}
                _ = &mut follow_log => drained.await,
            }
        }
        // With it go the outlets: no more is put.
        drop(follow_log);
        if tokio::time::timeout(FLUSH_TIMEOUT, bridging.join_next()).await.is_err() {
            tracing::warn!("the bridge did not hand over all in time");
        }
        // The others hear that nobody is here any more, which takes no longer than a second.
        all_left.cancel();
        while sharing.join_next().await.is_some() {}
        edge.stop();
        while edge_ended.recv().await.is_some() {}
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
