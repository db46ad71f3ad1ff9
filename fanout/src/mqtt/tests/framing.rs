//! Where packets end, before anything in them is read.

use super::{
    super::{
        connect::Connect,
        frame::{Frame, Framed, Kind, first_frame, frame},
        read::{Reader, VarInt},
        reason::{Error, Reason},
    },
    bytes,
};

fn whole(bytes: &[u8]) -> Frame<'_> {
    match frame(bytes, super::ROOM) {
        Ok(Framed::Whole(frame)) => frame,
        other => panic!("{other:?}"),
    }
}

#[test]
fn variable_byte_integers_are_those_of_the_tables() {
    // Table 1-1 of MQTT 5 and table 2.4 of 3.1.1
    for (encoded, value) in [
        ("00", 0),
        ("7F", 127),
        ("8001", 128),
        ("FF7F", 16_383),
        ("808001", 16_384),
        ("FFFF7F", 2_097_151),
        ("80808001", 2_097_152),
        ("FFFFFF7F", 268_435_455),
        ("C102", 321),
    ] {
        let encoded = bytes(encoded);
        assert_eq!(VarInt::read(&encoded), Ok(Some(VarInt { value, len: encoded.len(), padded: false })));
        assert_eq!(Reader::new(&encoded).var_int(), Ok(value));
        for end in 0..encoded.len() {
            assert_eq!(VarInt::read(&encoded[..end]), Ok(None));
        }
    }
    for padded in ["8000", "FF00", "808000", "80808000"] {
        let padded = bytes(padded);
        assert!(VarInt::read(&padded).unwrap().unwrap().padded);
        assert!(matches!(Reader::new(&padded).var_int(), Err(Error::Malformed(_))));
    }
    for endless in ["80808080", "FFFFFFFF", "8080808001"] {
        assert!(matches!(VarInt::read(&bytes(endless)), Err(Error::Malformed(_))));
    }
}

#[test]
fn a_frame_says_how_many_bytes_it_wants() {
    let packet = bytes("82: 0001 s'a/b' 00");
    let ends = [2, 2, 10, 10, 10, 10, 10, 10, 10, 10];
    for (end, at_least) in ends.into_iter().enumerate() {
        assert_eq!(frame(&packet[..end], 100), Ok(Framed::Partial { at_least }));
    }
    assert_eq!(frame(&bytes("82 80"), 1000), Ok(Framed::Partial { at_least: 3 }));
    assert_eq!(frame(&bytes("82 8001"), 1000), Ok(Framed::Partial { at_least: 131 }));
}

#[test]
fn a_frame_ends_where_the_next_packet_begins() {
    let two = [bytes("82: 0001 s'a/b' 00"), bytes("C000")].concat();
    let first = whole(&two);
    assert_eq!((first.kind, first.len, first.body.len()), (Kind::Subscribe, 10, 8));
    let second = whole(&two[first.len..]);
    assert_eq!((second.kind, second.len, second.body), (Kind::Pingreq, 2, &[][..]));
}

#[test]
fn a_packet_too_large_is_refused_before_its_body_comes() {
    // The size counts the fixed header: 2 + 126, 3 + 128.
    assert_eq!(frame(&bytes("82 7E"), 128), Ok(Framed::Partial { at_least: 128 }));
    assert_eq!(frame(&bytes("82 7F"), 128), Err(Error::TooLarge));
    assert_eq!(frame(&bytes("82 8001"), 131), Ok(Framed::Partial { at_least: 131 }));
    assert_eq!(frame(&bytes("82 8001"), 130), Err(Error::TooLarge));
    assert_eq!(frame(&bytes("82 FFFFFF7F"), 1_000_000), Err(Error::TooLarge));
    assert_eq!(frame(&bytes("82 FFFFFF7F"), usize::MAX), Ok(Framed::Partial { at_least: 268_435_460 }));
    assert_eq!(frame(&bytes("C000"), 0), Err(Error::TooLarge));
}

#[test]
fn a_padded_length_is_a_length() {
    let padded = bytes("C0 80 80 80 00");
    assert_eq!((whole(&padded).kind, whole(&padded).len), (Kind::Pingreq, 5));
    assert_eq!(frame(&padded[..4], 100), Ok(Framed::Partial { at_least: 5 }));
}

#[test]
fn a_connection_that_does_not_begin_with_connect_is_refused_at_its_first_byte() {
    assert_eq!(first_frame(&[], 100), Ok(Framed::Partial { at_least: 2 }));
    for first in 0..=u8::MAX {
        match (first, first_frame(&[first], 100)) {
            (0x10, Ok(Framed::Partial { at_least: 2 })) => {}
            (0x11..=0x1F, Err(Error::Malformed(_))) => {}
            (0x00..=0x0F | 0x20.., Err(Error::Protocol("first packet is not CONNECT"))) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_frame_of_another_kind_is_no_connect() {
    let error = Connect::decode(&whole(&bytes("C000"))).unwrap_err();
    assert_eq!(error.reason(), Reason::ProtocolError);
}

#[test]
fn a_connected_client_is_refused_at_the_first_byte_of_what_it_may_not_send() {
    let kind_of = |first| match frame(&[first, 0], 100) {
        Ok(Framed::Whole(frame)) => Ok(frame.kind),
        Ok(partial) => panic!("{partial:?}"),
        Err(error) => Err(error),
    };
    let legal =
        [0x10, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x3A, 0x3B, 0x3C, 0x3D, 0x82, 0xA2, 0xC0, 0xE0, 0xF0];
    for first in 0..=u8::MAX {
        let from_server_or_acknowledgement =
            [0x20, 0x40, 0x50, 0x62, 0x70, 0x90, 0xB0, 0xD0].contains(&first);
        match kind_of(first) {
            Ok(_) => assert!(legal.contains(&first), "{first:#x}"),
            Err(Error::Protocol(_)) => {
                assert!(
                    from_server_or_acknowledgement || [2, 9, 11, 13].contains(&(first >> 4)),
                    "{first:#x}"
                );
            }
            Err(Error::Malformed(_)) => {
                assert!(!legal.contains(&first) && !from_server_or_acknowledgement, "{first:#x}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(kind_of(0x3B), Ok(Kind::Publish { qos: 1 }));
    assert_eq!(kind_of(0x34), Ok(Kind::Publish { qos: 2 }));
}
