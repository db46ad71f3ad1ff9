//! Opens a WebSocket for a viewer, or says why not.

use super::{RETRY_AFTER_S, room::Room, viewer};
use crate::{
    fanout::Shared,
    metrics::refused,
    registry::{Full, Limits, Seat},
};
use axum::{
    extract::{
        State, WebSocketUpgrade,
        ws::rejection::WebSocketUpgradeRejection::{self as Rejection, *},
    },
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use service::Problem;
use std::sync::Arc;
use wire::RoomName;

/// Viewers send pongs and closes only, of at most 125 bytes. A larger message is refused before it is read.
const MAX_MESSAGE_BYTES: usize = 4_096;
const READ_BUFFER_BYTES: usize = 512;

pub(super) async fn live(
    State(shared): State<Arc<Shared>>,
    Room(room): Room,
    upgrade: Result<WebSocketUpgrade, Rejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return not_a_websocket(&rejection),
    };
    let seat = match seat(&shared, room) {
        Ok(seat) => seat,
        Err(problem) => return problem.retry_after(RETRY_AFTER_S).into_response(),
    };
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        // Frames go to the socket at once; only what it does not take stays in the buffer.
        .write_buffer_size(0)
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .on_upgrade(move |socket| viewer::serve(socket, seat, shared))
}

/// A place in the room, taken before the upgrade, so that who gets none is told in HTTP.
fn seat(shared: &Shared, room: RoomName) -> Result<Seat, Problem> {
    let busy = |cause, detail: &str| {
        refused(cause);
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    };
    if !shared.is_caught_up() {
        return Err(busy("starting", "this node is still reading the log"));
    }
    if shared.drain.has_begun() {
        return Err(busy("draining", "this node is about to stop, connect again to reach another"));
    }
    let config = shared.config();
    let limits = Limits { max_viewers: config.max_viewers, max_rooms_watched: config.max_rooms_watched };
    shared.registry.join(room, limits, "websocket").map_err(|full| match full {
        Full::Viewers => busy("viewers", "this node has as many viewers as it may have"),
        Full::Rooms => busy("rooms", "viewers of this node watch as many rooms as they may"),
    })
}

fn not_a_websocket(rejection: &Rejection) -> Response {
    refused("not_websocket");
    let status = match rejection {
        MethodNotGet(_)
        | MethodNotConnect(_)
        | InvalidConnectionHeader(_)
        | InvalidUpgradeHeader(_)
        | InvalidProtocolPseudoheader(_)
        | InvalidWebSocketVersionHeader(_)
        | ConnectionNotUpgradable(_) => StatusCode::UPGRADE_REQUIRED,
        _ => StatusCode::BAD_REQUEST,
    };
    let detail = format!("this resource is a WebSocket (RFC 6455): {}", rejection.body_text());
    let mut response = Problem::new(status, detail).into_response();
    if status == StatusCode::UPGRADE_REQUIRED {
        for (name, value) in [
            (header::UPGRADE, "websocket"),
            (header::CONNECTION, "upgrade"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    response
}
