//! The way of a request: checked when its head is there ([`Arrival`]), then its body is read (`body`), added to its room's
//! open batch ([`Joined`]), and answered. Requests come through the `front`, or through the routes.

mod body;
pub(crate) mod desk;
mod front;

pub use front::Front;

use crate::{
    config::{Ack, Config, Live},
    gate::Ticket,
    halls::Wait,
    idempotency::{Counted, IDEMPOTENCY_KEY},
    limits::{Caller, Standing},
    observed::RoomPosts,
    refusal::Refusal,
    request,
    shared::Shared,
    verdict::Outcome,
};
use axum::{
    Router,
    body::HttpBody,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    routing::post,
};
use bytes::Bytes;
use service::http::{Answer, Peer};
use std::{mem, net::IpAddr, sync::Arc, time::Duration};
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
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(service::cors::RealPreflights(cors))
        .with_state(Arc::clone(shared))
}

async fn post_reactions(
    State(shared): State<Arc<Shared>>,
    room: Result<Path<String>, PathRejection>,
    Peer(peer): Peer,
    request: Request,
) -> Answer {
    let room = room.map(|Path(room)| room).map_err(|_| Refusal::RoomEncoding);
    let room = room.and_then(|room| room.parse().map_err(Refusal::RoomName));
    match Arrival::from_headers(&shared, room, &request, peer) {
        Ok(arrival) => finish(&shared, arrival, request.into_body()).await,
        Err(refused) => refused,
    }
}

async fn unknown_route(State(shared): State<Arc<Shared>>, Peer(peer): Peer, request: Request) -> Answer {
    charge_and_refuse(&shared, (request.headers(), peer), &Refusal::RouteUnknown)
}

async fn wrong_method(State(shared): State<Arc<Shared>>, Peer(peer): Peer, request: Request) -> Answer {
    charge_and_refuse(&shared, (request.headers(), peer), &Refusal::Method)
}

/// Refuses a request that isn't a post. It counts for the limits of its client too.
fn charge_and_refuse(shared: &Shared, from: (&HeaderMap, IpAddr), refusal: &Refusal) -> Answer {
    let mut standing = Standing::default();
    match shared.ledger.charge(&shared.live().limits, from, now, &mut standing) {
        Ok(_) => refuse(shared, refusal, standing, None),
        Err(too_fast) => refuse(shared, &too_fast, standing, None),
    }
}

/// Counts the refusal, and makes the answer. `posts`: those of its room, where they are observed.
fn refuse(shared: &Shared, refusal: &Refusal, standing: Standing, posts: Option<&RoomPosts>) -> Answer {
    shared.meters.refuse(refusal.status().as_str(), refusal.cause());
    if let Some(posts) = posts {
        posts.refuse();
    }
    let mut answer = refusal.answer();
    standing.tell(&mut answer);
    answer
}

/// What is looked at in the head of each request.
#[derive(Default)]
struct Head<'a> {
    content_type: Option<&'a [u8]>,
    content_encoding: Option<&'a [u8]>,
    /// The page that sent the request, if it was one.
    origin: Option<&'a [u8]>,
    /// Host and port that the client wanted to reach.
    host: Option<&'a [u8]>,
}

impl<'a> Head<'a> {
    fn from_request<B>(request: &'a axum::http::Request<B>) -> Self {
        let value = |name| request.headers().get(name).map(HeaderValue::as_bytes);
        // HTTP/2 has the host in the target.
        let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        Self {
            content_type: value(header::CONTENT_TYPE),
            content_encoding: value(header::CONTENT_ENCODING),
            origin: value(header::ORIGIN),
            host: value(header::HOST).or(authority),
        }
    }

    /// Whether a page sent the request that may not post. A page that came from this host may; the scheme can't be compared
    /// because a balancer may have ended TLS.
    fn is_foreign(&self, live: &Live) -> bool {
        let Some(origin) = self.origin else { return false };
        if live.trusts(origin) {
            return false;
        }
        let authority = origin.windows(3).position(|three| three == b"://").map(|at| &origin[at + 3..]);
        let is_same = authority.zip(self.host).is_some_and(|(page, host)| page.eq_ignore_ascii_case(host));
        !is_same
    }
}

/// A request whose head is right; all that is kept of it.
struct Arrival {
    room: RoomName,
    /// Where posts of the room are counted, if somebody observes it.
    posts: Option<Arc<RoomPosts>>,
    caller: Caller,
    standing: Standing,
    max_body_bytes: usize,
    patience_ms: u64,
}

impl Arrival {
    /// Checks the head of a request that came through the HTTP library. An error is the answer.
    fn from_headers<B>(
        shared: &Shared,
        room: Result<RoomName, Refusal>,
        request: &axum::http::Request<B>,
        peer: IpAddr,
    ) -> Result<Self, Answer> {
        let head = Head::from_request(request);
        Self::check(shared, &shared.live(), room, &head, (request.headers(), peer))
    }

    /// Charges a request to its client, then checks its head. `headers` are those that limits and keys look at.
    fn check(
        shared: &Shared,
        live: &Live,
        room: Result<RoomName, Refusal>,
        head: &Head<'_>,
        (headers, peer): (&HeaderMap, IpAddr),
    ) -> Result<Self, Answer> {
        let mut standing = Standing::default();
        let posts = room.as_ref().ok().and_then(|room| shared.observed.posts(room));
        let checked = || -> Result<(RoomName, Caller), Refusal> {
            let mut caller = shared.ledger.charge(&live.limits, (headers, peer), now, &mut standing)?;
            if head.is_foreign(live) {
                return Err(Refusal::Origin);
            }
            let room = room?;
            if !live.has_room(&room) && !shared.orders.is_declared(&room) {
                return Err(Refusal::RoomUnknown(room.to_string()));
            }
            check_type(head)?;
            shared.ledger.read_key(&live.limits, &room, (headers, peer), &mut caller)?;
            Ok((room, caller))
        };
        match checked() {
            Ok((room, caller)) => {
                let Config { max_body_bytes, ack_timeout_ms, .. } = *live.config;
                Ok(Self { room, posts, caller, standing, max_body_bytes, patience_ms: ack_timeout_ms })
            }
            Err(refusal) => Err(refuse(shared, &refusal, standing, posts.as_deref())),
        }
    }
}

/// From a right head to the answer.
async fn finish<B: HttpBody<Data = Bytes>>(shared: &Arc<Shared>, arrival: Arrival, body: B) -> Answer {
    shared.crowd.other_comes();
    let joined = match body::read(body, arrival.max_body_bytes, arrival.patience_ms).await {
        // The body is dropped here, and not kept while the request waits.
        Ok(body) => Joined::join(shared, &shared.live(), arrival, &body),
        Err(refusal) => {
            let mut refused = refuse(shared, &refusal, arrival.standing, arrival.posts.as_deref());
            if matches!(refusal, Refusal::BodySlow(_)) {
                // Its rest isn't waited for (RFC 9110, 15.5.9). HTTP/2 has no such header: the library leaves it out there.
                refused.add(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Err(refused)
        }
    };
    match joined {
        Ok(mut joined) => joined.answer().await,
        Err(refused) => refused,
    }
}

/// A request whose reactions are in an open batch.
struct Joined<'a> {
    shared: &'a Shared,
    /// Without its verdict, which is waited for.
    counted: Counted,
    /// Where it is answered when they are durable.
    wait: Option<Wait<'a>>,
    /// A shutdown waits for it.
    ticket: Option<Ticket<'a>>,
    /// Where posts of the room are counted, if somebody observes it.
    posts: Option<Arc<RoomPosts>>,
    standing: Standing,
    patience_ms: u64,
}

impl<'a> Joined<'a> {
    /// Adds the body to its room's open batch. An error is the answer.
    fn join(shared: &'a Arc<Shared>, live: &Live, mut arrival: Arrival, body: &[u8]) -> Result<Self, Answer> {
        Self::try_join(shared, live, &mut arrival, body)
            .map_err(|refusal| refuse(shared, &refusal, arrival.standing, arrival.posts.as_deref()))
    }

    fn try_join(
        shared: &'a Arc<Shared>,
        live: &Live,
        arrival: &mut Arrival,
        body: &[u8],
    ) -> Result<Self, Refusal> {
        let Arrival { room, posts, caller, standing, max_body_bytes, patience_ms } = arrival;
        let orders = shared.orders.any();
        let own = orders.as_ref().and_then(|rooms| rooms.get(&**room)).map(|room| &**room);
        if own.is_some_and(control::Room::is_closed) {
            return Err(Refusal::RoomClosed);
        }
        if body.len() > *max_body_bytes {
            return Err(Refusal::BodyTooLong(*max_body_bytes));
        }
        // A reader may pass over a byte order mark (RFC 8259, 8.1); some programs write one.
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let ask = request::parse(body, live, own)?;
        let ticket = Some(shared.gate.enter(live.config.max_waiting)?);
        let now = Instant::now();
        let add = || {
            let verdict = shared.batches.add(room, &ask, live.config.ack, &live.config, now.into_std())?;
            let waits = live.config.ack == Ack::Durable;
            Ok(Counted { count: ask.count, verdict: waits.then_some(verdict), told: None })
        };
        let asked = (body, ask.count);
        let mut counted = shared.ledger.count(&live.limits, caller, asked, now.into_std(), standing, add)?;
        let verdict = counted.verdict.take();
        if verdict.is_some() {
            shared.look_who_waits();
        }
        let deadline = now + Duration::from_millis(*patience_ms);
        Ok(Self {
            shared,
            counted,
            wait: verdict.map(|verdict| shared.halls.wait(verdict, deadline)),
            ticket,
            posts: posts.take(),
            standing: mem::take(standing),
            patience_ms: *patience_ms,
        })
    }

    /// Waits until the reactions are durable. Once.
    async fn answer(&mut self) -> Answer {
        let outcome = match &mut self.wait {
            Some(wait) => wait.await,
            None => Some(Outcome::Committed),
        };
        self.ticket = None;
        let standing = mem::take(&mut self.standing);
        let refusal = match outcome {
            Some(Outcome::Committed) => {
                self.shared.meters.requests_accepted.increment(1);
                if let Some(posts) = &self.posts {
                    posts.accept();
                }
                if self.counted.is_told_first() {
                    self.shared.meters.accepted.increment(self.counted.count);
                }
                let mut answer = accepted(self.counted.count);
                standing.tell(&mut answer);
                return answer;
            }
            Some(Outcome::NotWritten) => Refusal::NotWritten,
            Some(Outcome::Unknown) => Refusal::Unknown,
            None => Refusal::TimedOut(self.patience_ms),
        };
        refuse(self.shared, &refusal, standing, self.posts.as_deref())
    }
}

fn accepted(count: u64) -> Answer {
    let body = match count {
        // What comes most costs no allocation.
        1 => Bytes::from_static(b"{\"accepted\":1}"),
        _ => [b"{\"accepted\":", itoa::Buffer::new().format(count).as_bytes(), b"}"].concat().into(),
    };
    Answer::new(StatusCode::ACCEPTED, "application/json", body)
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// JSON, or the plain text that `navigator.sendBeacon` can send without a preflight; in UTF-8, not compressed.
fn check_type(head: &Head<'_>) -> Result<(), Refusal> {
    let is_plain = |encoding: &[u8]| encoding.is_empty() || encoding.eq_ignore_ascii_case(b"identity");
    if head.content_encoding.is_some_and(|encoding| !is_plain(encoding)) {
        return Err(Refusal::ContentEncoding);
    }
    let value = head.content_type.unwrap_or_default();
    if value == b"application/json" {
        return Ok(());
    }
    let value = str::from_utf8(value).ok().filter(|value| value.is_ascii()).unwrap_or_default();
    let mut parts = value.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let known = ["application/json", "text/plain"].iter().any(|known| essence.eq_ignore_ascii_case(known));
    let is_utf_8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, set)) if name.trim().eq_ignore_ascii_case("charset") => {
            let set = set.trim().trim_matches('"');
            // `utf8` is a label of UTF-8 too (Encoding standard, 4.2), and ASCII is a part of it.
            ["utf-8", "utf8", "us-ascii"].iter().any(|known| set.eq_ignore_ascii_case(known))
        }
        _ => true,
    };
    if known && parts.all(is_utf_8) { Ok(()) } else { Err(Refusal::ContentType) }
}
