//! An MQTT client that sends any bytes it is told to, and shows every byte that comes.

use super::harness::{PATIENCE, Stage};
use crate::mqtt::Version;
use mqtt_proto::v5;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use wire::Frame;

pub(super) const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

/// The next packets, told apart by their first byte.
const CONNACK: u8 = 0x20;
const SUBACK: u8 = 0x90;
const UNSUBACK: u8 = 0xB0;
const PINGRESP: u8 = 0xD0;
const DISCONNECT: u8 = 0xE0;

/// A connection.
pub(super) struct Raw {
    stream: TcpStream,
    came: Vec<u8>,
    version: Version,
}

/// A packet that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) first: u8,
    pub(super) body: Vec<u8>,
}

/// A message that came.
#[derive(Debug, PartialEq)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) retain: bool,
    pub(super) frame: Frame,
}

/// How a connection ended: the bytes' last packet, and nothing after it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Goodbye {
    None,
    Connack(u8),
    Disconnect(u8),
}

/// A packet of a client.
pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut packet, mut len) = (vec![first], body.len());
    while len >= 0x80 {
        packet.push(len as u8 | 0x80);
        len >>= 7;
    }
    packet.push(len as u8);
    packet.extend_from_slice(body);
    packet
}

/// A text with its length in front.
pub(super) fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

/// A CONNECT with a clean session; `properties` only for MQTT 5.
pub(super) fn connect(version: Version, id: &str, keep_alive_s: u16, properties: &[u8]) -> Vec<u8> {
    let level = if version == Version::V5 { 5 } else { 4 };
    let mut body = [&text("MQTT")[..], &[level, 0x02], &keep_alive_s.to_be_bytes()].concat();
    if version == Version::V5 {
        body.push(properties.len() as u8);
        body.extend_from_slice(properties);
    }
    body.extend(text(id));
    packet(0x10, &body)
}

/// The same with a will of QoS 0.
pub(crate) fn connect_with_will(version: Version) -> Vec<u8> {
    let mut body = connect(version, "w", 60, &[])[2..].to_vec();
    body[7] |= 0x04;
    if version == Version::V5 {
        body.push(0);
    }
    body.extend(text("reactions/final"));
    body.extend(text("gone"));
    packet(0x10, &body)
}

/// A SUBSCRIBE with its options, of packet 7.
pub(crate) fn subscribe(version: Version, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = vec![0, 7];
    if version == Version::V5 {
        body.push(0);
    }
    for (filter, options) in filters {
        body.extend(text(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}

/// An UNSUBSCRIBE, of packet 8.
pub(super) fn unsubscribe(version: Version, filter: &str) -> Vec<u8> {
    let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    packet(0xA2, &[&[0, 8], properties, &text(filter)].concat())
}

/// A PUBLISH; `flags` as in its first byte.
pub(crate) fn publish(version: Version, flags: u8, topic: &str, payload: &str) -> Vec<u8> {
    let mut body = text(topic);
    if flags & 0x06 != 0 {
        body.extend([0, 9]);
    }
    if version == Version::V5 {
        body.push(0);
    }
    body.extend_from_slice(payload.as_bytes());
    packet(0x30 | flags, &body)
}

pub(crate) const PINGREQ: [u8; 2] = [0xC0, 0];

/// Cuts the first packet off.
pub(super) fn take_packet(came: &mut Vec<u8>) -> Option<Packet> {
    let (mut len, mut header) = (0_usize, 1);
    loop {
        let byte = *came.get(header)?;
        len |= usize::from(byte & 0x7F) << (7 * (header - 1));
        header += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    if came.len() < header + len {
        return None;
    }
    let body = came[header..header + len].to_vec();
    let first = came[0];
    came.drain(..header + len);
    Some(Packet { first, body })
}

impl Packet {
    /// Reads a PUBLISH of QoS 0.
    pub(super) fn message(&self, version: Version) -> Message {
        assert_eq!(self.first & 0xFE, 0x30, "not a message of QoS 0: {self:02x?}");
        let topic_len = usize::from(u16::from_be_bytes([self.body[0], self.body[1]]));
        let (topic, mut rest) = self.body[2..].split_at(topic_len);
        if version == Version::V5 {
            assert_eq!(rest[0], 0, "no properties");
            rest = &rest[1..];
        }
        Message {
            topic: String::from_utf8(topic.to_vec()).unwrap(),
            retain: self.first & 1 == 1,
            frame: Frame::decode(rest).unwrap(),
        }
    }
}

impl Raw {
    /// Only the TCP connection.
    pub(super) async fn dial(address: SocketAddr, version: Version) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), came: Vec::new(), version }
    }

    /// The same with buffers as small as the kernel allows.
    pub(super) async fn dial_small(address: SocketAddr, version: Version) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1).unwrap();
        socket.set_send_buffer_size(1).unwrap();
        Self { stream: socket.connect(address).await.unwrap(), came: Vec::new(), version }
    }

    /// A client that is connected, with a keep alive of a minute.
    pub(super) async fn connected(stage: &Stage, version: Version) -> Self {
        Self::connected_with(stage, version, 60, &[]).await
    }

    pub(super) async fn connected_with(
        stage: &Stage,
        version: Version,
        keep_alive_s: u16,
        properties: &[u8],
    ) -> Self {
        let mut raw = Self::dial(stage.mqtt, version).await;
        raw.connect(keep_alive_s, properties).await;
        raw
    }

    /// A client that is subscribed to a room that shows nothing.
    pub(super) async fn watching(stage: &Stage, version: Version, room: &str) -> Self {
        let mut raw = Self::connected(stage, version).await;
        assert_eq!(raw.subscribe(&format!("reactions/{room}"), 0).await, 0);
        raw
    }

    /// Sends CONNECT, and takes the CONNACK's body.
    pub(super) async fn connect(&mut self, keep_alive_s: u16, properties: &[u8]) -> Vec<u8> {
        self.send(&connect(self.version, "client", keep_alive_s, properties)).await;
        let packet = self.packet().await;
        assert_eq!((packet.first, &packet.body[..2]), (CONNACK, &[0, 0][..]));
        packet.body
    }

    /// The server may close before it has taken all of it. Says whether it took it.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Sends a SUBSCRIBE of one filter, and takes its answer.
    pub(super) async fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.send(&subscribe(self.version, &[(filter, options)])).await;
        self.suback().await[0]
    }

    /// The answer to packet 7, filter by filter.
    pub(super) async fn suback(&mut self) -> Vec<u8> {
        let packet = self.packet().await;
        let head: &[u8] = if self.version == Version::V5 { &[0, 7, 0] } else { &[0, 7] };
        assert_eq!((packet.first, &packet.body[..head.len()]), (SUBACK, head));
        packet.body[head.len()..].to_vec()
    }

    /// Sends an UNSUBSCRIBE, and takes its answer: empty in 3.1.1.
    pub(super) async fn unsubscribe(&mut self, filter: &str) -> Vec<u8> {
        self.send(&unsubscribe(self.version, filter)).await;
        let packet = self.packet().await;
        let head: &[u8] = if self.version == Version::V5 { &[0, 8, 0] } else { &[0, 8] };
        assert_eq!((packet.first, &packet.body[..head.len()]), (UNSUBACK, head));
        packet.body[head.len()..].to_vec()
    }

    /// Pings. Nothing else must be due before the answer.
    pub(super) async fn nothing_is_due(&mut self) {
        self.send(&PINGREQ).await;
        assert_eq!(self.packet().await, Packet { first: PINGRESP, body: Vec::new() });
    }

    /// The next packet; `None`: the connection has ended.
    pub(super) async fn try_packet(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = take_packet(&mut self.came) {
                return Some(packet);
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.came)).await.expect("nothing came");
            if read.unwrap_or(0) == 0 {
                assert!(self.came.is_empty(), "half a packet: {:02x?}", self.came);
                return None;
            }
        }
    }

    pub(super) async fn packet(&mut self) -> Packet {
        self.try_packet().await.expect("the connection ended")
    }

    pub(super) async fn message(&mut self) -> Message {
        let version = self.version;
        self.packet().await.message(version)
    }

    /// The `seq` of the next message, and whether it is marked as retained.
    pub(super) async fn seq(&mut self) -> (u64, bool) {
        let message = self.message().await;
        (message.frame.seq, message.retain)
    }

    /// Waits for the end of the connection, with one packet before it at the most.
    pub(super) async fn goodbye(&mut self) -> Goodbye {
        let Some(Packet { first, body }) = self.try_packet().await else { return Goodbye::None };
        assert_eq!(self.try_packet().await, None, "after {first:02x} {body:02x?}");
        match first {
            CONNACK => Goodbye::Connack(body[1]),
            DISCONNECT => Goodbye::Disconnect(body[0]),
            _ => panic!("no goodbye: {first:02x} {body:02x?}"),
        }
    }
}

/// What a CONNACK of MQTT 5 says, by another codec.
pub(super) fn connack_properties(body: &[u8]) -> v5::ConnackProperties {
    match v5::Packet::decode(&packet(CONNACK, body)) {
        Ok(Some(v5::Packet::Connack(connack))) => connack.properties,
        other => panic!("no CONNACK: {other:?}"),
    }
}
