//! What operators see of viewers that are refused: each cause has its count.

use super::plan;
use crate::harness::{http, process::Uproar, viewers::WsViewer, wait::until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{connect_async, tungstenite};

#[tokio::test]
async fn refusals_of_mqtt_viewers_are_counted_by_cause() {
    let dir = tempfile::tempdir().unwrap();
    let limits = ["fanout.max_rooms_per_viewer=1", "fanout.max_rooms_watched=1"];
    let mut uproar = limits.into_iter().fold(plan(&dir), super::Plan::set).start().await;
    const CONNECT: &[u8] = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00";
    let subscribe = |filter: &str| {
        let head = [0x82, 6 + filter.len() as u8, 0, 7, 0, 0, filter.len() as u8];
        [CONNECT, &head, filter.as_bytes(), &[0]].concat()
    };
    for (bytes, cause) in [
        (b"\x10\x0d\x00\x04MQTT\x06\x02\x00\x3c\x00\x00\x00".to_vec(), "version"),
        (b"\x10\x13\x00\x04MQTT\x05\x06\x00\x3c\x00\x00\x00\x00\x00\x01a\x00\x00".to_vec(), "will"),
        (b"\x10\x11\x00\x04MQTT\x05\x02\x00\x3c\x04\x15\x00\x01a\x00\x00".to_vec(), "auth"),
        (subscribe("reactions/+"), "filter"),
        (
            [subscribe("reactions/a"), subscribe("reactions/b")[CONNECT.len()..].to_vec()].concat(),
            "subscriptions",
        ),
    ] {
        let mut viewer = TcpStream::connect(&uproar.mqtt).await.unwrap();
        viewer.write_all(&bytes).await.unwrap();
        until_refused(&uproar, cause).await;
        viewer.write_all(b"\xe0\x00").await.unwrap();
        let _ = viewer.read_to_end(&mut Vec::new()).await;
    }
    uproar.stop();
}

#[tokio::test]
async fn refusals_of_websockets_are_counted_by_cause() {
    let dir = tempfile::tempdir().unwrap();
    let mut uproar = plan(&dir).set("fanout.max_viewers=1").start().await;
    let live = |room: &str| format!("ws://{}/v1/rooms/{room}/live", uproar.http);
    let _viewer = WsViewer::watch(&uproar.http, "final").await;
    for (room, status, cause) in [("final", 503, "viewers"), ("a%20b", 400, "room_name")] {
        match connect_async(live(room)).await {
            Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), status),
            other => panic!("{room}: {other:?}"),
        }
        until_refused(&uproar, cause).await;
    }
    uproar.stop();
}

async fn until_refused(uproar: &Uproar, cause: &str) {
    let line = format!("uproar_fanout_refused_total{{cause=\"{cause}\"}} 1");
    until(&line, async || http::get(&uproar.admin, "/metrics").await?.body.contains(&line).then_some(()))
        .await;
}
