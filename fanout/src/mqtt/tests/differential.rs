//! The codec beside mqtt-proto: legal packets mean the same to both, and so does whatever we accept of what isn't.
//!
//! `PROPTEST_CASES` sets how many packets each test tries.

use super::{
    super::{
        Version,
        encode::{Message, Offer, connack, connack_refused, disconnect_v5, publish, suback, unsuback},
        filter::is_topic_filter,
        frame::{Framed, frame},
        reason::Reason,
    },
    ROOM, Received, Seen, packet, receive,
    sent::{Sent, sent, text, topic},
    theirs::Theirs,
};
use mqtt_proto::{QoS, QosPid, v3, v5};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{Index, select},
    test_runner::TestRunner,
};
use std::cell::Cell;

fn connected(sent: &Sent) -> Option<Version> {
    (!sent.packet.is_connect()).then(|| sent.packet.version())
}

proptest! {
    #[test]
    fn legal_packets_mean_the_same_to_both(sent in sent()) {
        let received = receive(&sent.bytes, connected(&sent));
        prop_assert_eq!(received, Ok(Received::Whole { seen: sent.packet.seen(), len: sent.bytes.len() }));
    }

    #[test]
    fn random_bytes_are_refused_or_wait_or_mean_the_same_to_both(
        first in prop_oneof![any::<u8>(), select(FIRST_BYTES)],
        rest in vec(any::<u8>(), 0..60),
    ) {
        mean_the_same_to_both(&[vec![first], rest].concat());
    }

    #[test]
    fn random_bodies_are_refused_or_mean_the_same_to_both(
        first in select(FIRST_BYTES),
        body in vec(prop_oneof![any::<u8>(), select(TELLING_BYTES)], 0..60),
    ) {
        mean_the_same_to_both(&packet(first, &body));
    }

    #[test]
    fn our_answers_mean_the_same_to_both(
        reasons in vec(reason(), 1..5),
        (text, numbers) in (option::of(text()), (option::of(any::<u16>()), option::of(any::<u32>()))),
        (size_max, wildcards, packet_id) in (option::of(1..=u32::MAX), any::<bool>(), 1..=u16::MAX),
    ) {
        let offer = Offer {
            assigned_client_id: text.as_deref(),
            keep_alive_s: numbers.0,
            session_expiry_s: numbers.1,
            packet_size_max: size_max,
            wildcards,
        };
        let connack = read_v5(|out| connack(out, Version::V5, &offer));
        let v5::Packet::Connack(connack) = connack else { panic!("{connack:?}") };
        let expected = v5::ConnackProperties {
            session_expiry_interval: numbers.1,
            max_qos: Some(QoS::Level0),
            max_packet_size: size_max,
            assigned_client_id: text.clone(),
            wildcard_subscription_available: Some(wildcards),
            subscription_id_available: Some(false),
            shared_subscription_available: Some(false),
            server_keep_alive: numbers.0,
            ..v5::ConnackProperties::default()
        };
        prop_assert_eq!((connack.session_present, connack.reason_code as u8), (false, 0));
        prop_assert_eq!(connack.properties, expected);

        let reason_string = text.as_deref();
        let refused = read_v5(|out| connack_refused(out, Version::V5, Reason::QuotaExceeded, reason_string, u32::MAX));
        let v5::Packet::Connack(refused) = refused else { panic!("{refused:?}") };
        prop_assert_eq!(refused.reason_code as u8, 0x97);
        prop_assert_eq!(&refused.properties.reason_string, &text);
        let farewell = read_v5(|out| disconnect_v5(out, Reason::UseAnotherServer, reason_string, u32::MAX));
        let v5::Packet::Disconnect(farewell) = farewell else { panic!("{farewell:?}") };
        prop_assert_eq!(farewell.reason_code as u8, 0x9C);
        prop_assert_eq!(&farewell.properties.reason_string, &text);

        let codes: Vec<u8> = reasons.iter().map(|it| *it as u8).collect();
        let answer = read_v5(|out| suback(out, Version::V5, packet_id, reasons.iter().copied()));
        let v5::Packet::Suback(answer) = answer else { panic!("{answer:?}") };
        prop_assert_eq!((answer.pid.value(), answer.topics.iter().map(|it| *it as u8).collect()), (packet_id, codes));
        let answer = read_v311(|out| suback(out, Version::V311, packet_id, reasons.iter().copied()));
        let v3::Packet::Suback(answer) = answer else { panic!("{answer:?}") };
        let failed: Vec<bool> = answer.topics.iter().map(|it| *it == v3::SubscribeReturnCode::Failure).collect();
        prop_assert_eq!(failed, reasons.iter().map(|it| it.is_error()).collect::<Vec<_>>());

        let gone = [Reason::Success, Reason::NoSubscriptionExisted, Reason::NotAuthorized];
        let answer = read_v5(|out| unsuback(out, Version::V5, packet_id, gone));
        let v5::Packet::Unsuback(answer) = answer else { panic!("{answer:?}") };
        prop_assert_eq!((answer.pid.value(), answer.topics.len()), (packet_id, 3));
        let answer = read_v311(|out| unsuback(out, Version::V311, packet_id, gone));
        prop_assert!(matches!(answer, v3::Packet::Unsuback(pid) if pid.value() == packet_id));
    }

    #[test]
    fn our_messages_mean_the_same_to_both(
        topic in topic(),
        payload in vec(any::<u8>(), 0..300),
        is_retained in any::<bool>(),
    ) {
        let message = Message { topic: &topic, payload: &payload, is_retained };
        let read = read_v5(|out| publish(out, Version::V5, &message));
        let v5::Packet::Publish(read) = read else { panic!("{read:?}") };
        prop_assert_eq!((&read.topic_name, &read.payload[..]), (&topic, &payload[..]));
        prop_assert_eq!((read.retain, read.dup, read.qos_pid), (is_retained, false, QosPid::Level0));
        let read = read_v311(|out| publish(out, Version::V311, &message));
        let v3::Packet::Publish(read) = read else { panic!("{read:?}") };
        prop_assert_eq!((&read.topic_name, &read.payload[..]), (&topic, &payload[..]));
        prop_assert_eq!((read.retain, read.dup, read.qos_pid), (is_retained, false, QosPid::Level0));
    }
}

/// Any bytes are refused, or wait, or are a packet within them that means the same to both.
fn mean_the_same_to_both(bytes: &[u8]) {
    for connected in [None, Some(Version::V311), Some(Version::V5)] {
        if let Some(seen) = holds_what_it_claims(bytes, connected) {
            is_the_same_to_them(bytes, connected, &seen);
        }
    }
}

#[test]
fn fuzz_packets() {
    bolero::check!().for_each(mean_the_same_to_both);
}

#[test]
fn whatever_we_accept_of_a_mutated_packet_means_the_same_to_both() {
    let (tried, accepted) = (Cell::new(0_u32), Cell::new(0_u32));
    let result = TestRunner::default().run(
        &(sent(), vec(mutation(), 1..4), any::<bool>()),
        |(sent, mutations, refit)| {
            let bytes = mutate(&sent.bytes, &mutations, refit);
            let connected = connected(&sent);
            tried.set(tried.get() + 1);
            if let Some(seen) = holds_what_it_claims(&bytes, connected) {
                accepted.set(accepted.get() + 1);
                is_the_same_to_them(&bytes, connected, &seen);
            }
            Ok(())
        },
    );
    result.unwrap();
    assert!(accepted.get() >= tried.get() / 20, "{} of {} were accepted", accepted.get(), tried.get());
}

/// A packet ends within the bytes; a part of one wants more of them; and nothing panics.
fn holds_what_it_claims(bytes: &[u8], connected: Option<Version>) -> Option<Seen<'_>> {
    match receive(bytes, connected) {
        Ok(Received::Whole { len, seen }) => {
            assert!(len >= 2 && len <= bytes.len());
            return Some(seen);
        }
        Ok(Received::Partial { at_least }) => assert!(at_least > bytes.len()),
        Err(error) => assert!(error.reason().is_error()),
    }
    None
}

/// mqtt-proto reads the same, or the difference is one that we know.
fn is_the_same_to_them(bytes: &[u8], connected: Option<Version>, ours: &Seen<'_>) {
    let Ok(Framed::Whole(frame)) = frame(bytes, ROOM) else { panic!("was a packet") };
    let version = match ours {
        Seen::Connect(connect) => connect.version,
        _ => connected.unwrap(),
    };
    match Theirs::decode(version, bytes[0], frame.body) {
        Some(theirs) => assert_eq!(&theirs.seen(), ours),
        None => assert!(is_known(version, ours), "only we accept {ours:?}"),
    }
}

/// What mqtt-proto refuses, and we don't: in 3.1.1 `$share/…` is an ordinary filter, to it it is malformed.
fn is_known(version: Version, ours: &Seen<'_>) -> bool {
    let is_only_ours = |filter: &str| !is_topic_filter(filter, Version::V5);
    version == Version::V311
        && match ours {
            Seen::Subscribe { filters, .. } => filters.iter().any(|it| is_only_ours(it.filter)),
            Seen::Unsubscribe { filters, .. } => filters.iter().any(|it| is_only_ours(it)),
            _ => false,
        }
}

/// The first bytes of the packets that a client may send, and of some that it may not.
const FIRST_BYTES: &[u8] = &[0x10, 0x30, 0x31, 0x32, 0x3D, 0x40, 0x62, 0x82, 0xA2, 0xC0, 0xE0, 0xF0];

/// Lengths, flags, identifiers of properties, separators.
const TELLING_BYTES: &[u8] = &[
    0, 1, 2, 3, 4, 5, 8, 9, 0x0B, 0x11, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1F, 0x21, 0x22, 0x23, 0x26, 0x27,
    0x7F, 0x80, 0xC0, 0xFF, b'#', b'$', b'+', b'/', b'M', b'Q', b'T',
];

#[derive(Debug, Clone)]
enum Mutation {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Repeat(Index, Index),
    InsertText(Index, &'static str),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let byte = || prop_oneof![any::<u8>(), select(TELLING_BYTES)];
    let texts: &[&str] = &["$share/", "+", "/#", "\u{feff}"];
    prop_oneof![
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, 1 << bit)),
        (any::<Index>(), byte()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (any::<Index>(), byte()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        any::<Index>().prop_map(Mutation::Remove),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
        (any::<Index>(), select(texts)).prop_map(|(at, text)| Mutation::InsertText(at, text)),
    ]
}

/// Mutates a packet; with `refit`, the remaining length is made to fit, so that more of them get past it.
fn mutate(bytes: &[u8], mutations: &[Mutation], refit: bool) -> Vec<u8> {
    let header_len =
        if refit { 1 + bytes[1..].iter().take_while(|byte| **byte >= 0x80).count() + 1 } else { 0 };
    let (header, body) = bytes.split_at(header_len);
    let mut body = body.to_vec();
    for mutation in mutations {
        let len = body.len();
        match mutation {
            Mutation::Insert(at, byte) => body.insert(at.index(len + 1), *byte),
            Mutation::InsertText(at, text) => {
                let at = at.index(len + 1);
                body.splice(at..at, text.bytes());
            }
            _ if len == 0 => {}
            Mutation::Flip(at, bit) => body[at.index(len)] ^= bit,
            Mutation::Set(at, byte) => body[at.index(len)] = *byte,
            Mutation::Remove(at) => drop(body.remove(at.index(len))),
            Mutation::Repeat(from, to) => {
                let (from, to) = (from.index(len), to.index(len));
                body.extend_from_within(from.min(to)..from.max(to));
            }
        }
    }
    if refit { packet(header[0], &body) } else { body }
}

fn reason() -> impl Strategy<Value = Reason> {
    select(vec![
        Reason::Success,
        Reason::NotAuthorized,
        Reason::TopicFilterInvalid,
        Reason::QuotaExceeded,
        Reason::SharedSubscriptionsNotSupported,
        Reason::SubscriptionIdsNotSupported,
        Reason::WildcardSubscriptionsNotSupported,
    ])
}

fn read_v5(write: impl FnOnce(&mut Vec<u8>)) -> v5::Packet {
    match read(Version::V5, write) {
        Theirs::V5(packet) => packet,
        Theirs::V311(packet) => panic!("{packet:?}"),
    }
}

fn read_v311(write: impl FnOnce(&mut Vec<u8>)) -> v3::Packet {
    match read(Version::V311, write) {
        Theirs::V311(packet) => packet,
        Theirs::V5(packet) => panic!("{packet:?}"),
    }
}

/// They read what we write, all of it.
fn read(version: Version, write: impl FnOnce(&mut Vec<u8>)) -> Theirs {
    let mut out = Vec::new();
    write(&mut out);
    let body = &out[header_len(&out)..];
    assert_eq!(out, packet(out[0], body));
    Theirs::decode(version, out[0], body).unwrap()
}

fn header_len(packet: &[u8]) -> usize {
    1 + packet[1..].iter().take_while(|byte| **byte >= 0x80).count() + 1
}
