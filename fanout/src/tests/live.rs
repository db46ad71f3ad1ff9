//! Viewers on a WebSocket.

use super::harness::{PATIENCE, Stage, aggregate, config, large_aggregate};
use futures_util::{SinkExt, StreamExt};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::Instant,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, Utf8Bytes},
};
use wire::{Frame, Hello};

/// A viewer.
pub(super) struct Client(pub(super) WebSocketStream<TcpStream>);

impl Client {
    pub(super) async fn connect(stage: &Stage, room: &str) -> Self {
        Self::try_connect(stage, room).await.unwrap()
    }

    pub(super) async fn try_connect(stage: &Stage, room: &str) -> Result<Self, Error> {
        Self::over(TcpStream::connect(stage.address).await.unwrap(), stage.address, room).await
    }

    /// A viewer whose receive buffer is as small as the kernel allows.
    pub(super) async fn connect_small(stage: &Stage, room: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1).unwrap();
        Self::over(socket.connect(stage.address).await.unwrap(), stage.address, room).await.unwrap()
    }

    async fn over(stream: TcpStream, address: SocketAddr, room: &str) -> Result<Self, Error> {
        client_async(format!("ws://{address}/v1/rooms/{room}/live"), stream)
            .await
            .map(|(socket, _)| Self(socket))
    }

    /// The next message that is not a ping or pong.
    async fn next(&mut self) -> Message {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("nothing came");
            match message.expect("the connection ended").expect("the connection broke") {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    async fn text(&mut self) -> Utf8Bytes {
        match self.next().await {
            Message::Text(text) => text,
            other => panic!("not a text: {other:?}"),
        }
    }

    pub(super) async fn hello(&mut self) -> Hello {
        serde_json::from_str(&self.text().await).unwrap()
    }

    pub(super) async fn frame(&mut self) -> Frame {
        Frame::decode(self.text().await.as_bytes()).unwrap()
    }

    pub(super) async fn close_code(&mut self) -> u16 {
        match self.next().await {
            Message::Close(Some(frame)) => frame.code.into(),
            other => panic!("not a close: {other:?}"),
        }
    }
}

/// The status and the body of a refusal.
fn refusal(result: Result<Client, Error>) -> (u16, String) {
    match result.map(|_| ()) {
        Err(Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            (response.status().as_u16(), String::from_utf8_lossy(body).into_owned())
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_websocket_opens_with_get_only() {
    let stage = Stage::start(config()).await;
    for path in ["/v1/rooms/final/live", "/v1/live?room=final", "/mqtt"] {
        for method in ["HEAD", "POST", "OPTIONS"] {
            let mut stream = TcpStream::connect(stage.address).await.unwrap();
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Sec-WebSocket-Protocol: mqtt\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer));
            read.await.expect("it was opened").unwrap();
            assert!(answer.starts_with("HTTP/1.1 405 "), "{method} {path}: {answer}");
            for header in ["allow: GET\r\n", "content-type: application/problem+json\r\n"] {
                assert!(answer.contains(header), "{method} {path}: {answer}");
            }
        }
    }
    assert_eq!(*stage.registry().viewers().borrow(), 0, "nobody took a seat");
}

#[tokio::test]
async fn a_viewer_is_greeted_and_gets_the_snapshot_and_each_frame_in_order() {
    let stage = Stage::start(config()).await;
    stage.show(&aggregate("final", 1)).await;
    stage.show(&aggregate("final", 2)).await;
    let mut viewer = Client::connect(&stage, "final").await;
    let mut hello = Hello {
        hello: 1,
        rooms: vec!["final".parse().unwrap()],
        reconnect_jitter_ms: 5_000,
        post_ms: 1_000,
        catalogue: vec!["🔥".into(), "❤️".into()],
        settings: Default::default(),
    };
    assert_eq!(viewer.hello().await, hello);
    stage.reload(|config| config.post_ms = 2_000);
    stage.catalogue.send_replace(Arc::default());
    (hello.post_ms, hello.catalogue) = (2_000, vec![]);
    assert_eq!(Client::connect(&stage, "final").await.hello().await, hello, "what is in force now");
    assert_eq!(viewer.frame().await, Frame::of(&aggregate("final", 2), 10));
    for seq in 3..=20 {
        stage.show(&aggregate("final", seq)).await;
        assert_eq!(viewer.frame().await.seq, seq);
    }
}

#[tokio::test]
async fn a_viewer_of_an_empty_room_gets_its_first_frame_and_none_of_other_rooms() {
    let stage = Stage::start(config()).await;
    let mut viewer = Client::connect(&stage, "final").await;
    viewer.hello().await;
    stage.show(&aggregate("other", 7)).await;
    stage.show(&aggregate("final", 1)).await;
    let frame = viewer.frame().await;
    assert_eq!((&*frame.room, frame.seq), ("final", 1));
}

#[tokio::test]
async fn a_viewer_of_a_forgotten_room_sees_its_next_life() {
    let stage = Stage::start(config()).await;
    stage.show(&aggregate("final", 9)).await;
    let mut viewer = Client::connect(&stage, "final").await;
    viewer.hello().await;
    assert_eq!(viewer.frame().await.seq, 9);
    stage.log.tombstone("final").await;
    stage.until(|stage| stage.shown("final") == 0).await;
    let mut next = aggregate("final", 1);
    next.since += 1_000;
    stage.show(&next).await;
    assert_eq!(viewer.frame().await.since, next.since);
}

#[tokio::test]
async fn a_viewer_that_speaks_is_closed_and_nobody_else_notices() {
    let stage = Stage::start(config()).await;
    let mut quiet = Client::connect(&stage, "final").await;
    quiet.hello().await;
    let frame = String::from_utf8(Frame::of(&aggregate("final", 99), 10).encode()).unwrap();
    let too_large = "x".repeat(1 << 20);
    let many = Message::text("x".repeat(100));
    for (message, times) in
        [(Message::text(frame), 1), (Message::binary("x"), 1), (Message::text(too_large), 1), (many, 1_000)]
    {
        let mut loud = Client::connect(&stage, "final").await;
        loud.hello().await;
        for _ in 0..times {
            // The server may close before it has read all of it.
            let _ = loud.0.send(message.clone()).await;
        }
        assert_eq!(loud.close_code().await, 1008);
    }
    stage.until_viewers(1).await;
    stage.show(&aggregate("final", 1)).await;
    assert_eq!(quiet.frame().await.seq, 1);
}

#[tokio::test]
async fn heartbeats_in_text_are_answered_and_other_short_texts_are_passed_over() {
    let stage = Stage::start(config()).await;
    let mut viewer = Client::connect(&stage, "final").await;
    viewer.hello().await;
    for text in ["", "hello", "{\"type\":\"ping\"}", "ping", "\u{1F525}", "ping"] {
        viewer.0.send(Message::text(text)).await.unwrap();
    }
    assert_eq!([viewer.text().await, viewer.text().await], ["pong", "pong"]);
    stage.show(&aggregate("final", 1)).await;
    assert_eq!(viewer.frame().await.seq, 1, "nothing was published");
}

#[tokio::test]
async fn pings_of_a_viewer_are_answered() {
    let stage = Stage::start(config()).await;
    let mut viewer = Client::connect(&stage, "final").await;
    viewer.hello().await;
    viewer.0.send(Message::Ping("hi".into())).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, viewer.0.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(answer, Message::Pong("hi".into()));
}

#[tokio::test]
async fn a_viewer_that_never_reads_skips_to_the_newest_frame_and_delays_nobody() {
    let mut config = config();
    config.top_n = 1_000;
    let stage = Stage::start(config).await;
    let mut stuck = Client::connect_small(&stage, "final").await;
    let mut quick = Client::connect(&stage, "final").await;
    quick.hello().await;
    // 60 kB each: more than the kernel keeps for a connection.
    const FRAMES: u64 = 150;
    for seq in 1..=FRAMES {
        stage.show(&large_aggregate("final", seq)).await;
        assert_eq!(quick.frame().await.seq, seq, "another viewer gets every frame");
    }
    stuck.hello().await;
    let (mut seen, mut last) = (0, 0);
    while last < FRAMES {
        let seq = stuck.frame().await.seq;
        assert!(seq > last, "in order");
        (seen, last) = (seen + 1, seq);
    }

    assert!(seen < FRAMES / 2, "{seen} frames waited for it");
}

#[tokio::test]
async fn a_viewer_that_takes_nothing_is_dropped() {
    let mut config = config();
    (config.top_n, config.write_timeout_ms) = (1_000, 50);
    let stage = Stage::start(config).await;
    let _stuck = Client::connect_small(&stage, "final").await;
    stage.until_viewers(1).await;
    for seq in 1.. {
        stage.show(&large_aggregate("final", seq)).await;
        if *stage.registry().viewers().borrow() == 0 {
            break;
        }
        assert!(seq < 3_000, "it is still there");
    }
}

#[tokio::test]
async fn a_new_ping_interval_applies_to_viewers_that_are_there() {
    let stage = Stage::start(config()).await;
    let mut viewer = Client::connect(&stage, "final").await;
    viewer.hello().await;
    stage.reload(|config| config.ping_interval_ms = 20);
    let next = tokio::time::timeout(PATIENCE, viewer.0.next()).await.expect("no ping");
    assert_eq!(next.unwrap().unwrap(), Message::Ping("".into()));
}

#[tokio::test]
async fn a_viewer_that_answers_no_ping_is_closed_and_one_that_does_stays() {
    let mut config = config();
    (config.ping_interval_ms, config.pong_timeout_ms) = (20, 1_500);
    let stage = Stage::start(config).await;
    let mut mute = Client::connect(&stage, "final").await;
    let mut polite = Client::connect(&stage, "final").await;
    polite.hello().await;
    // Reading answers pings; `mute` does not read.
    let gone = stage.until_viewers(1);
    tokio::select! {
        () = gone => {}
        message = polite.next() => panic!("nothing is due: {message:?}"),
    }
    mute.hello().await;
    assert_eq!(mute.close_code().await, 3008);
    stage.show(&aggregate("final", 1)).await;
    assert_eq!(polite.frame().await.seq, 1);
}

#[tokio::test]
async fn past_the_bounds_viewers_are_refused_before_the_upgrade_and_limits_change_live() {
    let mut config = config();
    (config.max_viewers, config.max_rooms_watched) = (3, 2);
    let stage = Stage::start(config).await;
    let a = Client::connect(&stage, "a").await;
    let _b = Client::connect(&stage, "b").await;
    let (status, body) = refusal(Client::try_connect(&stage, "c").await);
    assert!(status == 503 && body.contains("as many rooms"), "{body}");
    let _again = Client::connect(&stage, "a").await;
    let (status, body) = refusal(Client::try_connect(&stage, "a").await);
    assert!(status == 503 && body.contains("as many viewers"), "{body}");
    stage.reload(|config| config.max_viewers = 4);
    let _fourth = Client::connect(&stage, "a").await;
    drop(a);
    stage.until_viewers(3).await;
    let _place_of_a = Client::connect(&stage, "b").await;
}

#[tokio::test]
async fn on_shutdown_viewers_get_frames_until_they_are_told_to_connect_elsewhere_one_by_one() {
    let mut config = config();
    config.drain_viewers_per_s = 4;
    let mut stage = Stage::start(config).await;
    let mut viewers = JoinSet::new();
    for _ in 0..3 {
        let mut viewer = Client::connect(&stage, "final").await;
        viewer.hello().await;
        viewers.spawn(async move {
            let mut frames = 0;
            loop {
                match viewer.next().await {
                    Message::Text(_) => frames += 1,
                    Message::Close(Some(frame)) => return (u16::from(frame.code), frames),
                    other => panic!("{other:?}"),
                }
            }
        });
    }
    let start = Instant::now();
    stage.shutdown.cancel();
    stage.until_viewers(2).await;
    assert_eq!(stage.readiness.missing(), [("fanout", "stopping".to_owned())]);
    stage.show(&aggregate("final", 1)).await;
    let mut ends = viewers.join_all().await;
    ends.sort_unstable();
    assert_eq!(ends, [(1012, 0), (1012, 1), (1012, 1)], "who is still there gets frames");
    stage.ended().await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(500), "the third leaves after two pauses");
    stage.served().await;
}

#[tokio::test]
async fn the_shutdown_does_not_wait_for_a_stuck_viewer_longer_than_it_may() {
    let mut config = config();
    (config.top_n, config.drain_ms) = (1_000, 200);
    let mut stage = Stage::start(config).await;
    let _stuck = Client::connect_small(&stage, "final").await;
    for seq in 1..=150 {
        stage.show(&large_aggregate("final", seq)).await;
    }
    let start = Instant::now();
    stage.shutdown.cancel();
    stage.ended().await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(100), "it had half of the time to take its goodbye");
    assert_eq!(*stage.registry().viewers().borrow(), 0, "it was cut off");
}
