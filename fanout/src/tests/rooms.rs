//! Many rooms on one WebSocket, and what RFC 6455 says of frames.

use super::harness::{PATIENCE, Stage, aggregate, config};
use futures_util::StreamExt;
use std::collections::BTreeSet;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use wire::{Frame, Hello};

async fn open(stage: &Stage, query: &str) -> Result<WebSocketStream<TcpStream>, Error> {
    let stream = TcpStream::connect(stage.address).await.unwrap();
    let url = format!("ws://{}/v1/live{query}", stage.address);
    client_async(url, stream).await.map(|(socket, _)| socket)
}

async fn text(socket: &mut WebSocketStream<TcpStream>) -> String {
    let message = timeout(PATIENCE, socket.next()).await.expect("nothing came").unwrap().unwrap();
    message.into_text().unwrap().to_string()
}

async fn frame(socket: &mut WebSocketStream<TcpStream>) -> (String, u64) {
    let frame = Frame::decode(text(socket).await.as_bytes()).unwrap();
    (frame.room.to_string(), frame.seq)
}

/// Opens a WebSocket by hand, and reads the answer and the greeting.
async fn open_raw(stage: &Stage) -> TcpStream {
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    let request = "GET /v1/rooms/final/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut came = Vec::new();
    while !came.windows(7).any(|bytes| bytes == b"\"hello\"") || came.last() != Some(&b'}') {
        assert!(timeout(PATIENCE, stream.read_buf(&mut came)).await.unwrap().unwrap() > 0);
    }
    stream
}

/// A close frame of a server.
fn close(code: u16, reason: &str) -> Vec<u8> {
    [&[0x88, 2 + reason.len() as u8][..], &code.to_be_bytes(), reason.as_bytes()].concat()
}

/// All that comes until the end.
async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut came = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut came)).await.expect("no end").unwrap();
    came
}

#[tokio::test]
async fn a_viewer_watches_several_rooms_on_one_socket() {
    let stage = Stage::start(config()).await;
    for room in ["a", "c", "d"] {
        stage.show(&aggregate(room, 1)).await;
    }
    let mut viewer = open(&stage, "?room=a&room=b&room=c&room=a").await.unwrap();
    let hello: Hello = serde_json::from_str(&text(&mut viewer).await).unwrap();
    assert_eq!(hello.rooms, ["a", "b", "c"].map(|room| room.parse().unwrap()), "each is named once");
    let snapshots: BTreeSet<_> = [frame(&mut viewer).await, frame(&mut viewer).await].into();
    assert_eq!(snapshots, [("a".to_owned(), 1), ("c".to_owned(), 1)].into());
    stage.show(&aggregate("d", 2)).await;
    for (room, seq) in [("b", 1), ("a", 2), ("c", 2), ("b", 2)] {
        stage.show(&aggregate(room, seq)).await;
        assert_eq!(frame(&mut viewer).await, (room.to_owned(), seq));
    }
    drop(viewer);
    stage.until_viewers(0).await;
}

#[tokio::test]
async fn a_query_names_the_same_room_escaped_or_not() {
    let stage = Stage::start(config()).await;
    let mut viewer = open(&stage, "?room=a%7Eb&room=a~b&&%72oom=%63").await.unwrap();
    let hello: Hello = serde_json::from_str(&text(&mut viewer).await).unwrap();
    assert_eq!(hello.rooms, ["a~b", "c"].map(|room| room.parse().unwrap()));
}

#[tokio::test]
async fn a_bad_query_is_refused_before_the_upgrade() {
    let stage = Stage::start(config()).await;
    for query in [
        "",
        "?",
        "?room=",
        "?room=a%20b",
        "?room=a/b",
        "?rooms=a",
        "?room=a&token=1",
        "?room=a&token",
        "?room=a&%72ooms=b",
        "?room",
        "?room=a+b",
        "?room=a%FF",
        "?room=a&room=b&room=c&room=d&room=e",
    ] {
        match open(&stage, query).await.err() {
            Some(Error::Http(response)) => {
                assert_eq!(response.status(), 400, "{query}");
                assert_eq!(response.headers()["content-type"], "application/problem+json");
            }
            other => panic!("{query}: {other:?}"),
        }
    }
    stage.until_viewers(0).await;
}

#[tokio::test]
async fn rooms_that_find_no_place_are_refused_together_and_take_none() {
    let stage = Stage::start(crate::Config { max_rooms_watched: 2, ..config() }).await;
    match open(&stage, "?room=a&room=b&room=c").await.err() {
        Some(Error::Http(response)) => assert_eq!(response.status(), 503),
        other => panic!("{other:?}"),
    }
    stage.until_viewers(0).await;
    assert!(open(&stage, "?room=c&room=d").await.is_ok(), "a and b are free again");
}

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let stage = Stage::start(config()).await;
    let mut polite = open(&stage, "?room=final").await.unwrap();
    text(&mut polite).await;
    let frame = CloseFrame { code: CloseCode::Normal, reason: "bye".into() };
    polite.close(Some(frame)).await.unwrap();
    match timeout(PATIENCE, polite.next()).await.unwrap().unwrap().unwrap() {
        Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Normal),
        other => panic!("{other:?}"),
    }
    stage.until_viewers(0).await;

    let mut wordless = open_raw(&stage).await;
    wordless.write_all(&[0x88, 0x80, 1, 2, 3, 4]).await.unwrap();
    assert_eq!(rest(wordless).await, [0x88, 0]);
}

#[tokio::test]
async fn what_breaks_rfc_6455_is_closed_with_1002_and_what_is_said_with_1008() {
    const MASK: [u8; 4] = [0; 4];
    let stage = Stage::start(config()).await;
    for (what, bytes, code) in [
        ("not masked", vec![0x81, 1, b'x'], 1002),
        ("a ping that is not masked", vec![0x89, 0], 1002),
        ("a reserved bit", [&[0xC1, 0x81][..], &MASK, b"x"].concat(), 1002),
        ("an opcode that is not there", [&[0x83, 0x81][..], &MASK, b"x"].concat(), 1002),
        ("a continuation of nothing", [&[0x80, 0x81][..], &MASK, b"x"].concat(), 1002),
        ("a fragmented ping", [&[0x09, 0x81][..], &MASK, b"x"].concat(), 1002),
        ("a ping that is too long", [&[0x89, 0xFE, 0, 126][..], &MASK, &[0; 126]].concat(), 1002),
        ("half a close code", [&[0x88, 0x81][..], &MASK, &[3]].concat(), 1002),
        ("a close code that may not be sent", [&[0x88, 0x82][..], &MASK, &[3, 0xED]].concat(), 1002),
        ("a long text", [&[0x81, 0xFE, 0, 126][..], &MASK, &[b'x'; 126]].concat(), 1008),
        ("the start of a long text", [&[0x01, 0xFE, 0xFF, 0xFF][..], &MASK, b"x"].concat(), 1008),
        ("fragments", [&[0x02, 0x81][..], &MASK, b"x"].concat(), 1008),
        ("nothing, in binary", [&[0x82, 0x80][..], &MASK].concat(), 1008),
    ] {
        let mut stream = open_raw(&stage).await;
        stream.write_all(&bytes).await.unwrap();
        let came = rest(stream).await;
        assert_eq!(
            came[..4],
            close(code, "")[..1].iter().copied().chain([came[1], 3, code as u8]).collect::<Vec<_>>(),
            "{what}"
        );
        assert!(
            came.len() > 4 && came.len() == 2 + usize::from(came[1]),
            "{what}: with a reason, and nothing more"
        );
    }
    stage.until_viewers(0).await;
}

#[tokio::test]
async fn a_ping_comes_back_also_in_pieces() {
    let stage = Stage::start(config()).await;
    let mut stream = open_raw(&stage).await;
    for byte in [&[0x89, 0x83, 0, 0, 0, 0][..], b"abc"].concat() {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut pong = [0; 5];
    timeout(PATIENCE, stream.read_exact(&mut pong)).await.unwrap().unwrap();
    assert_eq!(&pong, b"\x8a\x03abc");
}

#[tokio::test]
async fn what_comes_with_the_handshake_is_heard() {
    let stage = Stage::start(config()).await;
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    let request =
        b"GET /v1/rooms/final/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x88\x80\0\0\0\0";
    stream.write_all(request).await.unwrap();
    let came = rest(stream).await;
    assert_eq!(came[came.len() - 2..], [0x88, 0]);
}
