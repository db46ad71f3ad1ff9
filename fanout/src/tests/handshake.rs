//! The opening handshake of WebSockets, byte by byte.

use super::harness::{PATIENCE, Stage, aggregate, config};
use crate::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const PATHS: [&str; 3] = ["/v1/rooms/final/live", "/v1/live?room=final", "/mqtt"];

/// Sends a handshake with more headers, and reads the head of the answer, in lower case.
async fn shake(stage: &Stage, path: &str, headers: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut came = Vec::new();
    while !came.ends_with(b"\r\n\r\n") {
        let byte = timeout(PATIENCE, stream.read_u8()).await.expect("nothing came");
        came.push(byte.expect("it ended"));
    }
    (stream, String::from_utf8(came).unwrap().to_lowercase())
}

async fn head(stage: &Stage, path: &str, headers: &str) -> String {
    shake(stage, path, headers).await.1
}

#[tokio::test]
async fn a_handshake_that_announces_a_body_is_refused() {
    let stage = Stage::start(config()).await;
    for path in PATHS {
        for body in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
            let headers = format!("{KEY}Sec-WebSocket-Protocol: mqtt\r\n{body}");
            let head = head(&stage, path, &headers).await;
            assert!(head.starts_with("http/1.1 400 "), "{path} {body}: {head}");
        }
        let empty = format!("{KEY}Sec-WebSocket-Protocol: mqtt\r\nContent-Length: 0\r\n");
        let head = head(&stage, path, &empty).await;
        assert!(head.starts_with("http/1.1 101 "), "{path}: an empty body is none: {head}");
    }
    stage.until_viewers(0).await;
}

#[tokio::test]
async fn the_keys_last_bits_may_be_anything_as_in_the_example_of_the_standard() {
    let stage = Stage::start(config()).await;
    // RFC 6455, 4.1, item 7 of the client's requirements.
    let head = head(&stage, PATHS[0], "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC==\r\n").await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
}

#[tokio::test]
async fn websockets_are_open_to_every_origin() {
    let cors_origins = vec!["https://good.example".to_owned()];
    let stage = Stage::start(Config { cors_origins: cors_origins.into(), ..config() }).await;
    for path in PATHS {
        for origin in ["https://evil.example", "null", "https://good.example"] {
            let headers = format!("{KEY}Sec-WebSocket-Protocol: mqtt\r\nOrigin: {origin}\r\n");
            let head = head(&stage, path, &headers).await;
            assert!(head.starts_with("http/1.1 101 "), "{path} {origin}: {head}");
        }
    }
}

#[tokio::test]
async fn a_live_stream_agrees_to_no_subprotocol_and_no_extension() {
    let stage = Stage::start(config()).await;
    for path in &PATHS[..2] {
        let offers = "Sec-WebSocket-Protocol: mqtt, json\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";
        let head = head(&stage, path, &format!("{KEY}{offers}")).await;
        assert!(head.starts_with("http/1.1 101 "), "{path}: {head}");
        for header in ["sec-websocket-protocol", "sec-websocket-extensions"] {
            assert!(!head.contains(header), "{path}: {head}");
        }
    }
}

#[tokio::test]
async fn mqtt_agrees_to_its_own_subprotocol_or_the_old_name_of_it() {
    let stage = Stage::start(config()).await;
    for path in ["/mqtt", "/mqtt/"] {
        for (offered, agreed) in [
            ("mqtt", "mqtt"),
            ("mqttv3.1", "mqttv3.1"),
            ("mqttv3.1, mqtt", "mqtt"),
            ("soap, mqttv3.1", "mqttv3.1"),
        ] {
            let head = head(&stage, path, &format!("{KEY}Sec-WebSocket-Protocol: {offered}\r\n")).await;
            assert!(head.starts_with("http/1.1 101 "), "{path} {offered}: {head}");
            assert!(head.contains(&format!("sec-websocket-protocol: {agreed}\r\n")), "{offered}: {head}");
        }
        for offered in ["soap", "mqttv3.11", "MQTT"] {
            let head = head(&stage, path, &format!("{KEY}Sec-WebSocket-Protocol: {offered}\r\n")).await;
            assert!(head.starts_with("http/1.1 400 "), "{path} {offered}: {head}");
        }
    }
}

#[tokio::test]
async fn a_close_reason_that_is_not_utf_8_is_closed_with_1007() {
    let stage = Stage::start(config()).await;
    stage.show(&aggregate("final", 1)).await;
    let (mut stream, _) = shake(&stage, PATHS[0], KEY).await;
    stream.write_all(&[0x88, 0x83, 0, 0, 0, 0, 3, 0xE8, 0xFF]).await.unwrap();
    let mut came = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut came)).await.expect("no end").unwrap();
    let close = came.windows(4).find(|bytes| bytes[0] == 0x88).expect("no close");
    assert_eq!(u16::from_be_bytes([close[2], close[3]]), 1007);
}

#[tokio::test]
async fn websockets_over_http_2_are_not_offered() {
    const ENABLE_CONNECT_PROTOCOL: u16 = 8;
    let stage = Stage::start(config()).await;
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    // The preface, and SETTINGS without any (RFC 9113, 3.4).
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    timeout(PATIENCE, stream.read_exact(&mut head)).await.expect("nothing came").unwrap();
    assert_eq!((head[3], head[4] & 1), (4, 0), "the server's own SETTINGS come first");
    let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    timeout(PATIENCE, stream.read_exact(&mut settings)).await.expect("nothing came").unwrap();
    for setting in settings.chunks(6) {
        let id = u16::from_be_bytes([setting[0], setting[1]]);
        assert!(id != ENABLE_CONNECT_PROTOCOL || setting[2..] == [0; 4], "RFC 8441, section 3");
    }
}
