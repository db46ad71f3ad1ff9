//! What viewers reach over HTTP.
//!
//! - `GET /v1/rooms/{room}`: the newest frame.
//! - `GET /v1/rooms/{room}/live`: each new frame, as texts of a WebSocket.

mod live;
mod room;
mod snapshot;
mod viewer;

use crate::fanout::Shared;
use axum::{
    Router,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    routing::{MethodFilter, get, on},
};
use service::Problem;
use std::{sync::Arc, time::Duration};
use tower_http::cors::{Any, CorsLayer};

/// Seconds after which a refused request may be tried again.
const RETRY_AFTER_S: u32 = 1;
/// How long browsers may remember what the snapshot's route allows.
const CORS_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The routes of viewers.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let mut snapshot = get(snapshot::snapshot).fallback(wrong_method);
    if let Some(cors) = cors(&shared.config().cors_origins) {
        snapshot = snapshot.layer(cors);
    }
    // CONNECT is how HTTP/2 opens a WebSocket (RFC 8441).
    let live = on(MethodFilter::GET.or(MethodFilter::CONNECT), live::live).fallback(wrong_method);
    Router::new().route("/v1/rooms/{room}", snapshot).route("/v1/rooms/{room}/live", live).with_state(shared)
}

async fn wrong_method(method: Method) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("this resource can be read only, not {method}"))
}

/// WebSockets know no CORS: what they give is as public as the snapshot.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers([header::IF_NONE_MATCH])
        .expose_headers([header::ETAG, HeaderName::from_static("retry-after")])
        .max_age(CORS_MAX_AGE);
    Some(if origins.iter().any(|origin| origin == "*") {
        layer.allow_origin(Any)
    } else {
        let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
        layer.allow_origin(origins.collect::<Vec<_>>())
    })
}
