//! What one group commit holds, and how it stands in its row.
//!
//! A row, numbers little endian or LEB128 (`var`):
//! `version: u8, timestamp_ms: u64, parts: var, { partition: var, first_offset: var, records: var }*` is its header,
//! then come the records, part by part: `{ value length: var, value }*`.
//! In rows of version 1 each record has `room length: var, room` before it, which says nothing that its value doesn't.
//! The frame around it has a check (see `journal`), hence no sum here; but nothing that is cut off or too long is taken for a row.

use bytes::{Buf, BufMut, Bytes};

const VERSION: u8 = 2;
/// Records with their rooms: still read, not written any more.
const VERSION_WITH_ROOMS: u8 = 1;

/// What one group commit holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// When the log took it.
    pub(super) timestamp_ms: u64,
    /// Its records by partition; no partition twice, none without records.
    pub(super) parts: Vec<Part>,
}

/// The records of one partition within a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) partition: u32,
    /// Offset of the first record; the others follow without gaps.
    pub(super) first_offset: u64,
    pub(super) records: Vec<Bytes>,
}

/// What is asked of a row most often, without its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) timestamp_ms: u64,
    /// Partition, first offset, and how many records.
    pub(super) parts: Vec<(u32, u64, u64)>,
}

/// A row that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RowError {
    #[error("a row is cut off")]
    Short,
    #[error("a row is longer than it says")]
    Long,
    #[error("a row has version {0}, this program reads versions {VERSION_WITH_ROOMS} to {VERSION}")]
    Version(u8),
    #[error("a row holds a number that can't be: {0}")]
    Value(String),
}

impl Group {
    /// Adds the row to what is there.
    pub(super) fn encode_into(&self, row: &mut Vec<u8>) {
        row.put_u8(VERSION);
        row.put_u64_le(self.timestamp_ms);
        put_var(row, self.parts.len() as u64);
        for part in &self.parts {
            put_var(row, u64::from(part.partition));
            put_var(row, part.first_offset);
            put_var(row, part.records.len() as u64);
        }
        for value in self.parts.iter().flat_map(|part| &part.records) {
            put_bytes(row, value);
        }
    }

    /// Reads a row; values share its memory.
    pub(super) fn decode(mut row: Bytes) -> Result<Self, RowError> {
        let (version, header) = Header::take(&mut row)?;
        let mut parts = Vec::new();
        for (partition, first_offset, count) in header.parts {
            let mut records = Vec::new();
            for _ in 0..count {
                if version == VERSION_WITH_ROOMS {
                    take_bytes(&mut row)?;
                }
                records.push(take_bytes(&mut row)?);
            }
            parts.push(Part { partition, first_offset, records });
        }
        if row.has_remaining() {
            return Err(RowError::Long);
        }
        Ok(Self { timestamp_ms: header.timestamp_ms, parts })
    }
}

impl Header {
    /// Reads the header of a row, and leaves the rest of it alone.
    pub(super) fn decode(mut row: &[u8]) -> Result<Self, RowError> {
        Ok(Self::take(&mut row)?.1)
    }

    /// The version too.
    fn take(row: &mut impl Buf) -> Result<(u8, Self), RowError> {
        let version = row.try_get_u8().map_err(|_| RowError::Short)?;
        if !(VERSION_WITH_ROOMS..=VERSION).contains(&version) {
            return Err(RowError::Version(version));
        }
        let timestamp_ms = row.try_get_u64_le().map_err(|_| RowError::Short)?;
        let mut parts = Vec::new();
        for _ in 0..take_var(row)? {
            let partition = take_var(row)?;
            let partition =
                u32::try_from(partition).map_err(|_| RowError::Value(format!("partition {partition}")))?;
            let (first_offset, count) = (take_var(row)?, take_var(row)?);
            if first_offset.checked_add(count).is_none() {
                return Err(RowError::Value(format!("offset {first_offset}")));
            }
            parts.push((partition, first_offset, count));
        }
        Ok((version, Self { timestamp_ms, parts }))
    }
}

pub(super) fn put_var(row: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        row.put_u8(n as u8 | 0x80);
        n >>= 7;
    }
    row.put_u8(n as u8);
}

/// Adds bytes with their length before them.
pub(super) fn put_bytes(row: &mut Vec<u8>, bytes: &[u8]) {
    put_var(row, bytes.len() as u64);
    row.put_slice(bytes);
}

pub(super) fn take_var(row: &mut impl Buf) -> Result<u64, RowError> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let byte = row.try_get_u8().map_err(|_| RowError::Short)?;
        let bits = u64::from(byte & 0x7f);
        if (bits << shift) >> shift != bits {
            break;
        }
        n |= bits << shift;
        if byte < 0x80 {
            return Ok(n);
        }
    }
    Err(RowError::Value("a number above 64 bits".into()))
}

pub(super) fn take_bytes(row: &mut Bytes) -> Result<Bytes, RowError> {
    let len = usize::try_from(take_var(row)?).map_err(|_| RowError::Short)?;
    if len > row.len() {
        return Err(RowError::Short);
    }
    Ok(row.split_to(len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Group {
        fn encode(&self) -> Vec<u8> {
            let mut row = Vec::new();
            self.encode_into(&mut row);
            row
        }
    }

    fn groups() -> impl Strategy<Value = Group> {
        let value = prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
        let records = prop::collection::vec(value, 1..8);
        let part = (any::<u32>(), 0..u64::MAX - 8, records)
            .prop_map(|(partition, first_offset, records)| Part { partition, first_offset, records });
        (any::<u64>(), prop::collection::vec(part, 0..6))
            .prop_map(|(timestamp_ms, parts)| Group { timestamp_ms, parts })
    }

    fn header_of(group: &Group) -> Header {
        let parts = group.parts.iter().map(|p| (p.partition, p.first_offset, p.records.len() as u64));
        Header { timestamp_ms: group.timestamp_ms, parts: parts.collect() }
    }

    /// What is decoded of any bytes is encoded and decoded again, the same, and its header alone says what it says.
    fn stays_the_same(bytes: &[u8]) {
        let (header, group) = (Header::decode(bytes), Group::decode(Bytes::copy_from_slice(bytes)));
        let Ok(group) = group else { return };
        assert_eq!(header, Ok(header_of(&group)));
        assert_eq!(Group::decode(group.encode().into()), Ok(group));
    }

    #[test]
    fn fuzz_rows() {
        bolero::check!().for_each(stays_the_same);
    }

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_encoded(group in groups()) {
            let row = group.encode();
            prop_assert_eq!(Header::decode(&row), Ok(header_of(&group)));
            prop_assert_eq!(Group::decode(row.into()).unwrap(), group);
        }

        #[test]
        fn a_row_that_is_cut_off_or_too_long_is_refused(group in groups(), cut in any::<prop::sample::Index>()) {
            let mut row = group.encode();
            prop_assert!(Group::decode(Bytes::copy_from_slice(&row[..cut.index(row.len())])).is_err());
            row.push(0);
            prop_assert_eq!(Group::decode(row.into()), Err(RowError::Long));
        }

        #[test]
        fn decoding_never_panics(version in 0..4u8, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Header::decode(&bytes);
            stays_the_same(&[vec![version], bytes].concat());
        }
    }

    fn a_group() -> Group {
        let records = vec![Bytes::from_static(b"xyz"), Bytes::from_static(b"")];
        Group { timestamp_ms: 0x0102, parts: vec![Part { partition: 3, first_offset: 300, records }] }
    }

    #[test]
    fn a_row_never_changes_its_form() {
        let row = b"\x02\x02\x01\0\0\0\0\0\0\x01\x03\xac\x02\x02\x03xyz\0";
        assert_eq!(a_group().encode(), row);
    }

    #[test]
    fn a_row_whose_records_name_their_rooms_is_read() {
        let row = b"\x01\x02\x01\0\0\0\0\0\0\x01\x03\xac\x02\x02\x01a\x03xyz\x02bc\0";
        assert_eq!(Group::decode(Bytes::from_static(row)), Ok(a_group()));
        assert_eq!(Header::decode(row), Header::decode(&a_group().encode()));
    }

    #[test]
    fn a_row_of_another_version_is_refused() {
        assert_eq!(Header::decode(&[9, 0]), Err(RowError::Version(9)));
    }
}
