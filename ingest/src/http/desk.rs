//! What the desk on the admin listener asks of this tier.

use crate::{observed::ROOMS_MAX, shared::Shared};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use service::Problem;
use std::{sync::Arc, time::Instant};
use wire::RoomName;

/// The routes.
pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    Router::new().route("/v1/rooms/{room}/posts", get(posts)).with_state(Arc::clone(shared))
}

#[derive(Serialize)]
struct Posts {
    room: RoomName,
    #[serde(flatten)]
    seen: crate::observed::Seen,
}

/// How posts of a room ended since somebody observes it.
async fn posts(State(shared): State<Arc<Shared>>, Path(room): Path<String>) -> Response {
    let room: RoomName = match room.parse() {
        Ok(room) => room,
        Err(error) => return Problem::new(StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    match shared.observed.look(&room, Instant::now()) {
        Ok(seen) => ([(header::CACHE_CONTROL, "no-store")], Json(Posts { room, seen })).into_response(),
        Err(_) => {
            let text = format!(
                "{ROOMS_MAX} rooms are observed already; one is free a minute after its last reading"
            );
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}
