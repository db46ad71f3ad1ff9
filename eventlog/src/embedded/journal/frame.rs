//! How the bytes of a segment stand: one frame after the other, and zeros behind the last.
//!
//! `magic: [u8; 4], body length: u32, number: u64, crc: u32, body`, numbers little endian. The CRC-32 (IEEE) is of
//! length, number and body. No record holds the magic's first byte, as records are UTF-8: so nothing that a client sends
//! is ever taken for a frame.

use bytes::{Buf, Bytes};
use std::ops::Range;

const MAGIC: [u8; 4] = [0xf5, b'u', b'p', 1];
/// What of the head the CRC covers.
const CHECKED: Range<usize> = 4..16;
const HEAD: usize = 20;

/// Makes a frame of a body that is written into `buffer`, which holds nothing else afterwards.
pub(super) fn write(buffer: &mut Vec<u8>, number: u64, body: impl FnOnce(&mut Vec<u8>)) {
    buffer.clear();
    buffer.resize(HEAD, 0);
    body(buffer);
    let len = (buffer.len() - HEAD) as u32;
    buffer[..4].copy_from_slice(&MAGIC);
    buffer[4..8].copy_from_slice(&len.to_le_bytes());
    buffer[8..16].copy_from_slice(&number.to_le_bytes());
    let crc = crc(&buffer[CHECKED], &buffer[HEAD..]);
    buffer[16..HEAD].copy_from_slice(&crc.to_le_bytes());
}

/// The body of a frame that [`write`] made.
pub(super) fn body(frame: &[u8]) -> &[u8] {
    frame.get(HEAD..).unwrap_or_default()
}

/// Takes the frame of this number from the front of `bytes`, and gives its body; `None` where it is not there, or not whole.
pub(super) fn take(bytes: &mut Bytes, number: u64) -> Option<Bytes> {
    let (found, len) = whole(bytes)?;
    (found == number).then(|| {
        bytes.advance(HEAD);
        bytes.split_to(len)
    })
}

/// Whether a whole frame begins anywhere in `bytes`.
pub(super) fn found_in(bytes: &[u8]) -> bool {
    let starts = (0..bytes.len()).filter(|at| bytes[*at] == MAGIC[0]);
    starts.into_iter().any(|at| whole(&bytes[at..]).is_some())
}

/// Number, and length of the body, of the whole frame that `bytes` begin with.
fn whole(bytes: &[u8]) -> Option<(u64, usize)> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let mut fields = head.strip_prefix(&MAGIC)?;
    let (len, number, expected) = (fields.get_u32_le() as usize, fields.get_u64_le(), fields.get_u32_le());
    (crc(&head[CHECKED], rest.get(..len)?) == expected).then_some((number, len))
}

fn crc(head: &[u8], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head);
    crc.update(body);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(number: u64, body: &[u8]) -> Vec<u8> {
        let mut buffer = vec![1; 7];
        write(&mut buffer, number, |buffer| buffer.extend_from_slice(body));
        buffer
    }

    proptest! {
        #[test]
        fn frames_are_taken_one_after_the_other(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..5)) {
            let frames = bodies.iter().zip(7..).flat_map(|(body, number)| frame(number, body));
            let mut bytes: Bytes = frames.chain([0; 50]).collect();
            for (body, number) in bodies.iter().zip(7..) {
                prop_assert_eq!(take(&mut bytes.clone(), number + 1), None);
                let taken = take(&mut bytes, number);
                prop_assert_eq!(taken.as_deref(), Some(&body[..]));
            }
            prop_assert_eq!(&bytes[..], [0; 50]);
        }

        #[test]
        fn a_frame_with_a_byte_changed_or_cut_off_is_none(
            body in prop::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>(), flip in 1..=255u8,
        ) {
            let mut bytes = frame(7, &body);
            let at = at.index(bytes.len());
            prop_assert_eq!(take(&mut Bytes::copy_from_slice(&bytes[..at]), 7), None);
            bytes[at] ^= flip;
            prop_assert_eq!(take(&mut bytes.into(), 7), None);
        }

        #[test]
        fn a_whole_frame_is_found_wherever_it_begins(
            before in prop::collection::vec(0xf0..=0xf9u8, 0..50), after in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let frame = frame(7, b"body");
            let all = [&before[..], &frame, &after].concat();
            prop_assert!(found_in(&all));
            prop_assert!(!found_in(&all[..before.len() + frame.len() - 1]));
        }
    }

    #[test]
    fn a_frame_never_changes_its_form() {
        assert_eq!(frame(7, b"abc"), b"\xf5up\x01\x03\0\0\0\x07\0\0\0\0\0\0\0\xcd\xe4\xf0\x25abc");
    }
}
