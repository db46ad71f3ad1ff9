//! The HTTP contract: each way to be answered, and that each refusal says what would be right.

use super::*;
use bytes::Bytes;
use futures_util::stream;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const PATH: &str = "/v1/rooms/final/reactions";

fn strict() -> Config {
    Config {
        rooms: vec!["final".into()],
        catalogue: vec!["🔥".into(), "👏".into()],
        max_distinct_per_request: 2,
        ..config()
    }
}

#[tokio::test(start_paused = true)]
async fn the_three_forms_are_accepted_and_answered_with_the_sum() {
    let rig = Rig::open(strict()).await;
    for (body, accepted) in [
        (r#"{"reaction":"🔥"}"#, 1),
        (r#"{"reaction":"🔥","count":7}"#, 7),
        (r#"{"reactions":{"🔥":7,"👏":2}}"#, 9),
        ("\u{feff}{\"reaction\":\"🔥\"}", 1),
    ] {
        let answer = rig.post("final", body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.body, format!("{{\"accepted\":{accepted}}}"));
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    assert_eq!(rig.total("final"), 18);
}

#[tokio::test(start_paused = true)]
async fn each_refusal_is_a_problem_that_says_what_would_be_right() {
    let rig = Rig::open(strict()).await;
    let long = format!("{{\"reaction\":\"{}\"}}", "x".repeat(65));
    let huge = " ".repeat(4_097);
    for (path, body, status, detail) in [
        ("/v1/rooms/a%20b/reactions", FIRE, 400, "a room name may hold A-Z a-z 0-9 . _ ~ - only"),
        ("/v1/rooms/%ff/reactions", FIRE, 400, "not UTF-8"),
        (
            PATH,
            "{",
            400,
            "EOF while parsing an object at line 1 column 1. Send {\\\"reaction\\\":\\\"🔥\\\"}",
        ),
        (PATH, r#"{"reaction":1}"#, 400, "expected a string at line 1 column 13"),
        (PATH, r#"{"reactions":{"🔥":1,"🔥":1}}"#, 400, "stands twice"),
        (PATH, r#"{"reaction":"🔥","x":1}"#, 400, "unknown field `x`"),
        ("/v1/rooms/other/reactions", FIRE, 404, "there is no room \\\"other\\\" here"),
        ("/v1/rooms/final/reaction", FIRE, 404, "POST to /v1/rooms/{room}/reactions"),
        ("/v1/rooms//reactions", FIRE, 400, "a room name needs 1 to 64 characters"),
        ("/", FIRE, 404, "POST to /v1/rooms/{room}/reactions"),
        (PATH, &huge, 413, "longer than 4096 bytes"),
        (PATH, r#"{"reaction":"💩"}"#, 422, "allowed are: 🔥 👏"),
        (PATH, r#"{"reaction":""}"#, 422, "1 to 64 bytes of UTF-8, this one is empty"),
        (PATH, &long, 422, "at most 64 bytes of UTF-8, this one has 65"),
        (PATH, r#"{"reaction":"\u0007"}"#, 422, "may not hold control characters"),
        (PATH, r#"{"reaction":"\u200b"}"#, 422, "needs a character that can be seen"),
        (PATH, r#"{"reaction":"a\u202e"}"#, 422, "may not hold U+202E"),
        (PATH, r#"{"reactions":{}}"#, 422, "name at least one"),
        (PATH, r#"{"reaction":"🔥","count":0}"#, 422, "the count of \\\"🔥\\\" must be 1 to 1000, is 0"),
        (PATH, r#"{"reactions":{"🔥":1,"👏":1001}}"#, 422, "the count of \\\"👏\\\" must be 1 to 1000"),
        (PATH, r#"{"reactions":{"🔥":1,"👏":1,"x":1}}"#, 422, "at most 2 distinct reactions"),
    ] {
        let answer = rig.ask(request(Method::POST, path, JSON, body.to_owned())).await;
        assert_eq!(answer.status, status, "{path} {body}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert!(answer.body.contains(detail), "{path} {body}: {answer:?}");
        assert_eq!(answer.header("retry-after"), None, "a retry does not help: {answer:?}");
    }
    assert_eq!((rig.total("final"), rig.inside()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_body_has_to_be_said_to_be_json_or_plain_text_in_utf_8() {
    let rig = Rig::open(config()).await;
    for (headers, status) in [
        (&[("content-type", "application/json; charset=utf-8")][..], 202),
        (&[("content-type", "Application/JSON;Charset=\"UTF-8\"")], 202),
        (&[("content-type", "text/plain;charset=UTF-8")], 202),
        (&[("content-type", "application/json; charset=utf8")], 202),
        (&[("content-type", "application/json; charset=\"UTF8\"")], 202),
        (&[("content-type", "text/plain; charset=us-ascii")], 202),
        (&[("content-type", "application/json"), ("content-encoding", "")], 202),
        (&[("content-type", "application/json"), ("content-encoding", "identity")], 202),
        (&[], 415),
        (&[("content-type", "")], 415),
        (&[("content-type", "application/x-www-form-urlencoded")], 415),
        (&[("content-type", "application/json; charset=latin1")], 415),
        (&[("content-type", "application/json"), ("content-encoding", "gzip")], 415),
    ] {
        let answer = rig.ask(request(Method::POST, PATH, headers, FIRE)).await;
        assert_eq!(answer.status, status, "{headers:?}: {answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn other_methods_are_refused_with_the_one_that_is_allowed() {
    let rig = Rig::open(config()).await;
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
        let answer = rig.ask(request(method.clone(), PATH, &[], "")).await;
        assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, Some("POST")));
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_of_unknown_length_have_the_same_limit_and_have_to_come_soon() {
    let rig = Rig::open(config()).await;
    let chunks = |n: usize| stream::iter((0..n).map(|_| Ok::<_, io::Error>(Bytes::from(" ".repeat(100)))));
    let endless = stream::pending::<Result<Bytes, io::Error>>();
    let broken = stream::iter([Err::<Bytes, _>(io::Error::other("reset"))]);
    for (body, status) in [
        (Body::from_stream(chunks(40)), 400),
        (Body::from_stream(chunks(41)), 413),
        (Body::from_stream(broken), 400),
        (Body::from_stream(endless), 408),
    ] {
        let answer = rig.ask(request(Method::POST, PATH, JSON, body)).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

#[tokio::test]
async fn a_content_length_over_the_limit_is_refused_before_the_body_is_sent() {
    let rig = Rig::open(config()).await;
    let (address, _server) = rig.serve().await;
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4097\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    socket.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let rig = Rig::open(Config { ack_timeout_ms: 50, ..config() }).await;
    let (address, _server) = rig.serve().await;
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
    socket.write_all(format!("{head}Content-Length: 18\r\n\r\n{{").as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn too_many_distinct_reactions_of_a_moment_are_refused_until_the_next() {
    let rig = Rig::open(Config { max_distinct_per_request: 2, max_distinct_per_batch: 2, ..config() }).await;
    let (two, known, third) =
        (r#"{"reactions":{"a":1,"b":1}}"#, r#"{"reaction":"a"}"#, r#"{"reaction":"c"}"#);
    let (two, known, refused) = tokio::join!(rig.post("r", two), rig.post("r", known), rig.post("r", third));
    assert_eq!((two.status, known.status), (StatusCode::ACCEPTED, StatusCode::ACCEPTED));
    assert_eq!((refused.status, refused.retries_within(1..=3)), (StatusCode::TOO_MANY_REQUESTS, true));
    assert_eq!(rig.post("r", third).await.status, 202);
    assert_eq!(rig.total("r"), 4);
}

#[tokio::test(start_paused = true)]
async fn browsers_may_post_from_trusted_origins_and_read_refusals() {
    let rig = Rig::open(config()).await;
    let preflight = |origin: &'static str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type"),
        ];
        request(Method::OPTIONS, PATH, &headers, "")
    };
    let answer = rig.ask(preflight("https://a.example")).await;
    assert_eq!(answer.status, 200);
    for (header, value) in [
        ("access-control-allow-origin", "https://a.example"),
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", "content-type,idempotency-key"),
        ("access-control-max-age", "7200"),
    ] {
        assert_eq!(answer.header(header), Some(value));
    }
    rig.reload(Config { cors_origins: vec!["https://b.example".into()].into(), ..config() }).await;
    assert_eq!(rig.ask(preflight("https://a.example")).await.header("access-control-allow-origin"), None);
    for path in [PATH, "/nowhere"] {
        let headers = [("origin", "https://b.example"), ("content-type", "text/html")];
        let answer = rig.ask(request(Method::POST, path, &headers, FIRE)).await;
        assert!(answer.status.is_client_error());
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://b.example"));
        assert_eq!(
            answer.header("access-control-expose-headers"),
            Some("retry-after,ratelimit,ratelimit-policy")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_of_an_origin_that_is_not_listed_can_not_post_even_without_a_preflight() {
    let (handle, _recording) = recorded();
    let rig = Rig::open(config()).await;
    let post = async |path: &str, origin: &str, host: &str| {
        let headers = [("content-type", "text/plain"), ("origin", origin), ("host", host)];
        rig.ask(request(Method::POST, path, &headers, FIRE)).await
    };
    assert_eq!(post(PATH, "https://evil.example", "h").await.status, 202, "by default every page may");
    let listed = vec!["https://good.example".into(), "capacitor://localhost".into()];
    rig.reload(Config { cors_origins: listed.into(), ..config() }).await;
    // A name that is percent-encoded goes through the router.
    for path in [PATH, "/v1/rooms/%66inal/reactions"] {
        for (origin, host, status) in [
            ("https://good.example", "h", 202),
            ("capacitor://localhost", "h", 202),
            ("https://own.example", "own.example", 202),
            ("http://127.0.0.1:8080", "127.0.0.1:8080", 202),
            ("https://evil.example", "own.example", 403),
            ("https://own.example:444", "own.example", 403),
            ("https://good.example.evil", "h", 403),
            ("null", "null", 403),
            ("", "", 403),
        ] {
            let answer = post(path, origin, host).await;
            assert_eq!(answer.status, status, "{path} {origin} {host}: {answer:?}");
            if status == 403 {
                assert_eq!(answer.header("content-type"), Some("application/problem+json"));
                assert_eq!(answer.header("access-control-allow-origin"), None);
                assert!(answer.body.contains("ingest.cors_origins"), "{answer:?}");
            }
        }
    }
    assert_eq!(rig.post("final", FIRE).await.status, 202, "a program that is no browser sends no Origin");
    rig.reload(Config { cors_origins: vec![].into(), ..config() }).await;
    assert_eq!(post(PATH, "https://good.example", "h").await.status, 403);
    assert_eq!(rig.total("final"), 1 + 2 * 4 + 1);
    let text = handle.render();
    for line in ["refused_total{cause=\"origin\"} 11\n", "requests_total{status=\"403\"} 11\n"] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_configuration_holds_for_the_next_request() {
    let rig = Rig::open(config()).await;
    assert_eq!(rig.post("r", FIRE).await.status, 202);
    for (config, status) in [
        (Config { catalogue: vec!["👏".into()], ..config() }, 422),
        (Config { rooms: vec!["other".into()], ..config() }, 404),
        (Config { max_body_bytes: 10, ..config() }, 413),
        (config(), 202),
    ] {
        rig.reload(config).await;
        assert_eq!(rig.post("r", FIRE).await.status, status);
    }
    rig.log.hold_appends(true);
    rig.reload(Config { ack: crate::Ack::Received, ..config() }).await;
    assert_eq!(rig.post("r", FIRE).await.status, 202);
}
