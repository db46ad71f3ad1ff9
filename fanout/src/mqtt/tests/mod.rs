//! The codec against the standard's texts, against hostile bytes, and against another codec.
//!
//! Packets are written as hex bytes, and beside that: `'text'` is the bytes of it, `s'text'` has its length in front,
//! `{ … }` is a section of properties with its length in front, and `10:` is a first byte after which comes the
//! remaining length.

mod answers;
mod differential;
mod filters;
mod framing;
mod legal;
mod malformed;
mod sent;
mod theirs;

use super::{
    Version,
    connect::Connect,
    frame::{Framed, first_frame, frame},
    packet::{Disconnect, Packet, Publish},
    reason::Error,
    subscribe::Requested,
};

/// More than any packet here has.
const ROOM: usize = 1 << 20;

/// A packet with all that it lists, in a form that can be compared.
#[derive(Debug, Clone, PartialEq)]
enum Seen<'a> {
    Connect(Connect<'a>),
    Subscribe { packet_id: u16, subscription_id: Option<u32>, filters: Vec<Requested<'a>> },
    Unsubscribe { packet_id: u16, filters: Vec<&'a str> },
    Pingreq,
    Disconnect(Disconnect),
    Publish(Publish),
    Auth,
}

#[derive(Debug, Clone, PartialEq)]
enum Received<'a> {
    Partial { at_least: usize },
    Whole { seen: Seen<'a>, len: usize },
}

impl<'a> Received<'a> {
    fn whole(self) -> Seen<'a> {
        match self {
            Self::Whole { seen, .. } => seen,
            Self::Partial { at_least } => panic!("{at_least} bytes are wanted"),
        }
    }
}

/// Receives the first packet of a connection, or one of a client that is connected with a version.
fn receive(bytes: &[u8], connected: Option<Version>) -> Result<Received<'_>, Error> {
    let framed = if connected.is_some() { frame(bytes, ROOM)? } else { first_frame(bytes, ROOM)? };
    let frame = match framed {
        Framed::Partial { at_least } => return Ok(Received::Partial { at_least }),
        Framed::Whole(frame) => frame,
    };
    let seen = match connected {
        None => Seen::Connect(Connect::decode(&frame)?),
        Some(version) => match Packet::decode(&frame, version)? {
            Packet::Subscribe(it) => Seen::Subscribe {
                packet_id: it.packet_id,
                subscription_id: it.subscription_id,
                filters: it.filters.collect(),
            },
            Packet::Unsubscribe(it) => {
                Seen::Unsubscribe { packet_id: it.packet_id, filters: it.filters.collect() }
            }
            Packet::Pingreq => Seen::Pingreq,
            Packet::Disconnect(it) => Seen::Disconnect(it),
            Packet::Publish(it) => Seen::Publish(it),
            Packet::Auth => Seen::Auth,
        },
    };
    Ok(Received::Whole { seen, len: frame.len })
}

/// Reads the notation above.
fn bytes(notation: &str) -> Vec<u8> {
    let mut levels = vec![Vec::new()];
    let mut first = None;
    for word in notation.split_whitespace() {
        if let Some(byte) = word.strip_suffix(':') {
            first = u8::from_str_radix(byte, 16).ok();
        } else if word == "{" {
            levels.push(Vec::new());
        } else {
            let part = if word == "}" {
                let section = levels.pop().unwrap();
                [var_int(section.len()), section].concat()
            } else if let Some(text) = word.strip_suffix('\'') {
                let (is_string, text) = text.split_once('\'').unwrap();
                let len = u16::try_from(text.len()).unwrap().to_be_bytes();
                [if is_string == "s" { &len[..] } else { &[] }, text.as_bytes()].concat()
            } else {
                (0..word.len())
                    .step_by(2)
                    .map(|at| u8::from_str_radix(&word[at..at + 2], 16).unwrap())
                    .collect()
            };
            levels.last_mut().unwrap().extend(part);
        }
    }
    let body = levels.pop().unwrap();
    first.map_or(body.clone(), |first| packet(first, &body))
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first], &var_int(body.len())[..], body].concat()
}

fn var_int(value: usize) -> Vec<u8> {
    let low = (value % 128) as u8;
    if value < 128 { vec![low] } else { [vec![low | 0x80], var_int(value / 128)].concat() }
}

#[test]
fn the_notation_means_what_it_says() {
    assert_eq!(bytes("10: 0004 'MQTT' { 11 } s'a'"), b"\x10\x0b\0\x04MQTT\x01\x11\0\x01a");
    assert_eq!(bytes("c000"), [0xC0, 0]);
}
