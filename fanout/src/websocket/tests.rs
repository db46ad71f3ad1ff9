//! What clients send, as RFC 6455 shows it, and as it must not be.

use super::{reader::Violation, *};
use proptest::prelude::*;

/// The most that is left over between two pieces: a header without length, a mask, and a control frame's payload.
const REST_BYTES_MAX: usize = 2 + 4 + CONTROL_BYTES_MAX;

/// A client's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = message(Opcode::Binary, payload);
    let header = frame.len() - payload.len();
    (frame[0], frame[1]) = (first, frame[1] | 0x80);
    for (n, byte) in frame[header..].iter_mut().enumerate() {
        *byte ^= mask[n % 4];
    }
    frame.splice(header..header, mask);
    frame
}

/// What a connection said, with binary payload joined.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Binary(Vec<u8>),
    Text(Vec<u8>, bool),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
    /// With the code of the close.
    Violation(u16),
}

/// Reads what comes in pieces of the given lengths, in turn.
fn read(bytes: &[u8], lengths: &[usize]) -> Vec<Said> {
    let (mut reader, mut rest, mut said) = (Reader::default(), Vec::new(), Vec::new());
    let mut lengths = lengths.iter().cycle();
    let mut bytes = bytes;
    while !bytes.is_empty() {
        let (now, later) = bytes.split_at((*lengths.next().unwrap()).clamp(1, bytes.len()));
        rest.extend_from_slice(now);
        bytes = later;
        loop {
            match reader.next(&mut rest) {
                Ok((Piece::NeedMore, taken)) => {
                    assert_eq!(taken, 0);
                    assert!(rest.len() <= REST_BYTES_MAX, "{} bytes kept", rest.len());
                    break;
                }
                Ok((piece, taken)) => {
                    match (piece, said.last_mut()) {
                        (Piece::Binary(more), Some(Said::Binary(so_far))) => so_far.extend_from_slice(more),
                        (Piece::Binary(bytes), _) => said.push(Said::Binary(bytes.to_vec())),
                        (Piece::Text { payload, ends, .. }, Some(Said::Text(so_far, has_ended @ false))) => {
                            so_far.extend_from_slice(payload);
                            *has_ended = ends;
                        }
                        (Piece::Text { payload, ends, .. }, _) => {
                            said.push(Said::Text(payload.to_vec(), ends));
                        }
                        (Piece::Ping(payload), _) => said.push(Said::Ping(payload.to_vec())),
                        (Piece::Pong, _) => said.push(Said::Pong),
                        (Piece::Close(code), _) => said.push(Said::Close(code)),
                        (Piece::NeedMore, _) => unreachable!(),
                    }
                    rest.drain(..taken);
                }
                Err(Violation { code, .. }) => {
                    said.push(Said::Violation(code));
                    return said;
                }
            }
        }
    }
    said
}

#[test]
fn the_examples_of_the_standard_are_read() {
    let hello_masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(read(&hello_masked, &[1]), [Said::Text(b"Hello".to_vec(), true)]);
    let ping = [0x89, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(read(&ping, &[99]), [Said::Ping(b"Hello".to_vec())]);
}

#[test]
fn own_messages_have_the_shortest_header() {
    assert_eq!(message(Opcode::Text, b"Hello"), [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    assert_eq!(message(Opcode::Binary, &[0; 256])[..4], [0x82, 0x7e, 0x01, 0x00]);
    assert_eq!(message(Opcode::Binary, &[0; 65_536])[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    for len in [0, 1, 125, 126, 65_535, 65_536] {
        assert_eq!(message(Opcode::Binary, &vec![0; len]).len(), message_bytes(len));
    }
    let mut close = Vec::new();
    put_close(&mut close, 1012, "bye");
    assert_eq!(close, [0x88, 5, 0x03, 0xf4, b'b', b'y', b'e']);
}

#[test]
fn binary_messages_may_be_fragmented_with_control_frames_between() {
    let mut bytes = frame(0x02, b"ab");
    bytes.extend(frame(0x89, b"?"));
    bytes.extend(frame(0x00, b""));
    bytes.extend(frame(0x80, b"cd"));
    bytes.extend(frame(0x82, b"ef"));
    bytes.extend(frame(0x8a, b"!"));
    bytes.extend(frame(0x88, &[0x03, 0xe8]));
    let expected = [
        Said::Binary(b"ab".to_vec()),
        Said::Ping(b"?".to_vec()),
        Said::Binary(b"cdef".to_vec()),
        Said::Pong,
        Said::Close(Some(1000)),
    ];
    for length in 1..20 {
        assert_eq!(read(&bytes, &[length]), expected, "{length} bytes at a time");
    }
}

#[test]
fn what_a_client_may_not_send_is_a_violation() {
    let mut unmasked = frame(0x82, b"x");
    unmasked[1] &= 0x7f;
    let long = |second: u8, length: &[u8]| [&[0x82, second | 0x80], length, &[1, 2, 3, 4, 0]].concat();
    for bad in [
        long(126, &[0, 0]),
        long(126, &[0, 125]),
        long(127, &[0, 0, 0, 0, 0, 0, 0, 125]),
        long(127, &[0, 0, 0, 0, 0, 0, 0xff, 0xff]),
        unmasked,
        frame(0xc2, b"x"),
        frame(0xa2, b"x"),
        frame(0x92, b"x"),
        frame(0x83, b"x"),
        frame(0x8b, b"x"),
        frame(0x09, b"x"),
        frame(0x89, &[0; 126]),
        frame(0x80, b"x"),
        [frame(0x02, b"x"), frame(0x82, b"y")].concat(),
        [frame(0x02, b"x"), frame(0x81, b"y")].concat(),
        frame(0x88, b"x"),
        frame(0x88, &[0x03, 0xed]),
        frame(0x88, &[0x03, 0xe7]),
        frame(0x88, &[0x13, 0x88]),
        [0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4].to_vec(),
    ] {
        let said = read(&bad, &[1]);
        assert_eq!(said.last(), Some(&Said::Violation(1002)), "{bad:02x?}");
    }
    assert_eq!(read(&frame(0x88, &[0x03, 0xe8, 0xff]), &[1]), [Said::Violation(1007)], "not UTF-8");
    for good in [
        [&[0x82, 0xfe, 0, 126][..], &[0; 4]].concat(),
        [&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0][..], &[0; 4]].concat(),
    ] {
        assert!(
            matches!(Reader::default().next(&mut good.clone()), Ok((Piece::Binary(_), _))),
            "{good:02x?}"
        );
    }
}

fn is_read_the_same(bytes: &[u8], lengths: &[usize]) {
    assert_eq!(read(bytes, lengths), read(bytes, &[1]));
}

#[test]
fn fuzz_frames() {
    bolero::check!().for_each(|bytes: &[u8]| {
        is_read_the_same(bytes, &[7, 2, 50]);
        is_read_the_same(bytes, &[usize::MAX]);
    });
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_are_read_without_a_panic_and_the_same(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        lengths in proptest::collection::vec(1..50_usize, 1..10),
    ) {
        is_read_the_same(&bytes, &lengths);
    }

    #[test]
    fn what_tungstenite_writes_is_read(
        messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..70_000), 1..4),
        lengths in proptest::collection::vec(500..40_000_usize, 1..10),
    ) {
        use tokio_tungstenite::tungstenite::{Message, protocol::{Role, WebSocket}};
        let mut client = WebSocket::from_raw_socket(std::io::Cursor::new(Vec::new()), Role::Client, None);
        for message in &messages {
            client.send(Message::Ping("?".into())).unwrap();
            client.send(Message::binary(message.clone())).unwrap();
        }
        let expected: Vec<_> = messages.iter().flat_map(|message| {
            [Said::Ping(b"?".to_vec()), Said::Binary(message.clone())]
        }).collect();
        prop_assert_eq!(read(client.get_ref().get_ref(), &lengths), expected);
    }
}
