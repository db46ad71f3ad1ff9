//! MQTT in a WebSocket, at `/mqtt`.

use super::{
    harness::{PATIENCE, Stage, aggregate, config},
    raw::{PINGREQ, Packet, VERSIONS, connect, publish, subscribe, take_packet},
};
use crate::mqtt::Version::{self, V5, V311};
use futures_util::{SinkExt, StreamExt};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        protocol::frame::{
            Frame as WsFrame,
            coding::{Data, OpCode},
        },
    },
};
use wire::Frame;

struct Client {
    socket: WebSocketStream<TcpStream>,
    came: Vec<u8>,
}

impl Client {
    async fn open(stage: &Stage, protocols: Option<&str>) -> Result<Self, Error> {
        let mut request = format!("ws://{}/mqtt", stage.address).into_client_request().unwrap();
        if let Some(protocols) = protocols {
            request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
        }
        let stream = TcpStream::connect(stage.address).await.unwrap();
        let (socket, response) = client_async(request, stream).await?;
        assert_eq!(response.headers()["sec-websocket-protocol"], "mqtt");
        Ok(Self { socket, came: Vec::new() })
    }

    /// A client that watches a room.
    async fn watching(stage: &Stage, version: Version, room: &str) -> Self {
        let mut client = Self::open(stage, Some("mqtt")).await.unwrap();
        let filter = format!("reactions/{room}");
        client.send([connect(version, "me", 60, &[]), subscribe(version, &[(&filter, 0)])].concat()).await;
        assert_eq!([client.packet().await.first, client.packet().await.first], [0x20, 0x90]);
        client
    }

    async fn send(&mut self, bytes: Vec<u8>) {
        self.socket.send(Message::binary(bytes)).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        let message = timeout(PATIENCE, self.socket.next()).await.expect("nothing came");
        message.expect("the connection ended").expect("the connection broke")
    }

    async fn packet(&mut self) -> Packet {
        loop {
            if let Some(packet) = take_packet(&mut self.came) {
                return packet;
            }
            match self.next().await {
                Message::Binary(bytes) => self.came.extend_from_slice(&bytes),
                Message::Pong(_) => {}
                other => panic!("not MQTT: {other:?}"),
            }
        }
    }

    /// The code with which the server closes.
    async fn close_code(&mut self) -> u16 {
        match self.next().await {
            Message::Close(Some(frame)) => frame.code.into(),
            other => panic!("not a close: {other:?}"),
        }
    }
}

#[tokio::test]
async fn viewers_get_what_they_get_over_tcp() {
    let stage = Stage::start(config()).await;
    stage.show(&aggregate("final", 1)).await;
    for version in VERSIONS {
        let mut viewer = Client::watching(&stage, version, "final").await;
        let seq = stage.shown("final");
        let snapshot = viewer.packet().await.message(version);
        assert_eq!((snapshot.frame.seq, snapshot.retain), (seq, true));
        for seq in seq + 1..seq + 6 {
            stage.show(&aggregate("final", seq)).await;
            let message = viewer.packet().await.message(version);
            assert_eq!((&*message.topic, message.frame.seq, message.retain), ("reactions/final", seq, false));
        }
        viewer.send(PINGREQ.to_vec()).await;
        assert_eq!(viewer.packet().await.first, 0xD0);
    }
}

#[tokio::test]
async fn packets_may_span_messages_and_share_them_and_messages_may_be_fragmented() {
    let stage = Stage::start(config()).await;
    for version in VERSIONS {
        let all = [
            connect(version, "me", 60, &[]),
            subscribe(version, &[("reactions/final", 0)]),
            PINGREQ.to_vec(),
            PINGREQ.to_vec(),
        ]
        .concat();
        for piece in [1, 5, 17, all.len()] {
            for fragmented in [false, true] {
                let mut client = Client::open(&stage, Some("mqtt")).await.unwrap();
                let pieces: Vec<_> = all.chunks(piece).collect();
                for (n, piece) in pieces.iter().enumerate() {
                    let (opcode, last) = match (fragmented, n) {
                        (true, 1..) => (Data::Continue, n + 1 == pieces.len()),
                        (true, 0) => (Data::Binary, pieces.len() == 1),
                        (false, _) => (Data::Binary, true),
                    };
                    let frame = WsFrame::message(piece.to_vec(), OpCode::Data(opcode), last);
                    client.socket.send(Message::Frame(frame)).await.unwrap();
                    if n % 3 == 0 {
                        // Control frames may come inside a fragmented message (RFC 6455, 5.4).
                        client.socket.send(Message::Ping("?".into())).await.unwrap();
                    }
                }
                for first in [0x20, 0x90, 0xD0, 0xD0] {
                    assert_eq!(client.packet().await.first, first, "{piece} bytes, fragmented: {fragmented}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_ping_inside_is_answered_with_its_payload() {
    let stage = Stage::start(config()).await;
    let mut client = Client::watching(&stage, V311, "final").await;
    client.socket.send(Message::Ping("hi".into())).await.unwrap();
    assert_eq!(client.next().await, Message::Pong("hi".into()));
}

#[tokio::test]
async fn who_breaks_the_protocol_is_closed_with_the_right_codes() {
    let stage = Stage::start(config()).await;
    let mut witness = Client::watching(&stage, V5, "final").await;
    for version in VERSIONS {
        let new = async || Client::watching(&stage, version, "final").await;
        let disconnect = async |client: &mut Client, reason| {
            if version == V5 {
                let packet = client.packet().await;
                assert_eq!((packet.first, packet.body[0]), (0xE0, reason));
            }
        };
        let mut text = new().await;
        text.socket.send(Message::text("hi")).await.unwrap();
        assert_eq!(text.close_code().await, 1003);
        let mut loud = new().await;
        loud.send(publish(version, 1, "reactions/final", "{}")).await;
        disconnect(&mut loud, 0x87).await;
        assert_eq!(loud.close_code().await, 1008);
        let mut malformed = new().await;
        malformed.send(vec![0, 0]).await;
        disconnect(&mut malformed, 0x81).await;
        assert_eq!(malformed.close_code().await, 1002);
        let mut large = new().await;
        large.send(vec![0x82, 0xFF, 0xFF, 0x7F]).await;
        disconnect(&mut large, 0x95).await;
        assert_eq!(large.close_code().await, 1009);
    }
    stage.until_viewers(1).await;
    stage.show(&aggregate("final", 1)).await;
    assert_eq!(witness.packet().await.message(V5).frame.seq, 1);
}

#[tokio::test]
async fn the_subprotocol_has_to_be_offered() {
    let stage = Stage::start(config()).await;
    for protocols in [None, Some("MQTT"), Some("soap")] {
        match Client::open(&stage, protocols).await.err() {
            Some(Error::Http(response)) => assert_eq!(response.status(), 400, "{protocols:?}"),
            other => panic!("{protocols:?}: {other:?}"),
        }
    }
    assert!(Client::open(&stage, Some("soap, mqtt")).await.is_ok());
}

#[tokio::test]
async fn on_shutdown_both_protocols_say_where_to_go() {
    for version in VERSIONS {
        let mut stage = Stage::start(config()).await;
        let mut viewer = Client::watching(&stage, version, "final").await;
        stage.shutdown.cancel();
        if version == V5 {
            let packet = viewer.packet().await;
            assert_eq!((packet.first, packet.body[0]), (0xE0, 0x9C));
        }
        assert_eq!(viewer.close_code().await, 1012);
        drop(viewer);
        stage.ended().await.unwrap();
    }
}

#[tokio::test]
async fn the_longest_packet_a_client_takes_is_counted_without_the_websocket() {
    let stage = Stage::start(config()).await;
    let frame = Frame::of(&aggregate("final", 1), 10).encode();
    let body = 2 + "reactions/final".len() + 1 + frame.len();
    let packet_len = (1 + if body < 128 { 1 } else { 2 } + body) as u32;
    let [a, b, c, d] = packet_len.to_be_bytes();
    let mut client = Client::open(&stage, Some("mqtt")).await.unwrap();
    let subscribe = subscribe(V5, &[("reactions/final", 0)]);
    client.send([connect(V5, "me", 60, &[0x27, a, b, c, d]), subscribe].concat()).await;
    assert_eq!([client.packet().await.first, client.packet().await.first], [0x20, 0x90]);
    stage.show(&aggregate("final", 1)).await;
    assert_eq!(client.packet().await.message(V5).frame.seq, 1);
}
