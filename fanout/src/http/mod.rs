//! What viewers reach over HTTP.
//!
//! - `GET /v1/rooms`: the busiest rooms.
//! - `GET /v1/rooms/{room}`: the newest frame.
//! - `GET /v1/rooms/{room}/live`, `GET /v1/live?room=a&room=b`: each new frame, as texts of a WebSocket.
//! - `GET /v1/rooms/{room}/events`: each new frame, as server-sent events.
//! - `GET /mqtt`, `GET /mqtt/`: MQTT in a WebSocket.

mod events;
mod live;
mod openapi;
mod refusal;
mod room;
mod rooms;
mod snapshot;

use crate::{busiest::Busiest, edge::Edge, fanout::Shared};
use axum::{
    Router,
    extract::FromRef,
    http::{HeaderName, Method, header},
    routing::{MethodRouter, get},
};
pub use openapi::openapi;
use refusal::Refusal;
use service::cors::LiveCors;
use std::{sync::Arc, time::Duration};
use tower_http::cors::CorsLayer;

/// How long browsers may remember what the routes allow.
const CORS_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Browsers take a body for what its type says, and don't guess: refusals repeat what clients sent.
const NOSNIFF: (HeaderName, &str) = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");

/// What the routes need.
#[derive(Debug, Clone)]
pub(crate) struct Routes {
    pub(crate) shared: Arc<Shared>,
    pub(crate) edge: Arc<Edge>,
    pub(crate) busiest: Arc<Busiest>,
}

impl FromRef<Routes> for Arc<Shared> {
    fn from_ref(routes: &Routes) -> Self {
        Arc::clone(&routes.shared)
    }
}

/// The routes of viewers.
pub(crate) fn router(routes: Routes) -> Router {
    let cors = cors(&routes.shared);
    let readable = |route: MethodRouter<Routes>| route.fallback(wrong_method).layer(cors.clone());
    Router::new()
        .route("/v1/rooms", readable(get(rooms::rooms)))
        .route("/v1/rooms/{room}", readable(get(snapshot::snapshot)))
        .route("/v1/rooms/{room}/events", readable(get(events::events)))
        .route("/v1/rooms/{room}/live", websocket(get(live::live)))
        .route("/v1/live", websocket(get(live::live_rooms)))
        .route("/mqtt", websocket(get(live::mqtt)))
        // Some clients add a slash to a URL without a path of its own.
        .route("/mqtt/", websocket(get(live::mqtt)))
        .with_state(routes)
}

/// What the desk reads: rooms and their newest frames, for a listener that the public can't reach.
pub(crate) fn desk_router(routes: Routes) -> Router {
    Router::new()
        .route("/v1/rooms", get(rooms::rooms))
        .route("/v1/rooms/{room}", get(snapshot::snapshot))
        .with_state(routes)
}

async fn wrong_method(method: Method) -> Refusal {
    Refusal::Method(method)
}

/// HEAD goes to the handler of GET unless it has its own: it would open a WebSocket, which only GET does (RFC 6455, 4.1).
fn websocket(route: MethodRouter<Routes>) -> MethodRouter<Routes> {
    let not_get = async |method: Method| Refusal::NotGet(method);
    route.head(not_get).fallback(not_get)
}

/// WebSockets know no CORS: what they give is as public as the snapshot.
fn cors(shared: &Arc<Shared>) -> LiveCors {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers([header::IF_NONE_MATCH, HeaderName::from_static("last-event-id")])
        .expose_headers([header::ETAG, HeaderName::from_static("retry-after")])
        .max_age(CORS_MAX_AGE);
    let shared = Arc::clone(shared);
    LiveCors::new(layer, move || shared.config().cors_origins.clone())
}
