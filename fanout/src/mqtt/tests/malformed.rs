//! Packets that the standard forbids, each with the reason code that says so.

use super::{
    super::{
        Version::{self, V5, V311},
        reason::Error,
    },
    Received, bytes, receive,
};

#[rustfmt::skip]
const MALFORMED: &[(&str, Option<Version>, &str, u8)] = &[
    ("first packet is PINGREQ", None, "C000", 0x82),
    ("first packet is of type 0", None, "0000", 0x82),
    ("first packet is HTTP", None, "'GET'", 0x82),
    ("first packet is TLS", None, "1603", 0x81),
    ("flags of CONNECT", None, "11: s'MQTT' 04 02 003C s'a'", 0x81),
    ("remaining length of 5 bytes", None, "10 FFFFFFFF7F", 0x81),
    ("remaining length padded to 5 bytes", None, "10 8080808000", 0x81),
    ("empty CONNECT", None, "1000", 0x81),
    ("protocol name", None, "10: s'MQTX' 04 02 003C s'a'", 0x81),
    ("protocol name in lower case", None, "10: s'mqtt' 05 02 003C { } s'a'", 0x81),
    ("protocol name too long", None, "10: s'MQTTT' 04 02 003C s'a'", 0x81),
    ("level 3", None, "10: s'MQTT' 03 02 003C s'a'", 0x84),
    ("level 6", None, "10: s'MQTT' 06 02 003C s'a'", 0x84),
    ("MQTT 3.1", None, "10: s'MQIsdp' 03 02 003C s'a'", 0x84),
    ("3.1.1: reserved flag", None, "10: s'MQTT' 04 03 003C s'a'", 0x81),
    ("3.1.1: will of QoS 3", None, "10: s'MQTT' 04 1E 003C s'a' s't' s'x'", 0x81),
    ("3.1.1: will QoS without a will", None, "10: s'MQTT' 04 0A 003C s'a'", 0x81),
    ("3.1.1: will retain without a will", None, "10: s'MQTT' 04 22 003C s'a'", 0x81),
    ("3.1.1: password without user name", None, "10: s'MQTT' 04 42 003C s'a' s'secret'", 0x81),
    ("3.1.1: session kept for nobody", None, "10: s'MQTT' 04 00 003C 0000", 0x85),
    ("3.1.1: no client identifier", None, "10: s'MQTT' 04 02 003C", 0x81),
    ("3.1.1: client identifier cut", None, "10: s'MQTT' 04 02 003C 0005 'a'", 0x81),
    ("3.1.1: client identifier has U+0000", None, "10: s'MQTT' 04 02 003C 0003 'a' 00 'b'", 0x81),
    ("3.1.1: client identifier is not UTF-8", None, "10: s'MQTT' 04 02 003C 0001 FF", 0x81),
    ("3.1.1: client identifier is too long a form", None, "10: s'MQTT' 04 02 003C 0002 C0AF", 0x81),
    ("3.1.1: client identifier has a surrogate", None, "10: s'MQTT' 04 02 003C 0003 EDA080", 0x81),
    ("3.1.1: will topic with a wildcard", None, "10: s'MQTT' 04 06 003C s'a' s't/#' s'x'", 0x90),
    ("3.1.1: empty will topic", None, "10: s'MQTT' 04 06 003C s'a' 0000 s'x'", 0x90),
    ("3.1.1: will payload cut", None, "10: s'MQTT' 04 06 003C s'a' s't' 0002 'x'", 0x81),
    ("3.1.1: user name missing", None, "10: s'MQTT' 04 82 003C s'a'", 0x81),
    ("3.1.1: password missing", None, "10: s'MQTT' 04 C2 003C s'a' s'user'", 0x81),
    ("3.1.1: bytes behind the CONNECT's last field", None, "10: s'MQTT' 04 02 003C s'a' 00", 0x81),
    ("5: padded remaining length", None, "10 8E00 s'MQTT' 05 02 003C { } s'a'", 0x81),
    ("5: reserved flag", None, "10: s'MQTT' 05 03 003C { } s'a'", 0x81),
    ("5: will of QoS 3", None, "10: s'MQTT' 05 1E 003C { } s'a' { } s't' s'x'", 0x81),
    ("5: will retain without a will", None, "10: s'MQTT' 05 22 003C { } s'a'", 0x81),
    ("5: no properties", None, "10: s'MQTT' 05 02 003C", 0x81),
    ("5: properties longer than the packet", None, "10: s'MQTT' 05 02 003C 05 11 0000", 0x81),
    ("5: padded length of properties", None, "10: s'MQTT' 05 02 003C 8000 s'a'", 0x81),
    ("5: property cut by the length of properties", None, "10: s'MQTT' 05 02 003C { 11 0000 } s'a'", 0x81),
    ("5: unknown property", None, "10: s'MQTT' 05 02 003C { 7E } s'a'", 0x81),
    ("5: property identifier of 2 bytes", None, "10: s'MQTT' 05 02 003C { 9100 0000000A } s'a'", 0x81),
    ("5: property of another packet", None, "10: s'MQTT' 05 02 003C { 0B 01 } s'a'", 0x81),
    ("5: property of a CONNACK", None, "10: s'MQTT' 05 02 003C { 24 00 } s'a'", 0x81),
    ("5: will property among the CONNECT's", None, "10: s'MQTT' 05 02 003C { 18 00000001 } s'a'", 0x81),
    ("5: session expiry twice", None, "10: s'MQTT' 05 02 003C { 11 00000001 11 00000001 } s'a'", 0x82),
    ("5: receive maximum 0", None, "10: s'MQTT' 05 02 003C { 21 0000 } s'a'", 0x82),
    ("5: receive maximum twice", None, "10: s'MQTT' 05 02 003C { 21 0001 21 0001 } s'a'", 0x82),
    ("5: maximum packet size 0", None, "10: s'MQTT' 05 02 003C { 27 00000000 } s'a'", 0x82),
    ("5: request problem information 2", None, "10: s'MQTT' 05 02 003C { 17 02 } s'a'", 0x82),
    ("5: request response information 2", None, "10: s'MQTT' 05 02 003C { 19 02 } s'a'", 0x82),
    ("5: authentication data without a method", None, "10: s'MQTT' 05 02 003C { 16 s'x' } s'a'", 0x82),
    ("5: user property has U+0000", None, "10: s'MQTT' 05 02 003C { 26 0001 00 s'v' } s'a'", 0x81),
    ("5: user property without a value", None, "10: s'MQTT' 05 02 003C { 26 s'k' } s'a'", 0x81),
    ("5: will without properties", None, "10: s'MQTT' 05 06 003C { } s'a'", 0x81),
    ("5: will payload is not the text it is said to be", None, "10: s'MQTT' 05 06 003C { } s'a' { 01 01 } s't' 0001 FF", 0x99),
    ("5: payload format 2", None, "10: s'MQTT' 05 06 003C { } s'a' { 01 02 } s't' s'x'", 0x82),
    ("5: response topic with a wildcard", None, "10: s'MQTT' 05 06 003C { } s'a' { 08 s'r/+' } s't' s'x'", 0x90),
    ("5: bytes behind the CONNECT's last field", None, "10: s'MQTT' 05 02 003C { } s'a' s'b'", 0x81),
    ("second CONNECT, 3.1.1", Some(V311), "10: s'MQTT' 04 02 003C s'a'", 0x82),
    ("second CONNECT, 5", Some(V5), "10: s'MQTT' 05 02 003C { } s'a'", 0x82),
    ("packet type 0", Some(V5), "0000", 0x81),
    ("CONNACK", Some(V5), "20: 00 00 { }", 0x82),
    ("PUBACK", Some(V5), "40: 0001", 0x82),
    ("PUBREC", Some(V5), "50: 0001", 0x82),
    ("PUBREL", Some(V5), "62: 0001", 0x82),
    ("PUBREL, flags", Some(V5), "60: 0001", 0x81),
    ("PUBCOMP", Some(V311), "70: 0001", 0x82),
    ("SUBACK", Some(V311), "90: 0001 00", 0x82),
    ("UNSUBACK", Some(V311), "B0: 0001", 0x82),
    ("PINGRESP", Some(V311), "D000", 0x82),
    ("SUBSCRIBE, flags", Some(V5), "80: 0001 { } s'a' 00", 0x81),
    ("SUBSCRIBE, packet identifier 0", Some(V5), "82: 0000 { } s'a' 00", 0x82),
    ("SUBSCRIBE, empty", Some(V311), "8200", 0x81),
    ("SUBSCRIBE, no filter, 3.1.1", Some(V311), "82: 0001", 0x82),
    ("SUBSCRIBE, no filter, 5", Some(V5), "82: 0001 { }", 0x82),
    ("SUBSCRIBE, no options", Some(V311), "82: 0001 s'a'", 0x81),
    ("SUBSCRIBE, second filter is bad", Some(V311), "82: 0001 s'a' 00 s'a#' 00", 0x81),
    ("SUBSCRIBE, second filter is cut", Some(V311), "82: 0001 s'a' 00 00", 0x81),
    ("SUBSCRIBE, empty filter", Some(V311), "82: 0001 0000 00", 0x81),
    ("SUBSCRIBE, filter has U+0000", Some(V5), "82: 0001 { } 0002 'a' 00 00", 0x81),
    ("SUBSCRIBE, share without a name", Some(V5), "82: 0001 { } s'$share//a' 00", 0x81),
    ("SUBSCRIBE, shared and no local", Some(V5), "82: 0001 { } s'$share/g/a' 04", 0x82),
    ("SUBSCRIBE, QoS 3, 3.1.1", Some(V311), "82: 0001 s'a' 03", 0x82),
    ("SUBSCRIBE, QoS 3, 5", Some(V5), "82: 0001 { } s'a' 03", 0x82),
    ("SUBSCRIBE, options of MQTT 5 in 3.1.1", Some(V311), "82: 0001 s'a' 04", 0x81),
    ("SUBSCRIBE, reserved option", Some(V5), "82: 0001 { } s'a' 40", 0x81),
    ("SUBSCRIBE, retain handling 3", Some(V5), "82: 0001 { } s'a' 30", 0x82),
    ("SUBSCRIBE, identifier 0", Some(V5), "82: 0001 { 0B 00 } s'a' 00", 0x82),
    ("SUBSCRIBE, identifier twice", Some(V5), "82: 0001 { 0B 01 0B 02 } s'a' 00", 0x82),
    ("SUBSCRIBE, padded identifier", Some(V5), "82: 0001 { 0B 8100 } s'a' 00", 0x81),
    ("SUBSCRIBE, identifier of 5 bytes", Some(V5), "82: 0001 { 0B FFFFFFFF01 } s'a' 00", 0x81),
    ("SUBSCRIBE, property of another packet", Some(V5), "82: 0001 { 1F s'why' } s'a' 00", 0x81),
    ("SUBSCRIBE, padded remaining length", Some(V5), "82 8700 0001 { } s'a' 00", 0x81),
    ("UNSUBSCRIBE, flags", Some(V311), "A0: 0001 s'a'", 0x81),
    ("UNSUBSCRIBE, packet identifier 0", Some(V311), "A2: 0000 s'a'", 0x82),
    ("UNSUBSCRIBE, no filter", Some(V311), "A2: 0001", 0x82),
    ("UNSUBSCRIBE, bad filter", Some(V5), "A2: 0001 { } s'a/#/b'", 0x81),
    ("UNSUBSCRIBE, subscription identifier", Some(V5), "A2: 0001 { 0B 01 } s'a'", 0x81),
    ("PINGREQ, flags", Some(V311), "C100", 0x81),
    ("PINGREQ with a body", Some(V311), "C0: 00", 0x81),
    ("DISCONNECT, flags", Some(V311), "E100", 0x81),
    ("DISCONNECT with a body, 3.1.1", Some(V311), "E0: 00", 0x81),
    ("DISCONNECT, unknown reason", Some(V5), "E0: 01", 0x82),
    ("DISCONNECT, reason of servers", Some(V5), "E0: 8B { }", 0x82),
    ("DISCONNECT, server reference", Some(V5), "E0: 00 { 1C s'other' }", 0x81),
    ("DISCONNECT, bytes behind its properties", Some(V5), "E0: 00 { } 00", 0x81),
    ("PUBLISH of QoS 3", Some(V5), "36: s'a' 0001 { }", 0x81),
    ("PUBLISH of QoS 0 is a duplicate", Some(V311), "38: s'a'", 0x81),
    ("PUBLISH, packet identifier 0", Some(V311), "32: s'a' 0000", 0x82),
    ("PUBLISH, wildcard", Some(V5), "30: s'a/+' { }", 0x90),
    ("PUBLISH, empty topic, 3.1.1", Some(V311), "30: 0000", 0x90),
    ("PUBLISH, neither topic nor alias", Some(V5), "30: 0000 { }", 0x82),
    ("PUBLISH, alias 0", Some(V5), "30: s'a' { 23 0000 }", 0x94),
    ("PUBLISH, subscription identifier", Some(V5), "30: s'a' { 0B 01 }", 0x81),
    ("PUBLISH, payload is not the text it is said to be", Some(V5), "30: s'a' { 01 01 } FF", 0x99),
    ("AUTH in 3.1.1", Some(V311), "F000", 0x81),
    ("AUTH, flags", Some(V5), "F1: 18 { 15 s'm' }", 0x81),
    ("AUTH, success", Some(V5), "F000", 0x82),
    ("AUTH, unknown reason", Some(V5), "F0: 1A { 15 s'm' }", 0x82),
    ("AUTH, bytes behind its properties", Some(V5), "F0: 18 { 15 s'm' } 00", 0x81),
    ("AUTH without a method", Some(V5), "F0: 18 { }", 0x82),
];

#[test]
fn malformed_packets_are_refused_with_the_reason_of_the_standard() {
    for (name, connected, notation, reason) in MALFORMED {
        match receive(&bytes(notation), *connected) {
            Err(error) => assert_eq!(error.reason() as u8, *reason, "{name}: {error}"),
            Ok(received) => panic!("{name}: {received:?}"),
        }
    }
}

#[test]
fn a_part_of_a_malformed_packet_is_refused_or_waits_but_is_never_a_packet() {
    for (name, connected, notation, _) in MALFORMED {
        let packet = bytes(notation);
        let mut was_refused = None;
        for end in 0..packet.len() {
            match receive(&packet[..end], *connected) {
                Ok(Received::Whole { seen, .. }) => panic!("{name} at {end}: {seen:?}"),
                Ok(Received::Partial { at_least }) => {
                    assert!(at_least > end, "{name} at {end}: {at_least}");
                    assert_eq!(was_refused, None, "{name} at {end}: was refused, and now waits");
                }
                Err(error) => was_refused = Some(error),
            }
        }
    }
}

#[test]
fn an_error_says_what_is_wrong() {
    let said = |notation| receive(&bytes(notation), None).unwrap_err().to_string();
    assert_eq!(said("C000"), "protocol error: first packet is not CONNECT");
    assert_eq!(said("10: s'MQTT' 04 03 003C s'a'"), "malformed packet: reserved flag of CONNECT");
    assert_eq!(said("10: s'MQTT' 06"), "protocol level 6 is not supported");
    assert_eq!(Error::TooLarge.reason() as u8, 0x95);
}
