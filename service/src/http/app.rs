//! What answers requests.

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    response::Response,
};
use hyper::body::Incoming;
use std::{convert::Infallible, future::Future, net::SocketAddr};
use tower::Service;

/// What answers requests. Cloned for each connection.
pub trait App: Clone + Send + Sync + 'static {
    /// Answers one request of `peer`.
    fn respond(
        &self,
        request: hyper::Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response> + Send + 'static;
}

/// Handlers find the peer as [`ConnectInfo`].
impl App for Router {
    fn respond(
        &self,
        request: hyper::Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response> + Send + 'static {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = self.clone().call(request);
        async move {
            match answer.await {
                Ok(response) => response,
                Err(error) => never(error),
            }
        }
    }
}

fn never<T>(error: Infallible) -> T {
    match error {}
}
