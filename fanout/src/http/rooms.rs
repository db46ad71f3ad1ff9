//! The busiest rooms, for people who look for one: `GET /v1/rooms?limit=20`.

use super::{NOSNIFF, Routes, refusal::Refusal};
use crate::busiest::{ROOMS_MAX, Room};
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::header,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use std::time::Instant;

const LIMIT: usize = 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    rooms: &'a [Room],
}

pub(super) async fn rooms(
    State(routes): State<Routes>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let shared = &routes.shared;
    let Ok(Query(Asked { limit })) = asked else { return Refusal::Limit.into_response() };
    let limit = limit.unwrap_or(LIMIT);
    if !(1..=ROOMS_MAX).contains(&limit) {
        return Refusal::Limit.into_response();
    }
    if !shared.config().list_rooms {
        return Refusal::Unlisted.into_response();
    }
    if !shared.is_caught_up() {
        return Refusal::Starting.into_response();
    }
    let config = shared.config();
    let busiest = routes.busiest.rooms(&shared.registry, config.occupancy, Instant::now());
    let cache = format!("public, max-age={}", config.snapshot_max_age_s);
    let answer = Answer { rooms: &busiest[..busiest.len().min(limit)] };
    ([(header::CACHE_CONTROL, cache)], [NOSNIFF], Json(answer)).into_response()
}
