//! The short way to this tier, past the router and its layers: what nearly every request takes.

use super::{Arrival, Head, Joined, finish};
use crate::{config::Live, crowd::Guest, refusal::Refusal, shared::Shared};
use axum::{
    BoxError, Router,
    body::{Bytes, HttpBody},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header},
    response::{IntoResponse as _, Response},
};
use futures_util::future::Either;
use service::http::{Answer, App, Plain, RequestBody, answer_events, answer_plain};
use std::{future::Future, net::SocketAddr, sync::Arc};

/// Answers POSTs of reactions itself, plain ones without the HTTP library, and has the routes answer all else: preflights,
/// mistakes, names that are percent-encoded. The routes have a way to the same handler; the router, its layers and the copies
/// between them cost as much as the rest of HTTP (docs/performance.md).
#[derive(Clone)]
pub struct Front {
    pub(crate) shared: Arc<Shared>,
    pub(crate) routes: Router,
}

impl App for Front {
    type Guest = Guest;

    fn respond(
        &self,
        request: Request<RequestBody>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response> + Send + 'static {
        self.answer(request, peer)
    }

    fn plain<'a>(
        &'a self,
        request: &Plain<'_>,
        peer: SocketAddr,
        guest: &'a Guest,
    ) -> Option<impl Future<Output = Answer> + Send + use<'a>> {
        let Some(room) = room(request.target) else {
            return answer_events(&self.routes, request, peer).map(Either::Right);
        };
        match request.method {
            "POST" => self.answer_post(room, request, peer, guest).map(Either::Left),
            // Preflights: else the connections of browsers, and of proxies before them, would leave the short way.
            "OPTIONS" => answer_plain(&self.routes, request, peer).map(Either::Right),
            _ => None,
        }
    }
}

impl Front {
    /// Answers a plain POST, if the room may be one.
    fn answer_post<'a>(
        &'a self,
        room: &str,
        request: &Plain<'_>,
        peer: SocketAddr,
        guest: &'a Guest,
    ) -> Option<impl Future<Output = Answer> + Send + use<'a>> {
        let room = room.parse().ok()?;
        self.shared.crowd.comes(guest);
        let live = self.shared.live();
        let (head, others) = heads(request, &live);
        let origin = head.origin.and_then(|origin| trusted_origin(&live, origin));
        let arrival = Arrival::check(&self.shared, &live, Ok(room), &head, (&others, peer.ip()));
        let mut joined = arrival.and_then(|arrival| Joined::join(&self.shared, &live, arrival, request.body));
        Some(async move {
            // By reference: else it would be here twice.
            let mut answer = match joined {
                Ok(ref mut joined) => joined.answer().await,
                Err(refused) => refused,
            };
            share_with(origin, &mut answer);
            self.shared.crowd.goes(guest);
            answer
        })
    }

    /// Adds other routes of the same listener. They must not have an answer for what is no route: there is one.
    pub fn with(self, routes: Router) -> Self {
        Self { routes: self.routes.merge(routes), ..self }
    }

    /// Answers one request.
    pub(crate) fn answer<B>(
        &self,
        request: Request<B>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response> + Send + use<B>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let room = Some(request.uri().path()).filter(|_| request.method() == Method::POST).and_then(room);
        let Some(room) = room else {
            return Either::Left(service::http::answer(&self.routes, request, peer));
        };
        let shared = Arc::clone(&self.shared);
        // What is not needed any more is dropped before anything is waited for: it would hold the connection's buffer.
        let origin = request.headers().get(header::ORIGIN);
        let origin = origin.and_then(|origin| trusted_origin(&shared.live(), origin.as_bytes()));
        let room = room.parse().map_err(Refusal::RoomName);
        let arrival = Arrival::from_headers(&shared, room, &request, peer.ip());
        let body = request.into_body();
        Either::Right(async move {
            let mut answer = match arrival {
                Ok(arrival) => finish(&shared, arrival, body).await,
                Err(refused) => refused,
            };
            share_with(origin, &mut answer);
            answer.into_response()
        })
    }
}

/// The room of a path that goes the short way.
fn room(path: &str) -> Option<&str> {
    let room = path.strip_prefix("/v1/rooms/")?.strip_suffix("/reactions")?;
    (!room.contains(['/', '%'])).then_some(room)
}

/// What is looked at in the head of a request, and the headers that limits and keys look at: nearly always none.
fn heads<'a>(request: &Plain<'a>, live: &Live) -> (Head<'a>, HeaderMap) {
    let (mut head, mut others) = (Head::default(), HeaderMap::new());
    for (name, value) in request.headers() {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        // Of several the first one is looked at, as in a map.
        if is("content-type") {
            head.content_type.get_or_insert(value);
        } else if is("content-encoding") {
            head.content_encoding.get_or_insert(value);
        } else if is("origin") {
            head.origin.get_or_insert(value);
        } else if is("host") {
            head.host.get_or_insert(value);
        }
        if live.limits.look_at(name)
            && let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value))
        {
            others.append(name, value);
        }
    }
    (head, others)
}

/// A copy of the origin, if its pages may read the answer.
fn trusted_origin(live: &Live, origin: &[u8]) -> Option<HeaderValue> {
    live.trusts(origin).then(|| HeaderValue::from_bytes(origin).ok())?
}

/// Lets pages of an origin read the answer.
fn share_with(origin: Option<HeaderValue>, answer: &mut Answer) {
    let Some(origin) = origin else { return };
    answer.add(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    answer.add(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(super::EXPOSED));
    answer.add(header::VARY, HeaderValue::from_static("origin"));
}
