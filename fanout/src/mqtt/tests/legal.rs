//! Packets that are legal, from the texts of the standard and from the corners of it.

use super::{
    super::{
        Version::{self, V5, V311},
        connect::{Connect, Will, Wishes},
        packet::{Disconnect, Publish},
        subscribe::{Requested, RetainHandling},
    },
    Received, Seen, bytes, receive,
};

/// All that is legal and is not taken apart below.
const LEGAL: [(&str, Option<Version>, &str); 47] = [
    ("CONNECT 3.1.1", None, "10: s'MQTT' 04 02 003C s'a'"),
    ("CONNECT 3.1.1, no identifier", None, "10: s'MQTT' 04 02 0000 0000"),
    ("CONNECT 3.1.1, session kept", None, "10: s'MQTT' 04 00 FFFF s'a'"),
    ("CONNECT 3.1.1, user name alone", None, "10: s'MQTT' 04 82 003C s'a' s'user'"),
    ("CONNECT 3.1.1, empty user name and password", None, "10: s'MQTT' 04 C2 003C s'a' 0000 0000"),
    ("CONNECT 3.1.1, will", None, "10: s'MQTT' 04 2E 003C s'a' s't' s'gone'"),
    ("CONNECT 3.1.1, empty will payload", None, "10: s'MQTT' 04 06 003C s'a' s't' 0000"),
    ("CONNECT 3.1.1, padded remaining length", None, "10 8D00 s'MQTT' 04 02 003C s'a'"),
    ("CONNECT 3.1.1, length padded to 4 bytes", None, "10 8D808000 s'MQTT' 04 02 003C s'a'"),
    ("CONNECT 5", None, "10: s'MQTT' 05 02 003C { } s'a'"),
    ("CONNECT 5, session kept, no identifier", None, "10: s'MQTT' 05 00 003C { 11 FFFFFFFF } 0000"),
    ("CONNECT 5, password without user name", None, "10: s'MQTT' 05 42 003C { } s'a' s'token'"),
    ("CONNECT 5, user property twice", None, "10: s'MQTT' 05 02 003C { 26 s'k' s'v' 26 s'k' s'v' } s'a'"),
    ("CONNECT 5, authentication", None, "10: s'MQTT' 05 02 003C { 16 0001FF 15 s'SCRAM' } s'a'"),
    ("CONNECT 5, smallest maximum", None, "10: s'MQTT' 05 02 003C { 27 00000001 } s'a'"),
    ("CONNECT 5, will", None, "10: s'MQTT' 05 26 003C { } s'a' { } s't' s'gone'"),
    (
        "CONNECT 5, all will properties; message expiry 0",
        None,
        "10: s'MQTT' 05 06 003C { } s'a' { 18 00000000 01 01 02 00000000 03 s'text' 08 s'r' 09 0001FF 26 s'k' s'v' } s't' s'x'",
    ),
    ("CONNECT 5, will of bytes", None, "10: s'MQTT' 05 06 003C { } s'a' { 01 00 } s't' 0001FF"),
    ("SUBSCRIBE 3.1.1", Some(V311), "82: 000A s'a/b' 01 s'c/d' 02"),
    ("SUBSCRIBE 3.1.1, padded", Some(V311), "82 8600 FFFF s'a' 00"),
    ("SUBSCRIBE 3.1.1, $share is a filter", Some(V311), "82: 0001 s'$share/group' 00"),
    ("SUBSCRIBE 5", Some(V5), "82: 000A { } s'a/b' 01 s'c/d' 02"),
    ("SUBSCRIBE 5, shared", Some(V5), "82: 0001 { } s'$share/group/a' 00"),
    ("SUBSCRIBE 5, identifier", Some(V5), "82: 0001 { 0B FFFFFF7F } s'a' 2E"),
    ("SUBSCRIBE 5, user properties", Some(V5), "82: 0001 { 26 0000 0000 26 s'k' s'v' 0B 01 } s'a' 00"),
    ("SUBSCRIBE 5, byte order mark", Some(V5), "82: 0001 { } 0004 EFBBBF 'a' 00"),
    ("UNSUBSCRIBE 3.1.1", Some(V311), "A2: 000A s'a/b' s'c/d'"),
    ("UNSUBSCRIBE 5", Some(V5), "A2: 000A { } s'a/b' s'c/d'"),
    ("UNSUBSCRIBE 5, user property", Some(V5), "A2: 000A { 26 s'k' s'v' } s'$share/g/a'"),
    ("PINGREQ 3.1.1", Some(V311), "C000"),
    ("PINGREQ 3.1.1, padded", Some(V311), "C08000"),
    ("PINGREQ 5", Some(V5), "C000"),
    ("DISCONNECT 3.1.1", Some(V311), "E000"),
    ("DISCONNECT 5", Some(V5), "E000"),
    ("DISCONNECT 5, reason alone", Some(V5), "E00104"),
    ("DISCONNECT 5, no properties", Some(V5), "E0: 99 { }"),
    ("DISCONNECT 5, properties", Some(V5), "E0: 00 { 11 00000000 1F s'bye' 26 s'k' s'v' }"),
    ("PUBLISH 3.1.1", Some(V311), "30: s'a/b' 'payload'"),
    ("PUBLISH 3.1.1, no payload", Some(V311), "31: s'a/b'"),
    ("PUBLISH 3.1.1, QoS 1, again", Some(V311), "3A: s'a/b' 000A 'x'"),
    ("PUBLISH 3.1.1, QoS 2", Some(V311), "34: s'a/b' 000A"),
    ("PUBLISH 5", Some(V5), "30: s'a/b' { } 'payload'"),
    ("PUBLISH 5, alias in place of a topic", Some(V5), "30: 0000 { 23 0001 }"),
    (
        "PUBLISH 5, all properties; message expiry 0",
        Some(V5),
        "32: s'a' 0001 { 01 01 02 00000000 03 s't' 08 s'r' 09 0000 23 FFFF 26 s'k' s'v' } 'text'",
    ),
    ("AUTH", Some(V5), "F0: 18 { 15 s'SCRAM' }"),
    ("AUTH, again", Some(V5), "F0: 19 { 15 s'SCRAM' 16 0001FF 1F s'why' 26 s'k' s'v' }"),
    ("SUBSCRIBE 5, most retain handling", Some(V5), "82: 0001 { } s'a' 2C"),
];

#[test]
fn legal_packets_are_read_and_every_split_of_them_waits_for_more() {
    for (name, connected, notation) in LEGAL {
        let packet = bytes(notation);
        let received = receive(&packet, connected);
        assert!(
            matches!(received, Ok(Received::Whole { len, .. }) if len == packet.len()),
            "{name}: {received:?}"
        );
        for end in 0..packet.len() {
            match receive(&packet[..end], connected) {
                Ok(Received::Partial { at_least }) => {
                    assert!(at_least > end && at_least <= packet.len(), "{name} at {end}: {at_least}");
                }
                other => panic!("{name} at {end}: {other:?}"),
            }
        }
        let more = [&packet[..], b"\xC0\x00\xFF"].concat();
        assert_eq!(receive(&more, connected), received, "{name} with more behind it");
    }
}

#[test]
fn the_connect_of_3_1_1_is_read() {
    // The variable header is that of figure 3.6 of 3.1.1.
    let packet = bytes("10: s'MQTT' 04 CE 000A s'client' s'will/topic' s'gone' s'user' 0003 00FF01");
    let expected = Connect {
        version: V311,
        client_id: "client",
        is_clean: true,
        keep_alive_s: 10,
        will: Some(Will { qos: 1, is_retained: false }),
        user_name: Some("user"),
        password: Some(&[0, 0xFF, 1]),
        wishes: Wishes::default(),
    };
    assert_eq!(receive(&packet, None).unwrap().whole(), Seen::Connect(expected));
}

#[test]
fn the_connect_of_5_is_read() {
    // The variable header begins as in figure 3-6 of MQTT 5.
    let packet = bytes(
        "10: s'MQTT' 05 F6 000A { 11 0000000A 21 0014 27 00000100 22 0007 19 01 17 00 26 s'k' s'v' 15 s'SCRAM' 16 s'data' }
         s'client' { 18 00000001 } s'will/topic' s'gone' s'user' s'secret'",
    );
    let expected = Connect {
        version: V5,
        client_id: "client",
        is_clean: true,
        keep_alive_s: 10,
        will: Some(Will { qos: 2, is_retained: true }),
        user_name: Some("user"),
        password: Some(b"secret"),
        wishes: Wishes {
            session_expiry_s: 10,
            receive_maximum: 20,
            packet_size_max: 256,
            topic_alias_maximum: 7,
            response_information: true,
            problem_information: false,
            authentication_method: Some("SCRAM"),
            authentication_data: Some(b"data"),
        },
    };
    assert_eq!(receive(&packet, None).unwrap().whole(), Seen::Connect(expected));
}

#[test]
fn a_connect_of_5_without_properties_has_the_standards_defaults() {
    let packet = bytes("10: s'MQTT' 05 00 0000 { } 0000");
    let Seen::Connect(connect) = receive(&packet, None).unwrap().whole() else { panic!("not a CONNECT") };
    assert_eq!((connect.client_id, connect.is_clean, connect.keep_alive_s), ("", false, 0));
    assert_eq!((connect.will, connect.user_name, connect.password), (None, None, None));
    let wishes = connect.wishes;
    assert_eq!((wishes.session_expiry_s, wishes.receive_maximum, wishes.topic_alias_maximum), (0, 65_535, 0));
    assert_eq!((wishes.response_information, wishes.problem_information), (false, true));
    assert_eq!(wishes.packet_size_max, u32::MAX);
}

#[test]
fn the_subscribe_of_5_is_read_option_by_option() {
    let packet = bytes("82: 000A { 0B C102 } s'a/b' 01 s'c/d' 2E s'e' 10 s'f' 00");
    let plain = Requested {
        filter: "a/b",
        qos: 1,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Always,
    };
    let filters = vec![
        plain,
        Requested {
            filter: "c/d",
            qos: 2,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::Never,
        },
        Requested { filter: "e", qos: 0, retain_handling: RetainHandling::IfNew, ..plain },
        Requested { filter: "f", qos: 0, ..plain },
    ];
    let expected = Seen::Subscribe { packet_id: 10, subscription_id: Some(321), filters };
    assert_eq!(receive(&packet, Some(V5)).unwrap().whole(), expected);
}

#[test]
fn the_rest_is_read() {
    let read = |version, notation| format!("{:?}", receive(&bytes(notation), Some(version)).unwrap().whole());
    let unsubscribe = Seen::Unsubscribe { packet_id: 10, filters: vec!["a/b", "c/d"] };
    assert_eq!(read(V311, "A2: 000A s'a/b' s'c/d'"), format!("{unsubscribe:?}"));
    assert_eq!(read(V5, "A2: 000A { } s'a/b' s'c/d'"), format!("{unsubscribe:?}"));
    let leaves =
        |reason, session_expiry_s| format!("{:?}", Seen::Disconnect(Disconnect { reason, session_expiry_s }));
    assert_eq!(read(V311, "E000"), leaves(0, None));
    assert_eq!(read(V5, "E00104"), leaves(4, None));
    assert_eq!(read(V5, "E0: 00 { 11 00000E10 }"), leaves(0, Some(3600)));
    let published = |qos, packet_id| format!("{:?}", Seen::Publish(Publish { qos, packet_id }));
    assert_eq!(read(V311, "30: s'a' 000A"), published(0, None));
    assert_eq!(read(V5, "32: s'a' 000A { }"), published(1, Some(10)));
    assert_eq!(read(V311, "3D: s'a' 000B 'x'"), published(2, Some(11)));
}

#[test]
fn the_strings_of_the_texts_are_read() {
    // Section 1.5.4: A and U+2A6D4
    let packet = bytes("A2: 0001 0005 41F0AA9B94");
    let expected = Seen::Unsubscribe { packet_id: 1, filters: vec!["A\u{2A6D4}"] };
    assert_eq!(receive(&packet, Some(V311)).unwrap().whole(), expected);
}
