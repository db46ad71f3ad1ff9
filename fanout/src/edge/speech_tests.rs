//! Whatever viewers send, in whatever pieces: nothing panics, little is kept, and they get only answers.

use super::{
    end::End,
    speech::{Audience, How, Pulse, Speech},
};
use crate::{Config, metrics::Protocol, registry::Full, tests::harness::config};
use proptest::{prelude::*, sample::select};
use std::collections::BTreeSet;
use wire::RoomName;

/// Grants everything.
#[derive(Debug, Default)]
struct Generous {
    rooms: BTreeSet<String>,
    all: bool,
}

impl Audience for Generous {
    fn join(&mut self, room: &RoomName, _: How) -> Result<(), Full> {
        self.rooms.insert(room.to_string());
        Ok(())
    }

    fn leave(&mut self, room: &str) -> bool {
        self.rooms.remove(room)
    }

    fn join_all(&mut self, _: How) {
        self.all = true;
    }

    fn leave_all(&mut self) -> bool {
        std::mem::take(&mut self.all)
    }

    fn watches(&self, room: &str) -> bool {
        self.rooms.contains(room)
    }

    fn watches_all(&self) -> bool {
        self.all
    }

    fn subscriptions(&self) -> usize {
        self.rooms.len() + usize::from(self.all)
    }
}

/// What came of a connection: its answers, its end, and the rooms that it watches.
type Outcome = (Vec<u8>, Option<End>, BTreeSet<String>);

/// A viewer that sends `bytes` in pieces of the given lengths, in turn.
fn listen(protocol: Protocol, bytes: &[u8], lengths: &[usize]) -> Outcome {
    let (mut speech, mut audience) = (Speech::of(protocol), Generous::default());
    let (mut out, mut rest, mut bytes) = (Vec::new(), Vec::new(), bytes);
    let config = config();
    let mut lengths = lengths.iter().cycle();
    while !bytes.is_empty() {
        let (now, later) = bytes.split_at((*lengths.next().unwrap()).clamp(1, bytes.len()));
        rest.extend_from_slice(now);
        bytes = later;
        match speech.hear(&mut rest, &mut out, &mut audience, &config) {
            Ok(heard) => drop(rest.drain(..heard.bytes)),
            Err(end) => return (out, Some(end), audience.rooms),
        }
        assert!(rest.len() < config.mqtt.max_packet_bytes + 256, "{} bytes kept", rest.len());
    }
    (out, None, audience.rooms)
}

/// Packets that a viewer may send, of either version, and some that it may not.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let connect_v4 = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04name".to_vec();
    let connect_v5 = b"\x10\x11\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x04name".to_vec();
    let rest = select(vec![
        b"\x82\x10\x00\x01\x00\x0breactions/a\x00".to_vec(),
        b"\x82\x11\x00\x02\x00\x00\x0breactions/b\x00".to_vec(),
        b"\xa2\x0f\x00\x03\x00\x0breactions/a".to_vec(),
        b"\xc0\x00".to_vec(),
        b"\xe0\x00".to_vec(),
        b"\x30\x10\x00\x0breactions/a{}".to_vec(),
    ]);
    (any::<bool>(), proptest::collection::vec(rest, 0..6)).prop_map(move |(v5, rest)| {
        let first = if v5 { connect_v5.clone() } else { connect_v4.clone() };
        [vec![first], rest].concat().concat()
    })
}

/// The same with some bytes changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<proptest::sample::Index>(), any::<u8>());
    (packets(), proptest::collection::vec(change, 0..4)).prop_map(|(mut bytes, changes)| {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

/// A frame of a client, of at most 125 bytes.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [7, 77, 177, 17];
    let mut out = vec![first, 0x80 | payload.len() as u8];
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// Binary messages of a client around the pieces of `bytes`.
fn in_websocket(bytes: &[u8], lengths: &[usize]) -> Vec<u8> {
    let (mut out, mut bytes, mut lengths) = (Vec::new(), bytes, lengths.iter().cycle());
    while !bytes.is_empty() {
        let (now, later) = bytes.split_at((*lengths.next().unwrap()).clamp(1, bytes.len()));
        out.extend(masked(0x82, now));
        bytes = later;
    }
    out
}

#[test]
fn a_viewer_that_connects_and_subscribes_is_answered_and_watches() {
    let bytes =
        b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04name\x82\x10\x00\x01\x00\x0breactions/a\x00\xc0\x00";
    let (out, end, rooms) = listen(Protocol::Mqtt, bytes, &[usize::MAX]);
    assert_eq!(out, b"\x20\x02\x00\x00\x90\x03\x00\x01\x00\xd0\x00");
    assert_eq!((end, rooms), (None, BTreeSet::from(["a".to_owned()])));
}

#[test]
fn a_viewer_of_json_is_asked_once_when_it_was_quiet_and_has_its_time_to_answer() {
    let config = Config { ping_interval_ms: 100, pong_timeout_ms: 50, ..config() };
    let speech = Speech::of(Protocol::WebSocket);
    let pulse = |quiet_ms, is_pinged| speech.check_pulse(quiet_ms, is_pinged, &config);
    assert_eq!([99, 100].map(|quiet_ms| pulse(quiet_ms, false)), [Pulse::Fine, Pulse::Ask]);
    assert_eq!([0, 49, 50].map(|quiet_ms| pulse(quiet_ms, true)), [Pulse::Fine, Pulse::Fine, Pulse::Silent]);
}

#[test]
fn short_texts_of_a_viewer_of_json_are_passed_over_and_a_ping_is_answered() {
    let pong = b"\x81\x04pong".to_vec();
    for (frames, answer) in [
        (vec![(0x81, &b"ping"[..])], pong.clone()),
        (vec![(0x01, b"pi"), (0x00, b""), (0x89, b""), (0x80, b"ng")], [&b"\x8a\0"[..], &pong].concat()),
        (vec![(0x81, b"ping"), (0x81, b"ping")], [&pong[..], &pong].concat()),
        (vec![(0x81, b"pin"), (0x81, b"g")], vec![]),
        (vec![(0x81, b""), (0x81, b"pings"), (0x81, b"PING"), (0x81, b"xping")], vec![]),
        (vec![(0x81, b"{\"type\":\"heartbeat\"}"), (0x81, &[b'x'; 125])], vec![]),
    ] {
        let bytes: Vec<_> = frames.iter().flat_map(|(first, payload)| masked(*first, payload)).collect();
        for lengths in [1, 3, usize::MAX] {
            let outcome = listen(Protocol::WebSocket, &bytes, &[lengths]);
            assert_eq!(outcome, (answer.clone(), None, [].into()), "{frames:02x?}");
        }
    }
    let long = [&[b'x'; 100][..], &[b'x'; 26]];
    for bytes in [
        masked(0x82, b"ping"),
        masked(0x82, b""),
        [masked(0x01, long[0]), masked(0x80, long[1])].concat(),
        [masked(0x81, b"x"), masked(0x82, b"x")].concat(),
    ] {
        let (out, end, _) = listen(Protocol::WebSocket, &bytes, &[usize::MAX]);
        assert_eq!((out[0], &out[2..4], end), (0x88, &1008_u16.to_be_bytes()[..], Some(End::Spoke)));
    }
}

#[test]
fn a_viewer_of_events_says_nothing_and_is_told_something_when_it_was_quiet() {
    let config = Config { ping_interval_ms: 100, ..config() };
    let speech = Speech::of(Protocol::Sse);
    let pulse = |quiet_ms| speech.check_pulse(quiet_ms, false, &config);
    assert_eq!([99, 100].map(pulse), [Pulse::Fine, Pulse::Tell]);
    let mut out = Vec::new();
    speech.put_ping(&mut out);
    assert_eq!(out, b":\n\n");

    assert_eq!(listen(Protocol::Sse, b"\r\n\r\n", &[1, usize::MAX]), (vec![], None, [].into()));
    let (out, end, rooms) = listen(Protocol::Sse, b"\r\nGET / HTTP/1.1\r\n\r\n", &[2, usize::MAX]);
    assert_eq!((out, end, rooms), (vec![], Some(End::Spoke), [].into()));
}

#[test]
fn bytes_that_are_no_whole_packet_keep_an_mqtt_viewer_only_where_they_have_to_wait_after_its_connect() {
    let connect = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04name";
    let inputs = [connect.to_vec(), in_websocket(connect, &[usize::MAX])];
    for (protocol, mut input) in [Protocol::Mqtt, Protocol::MqttWebSocket].into_iter().zip(inputs) {
        let mut speech = Speech::of(protocol);
        let counts = |speech: &Speech| [false, true].map(|has_to_wait| speech.counts_as_heard(has_to_wait));
        assert_eq!(counts(&speech), [false, false], "{protocol:?} before its CONNECT");
        speech.hear(&mut input, &mut Vec::new(), &mut Generous::default(), &config()).unwrap();
        assert_eq!(counts(&speech), [false, true], "{protocol:?}");
    }
}

/// A CONNECT of MQTT 5 whose sender takes so much at once.
fn connect_v5_of(packet_bytes_max: u8) -> Vec<u8> {
    [b"\x10\x16\x00\x04MQTT\x05\x02\x00\x3c\x05\x27\0\0\0", &[packet_bytes_max][..], b"\x00\x04name"].concat()
}

#[test]
fn no_answer_is_longer_than_the_client_takes() {
    let (connack, end, _) = listen(Protocol::Mqtt, &connect_v5_of(255), &[99]);
    assert_eq!((connack[0], end), (0x20, None));
    let longest = connack.len() as u8;
    assert_eq!(listen(Protocol::Mqtt, &connect_v5_of(longest), &[99]), (connack.clone(), None, [].into()));
    let (out, end, _) = listen(Protocol::Mqtt, &connect_v5_of(longest - 1), &[99]);
    assert_eq!((out, end), (vec![], Some(End::TooLarge)), "not a word before the CONNACK");
    // SUBACK is 5 bytes and one for each filter.
    for (filters, answered) in [(longest - 5, true), (longest - 4, false)] {
        let body = [&b"\x00\x01\x00"[..], &b"\x00\x01x\x00".repeat(filters.into())].concat();
        let bytes = [connect_v5_of(longest), vec![0x82, body.len() as u8], body].concat();
        let (out, end, _) = listen(Protocol::Mqtt, &bytes, &[999]);
        let (first, rest) = out.split_at(connack.len());
        assert_eq!(first, connack);
        if answered {
            assert_eq!((rest[0], rest.len(), end), (0x90, longest.into(), None));
        } else {
            assert_eq!((rest, end), (&[0xE0, 2, 0x95, 0][..], Some(End::TooLarge)));
        }
    }
}

#[test]
fn who_is_refused_in_a_websocket_is_not_told_to_try_again() {
    let connect_v5 = b"\x10\x11\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x04name";
    let with_id = b"\x82\x13\x00\x01\x02\x0b\x01\x00\x0breactions/a\x00";
    for (bytes, said) in [
        (b"\x10\x16\x00\x04MQTT\x04\x06\x00\x3c\x00\x04name\x00\x01t\x00\x01x".to_vec(), [0x20, 2, 0, 5]),
        (b"\x10\x12\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x04name".to_vec(), [0x20, 2, 0, 1]),
        ([&connect_v5[..], with_id].concat(), [0xE0, 2, 0xA1, 0]),
    ] {
        let (out, end, _) = listen(Protocol::MqttWebSocket, &in_websocket(&bytes, &[99]), &[usize::MAX]);
        assert_eq!(end, Some(End::Refused));
        let close = out.iter().rposition(|byte| *byte == 0x88).unwrap();
        assert_eq!(out[close + 2..close + 4], 1008_u16.to_be_bytes(), "{out:x?}");
        assert!(out[..close].ends_with(&said), "{out:x?}");
    }
}

/// Whether each of `pieces` shows that its sender is there.
fn alive(protocol: Protocol, pieces: &[Vec<u8>]) -> Vec<bool> {
    let (mut speech, mut audience) = (Speech::of(protocol), Generous::default());
    let mut rest = Vec::new();
    let hear = |piece: &Vec<u8>| {
        rest.extend_from_slice(piece);
        let heard = speech.hear(&mut rest, &mut Vec::new(), &mut audience, &config()).unwrap();
        rest.drain(..heard.bytes);
        heard.alive
    };
    pieces.iter().map(hear).collect()
}

#[test]
fn only_whole_packets_show_that_an_mqtt_viewer_is_there() {
    let connect = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04name".to_vec();
    let mut pieces = vec![connect];
    pieces.extend(b"\x82\x10\x00\x01\x00\x0breactions/a\x00".map(|byte| vec![byte]));
    pieces.push(b"\xc0\x00".to_vec());
    let mut expected = vec![false; pieces.len()];
    (expected[0], expected[18], expected[19]) = (true, true, true);
    assert_eq!(alive(Protocol::Mqtt, &pieces), expected);
    let pong = b"\x8a\x80\0\0\0\0".to_vec();
    let mut messages: Vec<_> = pieces.iter().map(|piece| in_websocket(piece, &[99])).collect();
    messages.push(pong.clone());
    expected.push(false);
    assert_eq!(alive(Protocol::MqttWebSocket, &messages), expected);
    assert_eq!(alive(Protocol::WebSocket, &[pong]), [true]);
}

/// The same outcome whatever the identifiers are that we gave to clients that have none.
fn without_ids((mut out, end, rooms): Outcome) -> Outcome {
    let (prefix, digits) = (b"viewer-", 16);
    while let Some(at) = out.windows(prefix.len()).position(|bytes| bytes == prefix) {
        out.splice(at..at + prefix.len() + digits, *b"id");
    }
    (out, end, rooms)
}

/// Any bytes in any pieces are borne, and end the same.
fn ends_the_same(bytes: &[u8], lengths: &[usize]) {
    let [in_pieces, at_once] =
        [lengths, &[usize::MAX]].map(|lengths| without_ids(listen(Protocol::Mqtt, bytes, lengths)));
    assert_eq!(in_pieces, at_once);
    for protocol in [Protocol::WebSocket, Protocol::Sse, Protocol::MqttWebSocket] {
        let (_, end, rooms) = listen(protocol, bytes, lengths);
        let (_, at_once, _) = listen(protocol, bytes, &[usize::MAX]);
        assert_eq!(end, at_once);
        assert!(rooms.is_empty() || protocol == Protocol::MqttWebSocket);
    }
}

fn means_the_same_in_a_websocket(bytes: &[u8], messages: &[usize], lengths: &[usize]) {
    let (_, end, rooms) = listen(Protocol::MqttWebSocket, &in_websocket(bytes, messages), lengths);
    let (_, plain_end, plain_rooms) = listen(Protocol::Mqtt, bytes, &[usize::MAX]);
    assert_eq!((end, rooms), (plain_end, plain_rooms));
}

#[test]
fn fuzz_viewers() {
    bolero::check!().for_each(|bytes: &[u8]| {
        ends_the_same(bytes, &[1]);
        ends_the_same(bytes, &[13, 3, 39]);
        means_the_same_in_a_websocket(bytes, &[17, 1, 99], &[5, 40]);
    });
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_end_the_same(
        bytes in prop_oneof![damaged(), proptest::collection::vec(any::<u8>(), 0..300)],
        lengths in proptest::collection::vec(1..40_usize, 1..8),
    ) {
        ends_the_same(&bytes, &lengths);
    }

    #[test]
    fn mqtt_means_the_same_inside_a_websocket(
        bytes in damaged(),
        messages in proptest::collection::vec(1..100_usize, 1..8),
        lengths in proptest::collection::vec(1..40_usize, 1..8),
    ) {
        means_the_same_in_a_websocket(&bytes, &messages, &lengths);
    }
}
