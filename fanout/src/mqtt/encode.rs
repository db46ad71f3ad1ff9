//! What we send to clients. Everything is appended to `out`.
//!
//! No packet but CONNACK and DISCONNECT carries a reason string, and none a user property, so that
//! `Wishes::problem_information` is always honoured [MQTT-3.1.2-29].

use super::{
    Version, connect,
    reason::{Error, Reason},
};

/// What the CONNACK of a connection says in MQTT 5; 3.1.1 has no words for it. Not in here is what never varies: QoS 0
/// only, no shared subscriptions, and, by the standard's defaults, retained messages, but no topic aliases.
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
    pub(crate) subscription_ids: bool,
}

/// What a refusal or a farewell says beside its reason code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Remark<'a> {
    /// For people to read. Left out if the client accepts no packet of that size [MQTT-3.2.2-19], [MQTT-3.14.2-3].
    pub(crate) reason_string: Option<&'a str>,
    /// Where to go instead (section 4.11).
    pub(crate) server_reference: Option<&'a str>,
}

/// A message of QoS 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) is_retained: bool,
    /// Those of the subscriptions that match, each 1 or more; not for 3.1.1.
    pub(crate) subscription_ids: &'a [u32],
}

/// A message that no packet can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// The answer to PINGREQ.
pub(crate) const PINGRESP: [u8; 2] = [0xD0, 0];

const VAR_INT_MAX: usize = 268_435_455;

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
            out.extend([0x29, u8::from(offer.subscription_ids)]);
            out.extend([0x2A, 0]); // shared subscriptions
            if let Some(seconds) = offer.keep_alive_s {
                out.push(0x13);
                out.extend(seconds.to_be_bytes());
            }
        });
    });
}

/// Refuses a connection. Writes nothing if 3.1.1 has no code for the reason: then the connection is closed without a
/// word, as it is where that is longer than `packet_size_max`, which is what the client accepts.
pub(crate) fn connack_refused(
    out: &mut Vec<u8>,
    version: Version,
    reason: Reason,
    remark: Remark<'_>,
    packet_size_max: u32,
) {
    match version {
        Version::V311 => {
            if let Some(code) = reason.return_code() {
                out.extend([0x20, 2, 0, code]);
            }
        }
        Version::V5 => remarked(out, 0x20, &[0, reason as u8], remark, packet_size_max),
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
    connack_refused(out, version, error.reason(), Remark::default(), u32::MAX);
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

/// Says why the connection is about to be closed, if the client accepts so much. Only in MQTT 5: a server of 3.1.1 can't.
pub(crate) fn disconnect_v5(out: &mut Vec<u8>, reason: Reason, remark: Remark<'_>, packet_size_max: u32) {
    remarked(out, 0xE0, &[reason as u8], remark, packet_size_max);
}

/// Sends a message. `out` is left as it was if it can't be sent.
pub(crate) fn publish(out: &mut Vec<u8>, version: Version, message: &Message<'_>) -> Result<(), TooLarge> {
    let ids = if version == Version::V5 { message.subscription_ids } else { &[] };
    let topic_len = u16::try_from(message.topic.len()).map_err(|_| TooLarge)?;
    let ids_len: usize = ids.iter().map(|id| 1 + var_int_len(*id as usize)).sum();
    let properties_len = if version == Version::V5 { var_int_len(ids_len) + ids_len } else { 0 };
    let len = 2 + message.topic.len() + properties_len + message.payload.len();
    if len > VAR_INT_MAX || ids.iter().any(|id| *id as usize > VAR_INT_MAX) {
        return Err(TooLarge);
    }
    out.reserve(1 + var_int_len(len) + len);
    out.push(0x30 | u8::from(message.is_retained));
    var_int(out, len);
    out.extend_from_slice(&topic_len.to_be_bytes());
    out.extend_from_slice(message.topic.as_bytes());
    if version == Version::V5 {
        var_int(out, ids_len);
        for id in ids {
            out.push(0x0B);
            var_int(out, *id as usize);
        }
    }
    out.extend_from_slice(message.payload);
    Ok(())
}

fn remarked(out: &mut Vec<u8>, first: u8, head: &[u8], remark: Remark<'_>, packet_size_max: u32) {
    let start = out.len();
    packet(out, first, |out| {
        out.extend_from_slice(head);
        length_first(out, |out| {
            text_property(out, 0x1F, remark.reason_string);
            text_property(out, 0x1C, remark.server_reference);
        });
    });
    if out.len() - start > packet_size_max as usize {
        out.truncate(start);
        if remark.reason_string.is_some() {
            remarked(out, first, head, Remark { reason_string: None, ..remark }, packet_size_max);
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

/// A variable byte integer; the caller sees to it that it is at most `VAR_INT_MAX`.
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
