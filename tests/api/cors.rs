//! What browsers ask before they let a page post (Fetch standard, 3.2).

use super::{
    ROOM, plan,
    raw::{Answer, ask},
    with_a_frame,
};

const PAGE: &str = "https://live.example.com";

fn options(address: &str, path: &str, headers: &str) -> Answer {
    ask(address, &format!("OPTIONS {path} HTTP/1.1\r\nhost: a\r\n{headers}\r\n"))
}

fn preflight(origin: &str, method: &str, header: &str) -> String {
    format!(
        "origin: {origin}\r\naccess-control-request-method: {method}\r\naccess-control-request-headers: {header}\r\n"
    )
}

#[tokio::test]
async fn a_page_may_post_and_read_and_its_browser_remembers_so() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = with_a_frame(&dir).await;
    let posts = format!("/v1/rooms/{ROOM}/reactions");
    let answer = options(&uproar.http, &posts, &preflight(PAGE, "POST", "content-type"));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
    assert_eq!(answer.header("access-control-allow-methods"), Some("POST"));
    assert!(answer.header("access-control-allow-headers").unwrap().contains("content-type"), "{answer:?}");
    assert_eq!(answer.header("access-control-max-age"), Some("7200"));

    let snapshot = format!("/v1/rooms/{ROOM}");
    let answer = options(&uproar.http, &snapshot, &preflight(PAGE, "GET", "if-none-match"));
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some("*")));
    assert!(answer.header("access-control-allow-methods").unwrap().contains("GET"), "{answer:?}");
    assert_eq!(answer.header("access-control-max-age"), Some("86400"));

    // The answers themselves can be read by the page, refusals too.
    let body = r#"{"reaction":"a"}"#;
    for (kind, status) in [("application/json", 202), ("text/plain;charset=UTF-8", 202), ("text/html", 415)] {
        let length = body.len();
        let answer = ask(
            &uproar.http,
            &format!(
                "POST {posts} HTTP/1.1\r\nhost: a\r\norigin: {PAGE}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
            ),
        );
        assert_eq!(
            (answer.status, answer.header("access-control-allow-origin")),
            (status, Some(PAGE)),
            "{kind}"
        );
    }
    let answer = ask(&uproar.http, &format!("GET {snapshot} HTTP/1.1\r\nhost: a\r\norigin: {PAGE}\r\n\r\n"));
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some("*")));
}

#[tokio::test]
async fn a_page_of_another_origin_is_not_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = plan(&dir).set(format!("ingest.cors_origins=[\"{PAGE}\"]")).start().await;
    let posts = format!("/v1/rooms/{ROOM}/reactions");
    for (origin, allowed) in [(PAGE, Some(PAGE)), ("https://evil.example", None), ("null", None)] {
        let answer = options(&uproar.http, &posts, &preflight(origin, "POST", "content-type"));
        assert_eq!(answer.header("access-control-allow-origin"), allowed, "{origin}");
        // A browser sends text without asking first.
        let body = r#"{"reaction":"a"}"#;
        let length = body.len();
        let answer = ask(
            &uproar.http,
            &format!(
                "POST {posts} HTTP/1.1\r\nhost: a\r\norigin: {origin}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n{body}"
            ),
        );
        assert_eq!(answer.status, if allowed.is_some() { 202 } else { 403 }, "{origin}");
    }
}

#[tokio::test]
async fn the_origins_that_may_post_and_read_change_while_running() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("uproar.toml");
    let write = |origins: &str| {
        let text = format!("[ingest]\ncors_origins = {origins}\n[fanout]\ncors_origins = {origins}\n");
        std::fs::write(&file, text).unwrap();
    };
    write("[\"*\"]");
    let uproar = plan(&dir).config(&file).start().await;
    let allowed = |path: &str, method: &str| {
        let answer = options(&uproar.http, path, &preflight(PAGE, method, "content-type"));
        answer.header("access-control-allow-origin").map(str::to_owned)
    };
    let both = || {
        [
            allowed(&format!("/v1/rooms/{ROOM}/reactions"), "POST"),
            allowed(&format!("/v1/rooms/{ROOM}"), "GET"),
        ]
    };
    assert_eq!(both(), [Some(PAGE.into()), Some("*".into())]);
    write("[\"capacitor://localhost\"]");
    uproar.until_log("configuration of ingest is in force").await;
    assert_eq!(both(), [None, None]);
    assert!(!uproar.log().contains("takes effect at the next start"), "{}", uproar.log());
}

#[tokio::test]
async fn options_that_is_no_preflight_is_a_method_like_others() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = plan(&dir).start().await;
    for (path, allow) in [("/v1/rooms/a/reactions", "POST"), ("/v1/rooms/a", "GET,HEAD")] {
        for headers in ["", "origin: https://a.example\r\n", "access-control-request-method: POST\r\n"] {
            let answer = options(&uproar.http, path, headers);
            assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{path} {headers:?}");
        }
    }
    assert_eq!(options(&uproar.http, "/nothing", "").status, 404);
}
