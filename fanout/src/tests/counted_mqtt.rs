//! What happens to MQTT viewers and those of server-sent events is counted, each under its protocol and cause.

use super::{
    counted::value,
    harness::{Stage, aggregate, config, recorded},
    raw::{Goodbye, Raw, VERSIONS, packet, publish, subscribe},
};
use crate::mqtt::Version::{V5, V311};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn viewers_deliveries_and_closes_are_counted_by_protocol_and_cause() {
    let (handle, _recording) = recorded();
    let mut config = config();
    config.mqtt.connect_timeout_ms = 2_000;
    let mut stage = Stage::start(config).await;
    stage.show(&aggregate("final", 1)).await;
    let mut bytes = 0;
    for version in VERSIONS {
        let mut viewer = Raw::connected(&stage, version).await;
        viewer.send(&subscribe(version, &[("reactions/final", 0)])).await;
        viewer.suback().await;
        let snapshot = viewer.packet().await;
        bytes += snapshot.body.len();
        viewer.send(&publish(version, 0, "reactions/final", "x")).await;
        while viewer.try_packet().await.is_some() {}
    }
    let ends = async |version, bytes: &[u8]| {
        let mut raw = Raw::connected(&stage, version).await;
        raw.send(bytes).await;
        while raw.try_packet().await.is_some() {}
    };
    ends(V311, &[0, 0]).await;
    ends(V5, &packet(0x82, &[0; 9_000])).await;
    ends(V5, &[0xE0, 0]).await;
    ends(V5, &packet(0x82, &[0, 7, 2, 0x0B, 1, 0, 1, b'x', 0])).await;
    let mut silent = Raw::dial(stage.mqtt, V5).await;
    assert_eq!(silent.goodbye().await, Goodbye::None);
    drop(silent);
    let mut events = TcpStream::connect(stage.address).await.unwrap();
    events.write_all(b"GET /v1/rooms/final/events HTTP/1.0\r\n\r\n").await.unwrap();
    let mut last = Raw::watching(&stage, V5, "final").await;
    assert_eq!(last.seq().await, (1, true));
    stage.until(|_| value(&handle, "uproar_fanout_deliveries_total{protocol=\"sse\"}") == 1.0).await;
    stage.until_viewers(2).await;
    for (name, expected) in [("mqtt", 1.0), ("sse", 1.0), ("websocket", 0.0), ("mqtt_websocket", 0.0)] {
        assert_eq!(
            value(&handle, &format!("uproar_fanout_viewers{{protocol=\"{name}\"}}")),
            expected,
            "{name}"
        );
    }
    stage.shutdown.cancel();
    assert_eq!(last.goodbye().await, Goodbye::Disconnect(0x9C));
    drop(last);
    events.read_to_end(&mut Vec::new()).await.unwrap();
    stage.ended().await.unwrap();
    for (name, expected) in [
        ("viewers{protocol=\"mqtt\"}", 0.0),
        ("viewers{protocol=\"sse\"}", 0.0),
        ("deliveries_total{protocol=\"mqtt\"}", 3.0),
        ("deliveries_total{protocol=\"sse\"}", 1.0),
        ("deliveries_total{protocol=\"websocket\"}", 0.0),
        ("frames_skipped_total{protocol=\"mqtt\"}", 0.0),
        ("closes_total{cause=\"spoke\"}", 2.0),
        ("closes_total{cause=\"malformed\"}", 1.0),
        ("closes_total{cause=\"too_large\"}", 1.0),
        ("closes_total{cause=\"refused\"}", 1.0),
        ("closes_total{cause=\"silent\"}", 1.0),
        ("closes_total{cause=\"gone\"}", 1.0),
        ("closes_total{cause=\"drained\"}", 2.0),
    ] {
        assert_eq!(value(&handle, &format!("uproar_fanout_{name}")), expected, "{name}");
    }
    assert!(value(&handle, "uproar_fanout_sent_bytes_total{protocol=\"mqtt\"}") > bytes as f64);
}
