//! Opens a WebSocket for a viewer and hands its socket to the edge, or says why not.

use super::{
    Routes,
    refusal::Refusal,
    room::{Room, Rooms},
};
use crate::{
    edge::{Greeting, tune},
    fanout::Shared,
    metrics::{Protocol, refused},
    registry::{Limits, Seat, Watch},
    websocket::{Handshake, Unfit},
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use service::http::Peer;
use std::{
    io,
    net::{IpAddr, TcpStream},
};
use wire::RoomName;

/// The WebSocket subprotocols of MQTT, the preferred one first: that of the standard (MQTT 5, section 6), and its name before
/// 3.1.1, which some clients still offer alone although they speak 3.1.1.
pub(super) const MQTT: [&str; 2] = ["mqtt", "mqttv3.1"];

/// JSON about one room.
pub(super) async fn live(
    State(routes): State<Routes>,
    Room(room): Room,
    Peer(peer): Peer,
    request: Request,
) -> Response {
    open(routes, Protocol::WebSocket, Some(&[room]), peer, request)
}

/// JSON about several rooms.
pub(super) async fn live_rooms(
    State(routes): State<Routes>,
    Rooms(rooms): Rooms,
    Peer(peer): Peer,
    request: Request,
) -> Response {
    open(routes, Protocol::WebSocket, Some(&rooms), peer, request)
}

/// MQTT in a WebSocket.
pub(super) async fn mqtt(State(routes): State<Routes>, Peer(peer): Peer, request: Request) -> Response {
    let words = Words::of(request.headers());
    let Some(subprotocol) = MQTT.into_iter().find(|name| words.handshake().offers(name)) else {
        return Refusal::Subprotocol.into_response();
    };
    let mut response = open(routes, Protocol::MqttWebSocket, None, peer, request);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
    }
    response
}

fn open(
    routes: Routes,
    protocol: Protocol,
    rooms: Option<&[RoomName]>,
    peer: IpAddr,
    mut request: Request,
) -> Response {
    let accept = match Words::of(request.headers()).handshake().accept() {
        Ok(accept) => accept,
        Err(unfit) => return Refusal::Unfit(unfit).into_response(),
    };
    if announces_body(request.headers()) {
        return Refusal::Unfit(Unfit::Body).into_response();
    }
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return Refusal::Unfit(Unfit::NoUpgrade).into_response();
    };
    let shared = &routes.shared;
    let seated = seat(shared, protocol, peer).and_then(|seat| Ok((seat, greeting(shared, rooms)?)));
    let (seat, greeting) = match seated {
        Ok(seated) => seated,
        Err(refusal) => return refusal.into_response(),
    };
    #[expect(clippy::disallowed_methods, reason = "it holds a seat, and ends with the handshake")]
    tokio::spawn(hand_over(upgrade, routes, seat, greeting));
    let headers = [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_ACCEPT, &accept),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Whether a body follows the request. It may come later than the request, and would be taken for frames.
fn announces_body(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    headers.contains_key(header::TRANSFER_ENCODING) || lengths.any(|length| length != "0")
}

/// How the viewer begins: with places in these rooms, or with MQTT.
fn greeting(shared: &Shared, rooms: Option<&[RoomName]>) -> Result<Greeting, Refusal> {
    let Some(rooms) = rooms else { return Ok(Greeting::Mqtt) };
    let hello = shared.hellos.encode(rooms);
    let rooms = rooms.iter().map(|room| watch(shared, room)).collect::<Result<_, _>>()?;
    Ok(Greeting::Json { rooms, hello })
}

/// Takes the socket from HTTP, and gives it to a shard.
async fn hand_over(upgrade: OnUpgrade, routes: Routes, seat: Seat, greeting: Greeting) {
    let Ok(upgraded) = upgrade.await else { return };
    admit(service::http::into_socket(upgraded), &routes, seat, greeting);
}

/// Gives a socket that HTTP has left to a shard, with what was read of it.
pub(super) fn admit(socket: io::Result<(TcpStream, Bytes)>, routes: &Routes, seat: Seat, greeting: Greeting) {
    let tuned = socket.and_then(|(stream, read)| {
        tune(&stream, &routes.shared.config())?;
        Ok((stream, read))
    });
    match tuned {
        Ok((stream, read)) => {
            if !routes.edge.admit(stream, seat, greeting, read) {
                refused("busy");
            }
        }
        Err(error) => {
            refused("handover");
            tracing::debug!(%error, "a viewer's socket could not be taken over from HTTP");
        }
    }
}

/// A place here, taken before the upgrade, so that who gets none is told in HTTP.
pub(super) fn seat(shared: &Shared, protocol: Protocol, peer: IpAddr) -> Result<Seat, Refusal> {
    if !shared.is_caught_up() {
        return Err(Refusal::Starting);
    }
    if shared.drain.has_begun() {
        return Err(Refusal::Draining);
    }
    let limits = Limits::of(&shared.config());
    shared.registry.admit(protocol, peer, limits).map_err(Refusal::Full)
}

/// A place in a room, taken like the one here.
pub(super) fn watch(shared: &Shared, room: &RoomName) -> Result<Watch, Refusal> {
    let limits = Limits::of(&shared.config());
    shared.registry.watch(room, limits).map_err(Refusal::Full)
}

/// The headers of a handshake; those that come twice are joined.
struct Words([String; 5]);

impl Words {
    fn of(headers: &HeaderMap) -> Self {
        let joined = |name: HeaderName| {
            let values: Vec<_> =
                headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
            values.join(",")
        };
        Self([
            joined(header::CONNECTION),
            joined(header::UPGRADE),
            joined(header::SEC_WEBSOCKET_VERSION),
            joined(header::SEC_WEBSOCKET_KEY),
            joined(header::SEC_WEBSOCKET_PROTOCOL),
        ])
    }

    fn handshake(&self) -> Handshake<'_> {
        let [connection, upgrade, version, key, protocols] = &self.0;
        Handshake { connection, upgrade, version, key, protocols }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        edge::Edge,
        tests::{
            counted::value,
            harness::{Stage, config, recorded},
        },
    };
    use std::{net::TcpListener, sync::Arc};

    #[tokio::test]
    async fn a_full_inbox_and_a_broken_socket_are_told_apart() {
        let (handle, _recording) = recorded();
        let stage = Stage::start(config()).await;
        let routes =
            Routes { shared: Arc::clone(&stage.shared), edge: Edge::full(), busiest: Arc::default() };
        let seat = || seat(&stage.shared, Protocol::MqttWebSocket, [127, 0, 0, 1].into()).unwrap();
        let refused = |cause| value(&handle, &format!("uproar_fanout_refused_total{{cause=\"{cause}\"}}"));
        admit(Err(io::ErrorKind::ConnectionReset.into()), &routes, seat(), Greeting::Mqtt);
        assert_eq!((refused("handover"), refused("busy")), (1.0, 0.0));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        admit(Ok((stream, Bytes::new())), &routes, seat(), Greeting::Mqtt);
        assert_eq!((refused("handover"), refused("busy")), (1.0, 1.0));
        stage.until_viewers(0).await;
    }
}
