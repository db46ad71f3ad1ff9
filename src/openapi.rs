//! `/openapi.json`: what the routes of this process are, and which limits are in force.

use axum::{
    Router,
    body::Bytes,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use service::{
    Problem,
    openapi::{Part, document},
};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

const PATH: &str = "/openapi.json";
/// How long caches may keep the document: limits change while the process runs.
const MAX_AGE_S: u32 = 60;

/// The document. It is made anew only when a configuration changed: anybody may ask for it, on the threads that take reactions,
/// and to make it costs as much as fifty of those.
#[derive(Default)]
pub(crate) struct Description {
    tiers: Vec<Box<dyn Tier>>,
    made: Option<Bytes>,
}

/// A tier's part of the document.
trait Tier: Send {
    /// Whether its configuration changed since the part was given.
    fn has_changed(&self) -> bool;
    /// The part under the configuration in force.
    fn part(&mut self) -> Part;
}

impl<C: Send + Sync> Tier for (watch::Receiver<Arc<C>>, fn(&C) -> Part) {
    fn has_changed(&self) -> bool {
        // Nothing changes any more when nobody is left who could change it.
        self.0.has_changed().unwrap_or(false)
    }

    fn part(&mut self) -> Part {
        let config = self.0.borrow_and_update().clone();
        (self.1)(&config)
    }
}

impl Description {
    /// Adds a tier that runs under `config`.
    pub(crate) fn add<C: Send + Sync + 'static>(
        &mut self,
        config: watch::Receiver<Arc<C>>,
        part: fn(&C) -> Part,
    ) {
        self.tiers.push(Box::new((config, part)));
    }

    fn document(&mut self) -> Bytes {
        let old = self.made.take().filter(|_| !self.tiers.iter().any(|tier| tier.has_changed()));
        let new = old.unwrap_or_else(|| self.make().to_string().into());
        self.made.insert(new).clone()
    }

    fn make(&mut self) -> Value {
        let info = json!({
            "title": "Uproar",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": env!("CARGO_PKG_DESCRIPTION"),
            "license": { "name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE") },
        });
        document(&info, self.tiers.iter_mut().map(|tier| tier.part()).chain([own()]))
    }
}

/// The route.
pub(crate) fn router(description: Description) -> Router {
    let description = Arc::new(Mutex::new(description));
    let handler = async move || answer(description.lock().unwrap_or_else(PoisonError::into_inner).document());
    Router::new().route(PATH, get(handler).fallback(async || wrong_method()))
}

/// For paths that are no route.
pub(crate) async fn nothing_here() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("nothing is here; {PATH} says what is"))
}

fn wrong_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the description of the API is read by GET")
}

fn answer(document: Bytes) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::CACHE_CONTROL, cache_control()),
        // Whoever can reach it may read it, with tools that are web pages too.
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*".to_owned()),
    ];
    (headers, document).into_response()
}

fn cache_control() -> String {
    format!("public, max-age={MAX_AGE_S}")
}

/// The route of the document itself.
fn own() -> Part {
    let mut part = Part::default();
    let mut responses = part.responses([("method", wrong_method())]);
    responses["405"]["headers"]["Allow"] = json!({ "required": true, "schema": { "const": "GET,HEAD" } });
    let found = json!({
        "description": "OpenAPI 3.1, with the limits in force.",
        "headers": { "Cache-Control": { "required": true, "schema": { "const": cache_control() } } },
        "content": { "application/json": { "schema": { "type": "object", "required": ["openapi", "info", "paths"] } } },
    });
    responses.insert("200".into(), found);
    let operation = json!({
        "operationId": "getOpenApi",
        "summary": "This document",
        "tags": ["api"],
        "responses": responses,
    });
    part.add("get", PATH, operation);
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::Role, config};
    use service::config::Sources;

    /// Every member of `value` with this name.
    fn members<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get(name));
                object.values().for_each(|member| members(member, name, found));
            }
            Value::Array(items) => items.iter().for_each(|item| members(item, name, found)),
            _ => {}
        }
    }

    /// The document of all tiers, with their defaults.
    fn whole() -> Value {
        let config = config::load(Role::All, &Sources::default()).unwrap();
        let (ingest, fanout) = (config.ingest, config.fanout);
        let history = history::Settings {
            config: config.history,
            window_ms: config.aggregator.interval_ms,
            grace_ms: config.aggregator.grace_ms,
            partitions: config.log.partitions,
            retention_ms: config.log.history_retention_ms,
        };
        let mut description = Description::default();
        description.add(watch::Sender::new(Arc::new(ingest)).subscribe(), ingest::openapi);
        description.add(watch::Sender::new(Arc::new(fanout)).subscribe(), fanout::openapi);
        description.add(watch::Sender::new(Arc::new(history)).subscribe(), history::openapi);
        serde_json::from_slice(&description.document()).unwrap()
    }

    #[test]
    fn clients_can_be_generated_of_the_document() {
        let document = whole();
        // openapi-python-client passes over the first, and openapi-typescript takes what has the second for always there.
        for misread in ["patternProperties", "default"] {
            let mut found = Vec::new();
            members(&document, misread, &mut found);
            assert!(found.is_empty(), "{misread}: {found:?}");
        }
        for counts in ["counts", "totals"] {
            let schema = &document["components"]["schemas"]["Frame"]["properties"][counts];
            assert_eq!(schema["additionalProperties"]["format"], "int64", "{schema}");
        }
        // Whoever reads a frame ignores what it doesn't know.
        assert_eq!(document["components"]["schemas"]["Window"]["additionalProperties"], Value::Null);
        // What has another format, or none, is 32 bits for openapi-generator.
        let mut formats = Vec::new();
        members(&document, "format", &mut formats);
        let known = ["int32", "int64", "reaction", "reactions"];
        assert!(formats.iter().all(|format| known.iter().any(|known| *format == known)), "{formats:?}");
    }

    #[test]
    fn the_document_of_all_tiers_is_whole() {
        let document = whole();
        let mut found = Vec::new();
        members(&document, "$ref", &mut found);
        assert!(found.len() > 10, "{found:?}");
        for reference in found {
            let target = document.pointer(reference.as_str().unwrap().trim_start_matches('#'));
            assert!(target.is_some(), "{reference} leads nowhere");
        }
        let paths: Vec<_> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let all = [
            "/mqtt",
            "/openapi.json",
            "/v1/live",
            "/v1/rooms",
            "/v1/rooms/{room}",
            "/v1/rooms/{room}/events",
            "/v1/rooms/{room}/history",
            "/v1/rooms/{room}/live",
            "/v1/rooms/{room}/reactions",
        ];
        assert_eq!(paths, all);
    }

    #[test]
    fn the_document_is_made_once_for_each_configuration() {
        let config = watch::Sender::new(Arc::new("one"));
        let mut description = Description::default();
        description.add(config.subscribe(), |name| {
            let mut part = Part::default();
            part.add("get", name, json!({}));
            part
        });
        let first = description.document();
        assert_eq!(description.document().as_ptr(), first.as_ptr());
        config.send_replace(Arc::new("two"));
        let second = description.document();
        let paths = serde_json::from_slice::<Value>(&second).unwrap()["paths"].take();
        assert!(paths.get("two").is_some() && paths.get("one").is_none(), "{paths}");
        drop(config);
        assert_eq!(description.document().as_ptr(), second.as_ptr());
    }
}
