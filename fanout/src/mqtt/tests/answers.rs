//! What we send, byte by byte.

use super::{
    super::{
        Version::{self, V5, V311},
        encode::{
            Message, Offer, PINGRESP, connack, connack_refused, disconnect_v5, publish, refusal, suback,
            unsuback,
        },
        frame::{Framed, first_frame},
        reason::Reason,
    },
    ROOM, bytes, receive,
};

const OFFER: Offer<'_> = Offer {
    assigned_client_id: None,
    keep_alive_s: None,
    session_expiry_s: None,
    packet_size_max: None,
    wildcards: false,
};

const NO_LIMIT: u32 = u32::MAX;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = b"before".to_vec();
    write(&mut out);
    out.strip_prefix(b"before").unwrap().to_vec()
}

#[test]
fn a_connection_is_accepted() {
    assert_eq!(written(|out| connack(out, V311, &OFFER)), bytes("20: 00 00"));
    assert_eq!(written(|out| connack(out, V5, &OFFER)), bytes("20: 00 00 { 2400 2800 2900 2A00 }"));
    let offer = Offer {
        assigned_client_id: Some("viewer-1"),
        keep_alive_s: Some(60),
        session_expiry_s: Some(0),
        packet_size_max: Some(4096),
        wildcards: true,
    };
    assert_eq!(
        written(|out| connack(out, V5, &offer)),
        bytes("20: 00 00 { 11 00000000 2400 27 00001000 12 s'viewer-1' 2801 2900 2A00 13 003C }")
    );
}

#[test]
fn a_connection_is_refused_with_a_reason() {
    let refused =
        |version, reason, text| written(|out| connack_refused(out, version, reason, text, NO_LIMIT));
    assert_eq!(refused(V5, Reason::NotAuthorized, None), bytes("20: 00 87 { }"));
    let text = Some("too-many");
    assert_eq!(refused(V5, Reason::UseAnotherServer, text), bytes("20: 00 9C { 1F s'too-many' }"));
    assert_eq!(refused(V311, Reason::UseAnotherServer, text), bytes("20: 00 03"));
}

#[test]
fn in_3_1_1_a_reason_without_a_return_code_is_not_answered() {
    let refused = |reason| written(|out| connack_refused(out, V311, reason, None, NO_LIMIT));
    for (reason, code) in [
        (Reason::UnsupportedVersion, 1),
        (Reason::ClientIdNotValid, 2),
        (Reason::NotAuthorized, 5),
        (Reason::QosNotSupported, 5),
    ] {
        assert_eq!(refused(reason), [0x20, 2, 0, code], "{reason:?}");
    }
    for reason in
        [Reason::MalformedPacket, Reason::ProtocolError, Reason::PacketTooLarge, Reason::TopicNameInvalid]
    {
        assert!(refused(reason).is_empty(), "{reason:?}");
    }
}

#[test]
fn a_connect_that_cannot_be_decoded_is_answered_in_the_form_its_sender_reads() {
    for (connect, answer) in [
        ("10: s'MQTT' 03 02 003C s'a'", "20: 00 01"),
        ("10: s'MQIsdp' 03 02 003C s'a'", "20: 00 01"),
        ("10: s'MQTT' 84 02 003C s'a'", "20: 00 01"),
        ("10: s'MQTT' 06 02 003C s'a'", "20: 00 84 { }"),
        ("10: s'MQTT' 44 02 003C s'a'", "20: 00 84 { }"),
        ("10: s'MQTT' 04 00 003C 0000", "20: 00 02"),
        ("10: s'MQTT' 04 03 003C s'a'", ""),
        ("10: s'MQTT' 05 03 003C { } s'a'", "20: 00 81 { }"),
        ("10: s'MQTT' 05 02 003C { 21 0000 } s'a'", "20: 00 82 { }"),
        ("10: s'MQTX' 05 02 003C { } s'a'", ""),
        ("10: s'MQTT'", ""),
    ] {
        let packet = bytes(connect);
        let error = receive(&packet, None).unwrap_err();
        let Ok(Framed::Whole(frame)) = first_frame(&packet, ROOM) else { panic!("{connect}") };
        assert_eq!(written(|out| refusal(out, frame.body, error)), bytes(answer), "{connect}");
    }
}

#[test]
fn subscriptions_are_answered_filter_by_filter() {
    let reasons = [Reason::Success, Reason::SharedSubscriptionsNotSupported, Reason::NotAuthorized];
    assert_eq!(written(|out| suback(out, V311, 10, reasons)), bytes("90: 000A 00 80 80"));
    assert_eq!(written(|out| suback(out, V5, 10, reasons)), bytes("90: 000A { } 00 9E 87"));
    let reasons = [Reason::Success, Reason::NoSubscriptionExisted];
    assert_eq!(written(|out| unsuback(out, V311, 10, reasons)), bytes("B0: 000A"));
    assert_eq!(written(|out| unsuback(out, V5, 10, reasons)), bytes("B0: 000A { } 00 11"));
    let many = std::iter::repeat_n(Reason::Success, 300);
    assert_eq!(written(|out| suback(out, V5, 1, many)).get(..6), Some(&bytes("90 AF02 0001 00")[..]));
}

#[test]
fn pings_are_answered() {
    assert_eq!(PINGRESP.to_vec(), bytes("D000"));
}

#[test]
fn a_farewell_says_why() {
    let says = |reason, text| written(|out| disconnect_v5(out, reason, text, NO_LIMIT));
    assert_eq!(says(Reason::KeepAliveTimeout, None), bytes("E0: 8D { }"));
    assert_eq!(says(Reason::UseAnotherServer, Some("bye")), bytes("E0: 9C { 1F s'bye' }"));
}

#[test]
fn a_refusal_or_farewell_is_left_out_where_the_client_has_no_room_for_it() {
    let refused = |max| written(|out| connack_refused(out, V5, Reason::NotAuthorized, None, max));
    assert_eq!((refused(5), refused(4)), (bytes("20: 00 87 { }"), vec![]));
    let farewell = |max| written(|out| disconnect_v5(out, Reason::KeepAliveTimeout, None, max));
    assert_eq!((farewell(4), farewell(3)), (bytes("E0: 8D { }"), vec![]));
}

#[test]
fn a_reason_string_is_left_out_where_the_client_has_no_room_for_it() {
    let says = |size_max| written(|out| disconnect_v5(out, Reason::UseAnotherServer, Some("bye"), size_max));
    let whole = bytes("E0: 9C { 1F s'bye' }");
    assert_eq!(says(whole.len() as u32), whole);
    assert_eq!(says(whole.len() as u32 - 1), bytes("E0: 9C { }"));
    let endless = Some("x".repeat(70_000));
    let refused =
        written(|out| connack_refused(out, V5, Reason::QuotaExceeded, endless.as_deref(), NO_LIMIT));
    assert_eq!(refused, bytes("20: 00 97 { }"));
}

fn message(payload: &[u8], is_retained: bool) -> Message<'_> {
    Message { topic: "a/b", payload, is_retained }
}

fn published(version: Version, message: &Message<'_>) -> Vec<u8> {
    written(|out| publish(out, version, message))
}

#[test]
fn messages_are_sent_with_qos_0() {
    assert_eq!(published(V311, &message(b"payload", false)), bytes("30: s'a/b' 'payload'"));
    assert_eq!(published(V311, &message(b"", true)), bytes("31: s'a/b'"));
    assert_eq!(published(V5, &message(b"payload", true)), bytes("31: s'a/b' { } 'payload'"));
}

#[test]
fn the_remaining_length_grows_with_the_payload() {
    for (version, overhead) in [(V311, 5), (V5, 6)] {
        for (remaining, len_len) in
            [(127, 1), (128, 2), (16_383, 2), (16_384, 3), (2_097_151, 3), (2_097_152, 4)]
        {
            let payload = vec![b'x'; remaining - overhead];
            let packet = published(version, &message(&payload, false));
            assert_eq!(packet, super::packet(0x30, &packet[1 + len_len..]));
            assert_eq!(packet.len(), 1 + len_len + remaining);
        }
    }
}
