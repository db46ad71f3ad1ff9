//! The way of a request: checked when its head is there ([`Arrival`]), then its body is read (`body`), added to its room's
//! open batch ([`join`]), and answered. Requests come through the `front`, or through the routes.

mod body;
mod front;

pub use front::Front;

use crate::{
    config::{Ack, Config, Live},
    gate::Ticket,
    halls::Wait,
    idempotency::{Counted, IDEMPOTENCY_KEY},
    limits::{Caller, Standing},
    metrics::{REFUSED, REQUESTS},
    refusal::Refusal,
    request,
    shared::Shared,
    verdict::Outcome,
};
use axum::{
    Router,
    body::{Body, HttpBody},
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use service::http::Peer;
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::time::Instant;
use tower_http::cors::{AllowOrigin, CorsLayer};
use wire::RoomName;

/// Browsers keep the answer to a preflight for at most two hours.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(7_200);

/// What web pages may read of an answer, beside its body.
const EXPOSED: &str = "retry-after,ratelimit,ratelimit-policy";

/// The routes, with an answer for what is no route.
pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    let trust = Arc::clone(shared);
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| trust.live().trusts(origin.as_bytes())))
        .allow_methods([Method::POST])
        .allow_headers([header::CONTENT_TYPE, IDEMPOTENCY_KEY])
        .expose_headers(EXPOSED.split(',').map(HeaderName::from_static).collect::<Vec<_>>())
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
    Peer(peer): Peer,
    request: Request,
) -> Response {
    let Ok(Path(room)) = room else { return refuse(&Refusal::RoomEncoding) };
    match Arrival::of(&shared, &room, request.headers(), peer) {
        Ok(arrival) => finish(&shared, arrival, request.into_body()).await,
        Err(refused) => refused,
    }
}

fn refuse(refusal: &Refusal) -> Response {
    let problem = refusal.problem();
    metrics::counter!(REQUESTS, "status" => problem.status().as_str().to_owned()).increment(1);
    metrics::counter!(REFUSED, "cause" => refusal.cause()).increment(1);
    problem.into_response()
}

/// A request whose head is right; all that is kept of it.
struct Arrival {
    room: RoomName,
    caller: Caller,
    standing: Standing,
    max_body_bytes: usize,
    patience_ms: u64,
}

impl Arrival {
    /// Checks the head of a request. An error is the answer.
    #[expect(clippy::result_large_err, reason = "an answer is moved once, and allocating it costs more")]
    fn of(shared: &Shared, room: &str, headers: &HeaderMap, peer: IpAddr) -> Result<Self, Response> {
        let mut standing = Standing::default();
        match Self::check(shared, room, (headers, peer), &mut standing) {
            Ok((room, caller, live)) => {
                let Config { max_body_bytes, ack_timeout_ms, .. } = *live.config;
                Ok(Self { room, caller, standing, max_body_bytes, patience_ms: ack_timeout_ms })
            }
            Err(refusal) => {
                let mut answer = refuse(&refusal);
                standing.tell(answer.headers_mut());
                Err(answer)
            }
        }
    }

    fn check(
        shared: &Shared,
        room: &str,
        (headers, peer): (&HeaderMap, IpAddr),
        standing: &mut Standing,
    ) -> Result<(RoomName, Caller, Arc<Live>), Refusal> {
        let room: RoomName = room.parse().map_err(Refusal::RoomName)?;
        let live = shared.live();
        if !live.has_room(&room) {
            return Err(Refusal::RoomUnknown(room.to_string()));
        }
        check_type(headers)?;
        let caller = shared.ledger.arrive(&live.limits, &room, (headers, peer), now, standing)?;
        Ok((room, caller, live))
    }
}

/// From a right head to the answer.
async fn finish<B: HttpBody<Data = Bytes>>(shared: &Shared, mut arrival: Arrival, body: B) -> Response {
    let mut response = match count(shared, &mut arrival, body).await {
        Ok((count, repeat)) => {
            shared.meters.requests_accepted.increment(1);
            if !repeat {
                shared.meters.accepted.increment(count);
            }
            accepted(count)
        }
        Err(refusal) => refuse(&refusal),
    };
    arrival.standing.tell(response.headers_mut());
    response
}

fn accepted(count: u64) -> Response {
    let body = match count {
        // What comes most costs no allocation.
        1 => Body::from("{\"accepted\":1}"),
        _ => Body::from(format!("{{\"accepted\":{count}}}")),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::ACCEPTED;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// How many reactions were accepted, and whether they had been before.
async fn count<B: HttpBody<Data = Bytes>>(
    shared: &Shared,
    arrival: &mut Arrival,
    body: B,
) -> Result<(u64, bool), Refusal> {
    let body = body::read(body, arrival.max_body_bytes, arrival.patience_ms).await?;
    let Joined { count, repeat, wait, ticket } = join(shared, arrival, body)?;
    if let Some(wait) = wait {
        match wait.await {
            Some(Outcome::Committed) => {}
            Some(Outcome::NotWritten) => return Err(Refusal::NotWritten),
            Some(Outcome::Unknown) => return Err(Refusal::Unknown),
            None => return Err(Refusal::TimedOut(arrival.patience_ms)),
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
fn join<'a>(shared: &'a Shared, arrival: &mut Arrival, body: Bytes) -> Result<Joined<'a>, Refusal> {
    let live = shared.live();
    let ask = request::parse(&body, &live)?;
    let ticket = shared.gate.enter(live.config.max_waiting)?;
    let now = Instant::now();
    let Arrival { room, caller, standing, patience_ms, .. } = arrival;
    let add = || {
        let verdict = shared.batches.add(room, &ask, live.config.ack, &live.config, now.into_std())?;
        let waits = live.config.ack == Ack::Durable;
        Ok(Counted { count: ask.count, verdict: waits.then_some(verdict) })
    };
    let asked = (&body[..], ask.count);
    let (counted, repeat) =
        shared.ledger.count(&live.limits, caller, asked, now.into_std(), standing, add)?;
    let deadline = now + Duration::from_millis(*patience_ms);
    let wait = counted.verdict.map(|verdict| shared.halls.wait(verdict, deadline));
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
    if value == "application/json" {
        return Ok(());
    }
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
