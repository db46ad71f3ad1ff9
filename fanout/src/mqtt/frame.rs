//! Where a packet ends, and whether it may come from a client at all. Both are known before its body is there.

use super::{Version, read::VarInt, reason::Error};

/// The packets that a client may send to a server which never sends it a PUBLISH above QoS 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Connect,
    Publish { qos: u8 },
    Subscribe,
    Unsubscribe,
    Pingreq,
    Disconnect,
    Auth,
}

/// A whole packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    /// What comes after the fixed header.
    pub(crate) body: &'a [u8],
    /// The bytes of the packet, with its fixed header.
    pub(crate) len: usize,
    /// The remaining length takes more bytes than it needs, which is legal in 3.1.1.
    padded: bool,
}

/// What the bytes so far hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framed<'a> {
    /// A part of a packet. There is no more to say before there are `at_least` bytes, counted from the packet's first.
    Partial { at_least: usize },
    /// A packet, and perhaps more behind it.
    Whole(Frame<'a>),
}

/// Cuts the first packet out of the bytes that a client has sent so far.
pub(crate) fn frame(bytes: &[u8], packet_size_max: usize) -> Result<Framed<'_>, Error> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(Framed::Partial { at_least: 2 }) };
    let kind = Kind::of(first)?;
    let Some(remaining) = VarInt::read(rest)? else {
        return Ok(Framed::Partial { at_least: bytes.len() + 1 });
    };
    let header_len = 1 + remaining.len;
    let len = header_len.saturating_add(usize::try_from(remaining.value).unwrap_or(usize::MAX));
    if len > packet_size_max {
        return Err(Error::TooLarge);
    }
    Ok(match bytes.get(header_len..len) {
        Some(body) => Framed::Whole(Frame { kind, body, len, padded: remaining.padded }),
        None => Framed::Partial { at_least: len },
    })
}

/// The same for a new connection: whatever doesn't begin with CONNECT is refused at its first byte [MQTT-3.1.0-1].
pub(crate) fn first_frame(bytes: &[u8], packet_size_max: usize) -> Result<Framed<'_>, Error> {
    match bytes.first() {
        Some(first) if first >> 4 != 1 => Err(Error::Protocol("first packet is not CONNECT")),
        _ => frame(bytes, packet_size_max),
    }
}

impl Frame<'_> {
    /// The remaining length must not be padded [MQTT-1.5.5-1]. That is known only with the version.
    pub(crate) fn check_padding(&self, version: Version) -> Result<(), Error> {
        if self.padded && version == Version::V5 {
            return Err(Error::Malformed("remaining length is padded"));
        }
        Ok(())
    }
}

impl Kind {
    /// Reads the first byte of a packet: its type (section 2.1.2) and its flags (section 2.1.3).
    fn of(first: u8) -> Result<Self, Error> {
        const NOT_OURS: Error = Error::Protocol("acknowledges what was never sent");
        let flags = first & 0x0F;
        let (kind, flags_wanted) = match first >> 4 {
            0 => return Err(Error::Malformed("packet type 0")),
            1 => (Ok(Self::Connect), 0),
            3 => return Self::publish(flags),
            4 | 5 | 7 => (Err(NOT_OURS), 0),
            6 => (Err(NOT_OURS), 0b0010),
            8 => (Ok(Self::Subscribe), 0b0010),
            10 => (Ok(Self::Unsubscribe), 0b0010),
            12 => (Ok(Self::Pingreq), 0),
            14 => (Ok(Self::Disconnect), 0),
            15 => (Ok(Self::Auth), 0),
            _ => return Err(Error::Protocol("a packet that only servers send")),
        };
        // [MQTT-2.1.3-1]
        if flags == flags_wanted { kind } else { Err(Error::Malformed("reserved flags of the fixed header")) }
    }

    fn publish(flags: u8) -> Result<Self, Error> {
        let (is_duplicate, qos) = (flags & 0b1000 != 0, flags >> 1 & 0b11);
        match qos {
            // [MQTT-3.3.1-2]
            0 if is_duplicate => Err(Error::Malformed("PUBLISH of QoS 0 is a duplicate")),
            // [MQTT-3.3.1-4]
            3 => Err(Error::Malformed("PUBLISH of QoS 3")),
            _ => Ok(Self::Publish { qos }),
        }
    }
}
