//! Deadlines, limits and the end, as MQTT viewers see them.

use super::{
    harness::{Stage, aggregate, config, large_aggregate},
    raw::{Goodbye, PINGREQ, Raw, VERSIONS, subscribe},
};
use crate::{
    Config,
    mqtt::Version::{V5, V311},
};
use std::time::Duration;
use tokio::{task::JoinSet, time::Instant};

/// A client of 3.1.1 hears no reason.
fn told(version: crate::mqtt::Version, reason: u8) -> Goodbye {
    if version == V5 { Goodbye::Disconnect(reason) } else { Goodbye::None }
}

#[tokio::test]
async fn who_is_silent_beyond_its_keep_alive_is_closed_although_it_receives_frames() {
    let stage = Stage::start(config()).await;
    let mut patient = Raw::watching(&stage, V311, "final").await;
    let mut mute = Vec::new();
    for version in VERSIONS {
        let mut raw = Raw::connected_with(&stage, version, 1, &[]).await;
        raw.subscribe("reactions/final", 0).await;
        mute.push(raw);
    }
    let start = Instant::now();
    let mut seq = 0;
    while *stage.registry().viewers().borrow() > 1 {
        seq += 1;
        stage.show(&aggregate("final", seq)).await;
        assert_eq!(patient.seq().await.0, seq);
        assert!(start.elapsed() < super::harness::PATIENCE, "they are still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(start.elapsed() >= Duration::from_millis(1_400), "one and a half times what was asked for");
    for (mut raw, version) in mute.into_iter().zip(VERSIONS) {
        let mut last = raw.packet().await;
        let mut frames = 0;
        while last.first & 0xF0 == 0x30 {
            frames += 1;
            match raw.try_packet().await {
                Some(packet) => last = packet,
                None => break,
            }
        }
        assert!(frames > 3, "{frames} frames came");
        if version == V5 {
            assert_eq!((last.first, last.body[0]), (0xE0, 0x8D));
        }
    }
}

#[tokio::test]
async fn pings_keep_a_viewer_and_the_keep_alive_begins_with_connect() {
    let stage = Stage::start(config()).await;
    let mut slow = Raw::dial(stage.mqtt, V5).await;
    let start = Instant::now();
    // The wait is what is tested: a keep alive that began with the connection is over by then.
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    slow.connect(2, &[]).await;
    while start.elapsed() < Duration::from_millis(8_000) {
        slow.nothing_is_due().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn bytes_that_are_no_packet_keep_nobody() {
    let stage = Stage::start(config()).await;
    let mut drips = Raw::connected_with(&stage, V5, 1, &[]).await;
    let start = Instant::now();
    let mut packet = subscribe(V5, &[("reactions/final", 0)]).into_iter();
    while *stage.registry().viewers().borrow() > 0 {
        drips.send(&[packet.next().expect("it was kept by each byte of a packet")]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(start.elapsed() >= Duration::from_millis(1_400), "one and a half times what was asked for");
    assert_eq!(drips.goodbye().await, told(V5, 0x8D));
}

#[tokio::test]
async fn pings_keep_also_a_viewer_that_is_too_slow_for_its_answers() {
    let stage = Stage::start(Config { top_n: 1_000, ..config() }).await;
    let mut slow = Raw::dial_small(stage.mqtt, V311).await;
    slow.connect(1, &[]).await;
    slow.subscribe("reactions/final", 0).await;
    let mut silent = Raw::connected_with(&stage, V5, 1, &[]).await;
    // 60 kB each: more than the kernel keeps for a connection.
    for seq in 1..=20 {
        stage.show(&large_aggregate("final", seq)).await;
        slow.send(&PINGREQ).await;
    }
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(4_000) {
        slow.send(&PINGREQ).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(silent.goodbye().await, told(V5, 0x8D));
    assert_eq!(*stage.registry().viewers().borrow(), 1);
}

#[tokio::test]
async fn the_first_packet_has_a_deadline_whatever_comes() {
    let mut config = config();
    config.mqtt.connect_timeout_ms = 1_500;
    let stage = Stage::start(config).await;
    let start = Instant::now();
    let (mut silent, mut slow) = (Raw::dial(stage.mqtt, V5).await, Raw::dial(stage.mqtt, V5).await);
    let mut good = Raw::connected(&stage, V5).await;
    let dripping = async {
        for byte in b"\x10\xFF\x3F\x00\x04MQTT\x05" {
            slow.send(&[*byte]).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        slow.goodbye().await
    };
    assert_eq!(tokio::join!(silent.goodbye(), dripping), (Goodbye::None, Goodbye::None));
    assert!(start.elapsed() >= Duration::from_millis(1_500));
    good.nothing_is_due().await;
    stage.until_viewers(1).await;
}

#[tokio::test]
async fn past_the_bounds_a_connection_is_closed_and_places_come_back() {
    for per_address in [false, true] {
        let mut config = config();
        if per_address {
            config.max_viewers_per_address = 2;
        } else {
            config.max_viewers = 2;
        }
        let stage = Stage::start(config).await;
        let first = Raw::connected(&stage, V5).await;
        let _second = Raw::connected(&stage, V311).await;
        assert_eq!(Raw::dial(stage.mqtt, V5).await.goodbye().await, Goodbye::None);
        drop(first);
        stage.until_viewers(1).await;
        let _third = Raw::connected(&stage, V5).await;
        stage.reload(|config| (config.max_viewers, config.max_viewers_per_address) = (3, 3));
        let look = async {
            // A shard takes a new configuration over at its next tick.
            while *stage.registry().viewers().borrow() < 3 {
                let mut fourth = Raw::dial(stage.mqtt, V5).await;
                fourth.send(&super::raw::connect(V5, "x", 60, &[])).await;
                if fourth.try_packet().await.is_some() {
                    return fourth;
                }
            }
            unreachable!("nobody else comes")
        };
        tokio::time::timeout(super::harness::PATIENCE, look).await.unwrap().nothing_is_due().await;
    }
}

#[tokio::test]
async fn on_shutdown_viewers_get_frames_until_they_are_told_to_go_elsewhere_one_by_one() {
    let mut stage = Stage::start(crate::Config { drain_viewers_per_s: 4, ..config() }).await;
    let mut viewers = JoinSet::new();
    for version in [V5, V311, V5, V311] {
        let mut viewer = Raw::watching(&stage, version, "final").await;
        viewers.spawn(async move {
            let mut frames = 0;
            loop {
                match viewer.try_packet().await {
                    Some(packet) if packet.first == 0x30 => frames += 1,
                    Some(packet) => {
                        assert_eq!((packet.first, packet.body[0]), (0xE0, 0x9C));
                        assert_eq!(viewer.goodbye().await, Goodbye::None);
                        return (version, true, frames);
                    }
                    None => return (version, false, frames),
                }
            }
        });
    }
    let start = Instant::now();
    stage.shutdown.cancel();
    stage.until_viewers(3).await;
    stage.show(&aggregate("final", 1)).await;
    let ends = viewers.join_all().await;
    assert!(ends.iter().all(|(version, told, _)| *told == (*version == V5)), "{ends:?}");
    assert_eq!(ends.iter().map(|end| end.2).sum::<u32>(), 3, "who is still there gets frames: {ends:?}");
    stage.ended().await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(750), "the fourth leaves after three pauses");
}

#[tokio::test]
async fn nobody_is_accepted_once_viewers_are_sent_away_nor_before_the_log_is_read() {
    let log = super::harness::Log::new().await;
    log.log.fail_opens(u32::MAX);
    let mut stage = Stage::over_unready(log, crate::Config { drain_viewers_per_s: 1, ..config() }).await;
    let mut early = Raw::dial(stage.mqtt, V5).await;
    stage.log.aggregate(&aggregate("final", 1)).await;
    assert_eq!(*stage.registry().viewers().borrow(), 0);
    stage.log.log.fail_opens(0);
    early.connect(60, &[]).await;
    early.subscribe("reactions/final", 0).await;
    assert_eq!(early.seq().await, (1, true), "it waited, and missed nothing");
    let _other = Raw::connected(&stage, V5).await;
    stage.shutdown.cancel();
    assert_eq!(early.goodbye().await, told(V5, 0x9C));
    stage.until_viewers(1).await;
    assert!(tokio::net::TcpStream::connect(stage.mqtt).await.is_err());
    stage.ended().await.unwrap();
}
