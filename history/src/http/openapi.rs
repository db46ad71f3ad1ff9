//! What this tier adds to the OpenAPI document: the limits in it are those in force.

use super::{PATH, Refusal, answer::for_a_while};
use crate::{POINTS_MAX, Point, Settings, time::TIME_MAX_MS};
use axum::http::Method;
use serde_json::{Value, json};
use service::openapi::Part;
use wire::{NameError, RoomName};

/// This tier's operation under `settings`, for the OpenAPI document of the process.
pub fn openapi(settings: &Settings) -> Part {
    let mut part = Part::default();
    let mut operation = operation(settings, &mut part);
    let refusals = refusals(settings);
    let mut responses = part.responses(refusals.iter().map(|refusal| (refusal.cause(), refusal.problem())));
    if let Some(wrong_method) = responses.get_mut("405") {
        wrong_method["headers"]["Allow"] = json!({ "required": true, "schema": { "const": "GET,HEAD" } });
    }
    for (status, response) in responses {
        operation["responses"][status] = response;
    }
    part.add("get", PATH, operation);
    part
}

fn operation(settings: &Settings, part: &mut Part) -> Value {
    let (point, room) = (part.schema_of::<Point>(), part.schema_of::<RoomName>());
    let time = |name: &str, what: &str| {
        json!({
            "name": name, "in": "query", "description": what,
            "schema": { "oneOf": [
                { "type": "integer", "format": "int64", "minimum": 0, "maximum": TIME_MAX_MS },
                { "type": "string" },
            ] },
        })
    };
    let headers = json!({
        "Cache-Control": { "required": true, "schema": { "type": "string" } },
        "ETag": { "required": true, "schema": { "type": "string", "pattern": "^\"[0-9a-f]{16}\"$" } },
        "Last-Modified": { "required": false, "schema": { "type": "string" } },
    });
    json!({
        "operationId": "getHistory",
        "summary": "What came in a room, summed up per step",
        "description": format!(
            "Sums of the windows that start at `from` or later and before `to`. Windows are kept for {} ms. A range that is \
             complete may be cached for ever, any other with {}.",
            settings.retention_ms,
            for_a_while(settings)
        ),
        "tags": ["viewers"],
        "parameters": [
            { "name": "room", "in": "path", "required": true, "schema": room },
            time("from", "First ms of the range, or its time in RFC 3339. Left out: 10 minutes before `to`."),
            time("to", "First ms after the range, or its time in RFC 3339. Left out: the start of the window that is open."),
            {
                "name": "step", "in": "query",
                "description": format!("Length of a step in ms. Left out: the shortest that gives at most {POINTS_MAX} points."),
                "schema": { "type": "integer", "format": "int64", "minimum": settings.window_ms },
            },
            {
                "name": "If-None-Match", "in": "header", "schema": { "type": "string" },
                "description": "Entity tags of answers that the client has.",
            },
            {
                "name": "If-Modified-Since", "in": "header", "schema": { "type": "string" },
                "description": "The Last-Modified of the answer that the client has.",
            },
        ],
        "responses": {
            "200": {
                "description": "The points in the order of time. A step without reactions has none.",
                "headers": headers,
                "content": { "application/json": { "schema": {
                    "type": "object",
                    "required": ["room", "step_ms", "points"],
                    "properties": {
                        "room": { "type": "string" },
                        "step_ms": { "type": "integer", "format": "int64", "minimum": settings.window_ms },
                        "points": { "type": "array", "maxItems": POINTS_MAX, "items": point },
                    },
                } } },
            },
            "304": { "description": "The client has the answer.", "headers": headers },
        },
    })
}

/// One of each kind.
fn refusals(settings: &Settings) -> Vec<Refusal> {
    let all = vec![
        Refusal::RoomName(NameError::RoomCharacter('/')),
        Refusal::RoomEncoding,
        Refusal::Parameter("since".into()),
        Refusal::Repeated("from".into()),
        Refusal::Time("from"),
        Refusal::Step,
        Refusal::Backwards { from_ms: 2_000, to_ms: 1_000 },
        Refusal::ShortStep { window_ms: settings.window_ms },
        Refusal::TooManyPoints { points: 2 * POINTS_MAX, fits_ms: 2 * settings.window_ms },
        Refusal::TooManyWindows(settings.config.max_windows),
        Refusal::Method(Method::POST),
        Refusal::NoRoom("ind-pak-final".into()),
        Refusal::Off,
        Refusal::Starting,
        Refusal::Busy,
        Refusal::Failed,
    ];
    // Does not compile while a kind is missing here: add it above, too.
    for refusal in &all {
        match refusal {
            Refusal::RoomName(_)
            | Refusal::RoomEncoding
            | Refusal::Parameter(_)
            | Refusal::Repeated(_)
            | Refusal::Time(_)
            | Refusal::Step
            | Refusal::Backwards { .. }
            | Refusal::ShortStep { .. }
            | Refusal::TooManyPoints { .. }
            | Refusal::TooManyWindows(_)
            | Refusal::Method(_)
            | Refusal::NoRoom(_)
            | Refusal::Off
            | Refusal::Starting
            | Refusal::Busy
            | Refusal::Failed => {}
        }
    }
    all
}
