//! HTTP/1.1 (RFC 9112), and 1.0.

use super::{
    ROOM, plan,
    raw::{Connection, ask},
    with_a_frame,
};

const BODY: &str = r#"{"reaction":"🔥","count":2}"#;

/// The head of a post, up to its last header.
fn head(version: &str, headers: &str) -> String {
    format!(
        "POST /v1/rooms/{ROOM}/reactions HTTP/{version}\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}\r\n"
    )
}

/// A post of [`BODY`].
fn post(headers: &str) -> String {
    let length = BODY.len();
    format!("{}{BODY}", head("1.1", &format!("content-length: {length}\r\n{headers}")))
}

#[tokio::test]
async fn a_connection_serves_many_requests_until_it_is_asked_to_close() {
    let dir = tempfile::tempdir().unwrap();
    let mut uproar = plan(&dir).start().await;
    let mut connection = Connection::open(&uproar.http);
    for _ in 0..50 {
        let answer = connection.send(post("")).answer();
        assert_eq!((answer.status, answer.version.as_str()), (202, "HTTP/1.1"));
        assert_eq!(answer.header("connection"), None, "kept, as 1.1 has it");
    }
    let answer = connection.send(post("connection: close\r\n")).answer();
    assert_eq!((answer.status, answer.header("connection")), (202, Some("close")));
    connection.closed();
    uproar.stop();
}

#[tokio::test]
async fn requests_that_come_in_one_write_are_answered_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = plan(&dir).start().await;
    let posts: String = (1..=20)
        .map(|count| {
            let body = format!(r#"{{"reaction":"a","count":{count}}}"#);
            format!("{}{body}", head("1.1", &format!("content-length: {}\r\n", body.len())))
        })
        .collect();
    let mut connection = Connection::open(&uproar.http);
    connection.send(posts + "GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n");
    for count in 1..=20 {
        let answer = connection.answer();
        assert_eq!((answer.status, answer.body), (202, format!(r#"{{"accepted":{count}}}"#)));
    }
    assert_eq!(connection.answer().status, 404);
}

#[tokio::test]
async fn a_body_may_come_in_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = plan(&dir).start().await;
    let mut connection = Connection::open(&uproar.http);
    connection.send(head("1.1", "transfer-encoding: chunked\r\n"));
    for byte in BODY.as_bytes() {
        connection.send(b"1\r\n").send([*byte]).send(b"\r\n");
    }
    let answer = connection.send("0\r\n\r\n").answer();
    assert_eq!((answer.status, answer.body.as_str()), (202, r#"{"accepted":2}"#));
    // And the connection is good for another.
    assert_eq!(connection.send(post("")).answer().status, 202);
    let long = format!("{:x}\r\n{}\r\n0\r\n\r\n", 5_000, "x".repeat(5_000));
    assert_eq!(connection.send(head("1.1", "transfer-encoding: chunked\r\n") + &long).answer().status, 413);
    let torn = head("1.1", "transfer-encoding: chunked\r\n") + "zz\r\n";
    let mut connection = Connection::open(&uproar.http);
    assert_eq!(connection.send(torn).answer().status, 400);
    connection.closed();
}

#[tokio::test]
async fn who_asks_whether_to_send_the_body_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = plan(&dir).start().await;
    let expect =
        |length: usize| head("1.1", &format!("expect: 100-continue\r\ncontent-length: {length}\r\n"));
    let mut connection = Connection::open(&uproar.http);
    assert_eq!(connection.send(expect(BODY.len())).head().status, 100);
    assert_eq!(connection.send(BODY).answer().status, 202);
    // A body that is too long is refused before it is sent.
    let answer = connection.send(expect(5_000)).answer();
    assert_eq!((answer.status, answer.header("content-type")), (413, Some("application/problem+json")));
    connection.closed();
}

#[tokio::test]
async fn http_1_0_is_served_without_a_host_and_kept_where_it_asks() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = with_a_frame(&dir).await;
    let mut connection = Connection::open(&uproar.http);
    let answer = connection.send(format!("GET /v1/rooms/{ROOM} HTTP/1.0\r\n\r\n")).answer();
    assert_eq!((answer.status, answer.version.as_str()), (200, "HTTP/1.0"));
    connection.closed();
    let mut connection = Connection::open(&uproar.http);
    for _ in 0..3 {
        let keep = format!("connection: keep-alive\r\ncontent-length: {}\r\n", BODY.len());
        let answer = connection.send(head("1.0", &keep) + BODY).answer();
        assert_eq!((answer.status, answer.header("connection")), (202, Some("keep-alive")));
    }
}

#[tokio::test]
async fn a_path_may_come_with_its_host_and_any_host_is_served_that_is_the_only_one() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = with_a_frame(&dir).await;
    for (target, host, status) in [
        (format!("http://example.com/v1/rooms/{ROOM}"), "host: other.example\r\n", 200),
        (format!("/v1/rooms/{ROOM}"), "host: other.example:99\r\n", 200),
        // RFC 9112 (3.2).
        (format!("/v1/rooms/{ROOM}"), "", 400),
        (format!("/v1/rooms/{ROOM}"), "host: a\r\nhost: b\r\n", 400),
    ] {
        let answer = ask(&uproar.http, &format!("GET {target} HTTP/1.1\r\n{host}\r\n"));
        assert_eq!(answer.status, status, "{target} {host:?}");
    }
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = with_a_frame(&dir).await;
    let mut connection = Connection::open(&uproar.http);
    for path in [format!("/v1/rooms/{ROOM}"), "/openapi.json".to_owned(), "/v1/rooms/silent".to_owned()] {
        let get = connection.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).answer();
        let head = connection.send(format!("HEAD {path} HTTP/1.1\r\nhost: a\r\n\r\n")).head();
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
    let answer =
        connection.send(format!("HEAD /v1/rooms/{ROOM}/reactions HTTP/1.1\r\nhost: a\r\n\r\n")).head();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    let answer = connection.send(format!("HEAD /v1/rooms/{ROOM}/live HTTP/1.1\r\nhost: a\r\n\r\n")).head();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")), "a WebSocket");
}

#[tokio::test]
async fn methods_that_a_route_does_not_have_are_answered_with_those_that_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = plan(&dir).start().await;
    let mut connection = Connection::open(&uproar.http);
    for (path, allow) in [
        ("/v1/rooms/a/reactions", "POST"),
        ("/v1/rooms", "GET,HEAD"),
        ("/v1/rooms/a", "GET,HEAD"),
        ("/v1/rooms/a/events", "GET,HEAD"),
        ("/v1/rooms/a/live", "GET"),
        ("/v1/live", "GET"),
        ("/mqtt", "GET"),
        ("/openapi.json", "GET,HEAD"),
    ] {
        for method in ["PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "QUERY", "BREW"] {
            let answer = connection.send(format!("{method} {path} HTTP/1.1\r\nhost: a\r\n\r\n")).answer();
            assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {path}");
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{method} {path}");
        }
    }
    for (method, path) in [("GET", "/v1"), ("GET", "/v1/rooms/a/b"), ("OPTIONS", "*"), ("CONNECT", "a:80")] {
        let answer = connection.send(format!("{method} {path} HTTP/1.1\r\nhost: a\r\n\r\n")).answer();
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (404, Some("application/problem+json")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn odd_paths_are_no_rooms() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = plan(&dir).start().await;
    let mut connection = Connection::open(&uproar.http);
    for name in ["%00", "%ff", "%zz", "a%2Fb", "%F0%9F%94%A5", "a%20b", "a%0d%0ab", "a;b", "%"] {
        let post = post("").replace(ROOM, name);
        for request in [post, format!("GET /v1/rooms/{name} HTTP/1.1\r\nhost: a\r\n\r\n")] {
            let answer = connection.send(request).answer();
            assert_eq!(
                (answer.status, answer.header("content-type")),
                (400, Some("application/problem+json")),
                "{name}"
            );
        }
    }
    // Escapes that need not be are the same name; a dot is a name like others.
    for name in ["%61", ".", ".."] {
        assert_eq!(connection.send(post("").replace(ROOM, name)).answer().status, 202, "{name}");
    }
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused_or_ends_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = plan(&dir).start().await;
    let length = BODY.len();
    for (headers, status) in [
        (format!("content-length: {length}\r\ncontent-length: {}\r\n", length + 1), 400),
        (format!("content-length: +{length}\r\n"), 400),
        ("transfer-encoding: chunked, identity\r\n".to_owned(), 400),
        ("content-length : 5\r\n".to_owned(), 400),
        ("x: a\0b\r\n".to_owned(), 400),
        (" folded: yes\r\n".to_owned(), 400),
        ("x: y\r\n".repeat(200), 431),
    ] {
        let mut connection = Connection::open(&uproar.http);
        let answer = connection.send(head("1.1", &headers)).answer();
        assert_eq!(answer.status, status, "{headers:?}");
        connection.closed();
    }
    // Chunks come before a length (RFC 9112, 6.3), and nothing else is read from such a connection.
    let mut connection = Connection::open(&uproar.http);
    let both = head("1.1", "transfer-encoding: chunked\r\ncontent-length: 3\r\n");
    let answer = connection.send(format!("{both}{length:x}\r\n{BODY}\r\n0\r\n\r\n")).answer();
    assert_eq!((answer.status, answer.header("connection")), (202, Some("close")));
    connection.closed();
}
