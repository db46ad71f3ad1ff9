//! Packs small pieces of bytes that are kept for a while into blocks. With memory of its own, a piece of a hundred bytes takes several times
//! as much: for the allocator, and for the holes that are left between pieces that stay when others go.

use bytes::{Bytes, BytesMut};

const BLOCK_BYTES: usize = 64 << 10;
/// Longer pieces have memory of their own, so that what is left over at the end of a block is a small part of it.
const PACKED_BYTES_MAX: usize = BLOCK_BYTES / 8;

/// Where pieces are packed. A block is freed when the last of its pieces is dropped.
pub(super) struct Pack {
    /// The rest of the newest block.
    rest: BytesMut,
}

impl Default for Pack {
    fn default() -> Self {
        Self { rest: BytesMut::with_capacity(BLOCK_BYTES) }
    }
}

impl Pack {
    /// A copy of the piece.
    pub(super) fn add(&mut self, piece: &[u8]) -> Bytes {
        if piece.len() > PACKED_BYTES_MAX {
            return Bytes::copy_from_slice(piece);
        }
        if self.rest.capacity() < piece.len() {
            *self = Self::default();
        }
        self.rest.extend_from_slice(piece);
        self.rest.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(n: usize) -> Vec<u8> {
        vec![n as u8; [1, 100, PACKED_BYTES_MAX, PACKED_BYTES_MAX + 1, BLOCK_BYTES + 1][n % 5]]
    }

    #[test]
    fn pieces_of_all_lengths_stay_as_they_were() {
        let mut pack = Pack::default();
        let pieces: Vec<_> = (0..200).map(|n| pack.add(&piece(n))).collect();
        assert!(pieces.into_iter().eq((0..200).map(piece)));
    }

    #[test]
    fn small_pieces_lie_side_by_side_in_blocks() {
        let mut pack = Pack::default();
        let pieces: Vec<_> = (0..6_553).map(|n| pack.add(&[n as u8; 100])).collect();
        let gaps = pieces.windows(2).filter(|two| two[0].as_ptr_range().end != two[1].as_ptr());
        assert_eq!(gaps.count(), 10, "655,300 bytes in blocks of 65,536");
    }
}
