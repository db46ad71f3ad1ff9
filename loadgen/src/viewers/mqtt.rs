//! A viewer on MQTT 3.1.1: QoS 0, a clean session.

use super::{CONNECT_PATIENCE, Viewer};
use crate::target::MqttTarget;
use anyhow::{Context as _, bail};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS, SubscribeReasonCode};
use std::{convert::Infallible, time::Duration};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};

/// Frames hold the top of the counts only: this is far above what they need.
const PACKET_BYTES_MAX: usize = 1 << 20;
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Watches until the connection is lost.
pub(super) async fn watch(
    target: &MqttTarget,
    id_prefix: &str,
    viewer: &Viewer,
    permit: OwnedSemaphorePermit,
) -> anyhow::Result<Infallible> {
    let deadline = Instant::now() + CONNECT_PATIENCE;
    let mut options =
        MqttOptions::new(format!("{id_prefix}{}", viewer.index), target.host.clone(), target.port);
    options.set_keep_alive(KEEP_ALIVE).set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
    // A fresh event loop for each connection: nothing of the last one may leak into the next. The client is kept,
    // because the loop ends when nobody can ask it for anything.
    let (client, mut events) = AsyncClient::new(options, 1);
    client.try_subscribe(format!("reactions/{}", viewer.room), QoS::AtMostOnce)?;
    let early = timeout_at(deadline, subscribe(&mut events)).await.context("no subscription in time")??;
    viewer.connected(permit);
    if let Some(payload) = early {
        viewer.receive(&payload);
    }
    loop {
        if let Event::Incoming(Packet::Publish(publish)) = events.poll().await? {
            viewer.receive(&publish.payload);
        }
    }
}

/// Waits for the subscription. A server may send frames before it says that it stands: the newest is returned.
async fn subscribe(events: &mut EventLoop) -> anyhow::Result<Option<bytes::Bytes>> {
    let mut early = None;
    loop {
        match events.poll().await? {
            Event::Incoming(Packet::SubAck(ack)) => {
                if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
                    bail!("the subscription was refused");
                }
                return Ok(early);
            }
            Event::Incoming(Packet::Publish(publish)) => early = Some(publish.payload),
            _ => {}
        }
    }
}
