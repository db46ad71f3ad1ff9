//! How aggregates stand in a row of table `blocks`: one entry after the other.
//!
//! `{ partition: var, commit: var, room length: var, room, kind: u8 }*`, numbers as in `row`. After kind 1 come `value length:
//! var, value`; kind 0 is a tombstone. The database checks its rows, hence no sum here.

use super::row::{RowError, put_bytes, put_var, take_bytes, take_var};
use bytes::{Buf, BufMut, Bytes};
use std::ops::Range;
use wire::RoomName;

const TOMBSTONE: u8 = 0;
const AGGREGATE: u8 = 1;

/// What a commit said of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) partition: u32,
    /// Number of the commit.
    pub(super) commit: u64,
    pub(super) room: RoomName,
    /// The aggregate; `None` is a tombstone.
    pub(super) value: Option<Bytes>,
}

impl Entry {
    /// Adds the entry to a block.
    pub(super) fn encode_into(&self, block: &mut Vec<u8>) {
        put_var(block, self.partition.into());
        put_var(block, self.commit);
        put_bytes(block, self.room.as_bytes());
        match &self.value {
            None => block.put_u8(TOMBSTONE),
            Some(value) => {
                block.put_u8(AGGREGATE);
                put_bytes(block, value);
            }
        }
    }

    fn take(block: &mut Bytes) -> Result<Self, RowError> {
        let partition = take_var(block)?;
        let partition =
            u32::try_from(partition).map_err(|_| RowError::Value(format!("partition {partition}")))?;
        let (commit, room) = (take_var(block)?, room(&take_bytes(block)?)?);
        let value = match block.try_get_u8().map_err(|_| RowError::Short)? {
            TOMBSTONE => None,
            AGGREGATE => Some(take_bytes(block)?),
            kind => return Err(RowError::Value(format!("kind {kind}"))),
        };
        Ok(Self { partition, commit, room, value })
    }
}

/// The room with this name.
pub(super) fn room(name: &[u8]) -> Result<RoomName, RowError> {
    let room = str::from_utf8(name).ok().and_then(|name| name.parse().ok());
    room.ok_or_else(|| RowError::Value(format!("room {:?}", String::from_utf8_lossy(name))))
}

/// The entries of a block, each with its bytes of it; the values share its memory.
pub(super) fn decode(mut block: Bytes) -> Result<Vec<(Range<usize>, Entry)>, RowError> {
    let (len, mut entries) = (block.len(), Vec::new());
    while block.has_remaining() {
        let start = len - block.len();
        let entry = Entry::take(&mut block)?;
        entries.push((start..len - block.len(), entry));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from));
        let entry = (any::<u32>(), any::<u64>(), "[a-z0-9]{1,64}", value).prop_map(
            |(partition, commit, room, value)| Entry {
                partition,
                commit,
                room: room.parse().unwrap(),
                value,
            },
        );
        prop::collection::vec(entry, 0..6)
    }

    fn encode(entries: &[Entry]) -> Vec<u8> {
        let mut block = Vec::new();
        entries.iter().for_each(|entry| entry.encode_into(&mut block));
        block
    }

    /// What is decoded of any bytes is encoded and decoded again, the same.
    #[test]
    fn fuzz_blocks() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let Ok(decoded) = decode(Bytes::copy_from_slice(bytes)) else { return };
            assert_eq!(decoded.iter().map(|(place, _)| place.len()).sum::<usize>(), bytes.len());
            let entries: Vec<_> = decoded.into_iter().map(|(_, entry)| entry).collect();
            let again = decode(encode(&entries).into()).unwrap();
            assert!(again.iter().map(|(_, entry)| entry).eq(&entries));
        });
    }

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_encoded(entries in entries()) {
            let mut end = 0;
            for (entry, (bytes, decoded)) in entries.iter().zip(decode(encode(&entries).into()).unwrap()) {
                prop_assert_eq!((bytes.start, entry), (end, &decoded));
                end = bytes.end;
            }
            prop_assert_eq!(end, encode(&entries).len());
        }

        #[test]
        fn a_block_that_is_cut_off_holds_fewer_entries_or_is_refused(
            entries in entries(), cut in any::<prop::sample::Index>(),
        ) {
            let mut block = encode(&entries);
            block.truncate(cut.index(block.len() + 1));
            if let Ok(left) = decode(block.into()) {
                prop_assert!(left.iter().map(|(_, entry)| entry).eq(&entries[..left.len()]));
            }
        }
    }

    #[test]
    fn a_block_never_changes_its_form() {
        let entry = |value| Entry { partition: 3, commit: 300, room: "ab".parse().unwrap(), value };
        let block = encode(&[entry(Some(Bytes::from_static(b"xyz"))), entry(None)]);
        assert_eq!(block, b"\x03\xac\x02\x02ab\x01\x03xyz\x03\xac\x02\x02ab\0");
    }

    #[test]
    fn entries_that_can_not_be_are_refused() {
        for (block, why) in [(&b"\0\0\x01 \0"[..], "room \" \""), (b"\0\0\x01a\x02", "kind 2")] {
            let refused = decode(Bytes::from_static(block)).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
