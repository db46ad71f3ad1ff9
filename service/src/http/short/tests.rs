//! The short way against raw sockets, and that whatever is not for it is answered by the library all the same.

use super::{super::tests::*, *};
use crate::http::{Config, Offer, RequestBody, bind};
use axum::{
    Extension, Router,
    body::Bytes,
    extract::Request,
    http::StatusCode,
    response::Response,
    routing::{get, post},
};
use tokio::{
    io::AsyncReadExt,
    task::JoinHandle,
    time::{Instant, timeout},
};

/// Answers `/echo` with the way that a request came, and its body; `/slow` when it may.
#[derive(Clone)]
struct Echo {
    slow: Slow,
    routes: Router,
}

impl App for Echo {
    type Guest = ();

    fn respond(
        &self,
        request: hyper::Request<RequestBody>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response> + Send + 'static {
        self.routes.respond(request, peer)
    }

    fn plain<'a>(
        &'a self,
        request: &Plain<'_>,
        _: SocketAddr,
        (): &(),
    ) -> Option<impl Future<Output = Answer> + Send + use<'a>> {
        let slow = request.target == "/slow";
        let body = format!("short {};", String::from_utf8_lossy(request.body));
        (slow || request.target == "/echo").then_some(async move {
            if slow {
                self.slow.wait().await;
            }
            Answer::new(StatusCode::OK, "text/plain", body)
        })
    }
}

async fn serving(config: Config) -> Rig {
    let routes = Router::new()
        .route("/echo", post(async |body: Bytes| format!("long {};", String::from_utf8_lossy(&body))))
        .route("/other", get(async |_: Request| "other;"));
    let slow = Slow::default();
    Rig::start(Echo { slow: slow.clone(), routes }, slow, config).await
}

fn post_of(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

fn echo(body: &str) -> String {
    post_of("/echo", "", body)
}

/// The body of one answer.
async fn said(stream: &mut TcpStream, request: &str) -> String {
    let answer = ask(stream, request.as_bytes(), ";").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test]
async fn plain_requests_are_answered_by_the_short_way_one_after_the_other() {
    let rig = serving(Config::private()).await;
    let mut stream = rig.connect().await;
    for body in ["a", "", "b"] {
        assert_eq!(said(&mut stream, &echo(body)).await, format!("short {body};"));
    }
}

#[tokio::test]
async fn requests_that_are_sent_together_are_answered_in_their_order() {
    let rig = serving(Config::private()).await;
    let (mut reader, mut writer) = rig.connect().await.into_split();
    // Far more than are read at once, so that some come in two pieces.
    let bodies: Vec<_> = (0..2_000).map(|n| format!("{n:04};")).collect();
    let all: String = bodies.iter().map(|body| echo(body)).collect();
    let sent = writer.write_all(all.as_bytes());
    let answers = async {
        let (mut answers, mut buffer) = (String::new(), [0; 4_096]);
        while !answers.ends_with("1999;;") {
            let length = timeout(PATIENCE, reader.read(&mut buffer)).await.unwrap().unwrap();
            assert!(length > 0, "closed after {answers:?}");
            answers.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
        answers
    };
    let (sent, answers) = tokio::join!(sent, answers);
    sent.unwrap();
    let said: Vec<_> = answers.split("short ").skip(1).map(|rest| &rest[..5]).collect();
    assert_eq!(said, bodies);
}

/// A connection whose short way goes on in this thread, and what it had kept at its end. Time stands still, unless nobody has
/// anything to do: so all that was sent has been read when it goes on.
async fn alone() -> (TcpStream, JoinHandle<(End, BytesMut)>) {
    let listener = bind("127.0.0.1:0").await.unwrap();
    let peer = listener.local_addr().unwrap();
    let client = TcpStream::connect(peer).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    stream.set_nodelay(true).unwrap();
    client.set_nodelay(true).unwrap();
    let app = Echo { slow: Slow::default(), routes: Router::new() };
    let activity = Arc::new(Activity::new(Arc::default()));
    let mut short = Short { app, guest: (), stream, peer, activity, max_head: 8_192, kept: BytesMut::new() };
    #[expect(clippy::disallowed_methods, reason = "ends with the test")]
    let end = tokio::spawn(async move { (short.serve().await, short.kept) });
    (client, end)
}

/// How a short way ended, by its name: who takes a socket can't be compared. And what it had kept.
async fn ended(end: JoinHandle<(End, BytesMut)>) -> (String, BytesMut) {
    let (end, kept) = end.await.unwrap();
    (format!("{end:?}"), kept)
}

#[tokio::test(start_paused = true)]
async fn a_request_may_come_in_pieces() {
    let (mut stream, end) = alone().await;
    let whole = echo("a");
    let head = whole.len() - 1;
    for at in [1, 20, head - 1, head] {
        let (start, rest) = whole.split_at(at);
        stream.write_all(start.as_bytes()).await.unwrap();
        sleep(MOMENT / 2).await;
        assert_eq!(said(&mut stream, rest).await, "short a;", "after {start:?}");
    }
    drop(stream);
    assert_eq!(ended(end).await, ("Closed".to_owned(), BytesMut::new()));
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_in_many_pieces_or_too_slowly_or_breaks_off_is_the_librarys() {
    let whole = echo("a");
    let (mut stream, end) = alone().await;
    let mut sent = 0;
    while !end.is_finished() {
        stream.write_all(&whole.as_bytes()[sent..=sent]).await.unwrap();
        sent += 1;
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(sent, PIECES_MAX as usize + 1);
    assert_eq!(ended(end).await, ("Unusual".to_owned(), whole[..sent].into()));

    for at in [1, whole.len() - 1] {
        let (mut stream, end) = alone().await;
        assert_eq!(said(&mut stream, &whole).await, "short a;");
        stream.write_all(&whole.as_bytes()[..at]).await.unwrap();
        sleep(MOMENT - Duration::from_millis(5)).await;
        assert!(!end.is_finished());
        assert_eq!(ended(end).await, ("Unusual".to_owned(), whole[..at].into()));

        let (mut stream, end) = alone().await;
        stream.write_all(&whole.as_bytes()[..at]).await.unwrap();
        let since = Instant::now();
        stream.shutdown().await.unwrap();
        assert_eq!(ended(end).await, ("Unusual".to_owned(), whole[..at].into()));
        assert!(since.elapsed() < MOMENT);
    }
}

#[tokio::test]
async fn what_is_not_plain_is_answered_by_the_library_and_so_is_all_that_follows() {
    let rig = serving(Config::private()).await;
    let chunked =
        "POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n".to_owned();
    let long = "x".repeat(WHOLE_MAX);
    for (request, body) in [
        (post_of("/echo", "te: trailers\r\n", "a"), "long a;"),
        (chunked, "long a;"),
        (echo(&long), &*format!("long {long};")),
        ("GET /other HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), "other;"),
    ] {
        let mut stream = rig.connect().await;
        assert_eq!(said(&mut stream, &echo("a")).await, "short a;");
        assert_eq!(said(&mut stream, &request).await, body, "{request}");
        assert_eq!(said(&mut stream, &echo("a")).await, "long a;", "after {request}");
    }
}

#[tokio::test]
async fn what_comes_behind_a_plain_request_reaches_the_library() {
    let rig = serving(Config::private()).await;
    let mut stream = rig.connect().await;
    let both = [&*echo("a"), "GET /other HTTP/1.1\r\nhost: x\r\n\r\n"].concat();
    let answers = ask(&mut stream, both.as_bytes(), "other;").await;
    assert!(answers.contains("short a;HTTP/1.1 200 OK"), "{answers}");
}

#[tokio::test]
async fn http2_is_the_librarys_from_its_preface_on() {
    let rig = serving(Config::private()).await;
    let mut stream = rig.connect().await;
    for piece in [&b"PRI * HT"[..], b"TP/2.0\r\n\r\nSM\r\n\r\n", &[0, 0, 0, 4, 0, 0, 0, 0, 0]] {
        stream.write_all(piece).await.unwrap();
    }
    let mut frame = [0; 9];
    timeout(PATIENCE, stream.read_exact(&mut frame)).await.unwrap().unwrap();
    assert_eq!(frame[3], 4, "the server's settings");
}

#[tokio::test]
async fn what_is_wrong_is_refused_as_the_library_refuses_it() {
    let rig = serving(Config::private()).await;
    for (request, status) in [
        ("POST /echo HTTP/1.1\r\nhost x\r\n\r\n".to_owned(), "400"),
        (post_of("/echo", "content-length: 7\r\n", "a"), "400"),
        (post_of("/echo", &format!("x: {}\r\n", "y".repeat(20_000)), "a"), "431"),
    ] {
        let mut stream = rig.connect().await;
        assert_eq!(said(&mut stream, &echo("a")).await, "short a;");
        let _ = stream.write_all(request.as_bytes()).await;
        let answer = rest(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

#[tokio::test]
async fn deadlines_hold_on_the_short_way() {
    let rig = serving(hasty()).await;
    let mut resting = rig.connect().await;
    let mut working = rig.connect().await;
    assert_eq!(said(&mut resting, &echo("a")).await, "short a;");
    working.write_all(post_of("/slow", "", "b").as_bytes()).await.unwrap();
    rig.slow.begun().await;
    let since = Instant::now();
    assert_eq!(rest(&mut resting).await, "");
    assert!(since.elapsed() >= Duration::from_millis(1_000), "it may rest for a while");
    // One that says nothing, and one that doesn't end its head.
    assert_eq!(rest(&mut rig.connect().await).await, "");
    let mut partial = rig.connect().await;
    partial.write_all(b"POST /ec").await.unwrap();
    assert_eq!(rest(&mut partial).await, "");
    rig.slow.go();
    assert_eq!(said(&mut working, "").await, "short b;");
}

#[tokio::test]
async fn a_shutdown_answers_what_is_under_way_and_says_that_it_closes() {
    let rig = serving(Config::private()).await;
    let mut idle = rig.connect().await;
    assert_eq!(said(&mut idle, &echo("a")).await, "short a;");
    let mut working = rig.connect().await;
    working.write_all(post_of("/slow", "", "b").as_bytes()).await.unwrap();
    let answer = rig.stop(&mut idle, &mut working).await;
    assert!(answer.ends_with("short b;") && answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn a_shutdown_answers_nothing_more_on_a_connection_after_it_said_that_it_closes() {
    let rig = serving(Config::private()).await;
    let mut idle = rig.connect().await;
    assert_eq!(said(&mut idle, &echo("a")).await, "short a;");
    let mut working = rig.connect().await;
    let both = [post_of("/slow", "", "b"), echo("c")].concat();
    working.write_all(both.as_bytes()).await.unwrap();
    let answer = rig.stop(&mut idle, &mut working).await;
    assert!(answer.ends_with("short b;"), "{answer}");
}

#[tokio::test]
async fn an_answer_waits_for_a_peer_that_has_not_taken_those_before() {
    let listener = bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let bytes = [b'x'; 65_536];
    stream.writable().await.unwrap();
    let filled = loop {
        if let Err(error) = stream.try_write(&bytes) {
            break error.kind();
        }
    };
    assert_eq!(filled, io::ErrorKind::WouldBlock);
    let (activity, answer) =
        (Activity::new(Arc::default()), Answer::new(StatusCode::OK, "text/plain", "all;"));
    let writes = async {
        write(&mut stream, &activity, &answer, true).await.unwrap();
        drop(stream);
    };
    let ((), read) = tokio::join!(writes, rest(&mut client));
    let answer = read.trim_start_matches('x');
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("all;"), "{answer}");
}

#[tokio::test]
async fn a_peer_that_takes_no_answers_is_cut() {
    let rig = serving(hasty()).await;
    for headers in ["", "te: trailers\r\n"] {
        let mut stream = rig.connect().await;
        let request = post_of("/echo", headers, &"x".repeat(8_000));
        let cut = async { while stream.write_all(request.as_bytes()).await.is_ok() {} };
        timeout(PATIENCE, cut).await.expect("it is cut");
    }
}

#[tokio::test]
async fn who_answers_with_events_may_have_the_socket() {
    let events = get(async |offer: Option<Extension<Offer>>| {
        let headers = [("content-type", "text/event-stream")];
        let Some(Extension(offer)) = offer else { return (headers, "long;") };
        offer.accept(|mut stream, read| {
            use std::io::Write as _;
            stream.write_all(&[&read, &b" taken;"[..]].concat()).unwrap();
        });
        (headers, "")
    });
    let rig = Rig::start(Router::new().route("/events", events), Slow::default(), Config::private()).await;
    let ask = "GET /events HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n";
    let mut stream = rig.connect().await;
    stream.write_all([ask, "more"].concat().as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: text/event-stream\r\n") && body == "more taken;", "{answer}");
    assert!(
        head.contains("connection: close") && !head.contains("length"),
        "its end is the connection's: {head}"
    );

    // The library has no socket to give.
    let mut stream = rig.connect().await;
    assert_eq!(said(&mut stream, &ask.replace("accept", "te: trailers\r\naccept")).await, "long;");
    let mut stream = rig.connect().await;
    assert_eq!(said(&mut stream, &ask.replace("accept", "x")).await, "long;");
}

#[tokio::test]
async fn a_connection_ends_with_the_request_that_says_so() {
    let rig = serving(Config::private()).await;
    let mut stream = rig.connect().await;
    assert_eq!(said(&mut stream, &echo("a")).await, "short a;");
    stream.write_all(post_of("/echo", "connection: close\r\n", "b").as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.ends_with("short b;") && answer.contains("\r\nconnection: close\r\n"), "{answer}");
}
