//! The MQTT broker for trusted clients (back offices, bridges): rumqttd, fed with the frames that viewers get.
//!
//! It may not face viewers, for what any client can do to it: publish to the viewers' topics (it knows no ACL), take
//! a listener down by connecting twice with a client id that holds a `/`, kill the router's thread with an
//! unsolicited PUBACK or a topic that begins with a character beyond ASCII, and stay mute beyond its keep alive. So
//! it listens on a private address, and even a trusted client has to know this.
//!
//! Retained QoS 0 messages on `reactions/{room}`; an empty one when the room is forgotten. It is MQTT 3.1.1, and
//! refuses clients with a keep alive of 0.
//!
//! - `pending`: what waits to be handed over: newest or nothing.
//! - `settings`: how rumqttd is configured.

mod pending;
mod settings;

use crate::{BrokerConfig, Error, frames::Encoded, metrics::BROKER_MESSAGES};
use bytes::Bytes;
use futures_util::FutureExt;
use metrics::counter;
use pending::Pending;
use rumqttd::{
    local::{LinkRx, LinkTx},
    protocol::{Packet, Publish},
};
use std::{
    hash::{BuildHasher, RandomState},
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
};
use tokio::sync::mpsc;
use wire::RoomName;

/// A broker that runs. It goes on until the process ends: rumqttd has no way to stop it.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) outlet: Outlet,
    pub(crate) death: Death,
}

/// Tells when the broker dies.
pub(crate) struct Death {
    threads: mpsc::Receiver<String>,
    link: LinkRx,
}

impl Death {
    /// Waits for the broker's death, and says why it died.
    pub(crate) async fn reason(&mut self) -> String {
        loop {
            tokio::select! {
                Some(reason) = self.threads.recv() => return reason,
                // Nothing comes over the link, as we subscribe to nothing; it ends with the router.
                event = self.link.next() => if let Err(error) = event {
                    return format!("its router has dropped us: {error}");
                },
            }
        }
    }
}

/// Where frames are handed to the broker. Dropped, it lets the publisher's thread end.
pub(crate) struct Outlet(Arc<Pending>);

impl Outlet {
    /// Hands a frame over, or clears the room. Never waits: a newer frame takes the place of one that still waits.
    pub(crate) fn publish(&self, room: &RoomName, frame: Option<Arc<Encoded>>) {
        self.0.put(room, frame);
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Starts the broker.
pub(crate) fn start(config: &BrokerConfig) -> Result<Running, Error> {
    let failed = |what: &str, why: String| Error::Broker(format!("{what}: {why}"));
    let listen = config.listen.parse().map_err(|_| failed("not an address", config.listen.clone()))?;
    let address = free_address(listen).map_err(|source| Error::BrokerListen { address: listen, source })?;
    let mut broker = rumqttd::Broker::new(settings::settings(address, config));
    // A client that came with the id of our link would take its place: nobody can guess it.
    let id = format!("uproar-{:016x}", RandomState::new().hash_one(address));
    let (to_router, link) = broker.link(&id).map_err(|error| failed("no link", error.to_string()))?;
    let (dying, threads) = mpsc::channel(2);
    let pending = Arc::new(Pending::default());
    let outlet = Outlet(Arc::clone(&pending));
    let broker_dying = dying.clone();
    spawn("mqtt-broker", move || {
        // Comes back only when no listener is left.
        let why =
            broker.start().map_or_else(|error| error.to_string(), |()| "it does not listen any more".into());
        let _ = broker_dying.try_send(why);
    })?;
    spawn("mqtt-publisher", move || {
        if let Err(why) = publish_all(&pending, to_router) {
            let _ = dying.try_send(why);
        }
    })?;
    tracing::info!(%address, "MQTT broker started");
    Ok(Running { address, outlet, death: Death { threads, link } })
}

/// rumqttd binds in a thread of its own and only logs when it can't: so it is tried before. Also tells the port for
/// a 0.
fn free_address(address: SocketAddr) -> std::io::Result<SocketAddr> {
    TcpListener::bind(address)?.local_addr()
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let spawned = thread::Builder::new().name(name.into()).spawn(work);
    spawned.map(drop).map_err(|error| Error::Broker(format!("no thread: {error}")))
}

/// Hands over what is pending, until the outlet is closed. On a thread of its own, as the link blocks while the
/// router is busy.
fn publish_all(pending: &Pending, mut to_router: LinkTx) -> Result<(), String> {
    while let Some((room, frame)) = pending.take() {
        // An empty payload clears the retained message. Properties would disconnect all clients of MQTT 3.1.1.
        let payload = frame.map_or_else(Bytes::new, |frame| frame.json());
        let publish = Publish::new(Bytes::from(format!("reactions/{room}")), payload, true);
        // The link's `publish` can't retain. This future never waits: it blocks.
        match to_router.send(Packet::Publish(publish, None)).now_or_never() {
            Some(Ok(_)) => counter!(BROKER_MESSAGES).increment(1),
            Some(Err(error)) => return Err(format!("its router is gone: {error}")),
            None => return Err("its link works in another way than it did".into()),
        }
    }
    Ok(())
}
