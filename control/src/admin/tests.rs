//! The admin API over the log in memory.

use super::*;
use crate::Follower;
use axum::{body::Body, http::Request};
use eventlog::MemoryLog;
use http_body_util::BodyExt as _;
use serde_json::Value;
use service::{CancellationToken, ManualClock, Readiness};
use tower::ServiceExt as _;

const VIEW: &str = "view-token-0123456";
const PRODUCE: &str = "produce-token-0123";
const OPERATE: &str = "operate-token-0123";

struct Stage {
    log: Arc<MemoryLog>,
    api: Arc<Api>,
    stop: CancellationToken,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Stage {
    async fn new() -> Self {
        let stage = Self::away(Config {
            view_token: VIEW.into(),
            produce_token: PRODUCE.into(),
            operate_token: OPERATE.into(),
        });
        stage.start().await;
        stage
    }

    /// Its log is not open.
    fn away(config: Config) -> Self {
        let deps = Deps {
            orders: Arc::default(),
            config: watch::Sender::new(Arc::new(config)).subscribe(),
            tones: Arc::new(|| SkinTones::Fold),
            clock: Arc::new(ManualClock::at(1_763_000_000_000)),
        };
        Self { log: MemoryLog::new(1), api: Api::new(deps), stop: CancellationToken::new() }
    }

    async fn start(&self) {
        let readiness = Readiness::default();
        let log = Arc::clone(&self.log) as Arc<dyn EventLog>;
        self.api.open(Arc::clone(&log));
        let orders = Arc::clone(&self.api.deps.orders);
        let follower = Follower { log, orders, condition: readiness.condition("orders") };
        #[expect(clippy::disallowed_methods, reason = "it ends with the stage")]
        tokio::spawn(follower.run(self.stop.clone()));
        while !readiness.is_ready() {
            tokio::task::yield_now().await;
        }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/admin/v1{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = self.api.router().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Answer { status, headers, body: serde_json::from_slice(&body).unwrap_or_default() }
    }

    async fn with(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        self.ask(method, path, &[("authorization", &format!("Bearer {token}"))], body).await
    }

    async fn put(&self, body: &str, if_match: Option<&str>) -> Answer {
        let token = format!("Bearer {PRODUCE}");
        let mut headers = vec![("authorization", &*token)];
        headers.extend(if_match.map(|version| ("if-match", version)));
        self.ask("PUT", "/rooms/final", &headers, body).await
    }
}

#[tokio::test]
async fn what_is_left_out_stays_and_null_takes_a_setting_back() {
    let stage = Stage::new().await;
    let made = stage.put("", None).await;
    assert_eq!(
        (made.status, &made.body["state"], &made.body["post_ms"]),
        (200, &"open".into(), &Value::Null)
    );
    let made = stage.put(r#"{"post_ms":5000}"#, None).await;
    let made = stage.put(r#"{"state":"closed"}"#, made.headers["etag"].to_str().ok()).await;
    assert_eq!((&made.body["state"], &made.body["post_ms"]), (&"closed".into(), &5_000.into()));
    assert_eq!(made.headers["etag"], format!("\"{}\"", made.body["version"]));
    assert_eq!((&made.body["by"], &made.body["at"]), (&"produce".into(), &1_763_000_000_000u64.into()));
    let catalogue = r#"{"catalogue":[{"reaction":"❤","name":"Love"},{"reaction":"🔥"}],"post_ms":null}"#;
    let made = stage.put(catalogue, None).await;
    assert_eq!(made.body["catalogue"][0]["reaction"], "❤\u{fe0f}", "in the form that frames show");
    assert_eq!((&made.body["state"], &made.body["post_ms"]), (&"closed".into(), &Value::Null));
    let shown = stage.with(VIEW, "GET", "/rooms/final", "").await;
    assert_eq!((shown.status, &shown.body), (200, &made.body));
    assert_eq!(shown.headers["etag"], made.headers["etag"]);
    let listed = stage.with(VIEW, "GET", "/rooms", "").await;
    assert_eq!(listed.body["rooms"].as_array().map(Vec::as_slice), Some(&[made.body.clone()][..]));
    assert_eq!(stage.with(OPERATE, "DELETE", "/rooms/final", "").await.status, 204);
    assert_eq!(stage.with(VIEW, "GET", "/rooms/final", "").await.status, 404);
    let other_life = stage.put("{}", made.headers["etag"].to_str().ok()).await;
    assert_eq!(other_life.status, 409, "a version never comes again");
}

#[tokio::test]
async fn each_refusal_has_its_status_and_says_what_to_do() {
    let stage = Stage::new().await;
    let version = stage.put(r#"{"state":"closed"}"#, None).await.body["version"].clone();
    let long = format!("{{\"catalogue\":[{}]}}", "{\"reaction\":\"a\"},".repeat(10_000));
    for (token, method, path, body, status, says) in [
        ("", "GET", "/rooms", "", 401, "Authorization: Bearer"),
        ("wrong-token-012345", "GET", "/rooms", "", 401, "none of those"),
        (VIEW, "PUT", "/rooms/final", "{}", 403, "needs the role produce"),
        (PRODUCE, "DELETE", "/rooms/final", "", 403, "needs the role operate"),
        (VIEW, "GET", "/rooms/never", "", 404, "PUT declares it"),
        (OPERATE, "DELETE", "/rooms/never", "", 404, "nothing is ordered of room never"),
        (VIEW, "GET", "/rooms/a%20b", "", 400, "a room name may hold"),
        (VIEW, "POST", "/rooms/final", "", 405, "changed by PUT"),
        (VIEW, "DELETE", "/rooms", "", 405, "read by GET"),
        (PRODUCE, "PUT", "/rooms/final", "{", 400, "not JSON"),
        (PRODUCE, "PUT", "/rooms/final", "[]", 422, "must be an object"),
        (PRODUCE, "PUT", "/rooms/final", r#"{"state":"ajar"}"#, 422, "unknown variant `ajar`"),
        (PRODUCE, "PUT", "/rooms/final", r#"{"mood":1}"#, 422, "unknown field `mood`"),
        (PRODUCE, "PUT", "/rooms/final", r#"{"post_ms":1}"#, 422, "post_ms must be 100 to 60000"),
        (
            PRODUCE,
            "PUT",
            "/rooms/final",
            r#"{"catalogue":[{"reaction":"a","image":"http://a"}]}"#,
            422,
            "https",
        ),
        (PRODUCE, "PUT", "/rooms/final", &long, 413, "longer than"),
    ] {
        let answer = match token {
            "" => stage.ask(method, path, &[], body).await,
            token => stage.with(token, method, path, body).await,
        };
        let said = answer.body["detail"].as_str().unwrap_or_default();
        assert_eq!(answer.status, status, "{method} {path}: {said}");
        assert!(said.contains(says), "{method} {path}: {said}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401);
    }
    let shown = stage.with(VIEW, "GET", "/rooms/final", "").await;
    assert_eq!(shown.body["version"], version, "nothing was half applied");
    for (if_match, status) in [("\"7000\"", 409), ("x", 400), ("*", 200)] {
        assert_eq!(stage.put(r#"{"state":"closed"}"#, Some(if_match)).await.status, status, "{if_match}");
    }
}

#[tokio::test]
async fn without_tokens_there_is_no_admin_api_and_a_role_without_one_does_not_exist() {
    let off = Stage::away(Config::default());
    assert_eq!(off.with("", "GET", "/rooms", "").await.status, 404);
    assert_eq!(off.ask("GET", "/rooms", &[], "").await.status, 404);
    let some = Stage::away(Config { view_token: VIEW.into(), ..Config::default() });
    assert_eq!(some.with("", "PUT", "/rooms/a", "").await.status, 401);
    assert_eq!(some.with(VIEW, "PUT", "/rooms/a", "").await.status, 403);
}

#[tokio::test]
async fn while_the_log_is_away_nothing_is_changed_and_the_client_is_told() {
    let stage =
        Stage::away(Config { view_token: VIEW.into(), produce_token: PRODUCE.into(), ..Config::default() });
    for (token, method) in [(VIEW, "GET"), (PRODUCE, "PUT")] {
        let answer = stage.with(token, method, "/rooms/final", "").await;
        assert_eq!((answer.status, answer.headers.contains_key("retry-after")), (503, true));
    }
    stage.start().await;
    for (error, status) in [
        (PutError::Unavailable("brokers away".into()), 503),
        (PutError::Unknown("no answer".into()), 503),
        (PutError::Unsupported, 501),
    ] {
        stage.log.fail_control(Some(error));
        assert_eq!(stage.put("{}", None).await.status, status);
    }
    stage.log.fail_control(None);
    assert_eq!(stage.put("{}", None).await.status, 200);
}

#[tokio::test]
async fn changes_of_two_processes_at_once_are_both_made() {
    let stage = Stage::new().await;
    let room: RoomName = "final".parse().unwrap();
    // Another process wrote it, and this one may not have read that.
    for round in 0..20 {
        let order = RoomOrder { post_ms: Some(1_000 + round), ..RoomOrder::new(room.clone(), "produce", 1) };
        let put =
            ControlPut { key: room_key(&room), value: Some(order.encode().into()), expected: Expected::Any };
        stage.log.put_control(put).await.unwrap();
        let made = stage.put(r#"{"state":"closed"}"#, None).await;
        assert_eq!((made.status, &made.body["post_ms"]), (200, &(1_000 + round).into()));
    }
}
