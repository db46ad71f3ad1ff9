//! The routes of this tier, and the way of a request: checked, added to its room's open batch, answered.

use crate::{
    config::Ack,
    gate::Ticket,
    halls::Wait,
    idempotency::{Counted, IDEMPOTENCY_KEY},
    limits::{Caller, RATE_LIMIT, RATE_LIMIT_POLICY, Standing},
    metrics::{REFUSED, REQUESTS},
    refusal::Refusal,
    request,
    shared::Shared,
    verdict::Outcome,
};
use axum::{
    Router,
    body::{Body, HttpBody as _},
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};
use tower_http::cors::{AllowOrigin, CorsLayer};
use wire::RoomName;

/// Browsers keep the answer to a preflight for at most two hours.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(7_200);

/// The routes, with an answer for what is no route.
pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    let trust = Arc::clone(shared);
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| trust.live().trusts(origin.as_bytes())))
        .allow_methods([Method::POST])
        .allow_headers([header::CONTENT_TYPE, IDEMPOTENCY_KEY])
        .expose_headers([header::RETRY_AFTER, RATE_LIMIT, RATE_LIMIT_POLICY])
        .max_age(PREFLIGHT_MAX_AGE);
    Router::new()
        .route("/v1/rooms/{room}/reactions", post(post_reactions))
        .fallback(|| async { refuse(&Refusal::RouteUnknown) })
        .method_not_allowed_fallback(|| async { refuse(&Refusal::Method) })
        .layer(cors)
        .with_state(Arc::clone(shared))
}

async fn post_reactions(
    State(shared): State<Arc<Shared>>,
    room: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let mut standing = Standing::default();
    let mut response = match accept(&shared, room, request, &mut standing).await {
        Ok((count, repeat)) => {
            shared.meters.requests_accepted.increment(1);
            if !repeat {
                shared.meters.accepted.increment(count);
            }
            let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
            (StatusCode::ACCEPTED, json, format!("{{\"accepted\":{count}}}")).into_response()
        }
        Err(refusal) => refuse(&refusal),
    };
    standing.tell(response.headers_mut());
    response
}

fn refuse(refusal: &Refusal) -> Response {
    let problem = refusal.problem();
    metrics::counter!(REQUESTS, "status" => problem.status().as_str().to_owned()).increment(1);
    metrics::counter!(REFUSED, "cause" => refusal.cause()).increment(1);
    problem.into_response()
}

/// From the request to its answer: how many reactions were accepted, and whether they had been before.
async fn accept(
    shared: &Shared,
    room: Result<Path<String>, PathRejection>,
    request: Request,
    standing: &mut Standing,
) -> Result<(u64, bool), Refusal> {
    let Path(room) = room.map_err(|_| Refusal::RoomEncoding)?;
    RoomName::check(&room).map_err(Refusal::RoomName)?;
    let (max_bytes, patience_ms, caller) = {
        let live = shared.live();
        if !live.has_room(&room) {
            return Err(Refusal::RoomUnknown(room));
        }
        check_type(request.headers())?;
        let sender = (request.headers(), request.extensions());
        let caller = shared.ledger.arrive(&live.limits, &room, sender, now, standing)?;
        (live.config.max_body_bytes, live.config.ack_timeout_ms, caller)
    };
    let body = read(request.into_body(), max_bytes, patience_ms).await?;
    let Joined { count, repeat, wait, ticket } = join(shared, &room, body, &caller, standing)?;
    if let Some(wait) = wait {
        match wait.await {
            Some(Outcome::Committed) => {}
            Some(Outcome::NotWritten) => return Err(Refusal::NotWritten),
            Some(Outcome::Unknown) => return Err(Refusal::Unknown),
            None => return Err(Refusal::TimedOut(patience_ms)),
        }
    }
    drop(ticket);
    Ok((count, repeat))
}

/// A request whose reactions are in an open batch.
struct Joined<'a> {
    count: u64,
    /// It was counted before.
    repeat: bool,
    /// Where it is answered when they are durable.
    wait: Option<Wait<'a>>,
    /// A shutdown waits for it.
    ticket: Ticket<'a>,
}

/// Adds the body to its room's open batch. Takes it, so that it isn't kept while waiting.
#[expect(clippy::needless_pass_by_value, reason = "the body is not kept while the request waits")]
fn join<'a>(
    shared: &'a Shared,
    room: &str,
    body: Bytes,
    caller: &Caller,
    standing: &mut Standing,
) -> Result<Joined<'a>, Refusal> {
    let live = shared.live();
    let ask = request::parse(&body, &live)?;
    let ticket = shared.gate.enter(live.config.max_waiting)?;
    let now = Instant::now();
    let add = || {
        let verdict = shared.batches.add(room, &ask, live.config.ack, &live.config, now.into_std())?;
        let waits = live.config.ack == Ack::Durable;
        Ok(Counted { count: ask.count, verdict: waits.then_some(verdict) })
    };
    let asked = (&body[..], ask.count);
    let (counted, repeat) =
        shared.ledger.count(&live.limits, caller, asked, now.into_std(), standing, add)?;
    let wait = counted.verdict.map(|verdict| shared.halls.wait(verdict, now + live.ack_timeout()));
    Ok(Joined { count: counted.count, repeat, wait, ticket })
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// JSON, or the plain text that `navigator.sendBeacon` can send without a preflight; in UTF-8, not compressed.
fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let encoding = headers.get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Refusal::ContentEncoding);
    }
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = value.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let known = ["application/json", "text/plain"].iter().any(|known| essence.eq_ignore_ascii_case(known));
    let utf_8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, set)) if name.trim().eq_ignore_ascii_case("charset") => {
            set.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    };
    if known && parts.all(utf_8) { Ok(()) } else { Err(Refusal::ContentType) }
}

/// The whole body, if it is short and comes soon. A `Content-Length` that is too long is refused before any of it is read.
async fn read(body: Body, max_bytes: usize, patience_ms: u64) -> Result<Bytes, Refusal> {
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(Refusal::BodyTooLong(max_bytes));
    }
    let mut reading = pin!(collect(body, max_bytes));
    // Nearly always it came with the head: no timer then.
    if let Some(read) = reading.as_mut().now_or_never() {
        return read;
    }
    let read = timeout(Duration::from_millis(patience_ms), reading).await;
    read.unwrap_or(Err(Refusal::BodySlow(patience_ms)))
}

/// Puts the body together; nothing is copied if it came in one piece.
async fn collect(mut body: Body, max_bytes: usize) -> Result<Bytes, Refusal> {
    let mut whole = Vec::new();
    while let Some(piece) = next_piece(&mut body).await? {
        if whole.len() + piece.len() > max_bytes {
            return Err(Refusal::BodyTooLong(max_bytes));
        }
        if whole.is_empty() && body.is_end_stream() {
            return Ok(piece);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.into())
}

/// `None`: that was all. Trailers are passed over.
async fn next_piece(body: &mut Body) -> Result<Option<Bytes>, Refusal> {
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame.map_err(|_| Refusal::BodyBroken)?.into_data() {
            return Ok(Some(piece));
        }
    }
    Ok(None)
}
