//! The MQTT broker for trusted clients, such as back offices: rumqttd, fed with the frames that viewers get. Off by
//! default, and then on loopback.
//!
//! It may not face viewers, for what any client can do to it: publish to the viewers' topics (it knows no ACL), take
//! a listener down by connecting twice with a client id that holds a `/`, kill the router's thread with an
//! unsolicited PUBACK or a topic that begins with a character beyond ASCII, and stay mute beyond its keep alive. So
//! it listens on a private address, and even a trusted client has to know this.
//!
//! Retained QoS 0 messages on `reactions/{room}`; an empty one when the room is forgotten. It is MQTT 3.1.1, and
//! refuses clients with a keep alive of 0.
//!
//! - `settings`: how rumqttd is configured.

mod settings;

use crate::{
    BrokerConfig, Error,
    metrics::BROKER_MESSAGES,
    outlet::{Outlet, Pending, outlet},
};
use bytes::Bytes;
use metrics::counter;
use rumqttd::{
    local::{LinkRx, LinkTx},
    protocol::{Packet, Publish},
};
use std::{
    hash::{BuildHasher, RandomState},
    net::{SocketAddr, TcpListener},
    thread,
};
use tokio::{runtime, sync::mpsc};

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

/// Starts the broker.
pub(crate) fn start(config: &BrokerConfig) -> Result<Running, Error> {
    let failed = |what: &str, why: String| Error::Broker(format!("{what}: {why}"));
    let listen = config.listen.parse().map_err(|_| failed("not an address", config.listen.clone()))?;
    let taken = |error| Error::listen("fanout.broker.listen", listen, &error);
    let address = free_address(listen).map_err(taken)?;
    let mut broker = rumqttd::Broker::new(settings::settings(address, config));
    // A client that came with the id of our link would take its place: nobody can guess it.
    let id = format!("uproar-{:016x}", RandomState::new().hash_one(address));
    let (to_router, link) = broker.link(&id).map_err(|error| failed("no link", error.to_string()))?;
    let (dying, threads) = mpsc::channel(2);
    let (outlet, pending) = outlet("broker");
    let runtime = runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| failed("no runtime", error.to_string()))?;
    let broker_dying = dying.clone();
    spawn("mqtt-broker", move || {
        // Comes back only when no listener is left.
        let why =
            broker.start().map_or_else(|error| error.to_string(), |()| "it does not listen any more".into());
        let _ = broker_dying.try_send(why);
    })?;
    spawn("mqtt-publisher", move || {
        if let Err(why) = runtime.block_on(publish_all(&pending, to_router)) {
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

/// Hands over what is pending, until the outlet is closed. On a thread of its own: the link blocks while the router is
/// busy.
async fn publish_all(pending: &Pending, mut to_router: LinkTx) -> Result<(), String> {
    while let Some((room, frame)) = pending.take().await {
        // An empty payload clears the retained message. Properties would disconnect all clients of MQTT 3.1.1.
        let payload = frame.map_or_else(Bytes::new, |frame| frame.json());
        let publish = Publish::new(Bytes::from(format!("reactions/{room}")), payload, true);
        // The link's `publish` can't retain.
        let sent = to_router.send(Packet::Publish(publish, None)).await;
        sent.map_err(|error| format!("its router is gone: {error}"))?;
        counter!(BROKER_MESSAGES).increment(1);
    }
    Ok(())
}
