//! The room that a path names.

use crate::metrics::refused;
use axum::{
    extract::{FromRequestParts, Path},
    http::{StatusCode, request::Parts},
};
use service::Problem;
use wire::RoomName;

/// The `{room}` of a path.
pub(super) struct Room(pub(super) RoomName);

impl<S: Send + Sync> FromRequestParts<S> for Room {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let bad = |detail: String| {
            refused("room_name");
            Problem::new(StatusCode::BAD_REQUEST, detail)
        };
        let Path(name) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| bad(rejection.body_text()))?;
        name.parse().map(Room).map_err(|error: wire::NameError| bad(error.to_string()))
    }
}
