//! What is wrong with a packet, and the reason code that says so.

use std::fmt;

/// Why bytes are refused. Every one of them ends the connection (section 4.13, `[MQTT-4.8.0-1]` of 3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Error {
    /// It can't be parsed.
    Malformed(&'static str),
    /// It can be parsed, but holds what the standard forbids, or may not come here or now.
    Protocol(&'static str),
    /// A CONNECT of a version that we don't speak.
    Version {
        /// The protocol level it names.
        level: u8,
    },
    /// A 3.1.1 CONNECT without a client identifier, but with a session to be kept.
    ClientId,
    /// A topic name with wildcards, or an empty one.
    TopicName,
    /// A topic alias that can't be: there is no alias 0.
    TopicAlias,
    /// A payload that is said to be UTF-8 and isn't.
    PayloadFormat,
    /// More bytes than a packet may have.
    TooLarge,
}

impl Error {
    /// The reason code for the CONNACK or DISCONNECT that answers it.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Malformed(_) => Reason::MalformedPacket,
            Self::Protocol(_) => Reason::ProtocolError,
            Self::Version { .. } => Reason::UnsupportedVersion,
            Self::ClientId => Reason::ClientIdNotValid,
            Self::TopicName => Reason::TopicNameInvalid,
            Self::TopicAlias => Reason::TopicAliasInvalid,
            Self::PayloadFormat => Reason::PayloadFormatInvalid,
            Self::TooLarge => Reason::PacketTooLarge,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "malformed packet: {what}"),
            Self::Protocol(what) => write!(f, "protocol error: {what}"),
            Self::Version { level } => write!(f, "protocol level {level} is not supported"),
            Self::ClientId => f.write_str("client identifier is empty and the session is to be kept"),
            Self::TopicName => f.write_str("topic name is empty or has wildcards"),
            Self::TopicAlias => f.write_str("topic alias is 0"),
            Self::PayloadFormat => f.write_str("payload is not the UTF-8 it is said to be"),
            Self::TooLarge => f.write_str("packet is too large"),
        }
    }
}

impl std::error::Error for Error {}

/// The reason codes of MQTT 5 that we send (section 2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reason {
    /// Success, and `Granted QoS 0` in a SUBACK.
    Success = 0x00,
    NoSubscriptionExisted = 0x11,
    UnspecifiedError = 0x80,
    MalformedPacket = 0x81,
    ProtocolError = 0x82,
    UnsupportedVersion = 0x84,
    ClientIdNotValid = 0x85,
    NotAuthorized = 0x87,
    BadAuthenticationMethod = 0x8C,
    KeepAliveTimeout = 0x8D,
    TopicFilterInvalid = 0x8F,
    TopicNameInvalid = 0x90,
    TopicAliasInvalid = 0x94,
    PacketTooLarge = 0x95,
    MessageRateTooHigh = 0x96,
    QuotaExceeded = 0x97,
    PayloadFormatInvalid = 0x99,
    QosNotSupported = 0x9B,
    UseAnotherServer = 0x9C,
    SharedSubscriptionsNotSupported = 0x9E,
    SubscriptionIdsNotSupported = 0xA1,
    WildcardSubscriptionsNotSupported = 0xA2,
}

impl Reason {
    pub(crate) fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// The return code of a 3.1.1 CONNACK. `None`: there is none, and the connection is closed without a CONNACK
    /// (`[MQTT-3.2.2-6]` and `[MQTT-3.1.4-1]` of 3.1.1).
    pub(crate) fn return_code(self) -> Option<u8> {
        match self {
            Self::Success => Some(0),
            Self::UnsupportedVersion => Some(1),
            Self::ClientIdNotValid => Some(2),
            Self::QuotaExceeded | Self::UseAnotherServer => Some(3),
            Self::NotAuthorized | Self::QosNotSupported => Some(5),
            _ => None,
        }
    }
}
