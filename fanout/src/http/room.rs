//! The rooms that a path or a query names.

use crate::{fanout::Shared, metrics::refused};
use axum::{
    extract::{FromRef, FromRequestParts, Path},
    http::{StatusCode, request::Parts},
};
use service::Problem;
use std::sync::Arc;
use wire::RoomName;

/// The `{room}` of a path.
pub(super) struct Room(pub(super) RoomName);

/// Each `room=` of a query, without those that come twice.
pub(super) struct Rooms(pub(super) Vec<RoomName>);

fn bad(detail: impl Into<String>) -> Problem {
    refused("room_name");
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

impl<S: Send + Sync> FromRequestParts<S> for Room {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(name) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| bad(rejection.body_text()))?;
        name.parse().map(Room).map_err(|error: wire::NameError| bad(error.to_string()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Rooms
where
    Arc<Shared>: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let most = Arc::<Shared>::from_ref(state).config().max_rooms_per_viewer;
        let mut rooms: Vec<RoomName> = Vec::new();
        // All characters of a room's name may stand in a query as they are.
        for (name, value) in
            parts.uri.query().unwrap_or_default().split('&').filter_map(|p| p.split_once('='))
        {
            if name != "room" {
                return Err(bad(format!("unknown parameter {name:?}: ask with ?room=a&room=b")));
            }
            let room: RoomName = value.parse().map_err(|error: wire::NameError| bad(error.to_string()))?;
            if !rooms.contains(&room) {
                rooms.push(room);
            }
            if rooms.len() > most {
                return Err(bad(format!("a viewer may watch {most} rooms at most")));
            }
        }
        if rooms.is_empty() {
            return Err(bad("which rooms? ask with ?room=a&room=b"));
        }
        Ok(Self(rooms))
    }
}
