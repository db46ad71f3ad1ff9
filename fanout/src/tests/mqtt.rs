//! Viewers on MQTT: how they join, and what they get.

use super::{
    harness::{Log, PATIENCE, Stage, aggregate, config},
    raw::{Raw, VERSIONS, connack_properties, connect, subscribe},
};
use crate::mqtt::Version::{V5, V311};
use std::cell::Cell;
use wire::Frame;

#[tokio::test]
async fn a_viewer_gets_the_snapshot_as_retained_then_each_frame_in_order() {
    for version in VERSIONS {
        let stage = Stage::start(config()).await;
        stage.show(&aggregate("final", 1)).await;
        stage.show(&aggregate("final", 2)).await;
        let mut viewer = Raw::connected(&stage, version).await;
        assert_eq!(
            viewer.subscribe("reactions/final", 2).await,
            0,
            "QoS 0 is granted, whatever is asked for"
        );
        let snapshot = viewer.message().await;
        assert_eq!((&*snapshot.topic, snapshot.retain), ("reactions/final", true));
        assert_eq!(snapshot.frame, Frame::of(&aggregate("final", 2), 10));
        for seq in 3..=20 {
            stage.show(&aggregate("final", seq)).await;
            assert_eq!(viewer.seq().await, (seq, false));
        }
    }
}

#[tokio::test]
async fn clients_of_others_get_the_same() {
    let stage = Stage::start(config()).await;
    stage.show(&aggregate("final", 1)).await;
    let (host, port) = (stage.mqtt.ip().to_string(), stage.mqtt.port());
    let joined = Cell::new(0);
    let old = async {
        let options = rumqttc::MqttOptions::new("old", &host, port);
        let (client, mut events) = rumqttc::AsyncClient::new(options, 10);
        client.subscribe("reactions/final", rumqttc::QoS::AtLeastOnce).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 2 {
            if let rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish)) = events.poll().await.unwrap()
            {
                seen.push((Frame::decode(&publish.payload).unwrap().seq, publish.retain));
                joined.set(joined.get() + 1);
            }
        }
        seen
    };
    let new = async {
        let options = rumqttc::v5::MqttOptions::new("new", &host, port);
        let (client, mut events) = rumqttc::v5::AsyncClient::new(options, 10);
        client.subscribe("reactions/final", rumqttc::v5::mqttbytes::QoS::AtLeastOnce).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 2 {
            use rumqttc::v5::{Event, mqttbytes::v5::Packet};
            if let Event::Incoming(Packet::Publish(publish)) = events.poll().await.unwrap() {
                seen.push((Frame::decode(&publish.payload).unwrap().seq, publish.retain));
                joined.set(joined.get() + 1);
            }
        }
        seen
    };
    let showing = async {
        stage.until(|_| joined.get() == 2).await;
        stage.show(&aggregate("final", 2)).await;
    };
    let seen = tokio::time::timeout(PATIENCE, async { tokio::join!(old, new, showing) }).await.unwrap();
    assert_eq!((seen.0, seen.1), (vec![(1, true), (2, false)], vec![(1, true), (2, false)]));
}

#[tokio::test]
async fn mqtt_5_chooses_when_a_subscription_gets_the_snapshot() {
    const ALWAYS: u8 = 0 << 4;
    const IF_NEW: u8 = 1 << 4;
    const NEVER: u8 = 2 << 4;
    let stage = Stage::start(config()).await;
    stage.show(&aggregate("final", 1)).await;
    for (retain_handling, first, second) in
        [(ALWAYS, true, true), (IF_NEW, true, false), (NEVER, false, false)]
    {
        let mut viewer = Raw::connected(&stage, V5).await;
        for due in [first, second] {
            assert_eq!(viewer.subscribe("reactions/final", retain_handling).await, 0);
            if due {
                assert_eq!(viewer.seq().await, (1, true), "retain handling {retain_handling:#x}");
            }
            viewer.nothing_is_due().await;
        }
    }
}

#[tokio::test]
async fn who_wants_no_snapshot_gets_the_next_frame() {
    let stage = Stage::start(config()).await;
    stage.show(&aggregate("final", 1)).await;
    let mut viewer = Raw::connected(&stage, V5).await;
    viewer.subscribe("reactions/final", 2 << 4).await;
    stage.show(&aggregate("final", 2)).await;
    assert_eq!(viewer.seq().await, (2, false));
}

#[tokio::test]
async fn frames_keep_their_mark_as_retained_for_who_wants_it() {
    let stage = Stage::start(config()).await;
    let mut viewer = Raw::connected(&stage, V5).await;
    viewer.subscribe("reactions/final", 1 << 3).await;
    stage.show(&aggregate("final", 1)).await;
    assert_eq!(viewer.seq().await, (1, true));
    viewer.subscribe("reactions/final", 2 << 4).await;
    stage.show(&aggregate("final", 2)).await;
    assert_eq!(viewer.seq().await, (2, false), "the later subscription replaces the former");
}

#[tokio::test]
async fn a_second_subscription_to_a_room_brings_the_snapshot_again_but_no_frame_twice() {
    for version in VERSIONS {
        let stage = Stage::start(config()).await;
        stage.show(&aggregate("final", 1)).await;
        let mut viewer = Raw::connected(&stage, version).await;
        for _ in 0..2 {
            viewer.subscribe("reactions/final", 0).await;
            assert_eq!(viewer.seq().await, (1, true));
        }
        for seq in [2, 3] {
            stage.show(&aggregate("final", seq)).await;
            assert_eq!(viewer.seq().await, (seq, false));
        }
        viewer.nothing_is_due().await;
    }
}

#[tokio::test]
async fn several_rooms_on_one_connection_come_and_go() {
    for version in VERSIONS {
        let stage = Stage::start(crate::Config { shards: 1, ..config() }).await;
        let mut viewer = Raw::connected(&stage, version).await;
        viewer.send(&subscribe(version, &[("reactions/a", 0), ("reactions/b", 1), ("reactions/c", 2)])).await;
        assert_eq!(viewer.suback().await, [0, 0, 0]);
        for room in ["c", "a", "b"] {
            stage.show(&aggregate(room, 1)).await;
            assert_eq!(viewer.message().await.topic, format!("reactions/{room}"));
        }
        let codes = |code| if version == V5 { vec![code] } else { vec![] };
        assert_eq!(viewer.unsubscribe("reactions/a").await, codes(0));
        assert_eq!(viewer.unsubscribe("reactions/a").await, codes(0x11), "there was none");
        assert_eq!(viewer.unsubscribe("other/b").await, codes(0x11));
        // Also the one that took the place of the first.
        for room in ["a", "c", "b"] {
            stage.show(&aggregate(room, 2)).await;
            if room != "a" {
                assert_eq!(viewer.message().await.topic, format!("reactions/{room}"));
            }
        }
        assert_eq!(viewer.unsubscribe("reactions/c").await, codes(0));
        for room in ["c", "b"] {
            stage.show(&aggregate(room, 3)).await;
        }
        assert_eq!(viewer.message().await.topic, "reactions/b");
        viewer.nothing_is_due().await;
    }
}

#[tokio::test]
async fn a_forgotten_room_sends_nothing_and_its_next_life_is_seen() {
    let stage = Stage::start(crate::Config { shards: 1, ..config() }).await;
    stage.show(&aggregate("final", 9)).await;
    let mut viewer = Raw::connected(&stage, V311).await;
    viewer.subscribe("reactions/final", 0).await;
    assert_eq!(viewer.seq().await, (9, true));
    stage.log.tombstone("final").await;
    stage.until(|stage| stage.shown("final") == 0).await;
    viewer.nothing_is_due().await;
    viewer.subscribe("reactions/final", 0).await;
    viewer.nothing_is_due().await;
    let next = wire::Aggregate { since: aggregate("final", 1).since + 1_000, ..aggregate("final", 1) };
    stage.show(&next).await;
    assert_eq!(viewer.message().await.frame.since, next.since);
}

#[tokio::test]
async fn all_rooms_can_be_watched_where_that_is_allowed() {
    let mut config = config();
    (config.mqtt.wildcards, config.shards) = (true, 1);
    let log = Log::new().await;
    for room in ["a", "b", "c"] {
        log.aggregate(&aggregate(room, 1)).await;
    }
    let stage = Stage::over(log, config).await;
    for version in VERSIONS {
        let mut viewer = Raw::connected(&stage, version).await;
        assert_eq!(viewer.subscribe("reactions/+", 0).await, 0);
        let mut rooms = Vec::new();
        for _ in 0..3 {
            let message = viewer.message().await;
            assert!(message.retain);
            rooms.push(message.topic);
        }
        rooms.sort();
        assert_eq!(rooms, ["reactions/a", "reactions/b", "reactions/c"]);
        // Also of a room that there was not before.
        let new = if version == V5 { "e" } else { "d" };
        for (room, seq) in [("b", stage.shown("b") + 1), (new, 1)] {
            stage.show(&aggregate(room, seq)).await;
            let message = viewer.message().await;
            assert_eq!((message.topic, message.retain), (format!("reactions/{room}"), false));
        }
        viewer.unsubscribe("reactions/+").await;
        stage.show(&aggregate("b", stage.shown("b") + 1)).await;
        viewer.nothing_is_due().await;
        stage.log.tombstone(new).await;
        stage.until(|stage| stage.shown(new) == 0).await;
    }
}

#[tokio::test]
async fn connack_of_mqtt_5_says_what_is_offered() {
    let stage = Stage::start(config()).await;
    let offered = async |id: &str, keep_alive_s, properties: &[u8]| {
        let mut viewer = Raw::dial(stage.mqtt, V5).await;
        viewer.send(&connect(V5, id, keep_alive_s, properties)).await;
        connack_properties(&viewer.packet().await.body)
    };
    let plain = offered("me", 60, &[]).await;
    assert_eq!(plain.max_qos, Some(mqtt_proto::QoS::Level0));
    assert_eq!(plain.max_packet_size, Some(4_096));
    assert_eq!(plain.shared_subscription_available, Some(false));
    assert_eq!(plain.subscription_id_available, Some(false));
    assert_eq!(plain.wildcard_subscription_available, Some(false));
    assert_eq!((plain.assigned_client_id, plain.server_keep_alive), (None, None));
    assert_eq!((plain.session_expiry_interval, plain.topic_alias_max), (None, None));

    let nameless = [offered("", 60, &[]).await, offered("", 60, &[]).await];
    let names = nameless.map(|it| it.assigned_client_id.unwrap());
    assert_ne!(names[0], names[1], "each gets a name of its own");
    assert_eq!(offered("me", 0, &[]).await.server_keep_alive, Some(300), "none is not offered");
    assert_eq!(offered("me", 301, &[]).await.server_keep_alive, Some(300));
    assert_eq!(offered("me", 300, &[]).await.server_keep_alive, None);
    let wishes_session = [0x11, 0, 0, 1, 0];
    assert_eq!(offered("me", 60, &wishes_session).await.session_expiry_interval, Some(0));
    stage.reload(|config| (config.mqtt.wildcards, config.mqtt.max_packet_bytes) = (true, 999));
    // A shard takes a new configuration over at its next tick.
    let look = async {
        loop {
            let offer = offered("me", 60, &[]).await;
            if offer.max_packet_size == Some(999) {
                return offer;
            }
        }
    };
    let reloaded = tokio::time::timeout(PATIENCE, look).await.unwrap();
    assert_eq!(reloaded.wildcard_subscription_available, Some(true));
}

#[tokio::test]
async fn wildcards_that_are_allowed_by_a_reload_are_so_for_viewers_that_are_there() {
    let stage = Stage::start(config()).await;
    let mut viewer = Raw::connected_with(&stage, V5, 60, &[]).await;
    assert_eq!(viewer.subscribe("reactions/+", 0).await, 0xA2);
    stage.reload(|config| config.mqtt.wildcards = true);
    let granted = async {
        while viewer.subscribe("reactions/+", 0).await != 0 {
            // A shard takes a new configuration over at its next tick. To ask more often is a flood.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, granted).await.unwrap();
}

#[tokio::test]
async fn a_frame_that_is_longer_than_the_client_takes_is_not_sent_to_it() {
    let stage = Stage::start(crate::Config { top_n: 100, shards: 1, ..config() }).await;
    let long = aggregate("final", 1);
    let packet_len = {
        let payload = Frame::of(&long, 100).encode().len();
        let body = 2 + "reactions/final".len() + 1 + payload;
        (1 + if body < 128 { 1 } else { 2 } + body) as u32
    };
    let [a, b, c, d] = (packet_len - 1).to_be_bytes();
    let mut short = Raw::connected_with(&stage, V5, 60, &[0x27, a, b, c, d]).await;
    let [a, b, c, d] = packet_len.to_be_bytes();
    let mut fitting = Raw::connected_with(&stage, V5, 60, &[0x27, a, b, c, d]).await;
    for viewer in [&mut short, &mut fitting] {
        viewer.subscribe("reactions/final", 0).await;
    }
    stage.show(&long).await;
    assert_eq!(fitting.seq().await, (1, false));
    short.nothing_is_due().await;
    // The next one is shorter.
    stage.reload(|config| config.top_n = 1);
    stage.show(&aggregate("final", 2)).await;
    assert_eq!(short.seq().await, (2, false));
}
