//! The rooms that a path or a query names.

use super::refusal::Refusal;
use crate::fanout::Shared;
use axum::{
    extract::{FromRef, FromRequestParts, Path, Query},
    http::request::Parts,
};
use std::sync::Arc;
use wire::RoomName;

/// The `{room}` of a path.
pub(super) struct Room(pub(super) RoomName);

/// Each `room=` of a query, without those that come twice.
pub(super) struct Rooms(pub(super) Vec<RoomName>);

impl<S: Send + Sync> FromRequestParts<S> for Room {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path(name) =
            Path::<String>::from_request_parts(parts, state).await.map_err(|_| Refusal::RoomEncoding)?;
        name.parse().map(Room).map_err(Refusal::RoomName)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Rooms
where
    Arc<Shared>: FromRef<S>,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let most = Arc::<Shared>::from_ref(state).config().max_rooms_per_viewer;
        let mut rooms: Vec<RoomName> = Vec::new();
        let mut named = 0;
        // A room's name may stand in a query as it is; forms and browsers escape `~` nevertheless.
        let Query(parameters) =
            Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map_err(|_| Refusal::NoRoom)?;
        for (name, value) in parameters {
            if name != "room" {
                return Err(Refusal::Parameter(name));
            }
            let room: RoomName = value.parse().map_err(Refusal::RoomName)?;
            named += 1;
            if named > most {
                return Err(Refusal::TooManyRooms(most));
            }
            if !rooms.contains(&room) {
                rooms.push(room);
            }
        }
        if rooms.is_empty() {
            return Err(Refusal::NoRoom);
        }
        Ok(Self(rooms))
    }
}
