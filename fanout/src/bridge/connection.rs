//! One connection, from CONNECT to its end.

use super::{Bridge, failure::Failure};
use crate::{
    metrics::{BRIDGE_CONNECTED, BRIDGE_MESSAGES},
    registry::Shown,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use metrics::{counter, gauge};
use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, Outgoing, Packet, QoS};
use std::{pin::pin, time::Duration};
use tokio::time::Instant;
use wire::RoomName;

/// A broker that has messages, and gives no sign of having taken one for so long, is left.
const ACK_TIMEOUT: Duration = Duration::from_secs(20);

impl Bridge {
    /// Connects, and hands over what is put, until the connection fails, or all is done and the broker is told so.
    pub(super) async fn connection(&mut self) -> Result<(), Failure> {
        // A new client for each connection: nothing old is in it. It never holds more than the window.
        let (client, mut events) =
            AsyncClient::new(self.settings.options.clone(), usize::from(self.settings.window) + 1);
        events.set_network_options(self.settings.network.clone());
        events.poll().await.map_err(|error| Failure::connecting(&error))?;
        gauge!(BRIDGE_CONNECTED).set(1.0);
        self.said.connected();
        self.renew_all().await;
        self.hand_over(&client, pin!(heard(events))).await
    }

    /// The broker may have lost what it had, and what was under way.
    async fn renew_all(&mut self) {
        let uncertain = self.cleared.take_uncertain();
        for room in uncertain.into_iter().chain(self.registry.rooms_shown()) {
            self.pending.renew(&room, &self.registry);
            // There may be many thousands.
            tokio::task::consume_budget().await;
        }
    }

    async fn hand_over(
        &mut self,
        client: &AsyncClient,
        mut heard: impl Stream<Item = Result<Event, ConnectionError>> + Unpin,
    ) -> Result<(), Failure> {
        let (mut under_way, mut progress) = (0, Instant::now());
        let (mut is_last_taken, mut said_goodbye) = (false, false);
        loop {
            if is_last_taken && under_way == 0 && !said_goodbye {
                // The broker ends the connection when it has read this, and with it all before.
                said_goodbye = client.disconnect().await.is_ok();
            }
            tokio::select! {
                event = heard.next() => match event {
                    Some(Ok(event)) => if self.is_handed_over(&event) {
                        (under_way, progress) = (under_way - 1, Instant::now());
                        counter!(BRIDGE_MESSAGES).increment(1);
                    },
                    _ if said_goodbye => return Ok(()),
                    Some(Err(error)) => return Err(Failure::connected(&error)),
                    None => return Err(Failure::stalled("the client library has ended")),
                },
                taken = self.pending.take(), if !is_last_taken && under_way < self.settings.window => match taken {
                    Some((room, shown)) => {
                        if under_way == 0 {
                            progress = Instant::now();
                        }
                        under_way += 1;
                        self.publish(client, room, shown).await;
                    }
                    None => is_last_taken = true,
                },
                () = tokio::time::sleep_until(progress + ACK_TIMEOUT), if under_way > 0 => {
                    return Err(Failure::stalled("the broker acknowledges nothing"));
                }
            }
        }
    }

    /// Never waits: the client has room for the window.
    async fn publish(&mut self, client: &AsyncClient, room: RoomName, shown: Shown) {
        let topic = format!("{}{room}", self.settings.topic_prefix);
        self.cleared.handed(shown.is_none().then_some(room));
        // An empty payload clears the retained message.
        let payload = shown.map_or_else(Bytes::new, |frame| frame.json());
        // Fails only where the other end is gone, which says so itself.
        let _ = client.publish_bytes(topic, self.settings.qos, true, payload).await;
    }

    /// Whether the event says that a message is handed over.
    fn is_handed_over(&mut self, event: &Event) -> bool {
        match event {
            Event::Outgoing(Outgoing::Publish(_)) => {
                self.cleared.written();
                self.settings.qos == QoS::AtMostOnce
            }
            Event::Incoming(Packet::PubAck(_)) => true,
            Event::Outgoing(Outgoing::PingReq) => {
                self.cleared.pinged();
                false
            }
            Event::Incoming(Packet::PingResp) => {
                self.cleared.answered();
                false
            }
            _ => false,
        }
    }
}

/// What happens on the connection, up to its first error. As a stream: the client library's own future must not be
/// dropped half-way, and would be, beside others.
fn heard(events: EventLoop) -> impl Stream<Item = Result<Event, ConnectionError>> {
    stream::unfold(Some(events), |events| async {
        let mut events = events?;
        let event = events.poll().await;
        let is_alive = event.is_ok();
        Some((event, is_alive.then_some(events)))
    })
}
