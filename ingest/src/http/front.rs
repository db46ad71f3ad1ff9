//! The short way to this tier, past the router and its layers: what nearly every request takes.

use super::{Arrival, finish};
use crate::shared::Shared;
use axum::{
    BoxError, Router,
    body::{Bytes, HttpBody},
    http::{HeaderMap, HeaderValue, Method, Request, header},
    response::Response,
};
use futures_util::future::Either;
use hyper::body::Incoming;
use service::http::App;
use std::{future::Future, net::SocketAddr, sync::Arc};

/// Answers POSTs of reactions itself, and has the routes answer all else: preflights, mistakes, names that are
/// percent-encoded. The routes have a way to the same handler; the router, its layers and the copies between them cost as much
/// as the rest of HTTP (docs/performance.md).
#[derive(Clone)]
pub struct Front {
    pub(crate) shared: Arc<Shared>,
    pub(crate) routes: Router,
}

impl App for Front {
    fn respond(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response> + Send + 'static {
        self.answer(request, peer)
    }
}

impl Front {
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
        let Some(room) = room(&request) else {
            return Either::Left(service::http::answer(&self.routes, request, peer));
        };
        let shared = Arc::clone(&self.shared);
        // What is not needed any more is dropped before anything is waited for: it would hold the connection's buffer.
        let origin = trusted_origin(&shared, request.headers());
        let arrival = Arrival::of(&shared, room, request.headers(), peer.ip());
        let body = request.into_body();
        Either::Right(async move {
            let mut response = match arrival {
                Ok(arrival) => finish(&shared, arrival, body).await,
                Err(refused) => refused,
            };
            if let Some(origin) = origin {
                let headers = response.headers_mut();
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                headers
                    .insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(super::EXPOSED));
                headers.insert(header::VARY, HeaderValue::from_static("origin"));
            }
            response
        })
    }
}

/// The room of a request that goes the short way.
fn room<B>(request: &Request<B>) -> Option<&str> {
    let path = request.uri().path();
    let room = path.strip_prefix("/v1/rooms/")?.strip_suffix("/reactions")?;
    (request.method() == Method::POST && !room.contains(['/', '%'])).then_some(room)
}

/// A copy of the origin, if its pages may read the answer.
fn trusted_origin(shared: &Shared, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?.as_bytes();
    shared.live().trusts(origin).then(|| HeaderValue::from_bytes(origin).ok())?
}
