//! What answers requests.

use super::{Answer, Offer, Plain, RequestBody};
use axum::{
    BoxError, Router,
    body::{Body, Bytes, HttpBody},
    extract::{ConnectInfo, FromRequestParts},
    http::{Request, StatusCode, Uri, header, request::Parts},
    response::Response,
};
use futures_util::future::BoxFuture;
use std::{
    convert::Infallible,
    future::{Future, Ready},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};
use tower::Service;

/// What answers requests. Cloned for each connection.
pub trait App: Clone + Send + Sync + 'static {
    /// What it notes of a connection from one plain request to the next.
    type Guest: Default + Send + Sync;

    /// Answers one request of `peer`.
    fn respond(
        &self,
        request: Request<RequestBody>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response> + Send + 'static;

    /// Answers a plain request of `peer`, as `respond` would, or leaves it and all that follow on the connection to
    /// `respond`. The requests that come here of one connection are `guest`'s, and come one at a time.
    fn plain<'a>(
        &'a self,
        _request: &Plain<'_>,
        _peer: SocketAddr,
        _guest: &'a Self::Guest,
    ) -> Option<impl Future<Output = Answer> + Send + use<'a, Self>> {
        None::<Ready<Answer>>
    }
}

/// Handlers find the peer as [`Peer`].
impl App for Router {
    type Guest = ();

    fn respond(
        &self,
        request: Request<RequestBody>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response> + Send + 'static {
        answer(self, request, peer)
    }

    fn plain<'a>(
        &'a self,
        request: &Plain<'_>,
        peer: SocketAddr,
        (): &'a (),
    ) -> Option<impl Future<Output = Answer> + Send + use<'a>> {
        answer_events(self, request, peer)
    }
}

/// Has `routes` answer one request of `peer`.
pub fn answer<B>(
    routes: &Router,
    request: Request<B>,
    peer: SocketAddr,
) -> impl Future<Output = Response> + Send + use<B>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    if let Some(target) = without_needless_slashes(request.uri()) {
        *request.uri_mut() = target;
    }
    let answer = routes.clone().call(request);
    async {
        let mut answer = answer.await.unwrap_or_else(|never| match never {});
        // The router says 0, but it is the length of what has not changed (RFC 9110, 8.6). HTTP/1.1 leaves it out anyway.
        if answer.status() == StatusCode::NOT_MODIFIED {
            answer.headers_mut().remove(header::CONTENT_LENGTH);
        }
        answer
    }
}

/// The same target without slashes at the end of its path, or two at its start: a client whose base URL ends in a slash sends
/// those. `None`: it has none. Slashes within are left, because nothing between two of them is an empty name.
fn without_needless_slashes(target: &Uri) -> Option<Uri> {
    let path = target.path();
    if path.len() == 1 || !path.ends_with('/') && !path.starts_with("//") {
        return None;
    }
    let short = format!("/{}", path.trim_matches('/'));
    let mut parts = target.clone().into_parts();
    let path_and_query = match target.query() {
        Some(query) => format!("{short}?{query}"),
        None => short,
    };
    parts.path_and_query = Some(path_and_query.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// Has `routes` answer a plain request, which has to be one that they answer shortly. Boxed, as there are few, and they are long.
pub fn answer_plain(
    routes: &Router,
    request: &Plain<'_>,
    peer: SocketAddr,
) -> Option<BoxFuture<'static, Answer>> {
    let mut request = request.to_request()?;
    let offer = Offer::default();
    request.extensions_mut().insert(offer.clone());
    let answer = answer(routes, request, peer);
    Some(Box::pin(async move { Answer::of(answer.await, &offer).await }))
}

/// The same where a plain request asks for an event stream, of which `routes` have to take the socket ([`Offer`]).
pub fn answer_events(
    routes: &Router,
    request: &Plain<'_>,
    peer: SocketAddr,
) -> Option<BoxFuture<'static, Answer>> {
    let asks = |(name, value): (&str, &[u8])| {
        name.eq_ignore_ascii_case("accept") && value.eq_ignore_ascii_case(b"text/event-stream")
    };
    let asked = request.method == "GET" && request.headers().any(asks);
    asked.then(|| answer_plain(routes, request, peer)).flatten()
}

/// The address of the connection's peer, for handlers.
pub struct Peer(pub IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let info = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        // Without a connection, as in tests of routes, there is only ourselves.
        Ok(Self(info.map_or(Ipv4Addr::LOCALHOST.into(), |info| info.0.ip())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;

    #[test]
    fn slashes_at_the_ends_of_a_path_make_no_difference() {
        let target =
            |text: &str| without_needless_slashes(&text.parse().unwrap()).map(|target| target.to_string());
        for same in ["/", "/a", "/a/b?c=/", "/a//b", "*", "http://x/a"] {
            assert_eq!(target(same), None, "{same}");
        }
        for (from, to) in [
            ("/a/", "/a"),
            ("/a///", "/a"),
            ("//a", "/a"),
            ("//a//b//?c=d/", "/a//b?c=d/"),
            ("http://x/a/", "http://x/a"),
            ("//", "/"),
        ] {
            assert_eq!(target(from).as_deref(), Some(to), "{from}");
        }
    }

    #[tokio::test]
    async fn what_has_not_changed_is_not_said_to_be_empty() {
        let routes = Router::new().route("/", get(async || StatusCode::NOT_MODIFIED));
        let response = answer(&routes, Request::new(Body::empty()), ([127, 0, 0, 1], 1).into()).await;
        assert_eq!(response.status(), 304);
        assert_eq!(response.headers().get(header::CONTENT_LENGTH), None);
    }
}
