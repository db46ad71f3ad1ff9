//! What brought brokers down that stood in front of viewers, tried here: each of these is harmless. A publish of a viewer is
//! in `mqtt_refusals`, a mute one in `mqtt_times`.

use super::{
    harness::{PATIENCE, Stage, aggregate, config, large_aggregate},
    raw::{Goodbye, PINGREQ, Raw, VERSIONS, connect, packet, publish, subscribe, text},
};
use crate::{
    Config,
    mqtt::Version::{self, V5, V311},
};
use futures_util::StreamExt;
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};
use tokio_tungstenite::connect_async;

/// Whoever comes now is served, over every protocol.
async fn all_is_well(stage: &Stage, seq: u64) {
    let mut viewers = [Raw::watching(stage, V311, "final").await, Raw::watching(stage, V5, "final").await];
    let (mut socket, _) = connect_async(format!("ws://{}/v1/rooms/final/live", stage.address)).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().to_text().unwrap().contains("hello"));
    stage.show(&aggregate("final", seq)).await;
    for viewer in &mut viewers {
        let mut seen = viewer.seq().await.0;
        // A snapshot may come first.
        while seen < seq {
            seen = viewer.seq().await.0;
        }
    }
    loop {
        let frame = socket.next().await.unwrap().unwrap();
        if wire::Frame::decode(frame.to_text().unwrap().as_bytes()).unwrap().seq == seq {
            break;
        }
    }
}

#[tokio::test]
async fn a_client_identifier_twice_or_with_slashes_means_nothing() {
    let stage = Stage::start(config()).await;
    for id in ["a/b", "a/b/+/#", "$SYS", "\u{1F525}"] {
        for version in VERSIONS {
            let mut first = Raw::dial(stage.mqtt, version).await;
            first.send(&connect(version, id, 60, &[])).await;
            assert_eq!(first.packet().await.first, 0x20);
            let mut twin = Raw::dial(stage.mqtt, version).await;
            twin.send(&connect(version, id, 60, &[])).await;
            assert_eq!(twin.packet().await.first, 0x20);
            first.nothing_is_due().await;
            first.send(&connect(version, id, 60, &[])).await;
            let expected = if version == V5 { Goodbye::Disconnect(0x82) } else { Goodbye::None };
            assert_eq!(first.goodbye().await, expected);
            twin.nothing_is_due().await;
        }
    }
    all_is_well(&stage, 1).await;
}

#[tokio::test]
async fn publishing_to_oneself_and_acknowledging_nothing_ends_only_the_own_connection() {
    let stage = Stage::start(config()).await;
    let mut witness = Raw::watching(&stage, V311, "final").await;
    for round in 0..20 {
        let version = VERSIONS[round % 2];
        let mut attacker = Raw::dial(stage.mqtt, version).await;
        let mut bytes = connect(version, "attacker", 60, &[]);
        bytes.extend(subscribe(version, &[("reactions/final", 1)]));
        for _ in 0..200 {
            bytes.extend(publish(version, 0x02, "reactions/final", "{}"));
        }
        bytes.extend(packet(0x40, &[0, 99]));
        attacker.send(&bytes).await;
        // The order of things is the own connection's affair.
        while attacker.try_packet().await.is_some() {}
        let mut alone = Raw::watching(&stage, version, "final").await;
        alone.send(&packet(0x40, &[0, 99])).await;
        let expected = if version == V5 { Goodbye::Disconnect(0x82) } else { Goodbye::None };
        assert_eq!(alone.goodbye().await, expected);
    }
    witness.nothing_is_due().await;
    stage.until_viewers(1).await;
    all_is_well(&stage, 1).await;
    assert_eq!(witness.seq().await, (1, false));
}

#[tokio::test]
async fn properties_of_a_publish_reach_nobody() {
    let stage = Stage::start(config()).await;
    let mut old = Raw::watching(&stage, V311, "final").await;
    let property = [&[0x26][..], &text("k"), &text("v")].concat();
    let body = [&text("reactions/final")[..], &[property.len() as u8], &property, b"x"].concat();
    let mut new = Raw::watching(&stage, V5, "final").await;
    new.send(&packet(0x30, &body)).await;
    assert_eq!(new.goodbye().await, Goodbye::Disconnect(0x87));
    old.nothing_is_due().await;
    all_is_well(&stage, 1).await;
    assert_eq!(old.seq().await, (1, false));
}

#[tokio::test]
async fn silent_connections_keep_nobody_out() {
    let stage = Stage::start(Config { max_viewers: 300, ..config() }).await;
    let mut silent = Vec::new();
    for address in [stage.mqtt, stage.address] {
        for _ in 0..50 {
            silent.push(TcpStream::connect(address).await.unwrap());
            let mut half = TcpStream::connect(address).await.unwrap();
            let start: &[u8] =
                if address == stage.mqtt { b"\x10\x20\x00\x04MQ" } else { b"GET /mqtt HTTP/1.1\r\nHost: " };
            half.write_all(start).await.unwrap();
            silent.push(half);
        }
    }
    all_is_well(&stage, 1).await;
    drop(silent);
    stage.until_viewers(0).await;
}

#[tokio::test]
async fn a_thousand_short_lived_viewers_leave_nothing_behind() {
    let stage = Stage::start(Config { max_rooms_watched: 1_000, ..config() }).await;
    stage.show(&aggregate("final", 1)).await;
    for round in 0..20 {
        let mut viewers = JoinSet::new();
        for n in 0..50 {
            let address = stage.mqtt;
            viewers.spawn(async move {
                let version = VERSIONS[n % 2];
                let mut raw = Raw::dial(address, version).await;
                raw.connect(60, &[]).await;
                let own = format!("reactions/room-{round}-{n}");
                raw.send(&subscribe(version, &[("reactions/final", 0), (&own, 0)])).await;
                assert_eq!(raw.suback().await, [0, 0]);
                assert_eq!(raw.seq().await, (1, true));
                if n % 3 == 0 {
                    raw.send(&[0xE0, 0]).await;
                }
            });
        }
        viewers.join_all().await;
        stage.until_viewers(0).await;
    }
    assert_eq!(stage.registry().rooms(), ["final".parse().unwrap()], "nobody watches the others any more");
    all_is_well(&stage, 2).await;
}

#[tokio::test]
async fn viewers_that_never_read_cost_others_nothing_and_later_get_only_the_newest() {
    const FRAMES: u64 = 100;
    const STUCK: usize = 20;
    let stage = Stage::start(Config { top_n: 1_000, shards: 1, ..config() }).await;
    let mut stuck = Vec::new();
    for n in 0..STUCK {
        let version = VERSIONS[n % 2];
        let mut raw = Raw::dial_small(stage.mqtt, version).await;
        raw.connect(0, &[]).await;
        raw.subscribe("reactions/final", 0).await;
        stuck.push(raw);
    }
    let mut healthy = [Raw::watching(&stage, V311, "final").await, Raw::watching(&stage, V5, "final").await];
    for seq in 1..=FRAMES {
        stage.show(&large_aggregate("final", seq)).await;
        for viewer in &mut healthy {
            assert_eq!(viewer.seq().await, (seq, false), "every frame comes");
        }
    }
    for viewer in &mut stuck {
        let (mut seen, mut last) = (0, 0);
        while last < FRAMES {
            let (seq, retain) = viewer.seq().await;
            assert!(seq > last && !retain, "in order");
            (seen, last) = (seen + 1, seq);
        }
        // What was in the kernel, the rest of one that was half written, and the newest.
        assert!(seen <= 4, "{seen} frames waited for it");
        viewer.nothing_is_due().await;
    }
}

#[tokio::test]
async fn who_asks_and_does_not_take_the_answers_is_not_read_on_and_costs_others_nothing() {
    let stage = Stage::start(Config { shards: 1, write_timeout_ms: 500, ..config() }).await;
    let mut flood = Raw::dial_small(stage.mqtt, V311).await;
    flood.connect(60, &[]).await;
    let mut healthy = Raw::watching(&stage, V311, "final").await;
    let pings = PINGREQ.repeat(5_000);
    let flooding = async {
        // Until it is closed for taking nothing.
        let mut sent = 0;
        while tokio::time::timeout(PATIENCE, flood.send(&pings)).await.expect("it is still there") {
            sent += pings.len();
        }
        assert!(sent < 1_000_000, "{sent} bytes were taken");
        stage.until_viewers(1).await;
    };
    let watching = async {
        for seq in 1..=20 {
            stage.show(&aggregate("final", seq)).await;
            assert_eq!(healthy.seq().await, (seq, false));
        }
    };
    tokio::join!(flooding, watching);
    all_is_well(&stage, 21).await;
}

#[tokio::test]
async fn any_bytes_end_only_the_own_connection() {
    let stage = Stage::start(config()).await;
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..300 {
        let version: Version = VERSIONS[round % 2];
        let mut raw = Raw::dial(stage.mqtt, version).await;
        if round % 3 > 0 {
            raw.connect(60, &[]).await;
        }
        let mut bytes =
            [connect(version, "x", 1, &[]), subscribe(version, &[("reactions/final", 0)])].concat();
        for _ in 0..1 + random() % 8 {
            let at = random() as usize % bytes.len();
            bytes[at] = random() as u8;
        }
        raw.send(&bytes).await;
        // Dropped here: some would wait for more.
    }
    stage.until_viewers(0).await;
    all_is_well(&stage, 1).await;
}
