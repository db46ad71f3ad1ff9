//! Viewers: real WebSocket and MQTT clients.

use super::wait::PATIENCE;
use futures_util::StreamExt;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// A WebSocket viewer of one room.
pub struct WsViewer(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl WsViewer {
    pub async fn watch(address: &str, room: &str) -> Self {
        let (mut socket, _) = connect_async(format!("ws://{address}/v1/rooms/{room}/live")).await.unwrap();
        let hello = socket.next().await.unwrap().unwrap().into_text().unwrap();
        let hello: Value = serde_json::from_str(&hello).unwrap();
        assert_eq!((hello["hello"].as_u64(), hello["rooms"][0].as_str()), (Some(1), Some(room)));
        Self(socket)
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Value {
        loop {
            let message = timeout(PATIENCE, self.0.next()).await.expect("a frame in time").unwrap().unwrap();
            if message.is_text() {
                return serde_json::from_str(&message.into_text().unwrap()).unwrap();
            }
        }
    }

    /// The next frame; `None` where the connection ended.
    pub async fn try_frame(&mut self) -> Option<Value> {
        loop {
            let message = self.0.next().await?.ok()?;
            if message.is_text() {
                return serde_json::from_str(&message.into_text().ok()?).ok();
            }
        }
    }

    /// The first frame with this total.
    pub async fn until_total(&mut self, total: u64) -> Value {
        loop {
            let frame = self.frame().await;
            let now = frame["total"].as_u64().unwrap();
            assert!(now <= total, "{now} is more than the {total} that were accepted");
            if now == total {
                return frame;
            }
        }
    }

    /// The first frame that tells so many viewers.
    pub async fn until_viewers(&mut self, viewers: u64) -> Value {
        loop {
            let frame = self.frame().await;
            if frame["viewers"].as_u64() == Some(viewers) {
                return frame;
            }
        }
    }

    /// The close code with which the server ends the connection.
    pub async fn close_code(mut self) -> Option<u16> {
        while let Ok(Some(message)) = timeout(PATIENCE, self.0.next()).await {
            match message {
                Ok(tokio_tungstenite::tungstenite::Message::Close(frame)) => {
                    return frame.map(|f| f.code.into());
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
        None
    }
}

/// An MQTT 3.1.1 viewer of one room.
pub struct MqttViewer {
    // Dropping the client ends the connection.
    _client: AsyncClient,
    events: EventLoop,
}

impl MqttViewer {
    pub async fn watch(address: &str, room: &str) -> Self {
        let (host, port) = address.rsplit_once(':').unwrap();
        let id = format!("viewer-{room}-{:?}", std::thread::current().id()).replace(['(', ')'], "");
        let mut options = MqttOptions::new(id, host, port.parse().unwrap());
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, events) = AsyncClient::new(options, 10);
        client.subscribe(format!("reactions/{room}"), QoS::AtMostOnce).await.unwrap();
        Self { _client: client, events }
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Value {
        loop {
            let event = timeout(PATIENCE, self.events.poll()).await.expect("a frame in time").unwrap();
            if let Event::Incoming(Packet::Publish(publish)) = event {
                return serde_json::from_slice(&publish.payload).unwrap();
            }
        }
    }

    /// The first frame with this total.
    pub async fn until_total(&mut self, total: u64) -> Value {
        self.until("total", total).await
    }

    /// The first frame that tells so many viewers.
    pub async fn until_viewers(&mut self, viewers: u64) -> Value {
        self.until("viewers", viewers).await
    }

    async fn until(&mut self, field: &str, value: u64) -> Value {
        loop {
            let frame = self.frame().await;
            if frame[field].as_u64() == Some(value) {
                return frame;
            }
        }
    }
}
