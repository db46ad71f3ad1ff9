//! A client that ends its side of the connection behind its request (RFC 9112, section 9.6): it is answered, and what is
//! counted is what is answered.

use super::{ROOM, plan, raw::Connection, with_a_frame};
use crate::{end_to_end::until_total, harness::wait::until};

const BODY: &str = r#"{"reaction":"🔥"}"#;

fn post(version: &str, path: &str, headers: &str) -> String {
    let length = BODY.len();
    format!(
        "POST {path} HTTP/{version}\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{BODY}"
    )
}

/// Every form of a post that is read in a way of its own.
fn posts() -> Vec<(&'static str, String)> {
    let path = format!("/v1/rooms/{ROOM}/reactions");
    let chunked = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{BODY}\r\n0\r\n\r\n",
        BODY.len()
    );
    let many: String = (0..40).map(|number| format!("x-{number}: y\r\n")).collect();
    vec![
        ("plain", post("1.1", &path, "")),
        ("chunked", chunked),
        ("te", post("1.1", &path, "te: trailers\r\n")),
        ("http/1.0", post("1.0", &path, "")),
        ("http/1.0 kept", post("1.0", &path, "connection: keep-alive\r\n")),
        ("expect", post("1.1", &path, "expect: x\r\n")),
        ("query", post("1.1", &format!("{path}?x=1"), "")),
        ("connection", post("1.1", &path, "connection: keep-alive, x\r\n")),
        ("40 headers", post("1.1", &path, &many)),
        ("percent-encoded", post("1.1", &path.replace("ind", "%69nd"), "")),
        ("slash at the end", post("1.1", &format!("{path}/"), "")),
        ("slash at the start", post("1.1", &format!("/{path}"), "")),
    ]
}

#[tokio::test]
async fn every_post_is_answered_after_the_client_has_ended_its_side_and_counted_once() {
    const EACH: u64 = 10;
    let dir = tempfile::tempdir().unwrap();
    let uproar = plan(&dir).start().await;
    let mut counted = 0;
    for (form, request) in posts() {
        for _ in 0..EACH {
            let answer = Connection::open(&uproar.http).send(&request).end().answer();
            assert_eq!((answer.status, answer.body.as_str()), (202, r#"{"accepted":1}"#), "{form}");
            counted += 1;
        }
    }
    until_total(&uproar.http, ROOM, counted).await;
    for metric in ["uproar_ingest_accepted_total", "uproar_ingest_committed_total"] {
        let agrees = async || (uproar.metric(metric).await == counted as f64).then_some(());
        until(&format!("{metric} to be {counted}"), agrees).await;
    }
}

#[tokio::test]
async fn a_post_that_breaks_off_is_not_counted() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = plan(&dir).start().await;
    for (form, request) in posts() {
        let broken = &request.as_bytes()[..request.len() - 2];
        let mut connection = Connection::open(&uproar.http);
        connection.send(broken).end();
        assert!(!connection.says(" 202 "), "{form}");
    }
    assert_eq!(uproar.metric("uproar_ingest_committed_total").await, 0.0);
    assert_eq!(
        Connection::open(&uproar.http).send(post("1.1", "/v1/rooms/a/reactions", "")).answer().status,
        202
    );
}

#[tokio::test]
async fn reads_are_answered_after_the_client_has_ended_its_side() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = with_a_frame(&dir).await;
    for request in [
        format!("GET /v1/rooms/{ROOM} HTTP/1.1\r\nhost: a\r\n\r\n"),
        format!("GET /v1/rooms/{ROOM}/ HTTP/1.1\r\nhost: a\r\n\r\n"),
        format!("GET /v1/rooms/{ROOM} HTTP/1.0\r\n\r\n"),
        "GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
    ] {
        assert_eq!(Connection::open(&uproar.http).send(&request).end().answer().status, 200, "{request}");
    }
    let events = format!("GET /v1/rooms/{ROOM}/events HTTP/1.0\r\n\r\n");
    assert!(Connection::open(&uproar.http).send(&events).end().says("data: {"));
}
