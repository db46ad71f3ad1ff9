//! What MQTT viewers may not do, and how they are told.

use super::{
    harness::{Stage, aggregate, config},
    raw::{
        Goodbye, PINGREQ, Raw, VERSIONS, connect, connect_with_will, packet, publish, subscribe, text,
        unsubscribe,
    },
};
use crate::mqtt::Version::{self, V5, V311};

/// Two viewers who must notice nothing.
struct Witnesses([Raw; 2], u64);

impl Witnesses {
    async fn new(stage: &Stage) -> Self {
        let watching = async |version| Raw::watching(stage, version, "final").await;
        Self([watching(V311).await, watching(V5).await], 0)
    }

    /// Nothing came to them, and what is due comes.
    async fn noticed_nothing(&mut self, stage: &Stage) {
        self.1 += 1;
        stage.show(&aggregate("final", self.1)).await;
        for witness in &mut self.0 {
            assert_eq!(witness.seq().await, (self.1, false));
            witness.nothing_is_due().await;
        }
    }
}

/// Sends bytes as a new connection's first, and waits for its end.
async fn answer_to_first(stage: &Stage, version: Version, bytes: &[u8]) -> Goodbye {
    let mut raw = Raw::dial(stage.mqtt, version).await;
    raw.send(bytes).await;
    raw.goodbye().await
}

#[tokio::test]
async fn filters_that_are_not_served_are_refused_one_by_one() {
    let stage = Stage::start(config()).await;
    let long = format!("reactions/{}", "x".repeat(65));
    for (filter, reason) in [
        ("reactions/+", 0xA2),
        ("reactions/#", 0xA2),
        ("#", 0xA2),
        ("+/final", 0xA2),
        ("reactions/final/+", 0xA2),
        ("reactions", 0x8F),
        ("reactions/", 0x8F),
        ("reactions/a b", 0x8F),
        ("reactions/final/x", 0x8F),
        ("Reactions/final", 0x8F),
        ("/reactions/final", 0x8F),
        ("$SYS/broker", 0x8F),
        (&*long, 0x8F),
        ("$share/all/reactions/final", 0x9E),
    ] {
        let mut new = Raw::connected(&stage, V5).await;
        assert_eq!(new.subscribe(filter, 0).await, reason, "{filter}");
        new.nothing_is_due().await;
        let mut old = Raw::connected(&stage, V311).await;
        assert_eq!(old.subscribe(filter, 0).await, 0x80, "{filter}");
        old.nothing_is_due().await;
    }
    let mut mixed = Raw::connected(&stage, V5).await;
    let filters = [("reactions/a", 0), ("reactions/+", 0), ("bad", 0), ("reactions/b", 0)];
    mixed.send(&subscribe(V5, &filters)).await;
    assert_eq!(mixed.suback().await, [0, 0xA2, 0x8F, 0]);
    stage.show(&aggregate("b", 1)).await;
    assert_eq!(mixed.seq().await, (1, false), "the good ones hold");
}

#[tokio::test]
async fn rooms_of_a_viewer_have_a_bound_and_their_places_come_back() {
    for version in VERSIONS {
        let stage = Stage::start(config()).await;
        let refused = if version == V5 { 0x97 } else { 0x80 };
        let mut viewer = Raw::connected(&stage, version).await;
        let filters = ["a", "b", "c", "d", "e"].map(|room| format!("reactions/{room}"));
        let filters = filters.each_ref().map(|filter| (&**filter, 0));
        viewer.send(&subscribe(version, &filters)).await;
        assert_eq!(viewer.suback().await, [0, 0, 0, 0, refused]);
        assert_eq!(viewer.subscribe("reactions/d", 0).await, 0, "it has that one already");
        viewer.unsubscribe("reactions/a").await;
        assert_eq!(viewer.subscribe("reactions/e", 0).await, 0);
        assert_eq!(viewer.subscribe("reactions/a", 0).await, refused);
    }
}

#[tokio::test]
async fn watched_rooms_have_a_bound_in_all() {
    let stage = Stage::start(crate::Config { max_rooms_watched: 2, ..config() }).await;
    let mut viewer = Raw::connected(&stage, V5).await;
    assert_eq!(viewer.subscribe("reactions/a", 0).await, 0);
    assert_eq!(viewer.subscribe("reactions/b", 0).await, 0);
    assert_eq!(viewer.subscribe("reactions/c", 0).await, 0x97);
    let mut other = Raw::connected(&stage, V311).await;
    assert_eq!(other.subscribe("reactions/c", 0).await, 0x80);
    assert_eq!(other.subscribe("reactions/a", 0).await, 0, "it is watched already");
    viewer.unsubscribe("reactions/b").await;
    assert_eq!(other.subscribe("reactions/c", 0).await, 0, "nobody watches b any more");
}

#[tokio::test]
async fn a_viewer_that_publishes_is_closed_and_nobody_else_sees_anything() {
    const RETAIN: u8 = 1;
    let stage = Stage::start(config()).await;
    let mut witnesses = Witnesses::new(&stage).await;
    for (flags, reason) in [(0, 0x87), (RETAIN, 0x87), (0x02, 0x9B), (0x02 | RETAIN, 0x9B), (0x04, 0x9B)] {
        for version in VERSIONS {
            let mut loud = Raw::watching(&stage, version, "other").await;
            loud.send(&publish(version, flags, "reactions/final", "{}")).await;
            let expected = if version == V5 { Goodbye::Disconnect(reason) } else { Goodbye::None };
            assert_eq!(loud.goodbye().await, expected, "{version:?} {flags:#x}");
        }
    }
    witnesses.noticed_nothing(&stage).await;
    let mut later = Raw::connected(&stage, V311).await;
    later.subscribe("reactions/final", 0).await;
    assert_eq!(later.seq().await, (1, true), "what is retained is the room's frame");
    stage.until_viewers(3).await;
}

#[tokio::test]
async fn what_is_asked_beside_a_publish_is_not_answered_after_it() {
    let stage = Stage::start(config()).await;
    let mut loud = Raw::connected(&stage, V311).await;
    let bytes = [publish(V311, 0, "x", "y"), PINGREQ.to_vec()].concat();
    loud.send(&bytes).await;
    assert_eq!(loud.goodbye().await, Goodbye::None);
}

#[tokio::test]
async fn a_connect_that_is_not_welcome_is_told_why() {
    let stage = Stage::start(config()).await;
    let mut witnesses = Witnesses::new(&stage).await;
    let level = |version, level| {
        let mut bytes = connect(version, "me", 60, &[]);
        bytes[8] = level;
        bytes
    };
    let auth = [&[0x15][..], &text("SCRAM")].concat();
    let old = b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x00".to_vec();
    let keep_session = {
        let mut bytes = connect(V311, "", 60, &[]);
        bytes[9] = 0;
        bytes
    };
    for (what, bytes, goodbye) in [
        ("a will", connect_with_will(V5), Goodbye::Connack(0x87)),
        ("a will", connect_with_will(V311), Goodbye::Connack(5)),
        ("an authentication method", connect(V5, "me", 60, &auth), Goodbye::Connack(0x8C)),
        ("level 6", level(V5, 6), Goodbye::Connack(0x84)),
        ("level 3", level(V311, 3), Goodbye::Connack(1)),
        ("MQTT 3.1", old, Goodbye::Connack(1)),
        ("a session without a name", keep_session, Goodbye::Connack(2)),
        ("no CONNECT", PINGREQ.to_vec(), Goodbye::None),
        ("no CONNECT", subscribe(V5, &[("reactions/final", 0)]), Goodbye::None),
        ("no MQTT", b"GET / HTTP/1.1\r\n\r\n".to_vec(), Goodbye::None),
        (
            "another protocol",
            packet(0x10, &[&text("MQTX")[..], &[4, 2, 0, 60, 0, 0]].concat()),
            Goodbye::None,
        ),
        ("too long", packet(0x10, &[0; 9_000]), Goodbye::None),
    ] {
        assert_eq!(answer_to_first(&stage, V5, &bytes).await, goodbye, "{what}");
    }
    witnesses.noticed_nothing(&stage).await;
    stage.until_viewers(2).await;
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection_with_the_right_reason() {
    let stage = Stage::start(config()).await;
    let mut witnesses = Witnesses::new(&stage).await;
    let with_id = packet(0x82, &[&[0, 7, 2, 0x0B, 1][..], &text("reactions/final"), &[0]].concat());
    for (what, bytes, reason) in [
        ("a second CONNECT", connect(V5, "me", 60, &[]), 0x82),
        ("a subscription identifier", with_id, 0xA1),
        ("a packet that is too long", packet(0x82, &[0; 8_190]), 0x95),
        ("only its start", vec![0x82, 0xFF, 0xFF, 0xFF, 0x7F], 0x95),
        ("AUTH", packet(0xF0, &[&[0x18, 8, 0x15][..], &text("SCRAM")].concat()), 0x82),
        ("a SUBSCRIBE without a filter", packet(0x82, &[0, 7, 0]), 0x82),
        ("a SUBSCRIBE with packet identifier 0", packet(0x82, &[0, 0, 0, 0, 1, b'x', 0]), 0x82),
        ("reserved flags", packet(0x80, &[0, 7, 0, 0, 1, b'x', 0]), 0x81),
        ("packet type 0", vec![0, 0], 0x81),
        ("a packet of servers", vec![0xD0, 0], 0x82),
        ("an acknowledgement of nothing", vec![0x40, 2, 0, 1], 0x82),
        ("a topic with a wildcard", publish(V5, 0, "a/#", "x"), 0x90),
        ("a length without end", vec![0x82, 0xFF, 0xFF, 0xFF, 0xFF], 0x81),
        ("a session at the end", packet(0xE0, &[0, 5, 0x11, 0, 0, 0, 9]), 0x82),
    ] {
        let mut rude = Raw::connected(&stage, V5).await;
        rude.send(&bytes).await;
        assert_eq!(rude.goodbye().await, Goodbye::Disconnect(reason), "{what}");
        if what != "a session at the end" {
            let mut rude = Raw::connected(&stage, V311).await;
            rude.send(&bytes).await;
            assert_eq!(rude.goodbye().await, Goodbye::None, "3.1.1 has no words for it: {what}");
        }
    }
    witnesses.noticed_nothing(&stage).await;
    stage.until_viewers(2).await;
}

#[tokio::test]
async fn packets_may_come_in_any_pieces() {
    let stage = Stage::start(config()).await;
    for version in VERSIONS {
        let bytes = [
            connect(version, "me", 60, &[]),
            subscribe(version, &[("reactions/a", 0), ("reactions/b", 0)]),
            unsubscribe(version, "reactions/a"),
            PINGREQ.to_vec(),
        ]
        .concat();
        for piece in [1, 2, 3, 7, bytes.len()] {
            let mut raw = Raw::dial(stage.mqtt, version).await;
            for piece in bytes.chunks(piece) {
                raw.send(piece).await;
                tokio::task::yield_now().await;
            }
            for first in [0x20, 0x90, 0xB0, 0xD0] {
                assert_eq!(raw.packet().await.first, first);
            }
        }
    }
}

#[tokio::test]
async fn who_says_goodbye_is_gone_at_once() {
    let stage = Stage::start(config()).await;
    for version in VERSIONS {
        let mut polite = Raw::watching(&stage, version, "final").await;
        polite.send(&[0xE0, 0]).await;
        assert_eq!(polite.goodbye().await, Goodbye::None);
        stage.until_viewers(0).await;
    }
}
