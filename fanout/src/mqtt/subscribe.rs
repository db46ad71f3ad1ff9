//! SUBSCRIBE and UNSUBSCRIBE (sections 3.8 and 3.10).

use super::{
    Version,
    filter::{is_shared, is_topic_filter},
    properties::{self, Allowed, Property},
    read::Reader,
    reason::Error,
};

/// A wish to receive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subscribe<'a> {
    pub(crate) packet_id: u16,
    /// To be sent with every message that these filters match [MQTT-3.3.4-3].
    pub(crate) subscription_id: Option<u32>,
    pub(crate) filters: List<'a, Requested<'a>>,
}

/// A wish to receive no longer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unsubscribe<'a> {
    pub(crate) packet_id: u16,
    pub(crate) filters: List<'a, &'a str>,
}

/// One filter of a SUBSCRIBE, and how it is to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Requested<'a> {
    pub(crate) filter: &'a str,
    pub(crate) qos: u8,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) retain_handling: RetainHandling,
}

/// Whether the retained message is sent when a subscription is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetainHandling {
    Always,
    IfNew,
    Never,
}

/// What a packet lists. All of it was found to be valid when the packet was decoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List<'a, T> {
    rest: Reader<'a>,
    version: Version,
    read: ReadOne<'a, T>,
}

type ReadOne<'a, T> = fn(&mut Reader<'a>, Version) -> Result<T, Error>;

impl<'a, T> List<'a, T> {
    fn checked(rest: Reader<'a>, version: Version, read: ReadOne<'a, T>) -> Result<Self, Error> {
        // [MQTT-3.8.3-2], [MQTT-3.10.3-2]
        if rest.is_empty() {
            return Err(Error::Protocol("no topic filter"));
        }
        let mut reader = rest;
        while !reader.is_empty() {
            read(&mut reader, version)?;
        }
        Ok(Self { rest, version, read })
    }
}

impl<T> Iterator for List<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        (self.read)(&mut self.rest, self.version).ok()
    }
}

impl<'a> Subscribe<'a> {
    pub(crate) fn decode(mut body: Reader<'a>, version: Version) -> Result<Self, Error> {
        let packet_id = body.packet_id()?;
        let mut subscription_id = None;
        if version == Version::V5 {
            properties::read(&mut body, Allowed::SUBSCRIBE, |property| {
                if let Property::SubscriptionId(id) = property {
                    subscription_id = Some(id);
                }
            })?;
        }
        Ok(Self { packet_id, subscription_id, filters: List::checked(body, version, requested)? })
    }
}

impl<'a> Unsubscribe<'a> {
    pub(crate) fn decode(mut body: Reader<'a>, version: Version) -> Result<Self, Error> {
        let packet_id = body.packet_id()?;
        if version == Version::V5 {
            properties::read(&mut body, Allowed::UNSUBSCRIBE, |_| {})?;
        }
        Ok(Self { packet_id, filters: List::checked(body, version, topic_filter)? })
    }
}

fn topic_filter<'a>(body: &mut Reader<'a>, version: Version) -> Result<&'a str, Error> {
    let filter = body.text()?;
    if is_topic_filter(filter, version) { Ok(filter) } else { Err(Error::Malformed("topic filter")) }
}

fn requested<'a>(body: &mut Reader<'a>, version: Version) -> Result<Requested<'a>, Error> {
    let filter = topic_filter(body, version)?;
    let options = body.u8()?;
    let reserved = match version {
        Version::V311 => 0b1111_1100, // [MQTT-3.8.3-4] of 3.1.1
        Version::V5 => 0b1100_0000,   // [MQTT-3.8.3-5]
    };
    if options & reserved != 0 {
        return Err(Error::Malformed("reserved bits of the subscription options"));
    }
    let no_local = options & 0b100 != 0;
    if no_local && is_shared(filter, version) {
        return Err(Error::Protocol("shared subscription with no local")); // [MQTT-3.8.3-4]
    }
    Ok(Requested {
        filter,
        qos: match options & 0b11 {
            3 => return Err(Error::Protocol("subscription of QoS 3")),
            qos => qos,
        },
        no_local,
        retain_as_published: options & 0b1000 != 0,
        retain_handling: match options >> 4 & 0b11 {
            0 => RetainHandling::Always,
            1 => RetainHandling::IfNew,
            2 => RetainHandling::Never,
            _ => return Err(Error::Protocol("retain handling 3")), // section 3.8.3.1
        },
    })
}
