//! A cursor over the bytes of a packet: whatever it reads is there and is valid.

use super::reason::Error;

const SHORT: Error = Error::Malformed("ends in the middle of a field");

#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), Error> {
        if self.is_empty() { Ok(()) } else { Err(Error::Malformed("goes on after its last field")) }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    /// A variable byte integer; it must not be padded [MQTT-1.5.5-1].
    pub(crate) fn var_int(&mut self) -> Result<u32, Error> {
        let VarInt { value, len, padded } = VarInt::read(self.rest)?.ok_or(SHORT)?;
        if padded {
            return Err(Error::Malformed("variable byte integer is padded"));
        }
        self.take(len)?;
        Ok(value)
    }

    /// Binary data with its length in front (section 1.5.6).
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], Error> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A UTF-8 string, without surrogates [MQTT-1.5.4-1] and without U+0000 [MQTT-1.5.4-2].
    pub(crate) fn text(&mut self) -> Result<&'a str, Error> {
        let text = str::from_utf8(self.binary()?).map_err(|_| Error::Malformed("string is not UTF-8"))?;
        if text.as_bytes().contains(&0) {
            return Err(Error::Malformed("string has U+0000"));
        }
        Ok(text)
    }

    /// A packet identifier; there is none with the value 0 [MQTT-2.2.1-3].
    pub(crate) fn packet_id(&mut self) -> Result<u16, Error> {
        match self.u16()? {
            0 => Err(Error::Protocol("packet identifier is 0")),
            id => Ok(id),
        }
    }
}

/// A variable byte integer (section 1.5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VarInt {
    pub(crate) value: u32,
    /// The bytes it takes.
    pub(crate) len: usize,
    /// It takes more bytes than it needs: legal in 3.1.1, not in 5.
    pub(crate) padded: bool,
}

impl VarInt {
    /// `None`: the bytes end before it does.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Self>, Error> {
        let mut value = 0;
        for (len, byte) in (1..=4).zip(bytes) {
            value |= u32::from(byte & 0x7F) << (7 * (len - 1));
            if byte & 0x80 == 0 {
                return Ok(Some(Self { value, len, padded: len > 1 && *byte == 0 }));
            }
        }
        if bytes.len() < 4 { Ok(None) } else { Err(Error::Malformed("length of more than 4 bytes")) }
    }
}
