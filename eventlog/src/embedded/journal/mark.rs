//! Where the log stands before a group: what a segment begins with, and what an append goes on from.

use bytes::{Buf, BufMut};

const VERSION: u8 = 1;

/// Where the log stands before a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Mark {
    /// The number of that group.
    pub(in super::super) group: u64,
    /// No record after it is stamped earlier.
    pub(in super::super) timestamp_ms: u64,
    /// By partition, the offset that its next record has.
    pub(in super::super) offsets: Vec<u64>,
}

impl Mark {
    /// The beginning of a log.
    pub(in super::super) fn zero(partitions: u32) -> Self {
        Self { group: 0, timestamp_ms: 0, offsets: vec![0; partitions as usize] }
    }

    /// Whether all before it is consumed.
    pub(super) fn is_below(&self, committed: &[u64]) -> bool {
        self.offsets.iter().zip(committed).all(|(next, committed)| next <= committed)
    }

    /// Goes past a group with these parts (partition, first offset, records); `None` when the group can't come here.
    pub(super) fn pass(
        &mut self,
        timestamp_ms: u64,
        parts: impl Iterator<Item = (u32, u64, u64)>,
    ) -> Option<()> {
        for (partition, first_offset, count) in parts {
            let offset = self.offsets.get_mut(partition as usize)?;
            (*offset == first_offset).then_some(())?;
            *offset += count;
        }
        self.timestamp_ms = timestamp_ms;
        self.group += 1;
        Some(())
    }

    /// `version: u8, timestamp_ms: u64, { offset: u64 }*`, little endian; the group is the number of the frame.
    pub(super) fn encode(&self, buffer: &mut Vec<u8>) {
        buffer.put_u8(VERSION);
        buffer.put_u64_le(self.timestamp_ms);
        self.offsets.iter().for_each(|offset| buffer.put_u64_le(*offset));
    }

    pub(super) fn decode(group: u64, mut body: &[u8]) -> Option<Self> {
        (body.try_get_u8().ok()? == VERSION).then_some(())?;
        let timestamp_ms = body.try_get_u64_le().ok()?;
        let offsets = body.chunks(8).map(|mut offset| offset.try_get_u64_le().ok());
        Some(Self { group, timestamp_ms, offsets: offsets.collect::<Option<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_passes_groups_that_follow_it_and_no_others() {
        let mut mark = Mark::zero(2);
        mark.pass(5, [(0, 0, 3), (1, 0, 1)].into_iter()).unwrap();
        mark.pass(6, [(0, 3, 1)].into_iter()).unwrap();
        assert_eq!(mark, Mark { group: 2, timestamp_ms: 6, offsets: vec![4, 1] });
        for (part, why) in [((0, 3, 1), "again"), ((0, 5, 1), "a gap"), ((2, 0, 1), "no such partition")] {
            assert_eq!(mark.clone().pass(7, [part].into_iter()), None, "{why}");
        }
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mark = Mark { group: 9, timestamp_ms: 6, offsets: vec![4, 0x0102] };
        let mut body = Vec::new();
        mark.encode(&mut body);
        assert_eq!(body, b"\x01\x06\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0");
        assert_eq!(Mark::decode(9, &body), Some(mark));
        assert_eq!(Mark::decode(9, &body[..24]), None);
        assert_eq!(Mark::decode(9, b""), None);
        body[0] = 9;
        assert_eq!(Mark::decode(9, &body), None);
    }
}
