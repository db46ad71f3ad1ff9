//! `GET /v1/rooms/{room}/history`: what came in a room, summed up per step.

mod answer;
mod openapi;
mod refusal;
#[cfg(test)]
mod tests;

pub use openapi::openapi;
pub(crate) use refusal::Refusal;

use crate::tier::Shared;
use axum::{
    Router,
    http::{HeaderName, Method, header},
    routing::get,
};
use service::cors::LiveCors;
use std::{sync::Arc, time::Duration};
use tower_http::cors::CorsLayer;

/// The route.
const PATH: &str = "/v1/rooms/{room}/history";
/// How long browsers may remember what the route allows.
const CORS_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Browsers take a body for what its type says, and don't guess: refusals repeat what clients sent.
const NOSNIFF: (HeaderName, &str) = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");

/// What the route needs.
#[derive(Clone)]
pub(crate) struct Routes(pub(crate) Arc<Shared>);

pub(crate) fn router(routes: Routes) -> Router {
    let cors = cors(&routes.0);
    let wrong_method = async |method: Method| Refusal::Method(method);
    let route = get(answer::history).fallback(wrong_method).layer(cors);
    Router::new().route(PATH, route).with_state(routes)
}

fn cors(shared: &Arc<Shared>) -> LiveCors {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers([header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE])
        .expose_headers([header::ETAG, header::LAST_MODIFIED, HeaderName::from_static("retry-after")])
        .max_age(CORS_MAX_AGE);
    let shared = Arc::clone(shared);
    LiveCors::new(layer, move || shared.settings().config.cors_origins.clone())
}
