//! What strangers take of shared bounds shuts nobody out of a room that exists.

use super::{
    harness::{PATIENCE, Stage, aggregate, config},
    live::Client,
    raw::{Raw, VERSIONS},
};
use crate::{
    Config,
    edge::Edge,
    http::Routes,
    mqtt::Version::{V5, V311},
};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

/// Asks for a room's events, over HTTP/1.1 (the edge serves them) or HTTP/1.0 (the HTTP library does), and reads until `until`
/// has come.
async fn events(stage: &Stage, version: &str, until: &str) -> String {
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    let request =
        format!("GET /v1/rooms/final/events HTTP/{version}\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut came = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&came).into_owned();
        if text.contains(until) {
            return text;
        }
        let read = timeout(PATIENCE, stream.read_buf(&mut came)).await.expect("nothing came").unwrap();
        assert!(read > 0, "it ended: {text}");
    }
}

#[tokio::test]
async fn made_up_rooms_shut_nobody_out_of_a_room_that_shows_something() {
    let stage = Stage::start(Config { max_rooms_watched: 4, ..config() }).await;
    stage.show(&aggregate("final", 1)).await;
    let mut stranger = Raw::connected(&stage, V5).await;
    for room in ["a", "b", "c", "d"] {
        assert_eq!(stranger.subscribe(&format!("reactions/{room}"), 0).await, 0);
    }
    for (version, refused) in [(V5, 0x97), (V311, 0x80)] {
        let mut late = Raw::connected(&stage, version).await;
        assert_eq!(late.subscribe("reactions/e", 0).await, refused, "the bound holds for made-up rooms");
    }
    for version in VERSIONS {
        let mut viewer = Raw::connected(&stage, version).await;
        assert_eq!(viewer.subscribe("reactions/final", 0).await, 0);
        assert_eq!(viewer.seq().await, (1, true));
    }
    let mut viewer = Client::connect(&stage, "final").await;
    viewer.hello().await;
    assert_eq!(viewer.frame().await.seq, 1);
    for version in ["1.1", "1.0"] {
        assert!(events(&stage, version, "\nid: ").await.contains(" 200 "));
    }
}

#[tokio::test]
async fn a_room_that_gets_its_first_frame_leaves_its_place_to_another() {
    let stage = Stage::start(Config { max_rooms_watched: 1, ..config() }).await;
    let mut viewer = Client::connect(&stage, "final").await;
    viewer.hello().await;
    let other = Client::try_connect(&stage, "other").await;
    assert!(other.is_err(), "one room without a frame is watched already");
    stage.show(&aggregate("final", 1)).await;
    assert_eq!(viewer.frame().await.seq, 1);
    Client::connect(&stage, "other").await;
}

/// A server of the stage's routes whose shards take no newcomer.
async fn serve_without_place(stage: &Stage) -> (SocketAddr, JoinSet<std::io::Result<()>>) {
    let listener = service::http::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Routes { shared: Arc::clone(&stage.shared), edge: Edge::full(), busiest: Arc::default() };
    let mut serving = JoinSet::new();
    let (limits, shutdown) = (service::http::Config::private(), stage.shutdown.clone());
    serving.spawn(service::http::serve(listener, crate::http::router(routes), limits, shutdown));
    (address, serving)
}

#[tokio::test]
async fn who_finds_too_many_newcomers_is_told_to_come_again() {
    const KEY: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n";
    let stage = Stage::start(config()).await;
    let (address, _serving) = serve_without_place(&stage).await;
    let rest = async |path: &str, headers: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut came = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut came)).await.expect("no end").unwrap();
        let head = came.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        came.split_off(head)
    };
    for path in ["/v1/rooms/final/live", "/v1/live?room=final", "/mqtt"] {
        let close = rest(path, KEY).await;
        assert_eq!(close[0], 0x88, "{path}: a close and nothing else");
        assert_eq!(usize::from(close[1]) + 2, close.len(), "{path}");
        assert_eq!(u16::from_be_bytes([close[2], close[3]]), 1013, "{path}");
    }
    let stream = rest("/v1/rooms/final/events", "Accept: text/event-stream\r\n").await;
    let retry = String::from_utf8(stream).unwrap();
    assert!(retry.starts_with("retry: ") && retry.ends_with("}\n\n"), "{retry}");
    stage.until_viewers(0).await;
    assert_eq!(stage.registry().rooms(), []);
}
