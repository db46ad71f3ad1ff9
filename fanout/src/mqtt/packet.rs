//! What a client sends after its CONNECT.

use super::{
    Version,
    filter::is_topic_name,
    frame::{Frame, Kind},
    properties::{self, Allowed, Property},
    read::Reader,
    reason::Error,
    subscribe::{Subscribe, Unsubscribe},
};

/// A packet that is valid. Whether it is welcome is another question.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Packet<'a> {
    Subscribe(Subscribe<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Pingreq,
    Disconnect(Disconnect),
    Publish(Publish),
    /// Only for clients that asked for an authentication method [MQTT-4.12.0-7].
    Auth,
}

/// A message for others. Above QoS 0 it breaks the maximum that a CONNACK of MQTT 5 announces [MQTT-3.2.2-11].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) qos: u8,
    /// Above QoS 0.
    pub(crate) packet_id: Option<u16>,
}

/// The client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disconnect {
    /// 0 in 3.1.1.
    pub(crate) reason: u8,
    /// Not 0, if it was 0 in the CONNECT, is a protocol error (section 3.14.2.2.2).
    pub(crate) session_expiry_s: Option<u32>,
}

impl<'a> Packet<'a> {
    /// Reads a packet of a client that is connected.
    pub(crate) fn decode(frame: &Frame<'a>, version: Version) -> Result<Self, Error> {
        frame.check_padding(version)?;
        let body = Reader::new(frame.body);
        match frame.kind {
            Kind::Connect => Err(Error::Protocol("second CONNECT")), // [MQTT-3.1.0-2]
            Kind::Subscribe => Subscribe::decode(body, version).map(Self::Subscribe),
            Kind::Unsubscribe => Unsubscribe::decode(body, version).map(Self::Unsubscribe),
            Kind::Pingreq => body.end().map(|()| Self::Pingreq),
            Kind::Disconnect => Disconnect::decode(body, version).map(Self::Disconnect),
            Kind::Publish { qos } => Publish::decode(body, version, qos).map(Self::Publish),
            Kind::Auth if version == Version::V5 => decode_auth(body).map(|()| Self::Auth),
            Kind::Auth => Err(Error::Malformed("packet type 15")),
        }
    }
}

impl Publish {
    fn decode(mut body: Reader<'_>, version: Version, qos: u8) -> Result<Self, Error> {
        let topic = body.text()?;
        let packet_id = (qos > 0).then(|| body.packet_id()).transpose()?;
        let (mut has_alias, mut is_text) = (false, false);
        if version == Version::V5 {
            properties::read(&mut body, Allowed::PUBLISH, |property| match property {
                Property::TopicAlias => has_alias = true,
                Property::PayloadIsText(flag) => is_text = flag,
                _ => {}
            })?;
        }
        if topic.is_empty() && version == Version::V5 {
            if !has_alias {
                return Err(Error::Protocol("neither topic nor topic alias")); // section 3.3.2.1
            }
        } else if !is_topic_name(topic) {
            return Err(Error::TopicName);
        }
        // Section 3.3.2.3.2
        if is_text && str::from_utf8(body.rest()).is_err() {
            return Err(Error::PayloadFormat);
        }
        Ok(Self { qos, packet_id })
    }
}

impl Disconnect {
    fn decode(mut body: Reader<'_>, version: Version) -> Result<Self, Error> {
        let mut disconnect = Self { reason: 0, session_expiry_s: None };
        if version == Version::V311 || body.is_empty() {
            return body.end().map(|()| disconnect);
        }
        disconnect.reason = body.u8()?;
        // The codes that a client may send [MQTT-3.14.2-1].
        if !matches!(disconnect.reason, 0x00 | 0x04 | 0x80..=0x83 | 0x90 | 0x93..=0x99) {
            return Err(Error::Protocol("reason code of DISCONNECT"));
        }
        // The length of the properties may be left out (section 3.14.2.2.1).
        if !body.is_empty() {
            properties::read(&mut body, Allowed::DISCONNECT, |property| {
                if let Property::SessionExpiry(seconds) = property {
                    disconnect.session_expiry_s = Some(seconds);
                }
            })?;
        }
        body.end().map(|()| disconnect)
    }
}

/// Section 3.15. Its short form says success, which only a server can say.
fn decode_auth(mut body: Reader<'_>) -> Result<(), Error> {
    // Continue or re-authenticate [MQTT-3.15.2-1].
    if body.is_empty() || !matches!(body.u8()?, 0x18 | 0x19) {
        return Err(Error::Protocol("reason code of AUTH"));
    }
    let mut has_method = false;
    properties::read(&mut body, Allowed::AUTH, |property| {
        has_method |= matches!(property, Property::AuthenticationMethod(_));
    })?;
    body.end()?;
    if has_method { Ok(()) } else { Err(Error::Protocol("AUTH without an authentication method")) }
}
