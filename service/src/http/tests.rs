//! The server against raw sockets.

use super::*;
use axum::{Router, body::Body, routing::get};
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
    let router =
        Router::new().route("/hi", get(|| async { "hi" })).route("/slow", answer).route("/stream", stream);
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
