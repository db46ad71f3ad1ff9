//! The route: answers, refusals and caching.

use super::router;
use crate::{
    Deps, History, Settings, config::tests::settings, http::Routes, points::tests::window, tier::Archive,
};
use axum::{
    body::Body,
    http::{HeaderMap, Request, StatusCode, header},
};
use eventlog::{
    WindowArchive,
    windows::{ArchiveError, Searched, WindowQuery},
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use service::{ManualClock, Readiness};
use std::sync::{Arc, Barrier};
use tokio::sync::watch;
use tower::ServiceExt;
use wire::WindowRecord;

const NOW: u64 = 1_763_000_600_000;
const RANGE: &str = "/v1/rooms/r/history?from=1763000000000&to=1763000010000";

/// Windows of room `r`, or an error.
struct Fixed {
    windows: Vec<WindowRecord>,
    reached_ms: Option<u64>,
    error: Option<fn() -> ArchiveError>,
    gate: Option<Arc<Barrier>>,
}

impl WindowArchive for Fixed {
    fn search(
        &self,
        query: &WindowQuery<'_>,
        each: &mut dyn FnMut(WindowRecord),
    ) -> Result<Searched, ArchiveError> {
        if let Some(gate) = &self.gate {
            gate.wait();
            gate.wait();
        }
        if let Some(error) = self.error {
            return Err(error());
        }
        let of_room = self.windows.iter().filter(|it| it.room == *query.room);
        of_room.clone().filter(|it| query.span.contains(&it.window.start)).cloned().for_each(each);
        Ok(Searched { is_known: of_room.count() > 0, reached_ms: self.reached_ms })
    }
}

fn fixed() -> Fixed {
    let windows = vec![
        window("r", 1, 1_763_000_002_000, &[("a", 1)], 0),
        window("r", 2, 1_763_000_003_000, &[("a", 2), ("b", 3)], 0),
        window("r", 4, 1_763_000_008_000, &[("b", 5)], 0),
    ];
    Fixed { windows, reached_ms: None, error: None, gate: None }
}

struct Tier {
    history: History,
    _settings: watch::Sender<Arc<Settings>>,
}

fn tier(archive: Archive) -> Tier {
    let (sender, settings) = watch::channel(Arc::new(settings()));
    let clock = Arc::new(ManualClock::at(NOW));
    let deps = Deps { log: eventlog::MemoryLog::new(1), readiness: Readiness::default(), clock };
    let history = History::new(settings, deps);
    history.shared().archive.send_replace(archive);
    Tier { history, _settings: sender }
}

fn serving(fixed: Fixed) -> Tier {
    tier(Archive::Ready(Arc::new(fixed)))
}

impl Tier {
    async fn ask(&self, method: &str, path: &str, headers: &[(header::HeaderName, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let router = router(Routes(Arc::clone(self.history.shared())));
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[]).await
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

#[tokio::test]
async fn an_answer_sums_up_the_windows_of_a_room_per_step() {
    let tier = serving(fixed());
    let answer = tier.get(RANGE).await;
    assert_eq!(answer.status, 200);
    let points = json!([
        { "start": 1_763_000_002_000u64, "end": 1_763_000_004_000u64, "count": 6, "counts": { "a": 3, "b": 3 } },
        { "start": 1_763_000_008_000u64, "end": 1_763_000_010_000u64, "count": 5, "counts": { "b": 5 } },
    ]);
    assert_eq!(answer.body, json!({ "room": "r", "step_ms": 2_000, "points": points }));
    assert_eq!(answer.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
    let written = "/v1/rooms/r/history?from=2025-11-13T02:13:20Z&to=2025-11-13T02:13:30Z&step=10000";
    let answer = tier.get(written).await;
    assert_eq!((answer.status, answer.body["points"][0]["count"].as_u64()), (StatusCode::OK, Some(11)));
    let answer = tier.get("/v1/rooms/r/history").await;
    assert_eq!(answer.body["points"].as_array().unwrap().len(), 2, "the last ten minutes");
}

#[tokio::test]
async fn a_known_room_without_reactions_in_the_range_has_no_points_and_an_unknown_one_is_not_found() {
    let tier = serving(fixed());
    let answer = tier.get("/v1/rooms/r/history?from=1000&to=9000").await;
    assert_eq!((answer.status, &answer.body["points"]), (StatusCode::OK, &json!([])));
    let answer = tier.get("/v1/rooms/never/history").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header(header::CACHE_CONTROL), "public, max-age=2");
    assert_eq!(answer.header(header::CONTENT_TYPE), "application/problem+json");
}

#[tokio::test]
async fn a_complete_range_is_immutable_and_any_other_is_cached_for_a_window() {
    const SHORT: &str = "public, max-age=2";
    const LONG: &str = "public, max-age=31536000, immutable";
    let to = |to: u64| format!("/v1/rooms/r/history?from=1763000000000&to={to}");
    let (day, closed) = (86_400_000, NOW - 2_000 - 50 - 10_000);
    for (end, reached, expected) in [
        // Its partition has gone on, or an aggregator may be away.
        (1_763_000_010_000, Some(1_763_000_010_000), LONG),
        (1_763_000_010_000, Some(1_763_000_009_999), SHORT),
        (1_763_000_010_000, None, SHORT),
        // A window may not have closed yet.
        (closed, Some(NOW), LONG),
        (closed + 1, Some(NOW), SHORT),
    ] {
        let answer = serving(Fixed { reached_ms: reached, ..fixed() }).get(&to(end)).await;
        assert_eq!(answer.header(header::CACHE_CONTROL), expected, "{end} {reached:?}");
    }
    let old = |to: u64| format!("/v1/rooms/r/history?from={}&to={to}", NOW - 2 * day);
    assert_eq!(serving(fixed()).get(&old(NOW - day)).await.header(header::CACHE_CONTROL), LONG);
    assert_eq!(serving(fixed()).get(&old(NOW - day + 1)).await.header(header::CACHE_CONTROL), SHORT);
}

#[tokio::test]
async fn a_client_that_has_the_answer_is_told_so() {
    let tier = serving(fixed());
    let answer = tier.get(RANGE).await;
    let (etag, modified) = (answer.header(header::ETAG), answer.header(header::LAST_MODIFIED));
    assert_eq!(modified, "Thu, 13 Nov 2025 02:13:29 GMT", "the end of the newest window");
    let weak = format!("\"x\", W/{etag}");
    let earlier = "Thu, 13 Nov 2025 02:13:28 GMT";
    for (headers, status) in [
        (&[(header::IF_NONE_MATCH, etag)][..], 304),
        (&[(header::IF_NONE_MATCH, &*weak)], 304),
        (&[(header::IF_NONE_MATCH, "*")], 304),
        (&[(header::IF_NONE_MATCH, "\"0000000000000000\"")], 200),
        (&[(header::IF_MODIFIED_SINCE, modified)], 304),
        (&[(header::IF_MODIFIED_SINCE, earlier)], 200),
        // The tag goes before the date.
        (&[(header::IF_NONE_MATCH, "\"x\""), (header::IF_MODIFIED_SINCE, modified)], 200),
    ] {
        let answer = tier.ask("GET", RANGE, headers).await;
        assert_eq!(answer.status, status, "{headers:?}");
        assert_eq!(answer.header(header::ETAG), etag);
    }
    let mut changed = fixed();
    changed.windows.push(window("r", 5, 1_763_000_009_000, &[("a", 1)], 0));
    assert_ne!(serving(changed).get(RANGE).await.header(header::ETAG), etag);
}

#[tokio::test]
async fn while_windows_may_come_there_is_no_date_to_ask_by() {
    let mut fresh = fixed();
    fresh.windows.push(window("r", 9, NOW - 5_000, &[("a", 1)], 0));
    let answer = serving(fresh).get("/v1/rooms/r/history").await;
    assert_eq!((answer.status, answer.header(header::LAST_MODIFIED)), (StatusCode::OK, ""));
}

#[tokio::test]
async fn refusals_say_what_would_be_right() {
    let tier = serving(Fixed { error: Some(|| ArchiveError::TooMany(10_000)), ..fixed() });
    for (path, status, why) in [
        ("/v1/rooms/r/history?from=9&to=1", 400, "has to be before"),
        ("/v1/rooms/r/history?from=soon", 400, "from has to be a time"),
        ("/v1/rooms/r%20r/history", 400, "room name"),
        ("/v1/rooms/%ff/history", 400, "UTF-8"),
        ("/v1/rooms/r/history?limit=5", 400, "unknown parameter"),
        ("/v1/rooms/r/history?step=100", 422, "at least one window, 2000 ms"),
        ("/v1/rooms/r/history?from=0&to=1763000000000&step=2000", 422, "step=1763000000 fits"),
        (RANGE, 422, "more than 10000 windows"),
    ] {
        let answer = tier.get(path).await;
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(answer.status == status && detail.contains(why), "{path}: {} {detail}", answer.status);
    }
    let answer = tier.ask("POST", RANGE, &[]).await;
    assert_eq!((answer.status.as_u16(), answer.header(header::ALLOW)), (405, "GET,HEAD"));
}

#[tokio::test]
async fn what_may_work_later_is_told_with_when_to_retry() {
    let failing = Fixed { error: Some(|| ArchiveError::Failed("disk".into())), ..fixed() };
    for tier in [tier(Archive::Starting), serving(failing)] {
        let answer = tier.get(RANGE).await;
        assert_eq!((answer.status.as_u16(), answer.header(header::RETRY_AFTER)), (503, "1"));
    }
    assert_eq!(tier(Archive::Off).get(RANGE).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_at_a_time_than_allowed_are_refused() {
    let gate = Arc::new(Barrier::new(3));
    let tier = serving(Fixed { gate: Some(Arc::clone(&gate)), ..fixed() });
    let beyond = async {
        let (arrived, gate) = (Arc::clone(&gate), Arc::clone(&gate));
        tokio::task::spawn_blocking(move || arrived.wait()).await.unwrap();
        let answer = tier.get(RANGE).await;
        tokio::task::spawn_blocking(move || gate.wait()).await.unwrap();
        answer
    };
    let (first, second, third) = tokio::join!(tier.get(RANGE), tier.get(RANGE), beyond);
    assert_eq!([first.status, second.status], [200, 200]);
    assert_eq!((third.status.as_u16(), third.header(header::RETRY_AFTER)), (503, "1"));
}

#[tokio::test]
async fn pages_of_listed_origins_may_read_it() {
    let answer = serving(fixed()).ask("GET", RANGE, &[(header::ORIGIN, "https://a.example")]).await;
    assert_eq!(answer.header(header::ACCESS_CONTROL_ALLOW_ORIGIN), "*");
}
