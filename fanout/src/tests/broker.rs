//! Trusted clients on the MQTT broker.

use super::harness::{Log, PATIENCE, Stage, aggregate, config, deps};
use crate::{Config, Error, Fanout};
use rumqttc::{AsyncClient, ConnectReturnCode, Event, EventLoop, MqttOptions, Packet, Publish, QoS};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use wire::Frame;

fn with_broker() -> Config {
    let mut config = config();
    config.broker.enabled = true;
    config
}

/// A client that is subscribed to all rooms.
struct Client {
    client: AsyncClient,
    events: EventLoop,
}

impl Client {
    async fn subscribe(stage: &Stage, id: &str) -> Self {
        let address: SocketAddr = stage.broker.unwrap();
        let (client, events) =
            AsyncClient::new(MqttOptions::new(id, address.ip().to_string(), address.port()), 10);
        let mut this = Self { client: client.clone(), events };
        let ack = this.until(|packet| match packet {
            Packet::ConnAck(ack) => Some(ack.code),
            _ => None,
        });
        assert_eq!(ack.await, ConnectReturnCode::Success);
        client.subscribe("reactions/+", QoS::AtMostOnce).await.unwrap();
        this.until(|packet| matches!(packet, Packet::SubAck(_)).then_some(())).await;
        this
    }

    async fn until<T>(&mut self, mut want: impl FnMut(Packet) -> Option<T>) -> T {
        let look = async {
            loop {
                match self.events.poll().await {
                    Ok(Event::Incoming(packet)) => {
                        if let Some(found) = want(packet) {
                            return found;
                        }
                    }
                    Ok(Event::Outgoing(_)) => {}
                    // The listener's thread may not be up yet; the client connects again.
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("what was waited for did not come")
    }

    async fn message(&mut self) -> Publish {
        self.until(|packet| match packet {
            Packet::Publish(publish) => Some(publish),
            _ => None,
        })
        .await
    }
}

#[tokio::test]
async fn who_joins_gets_the_retained_snapshot_then_live_frames() {
    let log = Log::new().await;
    log.aggregate(&aggregate("final", 1)).await;
    let stage = Stage::over(log, with_broker()).await;
    stage.show(&aggregate("final", 2)).await;
    let mut first = Client::subscribe(&stage, "first").await;
    // The broker may not have taken the newest one before the subscription.
    let mut message = first.message().await;
    while Frame::decode(&message.payload).unwrap().seq < 2 {
        message = first.message().await;
    }
    assert_eq!(message.topic, "reactions/final");
    let mut joiner = Client::subscribe(&stage, "joiner").await;
    let snapshot = joiner.message().await;
    assert!(snapshot.retain && snapshot.qos == QoS::AtMostOnce);
    assert_eq!(Frame::decode(&snapshot.payload).unwrap(), Frame::of(&aggregate("final", 2), 10));
    for seq in 3..=10 {
        stage.show(&aggregate("final", seq)).await;
        for client in [&mut first, &mut joiner] {
            let message = client.message().await;
            assert_eq!((Frame::decode(&message.payload).unwrap().seq, message.retain), (seq, false));
        }
    }
}

#[tokio::test]
async fn a_tombstone_clears_the_retained_message() {
    let stage = Stage::start(with_broker()).await;
    let mut watching = Client::subscribe(&stage, "watching").await;
    for room in ["gone", "stays"] {
        stage.show(&aggregate(room, 1)).await;
        assert_eq!(watching.message().await.topic, format!("reactions/{room}"));
    }
    stage.log.tombstone("gone").await;
    let cleared = watching.message().await;
    assert_eq!((cleared.topic.as_str(), cleared.payload.len()), ("reactions/gone", 0));
    let mut joiner = Client::subscribe(&stage, "joiner").await;
    assert_eq!(joiner.message().await.topic, "reactions/stays");
    stage.show(&aggregate("mark", 1)).await;
    assert_eq!(joiner.message().await.topic, "reactions/mark", "nothing was retained for the other room");
}

#[tokio::test]
async fn a_broker_that_cannot_listen_is_an_error_at_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = with_broker();
    config.broker.listen = taken.local_addr().unwrap().to_string();
    let expected = format!("fanout.broker.listen: can't listen on {}", config.broker.listen);
    let (_config, receiver) = tokio::sync::watch::channel(Arc::new(config));
    let deps = deps(Log::new().await.log);
    let error = Fanout::new(receiver, deps).err().unwrap();
    let text = error.to_string();
    assert!(text.starts_with(&expected) && text.ends_with("; is another process there?"), "{text}");
}

#[tokio::test]
async fn a_broker_that_dies_ends_the_tier_with_an_error() {
    let mut stage = Stage::start(with_broker()).await;
    let killer = Client::subscribe(&stage, "killer").await;
    // rumqttd cuts the topic's first byte off, in the middle of a character.
    killer.client.publish("\u{e9}", QoS::AtMostOnce, false, "x").await.unwrap();
    let mut events = killer.events;
    let ended = tokio::select! {
        ended = stage.ended() => ended,
        () = async { loop { let _ = events.poll().await; } } => unreachable!("it polls for ever"),
    };
    assert!(matches!(ended, Err(Error::Broker(_))), "{ended:?}");
}
