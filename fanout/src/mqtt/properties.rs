//! The properties of MQTT 5 that a client may send (section 2.2.2).

use super::{filter::is_topic_name, read::Reader, reason::Error};

/// A property whose value somebody asks for. All others are checked, and then they are `Other`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Property<'a> {
    PayloadIsText(bool),
    SubscriptionId(u32),
    SessionExpiry(u32),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    RequestResponseInformation(bool),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias,
    MaximumPacketSize(u32),
    Other,
}

/// The properties that a packet may have, a bit for each identifier.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed(u64);

impl Allowed {
    pub(crate) const CONNECT: Self =
        Self::of(&[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, USER_PROPERTY, 0x27]);
    pub(crate) const WILL: Self = Self::of(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, USER_PROPERTY]);
    /// From a client: without subscription identifiers [MQTT-3.3.4-6].
    pub(crate) const PUBLISH: Self = Self::of(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, USER_PROPERTY]);
    pub(crate) const SUBSCRIBE: Self = Self::of(&[0x0B, USER_PROPERTY]);
    pub(crate) const UNSUBSCRIBE: Self = Self::of(&[USER_PROPERTY]);
    /// From a client: without a server reference.
    pub(crate) const DISCONNECT: Self = Self::of(&[0x11, 0x1F, USER_PROPERTY]);
    pub(crate) const AUTH: Self = Self::of(&[0x15, 0x16, 0x1F, USER_PROPERTY]);

    const fn of(mut ids: &[u8]) -> Self {
        let mut bits = 0;
        while let [id, rest @ ..] = ids {
            bits |= 1 << *id;
            ids = rest;
        }
        Self(bits)
    }

    fn has(self, id: u8) -> bool {
        bit(id) & self.0 != 0
    }
}

const USER_PROPERTY: u8 = 0x26;

/// No property of MQTT 5 has an identifier that needs a second byte, or a 64th bit.
fn bit(id: u8) -> u64 {
    1_u64.checked_shl(u32::from(id)).unwrap_or(0)
}

/// Reads the properties that come next, and hands each to `take`.
pub(crate) fn read<'a>(
    reader: &mut Reader<'a>,
    allowed: Allowed,
    mut take: impl FnMut(Property<'a>),
) -> Result<(), Error> {
    let len = reader.var_int()?;
    let mut section = Reader::new(reader.take(usize::try_from(len).unwrap_or(usize::MAX))?);
    let mut seen = 0;
    while !section.is_empty() {
        let id = section.u8()?;
        if !allowed.has(id) {
            return Err(Error::Malformed("property that this packet doesn't have"));
        }
        if seen & bit(id) != 0 && id != USER_PROPERTY {
            return Err(Error::Protocol("property comes twice"));
        }
        seen |= bit(id);
        take(value(id, &mut section)?);
    }
    Ok(())
}

fn value<'a>(id: u8, section: &mut Reader<'a>) -> Result<Property<'a>, Error> {
    Ok(match id {
        0x01 => Property::PayloadIsText(flag(section)?),
        // Message expiry interval and will delay interval; 0 is legal.
        0x02 | 0x18 => section.u32().map(|_| Property::Other)?,
        // Content type and reason string.
        0x03 | 0x1F => section.text().map(|_| Property::Other)?,
        // Response topic [MQTT-3.3.2-14].
        0x08 if is_topic_name(section.text()?) => Property::Other,
        0x08 => return Err(Error::TopicName),
        // Correlation data.
        0x09 => section.binary().map(|_| Property::Other)?,
        0x0B => Property::SubscriptionId(not_zero(section.var_int()?)?),
        0x11 => Property::SessionExpiry(section.u32()?),
        0x15 => Property::AuthenticationMethod(section.text()?),
        0x16 => Property::AuthenticationData(section.binary()?),
        0x17 => Property::RequestProblemInformation(flag(section)?),
        0x19 => Property::RequestResponseInformation(flag(section)?),
        0x21 => Property::ReceiveMaximum(not_zero(section.u16()?)?),
        0x22 => Property::TopicAliasMaximum(section.u16()?),
        // [MQTT-3.3.2-8]
        0x23 if section.u16()? == 0 => return Err(Error::TopicAlias),
        0x23 => Property::TopicAlias,
        USER_PROPERTY => section.text().and_then(|_| section.text()).map(|_| Property::Other)?,
        0x27 => Property::MaximumPacketSize(not_zero(section.u32()?)?),
        _ => return Err(Error::Malformed("property that no client sends")),
    })
}

fn flag(section: &mut Reader<'_>) -> Result<bool, Error> {
    match section.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::Protocol("property is neither 0 nor 1")),
    }
}

fn not_zero<T: Default + PartialEq>(value: T) -> Result<T, Error> {
    if value == T::default() { Err(Error::Protocol("property is 0")) } else { Ok(value) }
}
