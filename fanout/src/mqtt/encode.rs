//! What we send to clients. Everything is appended to `out`.
//!
//! No packet but CONNACK and DISCONNECT carries a reason string, and none a user property, so that
//! `Wishes::problem_information` is always honoured [MQTT-3.1.2-29].

use super::{
    Version, connect,
    reason::{Error, Reason},
};

/// What the CONNACK of a connection says in MQTT 5; 3.1.1 has no words for it. Not in here is what never varies: QoS 0
/// only, no shared subscriptions, no subscription identifiers, and, by the standard's defaults, retained messages, but no
/// topic aliases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer<'a> {
    /// For the client that has no identifier [MQTT-3.1.3-7].
    pub(crate) assigned_client_id: Option<&'a str>,
    /// In place of the keep alive that the client wishes [MQTT-3.1.2-21].
    pub(crate) keep_alive_s: Option<u16>,
    /// In place of the session expiry that the client wishes.
    pub(crate) session_expiry_s: Option<u32>,
    /// The largest packet that the client may send.
    pub(crate) packet_size_max: Option<u32>,
    pub(crate) wildcards: bool,
}

/// A message of QoS 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) is_retained: bool,
}

/// The answer to PINGREQ.
pub(crate) const PINGRESP: [u8; 2] = [0xD0, 0];

/// Accepts a connection. There never is a session from before.
pub(crate) fn connack(out: &mut Vec<u8>, version: Version, offer: &Offer<'_>) {
    packet(out, 0x20, |out| {
        out.extend([0, Reason::Success as u8]);
        if version == Version::V311 {
            return;
        }
        length_first(out, |out| {
            if let Some(seconds) = offer.session_expiry_s {
                out.push(0x11);
                out.extend(seconds.to_be_bytes());
            }
            out.extend([0x24, 0]); // maximum QoS
            if let Some(size) = offer.packet_size_max {
                out.push(0x27);
                out.extend(size.to_be_bytes());
            }
            text_property(out, 0x12, offer.assigned_client_id);
            out.extend([0x28, u8::from(offer.wildcards)]);
            out.extend([0x29, 0]); // subscription identifiers
            out.extend([0x2A, 0]); // shared subscriptions
            if let Some(seconds) = offer.keep_alive_s {
                out.push(0x13);
                out.extend(seconds.to_be_bytes());
            }
        });
    });
}

/// Refuses a connection. Writes nothing if 3.1.1 has no code for the reason: then the connection is closed without a
/// word, as it is where that is longer than `packet_size_max`, which is what the client accepts. `text` is for people to
/// read: it is left out if the client accepts no packet of that size [MQTT-3.2.2-19].
pub(crate) fn connack_refused(
    out: &mut Vec<u8>,
    version: Version,
    reason: Reason,
    text: Option<&str>,
    packet_size_max: u32,
) {
    match version {
        Version::V311 => {
            if let Some(code) = reason.return_code() {
                out.extend([0x20, 2, 0, code]);
            }
        }
        Version::V5 => with_reason(out, 0x20, &[0, reason as u8], text, packet_size_max),
    }
}

/// Answers a CONNECT that can't be decoded, from its body and from what is wrong with it. Writes nothing if it is no
/// CONNECT, or if the standard knows no answer.
pub(crate) fn refusal(out: &mut Vec<u8>, connect_body: &[u8], error: Error) {
    // Bit 7 of the level marks a bridge of some brokers.
    let version = match connect::version(connect_body) {
        Ok(version) => version,
        Err(Error::Version { level }) if level & 0x7F <= 4 => Version::V311,
        Err(Error::Version { .. }) => Version::V5,
        Err(_) => return,
    };
    connack_refused(out, version, error.reason(), None, u32::MAX);
}

/// Answers SUBSCRIBE, filter by filter. 3.1.1 knows only that it didn't work.
pub(crate) fn suback(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: u16,
    reasons: impl IntoIterator<Item = Reason>,
) {
    packet(out, 0x90, |out| {
        out.extend(packet_id.to_be_bytes());
        if version == Version::V5 {
            out.push(0);
        }
        out.extend(reasons.into_iter().map(|reason| match version {
            Version::V311 if reason.is_error() => 0x80,
            _ => reason as u8,
        }));
    });
}

/// Answers UNSUBSCRIBE, in MQTT 5 filter by filter.
pub(crate) fn unsuback(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: u16,
    reasons: impl IntoIterator<Item = Reason>,
) {
    packet(out, 0xB0, |out| {
        out.extend(packet_id.to_be_bytes());
        if version == Version::V5 {
            out.push(0);
            out.extend(reasons.into_iter().map(|it| it as u8));
        }
    });
}

/// Says why the connection is about to be closed, if the client accepts so much, and with `text` if it accepts that too
/// [MQTT-3.14.2-3]. Only in MQTT 5: a server of 3.1.1 can't.
pub(crate) fn disconnect_v5(out: &mut Vec<u8>, reason: Reason, text: Option<&str>, packet_size_max: u32) {
    with_reason(out, 0xE0, &[reason as u8], text, packet_size_max);
}

/// Sends a message. A packet can hold it: a topic is a room's, and a frame far below 256 MiB.
pub(crate) fn publish(out: &mut Vec<u8>, version: Version, message: &Message<'_>) {
    let Message { topic, payload, is_retained } = *message;
    let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    let len = 2 + topic.len() + properties.len() + payload.len();
    out.reserve(1 + var_int_len(len) + len);
    out.push(0x30 | u8::from(is_retained));
    var_int(out, len);
    out.extend((topic.len() as u16).to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(properties);
    out.extend_from_slice(payload);
}

/// A packet of MQTT 5 with a reason string, without it if that would make it too long, or none.
fn with_reason(out: &mut Vec<u8>, first: u8, head: &[u8], text: Option<&str>, packet_size_max: u32) {
    let start = out.len();
    packet(out, first, |out| {
        out.extend_from_slice(head);
        length_first(out, |out| text_property(out, 0x1F, text));
    });
    if out.len() - start > packet_size_max as usize {
        out.truncate(start);
        if text.is_some() {
            with_reason(out, first, head, None, packet_size_max);
        }
    }
}

/// A property that holds text. Without text, or with more than a string can have, it is left out.
fn text_property(out: &mut Vec<u8>, id: u8, text: Option<&str>) {
    if let Some(text) = text
        && let Ok(len) = u16::try_from(text.len())
    {
        out.push(id);
        out.extend(len.to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }
}

fn packet(out: &mut Vec<u8>, first: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(first);
    length_first(out, body);
}

/// Writes a part, and in front of it its length.
fn length_first(out: &mut Vec<u8>, part: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    part(out);
    let end = out.len();
    var_int(out, end - start);
    let len_len = out.len() - end;
    if let Some(part_and_len) = out.get_mut(start..) {
        part_and_len.rotate_right(len_len);
    }
}

/// A variable byte integer; the caller sees to it that it fits into four bytes.
fn var_int(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn var_int_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}
