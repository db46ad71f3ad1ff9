//! The routes of this tier, and the way of a request: checked, added to its room's open batch, answered.

use crate::{
    config::{Ack, Live},
    gate::Ticket,
    metrics::{REFUSED, REQUESTS},
    refusal::Refusal,
    request,
    shared::Shared,
    verdict::{Outcome, Verdict},
};
use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::{sync::Arc, time::Duration};
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
        .allow_headers([header::CONTENT_TYPE])
        .expose_headers([header::RETRY_AFTER])
        .max_age(PREFLIGHT_MAX_AGE);
    Router::new()
        .route("/v1/rooms/{room}/reactions", post(post_reactions))
        .fallback(|| async { refuse(&Refusal::RouteUnknown) })
        .method_not_allowed_fallback(|| async { refuse(&Refusal::Method) })
        .layer(service::cors::RealPreflights(cors))
        .with_state(Arc::clone(shared))
}

async fn post_reactions(
    State(shared): State<Arc<Shared>>,
    room: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    match accept(&shared, room, request).await {
        Ok(count) => {
            shared.meters.requests_accepted.increment(1);
            shared.meters.accepted.increment(count);
            let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
            (StatusCode::ACCEPTED, json, format!("{{\"accepted\":{count}}}")).into_response()
        }
        Err(refusal) => refuse(&refusal),
    }
}

fn refuse(refusal: &Refusal) -> Response {
    let problem = refusal.problem();
    metrics::counter!(REQUESTS, "status" => problem.status().as_str().to_owned()).increment(1);
    metrics::counter!(REFUSED, "cause" => refusal.cause()).increment(1);
    problem.into_response()
}

/// From the request to its answer: how many reactions were accepted.
async fn accept(
    shared: &Shared,
    room: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<u64, Refusal> {
    let live = shared.live();
    let Path(room) = room.map_err(|_| Refusal::RoomEncoding)?;
    let room: RoomName = room.parse().map_err(Refusal::RoomName)?;
    if !live.has_room(&room) {
        return Err(Refusal::RoomUnknown(room.to_string()));
    }
    check_type(request.headers())?;
    let body = read(request.into_body(), &live).await?;
    let Joined { count, verdict, ticket } = join(shared, room, body, &live)?;
    if live.config.ack == Ack::Durable {
        match timeout(live.ack_timeout(), verdict.wait()).await {
            Ok(Outcome::Committed) => {}
            Ok(Outcome::NotWritten) => return Err(Refusal::NotWritten),
            Ok(Outcome::Unknown) => return Err(Refusal::Unknown),
            Err(_) => return Err(Refusal::TimedOut(live.config.ack_timeout_ms)),
        }
    }
    drop(ticket);
    Ok(count)
}

/// A request whose reactions are in an open batch.
struct Joined<'a> {
    count: u64,
    verdict: Arc<Verdict>,
    /// A shutdown waits for it.
    ticket: Ticket<'a>,
}

/// Reads the body and adds it to its room's open batch. Takes the body, so that it isn't kept while waiting.
#[expect(clippy::needless_pass_by_value, reason = "the body is not kept while the request waits")]
fn join<'a>(shared: &'a Shared, room: RoomName, body: Bytes, live: &Live) -> Result<Joined<'a>, Refusal> {
    let ask = request::parse(&body, live)?;
    let count = ask.count;
    let ticket = shared.gate.enter(live.config.max_waiting)?;
    let now = Instant::now().into_std();
    let verdict = shared.batches.add(room, ask, live.config.ack, &live.config, now)?;
    Ok(Joined { count, verdict, ticket })
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
async fn read(body: Body, live: &Live) -> Result<Bytes, Refusal> {
    let max = live.config.max_body_bytes;
    if axum::body::HttpBody::size_hint(&body).lower() > max as u64 {
        return Err(Refusal::BodyTooLong(max));
    }
    match timeout(live.ack_timeout(), Limited::new(body, max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::BodyTooLong(max)),
        Ok(Err(_)) => Err(Refusal::BodyBroken),
        Err(_) => Err(Refusal::BodySlow(live.config.ack_timeout_ms)),
    }
}
