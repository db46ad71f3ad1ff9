//! The server against raw sockets.

use super::*;
use axum::{
    Router,
    body::Body,
    routing::{get, post},
};
use futures_util::stream;
use std::{convert::Infallible, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);
const HI: &[u8] = b"GET /hi HTTP/1.1\r\nhost: x\r\n\r\n";

/// A server.
pub(super) struct Rig {
    pub(super) address: std::net::SocketAddr,
    pub(super) slow: Slow,
    shutdown: CancellationToken,
    served: JoinHandle<io::Result<()>>,
}

/// What `/slow`, and the second part of `/stream`, wait for.
#[derive(Clone, Default)]
pub(super) struct Slow {
    /// It was asked.
    begun: Arc<Notify>,
    /// Lets it answer.
    go: Arc<Notify>,
}

impl Slow {
    /// For its handler: resolves when it may answer.
    pub(super) async fn wait(&self) {
        self.begun.notify_one();
        self.go.notified().await;
    }

    pub(super) async fn begun(&self) {
        self.begun.notified().await;
    }

    pub(super) fn go(&self) {
        self.go.notify_one();
    }
}

async fn serving(config: Config) -> Rig {
    let slow = Slow::default();
    let waits = slow.clone();
    let answer = get(move || async move {
        waits.wait().await;
        "slow"
    });
    let parts = slow.clone();
    let stream = get(move || async move {
        let body = stream::unfold(0, move |part| {
            let parts = parts.clone();
            async move {
                if part == 1 {
                    parts.wait().await;
                }
                let bytes = ["first", "second"].get(part)?;
                Some((Ok::<_, Infallible>(*bytes), part + 1))
            }
        });
        Body::from_stream(body)
    });
    let router = Router::new()
        .route("/hi", get(|| async { "hi" }))
        .route("/slow", answer)
        .route("/stream", stream)
        .route("/read", post(|body: String| async move { format!("read {body};") }));
    Rig::start(router, slow, config).await
}

pub(super) fn hasty() -> Config {
    Config { header_timeout_ms: 1_000, idle_timeout_ms: 1_500, ..Config::private() }
}

impl Rig {
    pub(super) async fn start(app: impl App, slow: Slow, config: Config) -> Self {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "ends with the test")]
        let served = tokio::spawn(serve(listener, app, config, shutdown.clone()));
        Self { address, slow, shutdown, served }
    }

    pub(super) async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Stops the server while `idle` rests and `working` waits for `/slow`: what the latter is answered.
    pub(super) async fn stop(self, idle: &mut TcpStream, working: &mut TcpStream) -> String {
        self.slow.begun().await;
        self.shutdown.cancel();
        assert_eq!(rest(idle).await, "");
        assert!(!self.served.is_finished());
        self.slow.go();
        let answer = rest(working).await;
        timeout(PATIENCE, self.served).await.unwrap().unwrap().unwrap();
        answer
    }
}

/// Sends, and reads until the text ends an answer.
pub(super) async fn ask(stream: &mut TcpStream, request: &[u8], end: &str) -> String {
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    let mut buffer = [0; 4_096];
    while !answer.ends_with(end) {
        let length = timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(length > 0, "closed after {answer:?}");
        answer.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    answer
}

/// What comes until the other side closes.
pub(super) async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the connection is still open");
    String::from_utf8(rest).unwrap()
}

#[tokio::test]
async fn requests_are_answered_one_after_the_other_over_one_connection() {
    let rig = serving(Config::private()).await;
    let mut stream = rig.connect().await;
    for _ in 0..3 {
        assert!(ask(&mut stream, HI, "hi").await.starts_with("HTTP/1.1 200 OK\r\n"));
    }
    let both = ask(&mut stream, &[HI, HI].concat(), "hi").await;
    assert!(both.matches("200 OK").count() == 2 || ask(&mut stream, b"", "hi").await.contains("200 OK"));
}

#[tokio::test]
async fn a_connection_that_never_speaks_is_cut() {
    let rig = serving(hasty()).await;
    assert_eq!(rest(&mut rig.connect().await).await, "");
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_cut_although_bytes_keep_coming() {
    let rig = serving(hasty()).await;
    let mut stream = rig.connect().await;
    ask(&mut stream, HI, "hi").await;
    let (mut reader, mut writer) = stream.into_split();
    let trickle = async {
        while writer.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut byte = [0];
    let cut = async { matches!(reader.read(&mut byte).await, Ok(0) | Err(_)) };
    let cut = timeout(PATIENCE, async { tokio::join!(cut, trickle).0 }).await.unwrap();
    assert!(cut);
}

#[tokio::test]
async fn a_connection_that_rests_is_closed_but_not_while_a_request_is_being_answered() {
    let rig = serving(hasty()).await;
    let mut resting = rig.connect().await;
    let mut working = rig.connect().await;
    ask(&mut resting, HI, "hi").await;
    working.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut late = rig.connect().await;
    assert_eq!(rest(&mut resting).await, "");
    // Two more deadlines pass.
    assert_eq!(rest(&mut late).await, "");
    assert_eq!(rest(&mut rig.connect().await).await, "");
    rig.slow.go();
    assert!(ask(&mut working, b"", "slow").await.contains("200 OK"));
}

#[tokio::test]
async fn a_stream_that_rests_goes_on_whatever_its_peer_sends_meanwhile() {
    let rig = serving(hasty()).await;
    let mut viewer = rig.connect().await;
    let request = b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n";
    assert!(ask(&mut viewer, request, "first\r\n").await.contains("200 OK"));
    viewer.write_all(HI).await.unwrap();
    // Both deadlines pass twice.
    for _ in 0..2 {
        let mut resting = rig.connect().await;
        ask(&mut resting, HI, "hi").await;
        assert_eq!(rest(&mut resting).await, "");
    }
    rig.slow.go();
    assert!(ask(&mut viewer, b"", "hi").await.contains("second"));
}

#[tokio::test]
async fn a_connection_of_http2_that_rests_is_told_to_go_and_closed() {
    // RFC 9113, section 3.4: the preface and empty SETTINGS; section 6.2: HEADERS of stream 1 with END_STREAM and END_HEADERS.
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    // RFC 7541: GET and http of the static table, :path and :authority as literals.
    const GET_HI: &[u8] = b"\0\0\x0a\x01\x05\0\0\0\x01\x82\x86\x04\x03/hi\x01\x01x";
    const GOAWAY: u8 = 7;
    let rig = serving(hasty()).await;
    let mut stream = rig.connect().await;
    stream.write_all(&[PREFACE, GET_HI].concat()).await.unwrap();
    let mut all = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("the connection is still open").unwrap();
    let (mut rest, mut kinds) = (&all[..], Vec::new());
    while let [a, b, c, kind, _, _, _, _, _, behind @ ..] = rest {
        kinds.push(*kind);
        rest = &behind[u32::from_be_bytes([0, *a, *b, *c]) as usize..];
    }
    assert!(all.windows(2).any(|text| text == b"hi"), "it was answered before: {kinds:?}");
    assert!(kinds.contains(&GOAWAY), "{kinds:?}");
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let rig = serving(Config { max_connections: 1, ..Config::private() }).await;
    let mut first = rig.connect().await;
    ask(&mut first, HI, "hi").await;
    let answer = rest(&mut rig.connect().await).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
    assert!(
        head.contains("retry-after: 1") && head.contains(&format!("content-length: {}", body.len())),
        "{head}"
    );
    assert!(body.starts_with(r#"{"status":503,"#), "{body}");

    // Its place is free again once it left.
    drop(first);
    let again = async {
        loop {
            let mut stream = rig.connect().await;
            stream.write_all(HI).await.unwrap();
            let mut byte = [0; 12];
            if stream.read_exact(&mut byte).await.is_ok() && byte.ends_with(b"200") {
                return;
            }
        }
    };
    timeout(PATIENCE, again).await.unwrap();
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let rig = serving(Config::private()).await;
    let mut stream = rig.connect().await;
    let request = format!("GET /hi HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    let _ = stream.write_all(request.as_bytes()).await;
    let answer = rest(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn a_request_names_its_host_once() {
    let rig = serving(Config::private()).await;
    let mut stream = rig.connect().await;
    for hosts in ["", "host: x\r\nhost: x\r\n"] {
        let request = format!("GET /hi HTTP/1.1\r\n{hosts}\r\n");
        let answer = ask(&mut stream, request.as_bytes(), "}").await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("send one Host"), "{answer}");
    }
    assert!(ask(&mut stream, HI, "hi").await.contains("200 OK"));
    let mut older = rig.connect().await;
    older.write_all(b"GET /hi HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(rest(&mut older).await.contains("200 OK"), "HTTP/1.0 has no Host");
}

#[tokio::test]
async fn a_shutdown_answers_what_is_under_way_and_closes_the_rest() {
    let rig = serving(Config::private()).await;
    let mut idle = rig.connect().await;
    ask(&mut idle, HI, "hi").await;
    let mut working = rig.connect().await;
    working.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let address = rig.address;
    let answer = rig.stop(&mut idle, &mut working).await;
    assert!(answer.ends_with("slow") && answer.contains("connection: close"), "{answer}");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_peer_that_takes_nothing() {
    let endless =
        get(async || Body::from_stream(stream::repeat_with(|| Ok::<_, Infallible>(vec![0; 65_536]))));
    let rig = Rig::start(Router::new().route("/endless", endless), Slow::default(), Config::private()).await;
    let mut stuck = rig.connect().await;
    ask(&mut stuck, b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n", "\0").await;
    rig.shutdown.cancel();
    timeout(PATIENCE, rig.served).await.expect("it waits").unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_is_given_up_ends_its_connections() {
    let rig = serving(Config::private()).await;
    let (mut idle, mut working) = (rig.connect().await, rig.connect().await);
    ask(&mut idle, HI, "hi").await;
    working.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    rig.slow.begun().await;
    rig.served.abort();
    assert_eq!([rest(&mut idle).await, rest(&mut working).await], ["", ""]);
}

/// What comes back on a connection whose client sends `request` and then ends its side.
async fn half_closed(rig: &Rig, request: &str) -> String {
    let mut stream = rig.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    rest(&mut stream).await
}

#[tokio::test]
async fn a_client_that_has_ended_its_side_is_answered() {
    let rig = serving(Config::private()).await;
    for request in [
        "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /slow HTTP/1.1\r\nhost: x\r\nte: trailers\r\n\r\n",
        "GET /slow HTTP/1.0\r\n\r\n",
        "GET /slow HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    ] {
        let waits = async {
            rig.slow.begun().await;
            rig.slow.go();
        };
        let (answer, ()) = tokio::join!(half_closed(&rig, request), waits);
        assert!(answer.contains(" 200 OK\r\n") && answer.ends_with("slow"), "{request}: {answer}");
    }
    let both = ["GET /hi HTTP/1.1\r\nhost: x\r\n\r\n"; 2].concat();
    assert_eq!(half_closed(&rig, &both).await.matches("200 OK").count(), 2);
}

#[tokio::test]
async fn a_stream_whose_client_has_ended_its_side_gives_what_there_is_and_then_its_place() {
    let rig = serving(Config::private()).await;
    for request in ["GET /stream HTTP/1.0\r\n\r\n", "GET /stream HTTP/1.1\r\nhost: x\r\n\r\n"] {
        // The second part never comes.
        let answer = half_closed(&rig, request).await;
        assert!(
            answer.contains(" 200 OK\r\n") && answer.contains("first") && !answer.contains("second"),
            "{answer}"
        );
    }
}

/// Tells when it is dropped.
struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A server whose `/wait` never answers, and what tells that a request there began, or was given up.
async fn waiting_for_ever() -> (Rig, Arc<Notify>, Arc<Notify>) {
    let (begun, gone) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let (begins, goes) = (Arc::clone(&begun), Arc::clone(&gone));
    let wait = get(move || async move {
        let _dropped = Dropped(goes);
        begins.notify_one();
        std::future::pending::<&str>().await
    });
    let rig = Rig::start(Router::new().route("/wait", wait), Slow::default(), Config::private()).await;
    (rig, begun, gone)
}

#[tokio::test]
async fn a_peer_that_reset_its_connection_does_not_keep_its_place() {
    for header in ["accept: text/event-stream\r\n", "te: trailers\r\n"] {
        for half_closes_first in [false, true] {
            let (rig, begun, gone) = waiting_for_ever().await;
            let mut stream = rig.connect().await;
            stream
                .write_all(format!("GET /wait HTTP/1.1\r\nhost: x\r\n{header}\r\n").as_bytes())
                .await
                .unwrap();
            timeout(PATIENCE, begun.notified()).await.unwrap();
            if half_closes_first {
                stream.shutdown().await.unwrap();
            }
            // Then the end of the socket is a reset.
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            drop(stream);
            let freed = timeout(PATIENCE, gone.notified()).await;
            assert!(freed.is_ok(), "{header:?} {half_closes_first}");
        }
    }
}

#[tokio::test]
async fn the_limit_of_a_head_is_the_same_whoever_reads_it() {
    let rig = serving(Config::private()).await;
    let max = Config::private().max_header_bytes as usize;
    let of_length = |length: usize, way: &str| {
        let start = format!("GET /hi HTTP/1.1\r\nhost: x\r\n{way}x: ");
        let filler = "y".repeat(length - start.len() - 4);
        format!("{start}{filler}\r\n\r\n")
    };
    for (length, status) in [(max, "200"), (max + 1, "431"), (max + 2, "431"), (max + 4_000, "431")] {
        for way in ["accept: text/event-stream\r\n", "te: trailers\r\n", "x: y\r\n"] {
            let request = of_length(length, way);
            assert_eq!(request.len(), length);
            // As the first request of a connection, and as the second.
            for before in [None, Some(HI)] {
                let mut stream = rig.connect().await;
                if let Some(before) = before {
                    ask(&mut stream, before, "hi").await;
                }
                // A server that refuses the head doesn't read its end.
                let _ = stream.write_all(request.as_bytes()).await;
                let _ = stream.shutdown().await;
                let mut answer = [0; 12];
                timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
                assert_eq!(String::from_utf8_lossy(&answer[9..]), status, "{length} {way:?} {before:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_host_that_is_none_is_refused_whoever_reads_it() {
    let rig = serving(Config::private()).await;
    for (host, status) in
        [("x", 200), ("[::1]:80", 200), ("x y", 400), ("u@x", 400), ("http://x", 400), ("x/..", 400)]
    {
        for way in ["accept: text/event-stream\r\n", "te: trailers\r\n"] {
            let answer = half_closed(&rig, &format!("GET /hi HTTP/1.1\r\nhost: {host}\r\n{way}\r\n")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host} {way:?}: {answer}");
        }
    }
    // In HTTP/1.0 it may be left out, but not be wrong.
    assert!(half_closed(&rig, "GET /hi HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 200 "));
    assert!(half_closed(&rig, "GET /hi HTTP/1.0\r\nhost: x y\r\n\r\n").await.starts_with("HTTP/1.0 400 "));
}

#[tokio::test]
async fn a_transfer_coding_other_than_chunked_is_refused_and_ends_the_connection() {
    let rig = serving(Config::private()).await;
    for (coding, status) in [
        ("chunked", 200),
        ("Chunked", 200),
        ("gzip, chunked", 501),
        ("identity, chunked", 501),
        ("chunked, chunked", 501),
        ("gzip\r\ntransfer-encoding: chunked", 501),
    ] {
        let request =
            format!("POST /read HTTP/1.1\r\nhost: x\r\ntransfer-encoding: {coding}\r\n\r\n0\r\n\r\n");
        let answer = half_closed(&rig, &(request + "GET /hi HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{coding}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            if status == 200 { 2 } else { 1 },
            "{coding}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_connection_ends_where_others_may_see_another_end_of_a_body() {
    const HIDDEN: &str = "GET /hi HTTP/1.1\r\nhost: x\r\n\r\n";
    let rig = serving(Config::private()).await;
    let chunked = |path: &str, trailers: &str| {
        let method = if path == "/read" { "POST" } else { "GET" };
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
        format!("{head}1\r\na\r\n0\r\n{trailers}{HIDDEN}{HIDDEN}")
    };
    let answers =
        async |request: String| half_closed(&rig, &request).await.matches("HTTP/1.1 200 OK").count();
    assert_eq!(answers(chunked("/read", "\r\n")).await, 3, "all agree");
    for trailers in ["x: 1\n\n", "\n", "x: 1\r\n\n", "x: 1\r\n\r\n", "x: 1\n\r\n"] {
        assert_eq!(answers(chunked("/read", trailers)).await, 1, "{trailers:?}");
    }
    // Of a body that nobody reads, nobody knows.
    assert_eq!(answers(chunked("/hi", "x: 1\n\n")).await, 1);
}

#[tokio::test]
async fn every_answer_says_that_its_type_is_right() {
    let rig = serving(Config::private()).await;
    for way in ["accept: text/event-stream\r\n", "te: trailers\r\n"] {
        for path in ["/hi", "/nothing"] {
            let answer = half_closed(&rig, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n{way}\r\n")).await;
            assert_eq!(answer.matches("x-content-type-options: nosniff\r\n").count(), 1, "{answer}");
        }
    }
    let full = String::from_utf8_lossy(FULL);
    assert!(full.contains("\r\nx-content-type-options: nosniff\r\n"), "{full}");
}

#[tokio::test]
async fn a_stop_answers_clients_that_wait_to_be_accepted() {
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(HI).await.unwrap();
        clients.push(client);
    }
    let silent = TcpStream::connect(address).await.unwrap();
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let router = Router::new().route("/hi", get(|| async { "hi" }));
    timeout(PATIENCE, serve(listener, router, Config::private(), shutdown)).await.unwrap().unwrap();
    for client in &mut clients {
        let answer = rest(client).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hi"), "{answer}");
    }
    drop(silent);
}

#[test]
fn failures_to_accept_are_logged_once_in_a_while_and_counted_in_between() {
    let (mut failures, begin) = (AcceptFailures::default(), Instant::now());
    let at = |ms| begin + Duration::from_millis(ms);
    assert_eq!(failures.is_due(at(0)), Some(0));
    for ms in (50..10_000).step_by(50) {
        assert_eq!(failures.is_due(at(ms)), None, "{ms}");
    }
    assert_eq!(failures.is_due(at(10_000)), Some(199));
    assert_eq!(failures.is_due(at(30_000)), Some(0));
}
