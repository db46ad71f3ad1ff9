//! The newest frame of a room, for those who join or poll.

use super::{NOSNIFF, refusal::Refusal, room::Room};
use crate::fanout::Shared;
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use std::sync::Arc;

pub(super) async fn snapshot(
    State(shared): State<Arc<Shared>>,
    Room(room): Room,
    headers: HeaderMap,
) -> Response {
    if !shared.is_caught_up() {
        return Refusal::Starting.into_response();
    }
    // Also on a 404: while everybody waits for a room's first reaction, caches should answer.
    let cache = [(header::CACHE_CONTROL, format!("public, max-age={}", shared.config().snapshot_max_age_s))];
    let Some(frame) = shared.registry.snapshot(&room) else {
        return (cache, Refusal::NoFrame(room.to_string())).into_response();
    };
    let etag = frame.etag();
    if knows(&headers, &etag) {
        return (StatusCode::NOT_MODIFIED, cache, [(header::ETAG, etag)]).into_response();
    }
    let kind = [(header::CONTENT_TYPE, "application/json"), NOSNIFF];
    (cache, [(header::ETAG, etag)], kind, frame.json()).into_response()
}

/// Whether `If-None-Match` names the tag; compared weakly (RFC 9110, 13.1.2). Our tags hold no commas.
fn knows(headers: &HeaderMap, etag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let ours = opaque(etag);
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|tag| tag.trim() == "*" || opaque(tag) == ours)
}
