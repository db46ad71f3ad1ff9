//! CONNECT, the first packet of a client (section 3.1).

use super::{
    Version,
    filter::is_topic_name,
    frame::{Frame, Kind},
    properties::{self, Allowed, Property},
    read::Reader,
    reason::Error,
};

/// A client's wish to be connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connect<'a> {
    pub(crate) version: Version,
    /// Empty: the server names the client, and with MQTT 5 tells it how [MQTT-3.1.3-7].
    pub(crate) client_id: &'a str,
    /// Clean session or clean start.
    pub(crate) is_clean: bool,
    /// 0: no keep alive.
    pub(crate) keep_alive_s: u16,
    /// The will, which is valid.
    pub(crate) will: Option<Will>,
    pub(crate) user_name: Option<&'a str>,
    pub(crate) password: Option<&'a [u8]>,
    /// What only MQTT 5 can ask for.
    pub(crate) wishes: Wishes<'a>,
}

/// What the answer to a will depends on: `Reason::QosNotSupported` above QoS 0 [MQTT-3.2.2-12].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Will {
    pub(crate) qos: u8,
    pub(crate) is_retained: bool,
}

/// The properties of a CONNECT; those that are absent have the standard's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wishes<'a> {
    pub(crate) session_expiry_s: u32,
    pub(crate) receive_maximum: u16,
    /// The largest packet that may be sent to the client, with its fixed header [MQTT-3.1.2-24].
    pub(crate) packet_size_max: u32,
    pub(crate) topic_alias_maximum: u16,
    pub(crate) response_information: bool,
    /// If not, a reason string may go only into CONNACK and DISCONNECT [MQTT-3.1.2-29].
    pub(crate) problem_information: bool,
    /// Extended authentication is asked for (section 4.12).
    pub(crate) authentication_method: Option<&'a str>,
    pub(crate) authentication_data: Option<&'a [u8]>,
}

impl Default for Wishes<'_> {
    fn default() -> Self {
        Self {
            session_expiry_s: 0,
            receive_maximum: u16::MAX,
            packet_size_max: u32::MAX,
            topic_alias_maximum: 0,
            response_information: false,
            problem_information: true,
            authentication_method: None,
            authentication_data: None,
        }
    }
}

/// The version in which the body of a CONNECT is written, and in which it is answered.
pub(crate) fn version(body: &[u8]) -> Result<Version, Error> {
    read_version(&mut Reader::new(body))
}

fn read_version(body: &mut Reader<'_>) -> Result<Version, Error> {
    match (body.binary()?, body.u8()?) {
        (b"MQTT", 4) => Ok(Version::V311),
        (b"MQTT", 5) => Ok(Version::V5),
        // [MQTT-3.1.2-2]; the other name is that of MQTT 3.1.
        (b"MQTT", level) | (b"MQIsdp", level @ 3) => Err(Error::Version { level }),
        // [MQTT-3.1.2-1]
        _ => Err(Error::Malformed("protocol name is not MQTT")),
    }
}

impl<'a> Connect<'a> {
    /// Reads a CONNECT. If it fails, `encode::refusal` writes the answer, if there is to be one.
    pub(crate) fn decode(frame: &Frame<'a>) -> Result<Self, Error> {
        if frame.kind != Kind::Connect {
            return Err(Error::Protocol("first packet is not CONNECT"));
        }
        let mut body = Reader::new(frame.body);
        let version = read_version(&mut body)?;
        frame.check_padding(version)?;
        let flags = Flags::read(&mut body, version)?;
        let keep_alive_s = body.u16()?;
        let wishes = if version == Version::V5 { Wishes::read(&mut body)? } else { Wishes::default() };
        let client_id = body.text()?;
        if flags.will.is_some() {
            skip_will(&mut body, version)?;
        }
        let user_name = flags.has_user_name.then(|| body.text()).transpose()?;
        let password = flags.has_password.then(|| body.binary()).transpose()?;
        body.end()?;
        // [MQTT-3.1.3-7] and [MQTT-3.1.3-8] of 3.1.1
        if version == Version::V311 && client_id.is_empty() && !flags.is_clean {
            return Err(Error::ClientId);
        }
        Ok(Self {
            version,
            client_id,
            is_clean: flags.is_clean,
            keep_alive_s,
            will: flags.will,
            user_name,
            password,
            wishes,
        })
    }
}

struct Flags {
    is_clean: bool,
    will: Option<Will>,
    has_user_name: bool,
    has_password: bool,
}

impl Flags {
    fn read(body: &mut Reader<'_>, version: Version) -> Result<Self, Error> {
        let byte = body.u8()?;
        let is_set = |bit: u8| byte & bit != 0;
        let will = Will { qos: byte >> 3 & 0b11, is_retained: is_set(0x20) };
        let flags = Self {
            is_clean: is_set(0x02),
            will: is_set(0x04).then_some(will),
            has_user_name: is_set(0x80),
            has_password: is_set(0x40),
        };
        if is_set(0x01) {
            return Err(Error::Malformed("reserved flag of CONNECT")); // [MQTT-3.1.2-3]
        }
        if will.qos == 3 {
            return Err(Error::Malformed("will of QoS 3")); // [MQTT-3.1.2-12]
        }
        if flags.will.is_none() && (will.qos != 0 || will.is_retained) {
            return Err(Error::Malformed("QoS or retain flag of a will without a will")); // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
        }
        if version == Version::V311 && flags.has_password && !flags.has_user_name {
            return Err(Error::Malformed("password without user name")); // [MQTT-3.1.2-22] of 3.1.1
        }
        Ok(flags)
    }
}

fn skip_will(body: &mut Reader<'_>, version: Version) -> Result<(), Error> {
    let mut is_text = false;
    if version == Version::V5 {
        properties::read(body, Allowed::WILL, |property| {
            if let Property::PayloadIsText(flag) = property {
                is_text = flag;
            }
        })?;
    }
    if !is_topic_name(body.text()?) {
        return Err(Error::TopicName);
    }
    let payload = body.binary()?;
    // Section 3.1.3.2.3
    if is_text && str::from_utf8(payload).is_err() { Err(Error::PayloadFormat) } else { Ok(()) }
}

impl<'a> Wishes<'a> {
    fn read(body: &mut Reader<'a>) -> Result<Self, Error> {
        let mut wishes = Self::default();
        properties::read(body, Allowed::CONNECT, |property| match property {
            Property::SessionExpiry(seconds) => wishes.session_expiry_s = seconds,
            Property::ReceiveMaximum(count) => wishes.receive_maximum = count,
            Property::MaximumPacketSize(size) => wishes.packet_size_max = size,
            Property::TopicAliasMaximum(count) => wishes.topic_alias_maximum = count,
            Property::RequestResponseInformation(flag) => wishes.response_information = flag,
            Property::RequestProblemInformation(flag) => wishes.problem_information = flag,
            Property::AuthenticationMethod(name) => wishes.authentication_method = Some(name),
            Property::AuthenticationData(data) => wishes.authentication_data = Some(data),
            _ => {}
        })?;
        // Section 3.1.2.11.10
        if wishes.authentication_data.is_some() && wishes.authentication_method.is_none() {
            return Err(Error::Protocol("authentication data without a method"));
        }
        Ok(wishes)
    }
}
