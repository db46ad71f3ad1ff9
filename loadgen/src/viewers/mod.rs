//! The watching side: connections that receive frames, and come back when they are lost.

pub(crate) mod audience;
mod mqtt;
mod ws;

use crate::{
    clock::now_us,
    random,
    shared::Shared,
    target::{HttpTarget, MqttTarget},
};
use anyhow::Context as _;
use audience::Audience;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use wire::RoomName;

/// Longest time from a connection's start to its subscription.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How many viewers connect at the same time.
const CONNECTING_MAX: usize = 64;
/// Longest wait before a lost viewer tries again, the server's own wish aside.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A server may ask for minutes of reconnect jitter; a test run is shorter than that.
const JITTER_MAX: Duration = Duration::from_secs(5);

/// How viewers reach the server.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    /// Over a WebSocket.
    WebSocket(HttpTarget),
    /// Over MQTT 3.1.1, with client ids that start with this prefix.
    Mqtt { target: MqttTarget, id_prefix: String },
}

impl Access {
    /// The protocol's name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::WebSocket(_) => "websocket",
            Self::Mqtt { .. } => "mqtt",
        }
    }
}

/// Why a connection ended.
struct Lost {
    error: anyhow::Error,
    /// How long the server wants viewers to spread their return.
    jitter: Duration,
}

impl<E: Into<anyhow::Error>> From<E> for Lost {
    fn from(error: E) -> Self {
        Self { error: error.into(), jitter: Duration::ZERO }
    }
}

/// One viewer's side of the audience.
struct Viewer {
    index: usize,
    room: RoomName,
    audience: Shared<Audience>,
    gate: Arc<Semaphore>,
}

/// Starts the viewers of `audience`; they watch until the set is dropped.
pub(crate) fn spawn(access: &Access, room: &RoomName, audience: &Shared<Audience>) -> JoinSet<()> {
    let gate = Arc::new(Semaphore::new(CONNECTING_MAX));
    (0..audience.with(|audience| audience.seats().len()))
        .map(|index| {
            let (room, audience, gate) = (room.clone(), audience.clone(), Arc::clone(&gate));
            Viewer { index, room, audience, gate }.watch(access.clone())
        })
        .collect()
}

impl Viewer {
    async fn watch(self, access: Access) {
        let mut attempt = 0;
        // Nobody closes the gate; if they did, there would be nothing left to do.
        while let Ok(permit) = Arc::clone(&self.gate).acquire_owned().await {
            let Err(Lost { error, jitter }) = match &access {
                Access::WebSocket(target) => ws::watch(target, &self, permit).await,
                Access::Mqtt { target, id_prefix } => {
                    let watched = mqtt::watch(target, id_prefix, &self, permit).await;
                    watched.with_context(|| format!("MQTT at {target}")).map_err(Lost::from)
                }
            };
            let was_connected = self.audience.with(|audience| {
                let was_connected = audience.seats()[self.index].connected;
                audience.disconnect(self.index, format!("{error:#}"));
                was_connected
            });
            attempt = if was_connected { 0 } else { attempt + 1 };
            let pause = random::backoff(attempt, BACKOFF_MAX) + random::up_to(jitter.min(JITTER_MAX));
            tokio::time::sleep(pause).await;
        }
    }

    /// The subscription stands; the next viewer may connect.
    fn connected(&self, permit: OwnedSemaphorePermit) {
        self.audience.with(|audience| audience.connect(self.index, now_us()));
        drop(permit);
    }

    fn receive(&self, payload: &[u8]) {
        let now_us = now_us();
        self.audience.with(|audience| audience.receive(self.index, payload, now_us));
    }
}
