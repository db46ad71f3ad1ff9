//! Snapshots over HTTP, and what the tier shows of a log.

use super::harness::{Log, Stage, aggregate, config, deps};
use axum::{
    Router,
    body::Body,
    http::{Request, Response, StatusCode},
};
use eventlog::EventLog;
use http_body_util::BodyExt;
use service::Readiness;
use std::sync::Arc;
use tower::ServiceExt;
use wire::Frame;

fn router(stage: &Stage) -> Router {
    crate::http::router(stage.routes.clone())
}

pub(super) async fn get(stage: &Stage, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    router(stage).oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

pub(super) async fn body(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn the_newest_frame_is_a_cacheable_answer() {
    let stage = Stage::start(config()).await;
    stage.show(&aggregate("final", 1)).await;
    stage.show(&aggregate("final", 2)).await;
    let response = get(&stage, "/v1/rooms/final", &[]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-type"), "application/json");
    assert_eq!(header(&response, "cache-control"), "public, max-age=1");
    assert_eq!(header(&response, "etag"), "W/\"1763000000000-2\"");
    let frame = Frame::decode(body(response).await.as_bytes()).unwrap();
    assert_eq!(frame, Frame::of(&aggregate("final", 2), 10));
}

#[tokio::test]
async fn who_has_the_newest_frame_is_told_so_without_a_body() {
    let stage = Stage::start(config()).await;
    stage.show(&aggregate("final", 2)).await;
    for tag in ["W/\"1763000000000-2\"", "\"1763000000000-2\"", "\"x\", W/\"1763000000000-2\"", "*"] {
        let response = get(&stage, "/v1/rooms/final", &[("if-none-match", tag)]).await;
        assert_eq!(response.status(), 304, "{tag}");
        assert_eq!(header(&response, "etag"), "W/\"1763000000000-2\"");
        assert_eq!(header(&response, "cache-control"), "public, max-age=1");
        assert_eq!(body(response).await, "");
    }
    let other = get(&stage, "/v1/rooms/final", &[("if-none-match", "W/\"1763000000000-1\"")]).await;
    assert_eq!(other.status(), 200);
}

#[tokio::test]
async fn refusals_are_problems_that_say_why() {
    let stage = Stage::start(config()).await;
    for (path, status, text) in [
        ("/v1/rooms/empty", StatusCode::NOT_FOUND, "room empty has no frame: nobody has reacted in it"),
        ("/v1/rooms/a%20b", StatusCode::BAD_REQUEST, "found ' '"),
        ("/v1/rooms/a%FF", StatusCode::BAD_REQUEST, "UTF-8"),
        ("/v1/rooms/a%20b/live", StatusCode::BAD_REQUEST, "found ' '"),
    ] {
        let response = get(&stage, path, &[]).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(header(&response, "content-type"), "application/problem+json");
        let may_be_cached = if status == StatusCode::NOT_FOUND { "public, max-age=1" } else { "" };
        assert_eq!(header(&response, "cache-control"), may_be_cached, "{path}");
        let body = body(response).await;
        assert!(body.contains(text), "{body}");
    }
    let post = Request::post("/v1/rooms/final").body(Body::empty()).unwrap();
    let response = router(&stage).oneshot(post).await.unwrap();
    assert_eq!(response.status(), 405);
    assert_eq!(header(&response, "allow"), "GET,HEAD");
}

#[tokio::test]
async fn a_plain_request_for_the_live_stream_is_told_to_upgrade() {
    let stage = Stage::start(config()).await;
    let response = get(&stage, "/v1/rooms/final/live", &[]).await;
    assert_eq!(response.status(), 426);
    assert_eq!(header(&response, "upgrade"), "websocket");
    assert_eq!(header(&response, "content-type"), "application/problem+json");
    let no_key = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
    assert_eq!(get(&stage, "/v1/rooms/final/live", &no_key).await.status(), 400);
}

#[tokio::test]
async fn browsers_are_told_not_to_guess_the_type_of_any_body() {
    let stage = Stage::start(config()).await;
    stage.show(&aggregate("final", 1)).await;
    for (method, path, status) in [
        ("GET", "/v1/rooms/final", 200),
        ("GET", "/v1/rooms/empty", 404),
        ("GET", "/v1/rooms/a%20b", 400),
        ("POST", "/v1/rooms/final", 405),
        ("GET", "/v1/rooms/final/events", 200),
        ("POST", "/v1/rooms/final/events", 405),
        ("GET", "/v1/rooms/final/live", 426),
        ("POST", "/v1/rooms/final/live", 405),
        ("GET", "/v1/live?%3Cscript%3E=1", 400),
        ("GET", "/mqtt", 400),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = router(&stage).oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
        assert_eq!(header(&response, "x-content-type-options"), "nosniff", "{method} {path}");
    }
}

#[tokio::test]
async fn before_the_log_is_read_nobody_is_told_that_a_room_is_empty() {
    let log = Log::new().await;
    log.log.fail_opens(u32::MAX);
    let stage = Stage::over_unready(log, config()).await;
    let response = get(&stage, "/v1/rooms/final", &[]).await;
    assert_eq!(response.status(), 503);
    assert_eq!(header(&response, "retry-after"), "1");
    let missing =
        |readiness: &Readiness| readiness.missing().iter().map(|(name, _)| *name).collect::<Vec<_>>();
    assert_eq!(missing(&stage.readiness), ["fanout"]);
    stage.log.log.fail_opens(0);
    stage.until(|stage| stage.readiness.missing().is_empty()).await;
    assert_eq!(get(&stage, "/v1/rooms/final", &[]).await.status(), 404);
}

#[tokio::test]
async fn pages_may_send_what_reads_need_and_no_credentials() {
    let stage = Stage::start(config()).await;
    for path in ["/v1/rooms/final", "/v1/rooms/final/events"] {
        let preflight = Request::options(path)
            .header("origin", "https://a.example")
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "if-none-match,last-event-id");
        let response = router(&stage).oneshot(preflight.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let mut allowed: Vec<_> = header(&response, "access-control-allow-headers").split(',').collect();
        allowed.sort_unstable();
        assert_eq!(allowed, ["if-none-match", "last-event-id"], "{path}");
        assert_eq!(header(&response, "access-control-allow-credentials"), "", "{path}");
        let response = get(&stage, path, &[("origin", "https://a.example")]).await;
        assert_eq!(header(&response, "access-control-expose-headers"), "etag,retry-after", "{path}");
        assert_eq!(header(&response, "access-control-allow-credentials"), "", "{path}");
    }
}

#[tokio::test]
async fn pages_of_the_named_origins_may_read_snapshots() {
    let allowed = async |origins: &[&str], origin: &str| {
        let mut config = config();
        config.cors_origins = origins.iter().map(ToString::to_string).collect::<Vec<_>>().into();
        let stage = Stage::start(config).await;
        let response = get(&stage, "/v1/rooms/final", &[("origin", origin)]).await;
        header(&response, "access-control-allow-origin").to_owned()
    };
    assert_eq!(allowed(&["*"], "https://a.example").await, "*");
    assert_eq!(allowed(&["https://a.example"], "https://a.example").await, "https://a.example");
    assert_eq!(allowed(&["https://a.example"], "https://b.example").await, "");
    assert_eq!(allowed(&[], "https://a.example").await, "");
}

#[tokio::test]
async fn what_the_log_held_is_shown_after_a_start() {
    let log = Log::new().await;
    for seq in 1..=3 {
        log.aggregate(&aggregate("final", seq)).await;
    }
    log.aggregate(&aggregate("gone", 1)).await;
    log.tombstone("gone").await;
    let stage = Stage::over(log, config()).await;
    assert_eq!((stage.shown("final"), stage.shown("gone")), (3, 0));
}

#[tokio::test]
async fn alien_aggregates_are_passed_over() {
    let stage = Stage::start(config()).await;
    stage.log.commit("final", Some("not an aggregate".into())).await;
    stage.log.commit("final", Some(aggregate("other", 1).encode().into())).await;
    stage.show(&aggregate("final", 1)).await;
    assert_eq!(stage.shown("other"), 0);
}

#[tokio::test]
async fn an_aggregate_that_is_not_newer_changes_nothing() {
    let stage = Stage::start(config()).await;
    stage.show(&aggregate("final", 5)).await;
    stage.log.aggregate(&aggregate("final", 4)).await;
    stage.log.aggregate(&wire::Aggregate { since: 1, ..aggregate("final", 9) }).await;
    stage.show(&aggregate("mark", 1)).await;
    assert_eq!(stage.shown("final"), 5);
}

#[tokio::test]
async fn a_log_that_was_opened_again_changes_only_what_it_has_news_of() {
    let stage = Stage::start(config()).await;
    for room in ["same", "newer", "gone"] {
        stage.show(&aggregate(room, 5)).await;
    }
    let same = stage.registry().snapshot(&"same".parse().unwrap()).unwrap();
    stage.log.log.fail_opens(1);
    stage.log.log.break_followers();
    stage.until(|stage| !stage.readiness.missing().is_empty()).await;
    assert_eq!(get(&stage, "/v1/rooms/gone", &[]).await.status(), 200, "what is known is still shown");
    stage.log.aggregate(&aggregate("newer", 6)).await;
    stage.log.tombstone("gone").await;
    stage.until(|stage| stage.readiness.missing().is_empty()).await;
    assert_eq!((stage.shown("newer"), stage.shown("gone")), (6, 0));
    let still = stage.registry().snapshot(&"same".parse().unwrap()).unwrap();
    assert!(Arc::ptr_eq(&same, &still), "a replay is no news");
}

#[tokio::test]
async fn another_top_n_applies_from_the_next_frame_on() {
    let stage = Stage::start(config()).await;
    stage.show(&aggregate("final", 1)).await;
    stage.reload(|config| config.top_n = 1);
    let counts = async || {
        let frame = body(get(&stage, "/v1/rooms/final", &[]).await).await;
        Frame::decode(frame.as_bytes()).unwrap().counts.len()
    };
    assert_eq!(counts().await, 2);
    stage.show(&aggregate("final", 2)).await;
    assert_eq!(counts().await, 1);
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_ends_the_tier() {
    struct Locked;
    impl EventLog for Locked {
        fn writer(&self) -> eventlog::BoxFuture<'_, Result<Arc<dyn eventlog::Writer>, eventlog::OpenError>> {
            unreachable!("fanout does not write")
        }
        fn feed(&self) -> eventlog::BoxFuture<'_, Result<eventlog::Feed, eventlog::OpenError>> {
            unreachable!("fanout does not roll up")
        }
        fn follower(
            &self,
        ) -> eventlog::BoxFuture<'_, Result<Box<dyn eventlog::Follower>, eventlog::OpenError>> {
            Box::pin(async { Err(eventlog::OpenError::Invalid("locked".into())) })
        }
    }
    let (_config, receiver) = tokio::sync::watch::channel(Arc::new(config()));
    let fanout = crate::Fanout::new(receiver, deps(Arc::new(Locked))).unwrap();
    let error = fanout.run(service::CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "the event log can't be opened: locked");
}
