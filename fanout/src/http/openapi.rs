//! What this tier adds to the OpenAPI document: the limits in it are those in force.

use super::refusal::Refusal;
use crate::{Config, busiest::ROOMS_MAX, registry::Full, websocket::Unfit};
use axum::http::Method;
use serde_json::{Map, Value, json};
use service::openapi::Part;
use wire::{Frame, Hello, NameError, RoomName};

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rooms,
    Snapshot,
    Events,
    Live,
    LiveRooms,
    Mqtt,
}

/// This tier's operations under `config`, for the OpenAPI document of the process.
pub fn openapi(config: &Config) -> Part {
    let mut part = Part::default();
    let kinds = [
        ("/v1/rooms", Kind::Rooms),
        ("/v1/rooms/{room}", Kind::Snapshot),
        ("/v1/rooms/{room}/events", Kind::Events),
        ("/v1/rooms/{room}/live", Kind::Live),
        ("/v1/live", Kind::LiveRooms),
        ("/mqtt", Kind::Mqtt),
    ];
    for (path, kind) in kinds {
        let mut operation = match kind {
            Kind::Rooms => rooms(config),
            Kind::Snapshot => snapshot(config, &mut part),
            Kind::Events => events(config, &mut part),
            Kind::Live => live(&mut part),
            Kind::LiveRooms => live_rooms(config, &mut part),
            Kind::Mqtt => mqtt(),
        };
        for (status, response) in refusals(kind, config, &mut part) {
            operation["responses"][status] = response;
        }
        operation["tags"] = json!(["viewers"]);
        part.add("get", path, operation);
    }
    part
}

fn room(part: &mut Part) -> Value {
    json!({ "name": "room", "in": "path", "required": true, "schema": part.schema_of::<RoomName>() })
}

fn rooms(config: &Config) -> Value {
    let count = |what: &str| json!({ "type": "integer", "minimum": 0, "description": what });
    json!({
        "operationId": "getRooms",
        "summary": "The busiest rooms",
        "description": "Those with most reactions in their newest window come first, then those with most reactions in all.",
        "parameters": [{
            "name": "limit", "in": "query",
            "description": "Most rooms of the answer.",
            "schema": { "type": "integer", "minimum": 1, "maximum": ROOMS_MAX },
        }],
        "responses": { "200": {
            "description": "The rooms, the busiest first.",
            "headers": { "Cache-Control": {
                "required": true,
                "schema": { "const": format!("public, max-age={}", config.snapshot_max_age_s) },
            } },
            "content": { "application/json": { "schema": {
                "type": "object",
                "required": ["rooms"],
                "properties": { "rooms": { "type": "array", "maxItems": ROOMS_MAX, "items": {
                    "type": "object",
                    "required": ["room", "count", "total", "top"],
                    "properties": {
                        "room": { "type": "string" },
                        "count": count("Reactions in the newest window."),
                        "total": count("Reactions of the room's life."),
                        "viewers": count("Viewers of the room."),
                        "top": { "type": "array", "items": { "type": "string" },
                                 "description": "The most frequent reactions of the room's life." },
                    },
                } } },
            } } },
        } },
    })
}

fn snapshot(config: &Config, part: &mut Part) -> Value {
    let frame = part.schema_of::<Frame>();
    let cache = json!({
        "description": "How long caches may keep the answer.",
        "required": true,
        "schema": { "const": format!("public, max-age={}", config.snapshot_max_age_s) },
    });
    let tag = json!({ "required": true, "schema": { "type": "string", "pattern": "^W/\"[0-9]+-[0-9]+\"$" } });
    let headers = json!({ "Cache-Control": cache, "ETag": tag });
    json!({
        "operationId": "getSnapshot",
        "summary": "The newest frame of a room",
        "parameters": [room(part), {
            "name": "If-None-Match", "in": "header", "schema": { "type": "string" },
            "description": "Entity tags of answers that the client has.",
        }],
        "responses": {
            "200": {
                "description": format!(
                    "The room's newest frame. `counts` and `totals` hold the {} most frequent reactions.",
                    config.top_n
                ),
                "headers": headers,
                "content": { "application/json": { "schema": frame } },
            },
            "304": { "description": "The client has the newest frame.", "headers": headers },
        },
    })
}

fn events(config: &Config, part: &mut Part) -> Value {
    let frame = part.schema_of::<Frame>();
    json!({
        "operationId": "getEvents",
        "summary": "Each new frame of a room, as server-sent events",
        "description": "An endless answer: the newest frame at once, then each new one.",
        "parameters": [room(part)],
        "responses": { "200": {
            "description": format!(
                "Events whose `data` is a frame in JSON and whose `id` is its `since` and `seq`. `retry` comes first: a random \
                 time from {} to {} ms. Then an event `hello` with the schema Hello. A comment comes where nothing else does for {} ms.",
                config.reconnect_jitter_ms / 5,
                config.reconnect_jitter_ms,
                config.ping_interval_ms
            ),
            "content": { "text/event-stream": { "schema": {
                "type": "string",
                "description": "Events (HTML standard, 9.2). What their `data` holds is described by `contentSchema`.",
                "contentSchema": frame,
            } } },
        } },
    })
}

/// The answer that opens a WebSocket.
fn switching(what: &str) -> Value {
    json!({
        "description": format!("A WebSocket (RFC 6455). {what}"),
        "headers": {
            "Upgrade": { "required": true, "schema": { "const": "websocket" } },
            "Sec-WebSocket-Accept": { "required": true, "schema": { "type": "string" } },
        },
    })
}

const WORDS: &str = "First a text with the schema Hello, then texts with the schema Frame: the newest at once, then each new \
                     one. A viewer that says anything is closed with 1008; 1012 asks to connect again.";

fn live(part: &mut Part) -> Value {
    let messages = [part.schema_of::<Hello>(), part.schema_of::<Frame>()];
    json!({
        "operationId": "getLive",
        "summary": "Each new frame of a room, over a WebSocket",
        "parameters": [room(part)],
        "responses": { "101": switching(WORDS) },
        "x-messages": messages,
    })
}

fn live_rooms(config: &Config, part: &mut Part) -> Value {
    let messages = [part.schema_of::<Hello>(), part.schema_of::<Frame>()];
    json!({
        "operationId": "getLiveOfRooms",
        "summary": "Each new frame of several rooms, over a WebSocket",
        "parameters": [{
            "name": "room", "in": "query", "required": true, "explode": true,
            "description": "The rooms: ?room=a&room=b. Other parameters are refused. A room that comes twice is watched once.",
            "schema": {
                "type": "array",
                "items": part.schema_of::<RoomName>(),
                "minItems": 1,
                "maxItems": config.max_rooms_per_viewer,
            },
        }],
        "responses": { "101": switching(WORDS) },
        "x-messages": messages,
    })
}

fn mqtt() -> Value {
    json!({
        "operationId": "getMqtt",
        "summary": "MQTT 3.1.1 or 5 in a WebSocket",
        "description": "Topics are reactions/{room}; QoS 0; viewers can't publish.",
        "parameters": [{
            "name": "Sec-WebSocket-Protocol", "in": "header", "required": true,
            "description": "Has to offer mqtt, or mqttv3.1, which is agreed to where mqtt is not offered.",
            "schema": { "type": "string", "enum": super::live::MQTT },
        }],
        "responses": { "101": switching("Binary messages hold MQTT packets (MQTT 5, section 6).") },
    })
}

/// A list of refusals that doesn't compile while one has no place in it.
macro_rules! refusals {
    ($($variant:ident $( ( $($value:expr),* ) )? ;)*) => {{
        const _: fn(&Refusal) = |refusal| match refusal { $(Refusal::$variant { .. } => {})* };
        vec![$(Refusal::$variant $( ( $($value),* ) )?),*]
    }};
}

/// The responses that refuse what is of `kind`, under `config`.
fn refusals(kind: Kind, config: &Config, part: &mut Part) -> Map<String, Value> {
    let refusals = refusals! {
        RoomName(NameError::RoomCharacter('/'));
        RoomEncoding;
        Parameter("rooms".into());
        TooManyRooms(config.max_rooms_per_viewer);
        NoRoom;
        Method(Method::POST);
        NotGet(Method::HEAD);
        Limit;
        Unlisted;
        Subprotocol;
        Unfit(Unfit::NoUpgrade);
        NoFrame("ind-pak-final".into());
        Starting;
        Draining;
        Full(Full::Viewers);
    };
    let unfit = [Unfit::Version, Unfit::Key, Unfit::Body].map(Refusal::Unfit);
    let full = [Full::Address, Full::Rooms].map(Refusal::Full);
    let mine: Vec<_> =
        refusals.into_iter().chain(unfit).chain(full).filter(|refusal| concerns(refusal, kind)).collect();
    let mut responses = part.responses(mine.iter().map(|refusal| (refusal.cause(), refusal.problem())));
    if let Some(wrong_method) = responses.get_mut("405") {
        let allowed = if is_websocket(kind) { "GET" } else { "GET,HEAD" };
        wrong_method["headers"]["Allow"] = json!({ "required": true, "schema": { "const": allowed } });
    }
    responses
}

fn is_websocket(kind: Kind) -> bool {
    matches!(kind, Kind::Live | Kind::LiveRooms | Kind::Mqtt)
}

/// Whether what is of `kind` can be refused like that.
fn concerns(refusal: &Refusal, kind: Kind) -> bool {
    match refusal {
        Refusal::Parameter(_) | Refusal::TooManyRooms(_) | Refusal::NoRoom => kind == Kind::LiveRooms,
        Refusal::RoomName(_) => !matches!(kind, Kind::Rooms | Kind::Mqtt),
        Refusal::RoomEncoding => !matches!(kind, Kind::Rooms | Kind::LiveRooms | Kind::Mqtt),
        Refusal::Limit | Refusal::Unlisted => kind == Kind::Rooms,
        Refusal::Subprotocol => kind == Kind::Mqtt,
        Refusal::Unfit(_) | Refusal::NotGet(_) => is_websocket(kind),
        Refusal::Method(_) => !is_websocket(kind),
        Refusal::NoFrame(_) => kind == Kind::Snapshot,
        Refusal::Draining | Refusal::Full(Full::Viewers | Full::Address) => {
            !matches!(kind, Kind::Rooms | Kind::Snapshot)
        }
        // MQTT is told in MQTT.
        Refusal::Full(Full::Rooms) => !matches!(kind, Kind::Rooms | Kind::Snapshot | Kind::Mqtt),
        Refusal::Starting => true,
    }
}
