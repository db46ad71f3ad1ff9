//! The bridge before a broker that does not do what it should. It is played by the test.

use super::{
    bridge::{bridged, counted},
    harness::{PATIENCE, Stage, aggregate, large_aggregate},
};
use bytes::BytesMut;
use rumqttc::{Packet, Publish};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use wire::Frame;

const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

/// The broker's end of a connection.
struct Played {
    stream: TcpStream,
    read: BytesMut,
}

impl Played {
    /// Lets the bridge in.
    async fn accept(listener: &TcpListener) -> Self {
        let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
        let (stream, _) = accepted.expect("nobody came").unwrap();
        let mut this = Self { stream, read: BytesMut::new() };
        assert!(matches!(this.packet().await, Packet::Connect(connect) if connect.clean_session));
        this.stream.write_all(&CONNACK).await.unwrap();
        this
    }

    async fn packet(&mut self) -> Packet {
        let look = async {
            loop {
                match Packet::read(&mut self.read, 1 << 20) {
                    Ok(packet) => return packet,
                    Err(rumqttc::Error::InsufficientBytes(_)) => {
                        assert!(self.stream.read_buf(&mut self.read).await.unwrap() > 0, "closed");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("nothing came")
    }

    async fn publish(&mut self) -> Publish {
        match self.packet().await {
            Packet::Publish(publish) => publish,
            other => panic!("{other:?}"),
        }
    }

    async fn acknowledge(&mut self, publish: &Publish) {
        let [high, low] = publish.pkid.to_be_bytes();
        self.stream.write_all(&[0x40, 2, high, low]).await.unwrap();
    }
}

fn seq(publish: &Publish) -> u64 {
    Frame::decode(&publish.payload).unwrap().seq
}

#[tokio::test]
async fn a_broker_that_does_not_read_delays_nobody_and_gets_only_the_newest_later() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = bridged(listener.local_addr().unwrap().port(), |_| {});
    config.top_n = 1_000;
    let (counts, _recording) = counted();
    let stage = Stage::start(config).await;
    let mut broker = Played::accept(&listener).await;
    // More than the kernel takes.
    let mut last = 0;
    while counts.of("frames_skipped_total{protocol=\"bridge\"}") < 20.0 {
        last += 1;
        stage.show(&large_aggregate("final", last)).await;
        assert!(last < 1_000, "none is skipped");
    }
    let mut got = 0;
    loop {
        got += 1;
        if seq(&broker.publish().await) == last {
            break;
        }
    }
    counts.until("bridge_messages_total", |count| count == f64::from(got)).await;
    let skipped = counts.of("frames_skipped_total{protocol=\"bridge\"}");
    assert_eq!(f64::from(got) + skipped, last as f64, "each was sent or skipped");
}

#[tokio::test]
async fn unacknowledged_messages_have_a_bound_and_are_sent_again_where_the_broker_says_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (counts, _recording) = counted();
    let port = listener.local_addr().unwrap().port();
    let stage = Stage::start(bridged(port, |bridge| bridge.qos = 1)).await;
    let mut broker = Played::accept(&listener).await;
    for room in 0..150 {
        stage.show(&aggregate(&format!("room-{room}"), 1)).await;
    }
    for _ in 0..100 {
        assert_eq!(seq(&broker.publish().await), 1);
    }
    for room in 0..150 {
        stage.show(&aggregate(&format!("room-{room}"), 2)).await;
    }
    assert_eq!(counts.of("bridge_messages_total"), 0.0);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(21)).await;
    tokio::time::resume();
    counts.until("bridge_failures_total{cause=\"stalled\"}", |count| count == 1.0).await;
    let mut broker = Played::accept(&listener).await;
    for _ in 0..150 {
        let publish = broker.publish().await;
        assert_eq!(seq(&publish), 2, "{}", publish.topic);
        broker.acknowledge(&publish).await;
    }
    counts.until("bridge_messages_total", |count| count == 150.0).await;
}

#[tokio::test]
async fn a_room_whose_clearing_may_be_lost_is_cleared_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stage = Stage::start(bridged(listener.local_addr().unwrap().port(), |_| {})).await;
    let mut broker = Played::accept(&listener).await;
    stage.show(&aggregate("gone", 1)).await;
    assert_eq!(seq(&broker.publish().await), 1);
    stage.log.tombstone("gone").await;
    assert!(broker.publish().await.payload.is_empty());
    drop(broker);
    let mut broker = Played::accept(&listener).await;
    let again = broker.publish().await;
    assert_eq!((again.topic.as_str(), again.payload.len(), again.retain), ("reactions/gone", 0, true));
}

#[tokio::test]
async fn what_is_pending_at_the_end_is_handed_over_then_the_broker_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut stage = Stage::start(bridged(port, |bridge| bridge.qos = 1)).await;
    let mut broker = Played::accept(&listener).await;
    for room in 0..150 {
        stage.show(&aggregate(&format!("room-{room}"), 1)).await;
    }
    stage.shutdown.cancel();
    for _ in 0..150 {
        let publish = broker.publish().await;
        broker.acknowledge(&publish).await;
    }
    assert!(matches!(broker.packet().await, Packet::Disconnect));
    drop(broker);
    stage.ended().await.unwrap();
}

#[tokio::test]
async fn a_broker_that_hangs_at_the_end_is_left_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut stage = Stage::start(bridged(port, |bridge| bridge.qos = 1)).await;
    let mut broker = Played::accept(&listener).await;
    stage.show(&aggregate("final", 1)).await;
    broker.publish().await;
    stage.shutdown.cancel();
    stage.ended().await.unwrap();
}
