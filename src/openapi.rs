//! `/openapi.json`: what the routes of this process are, and which limits are in force.

use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use service::{
    Problem,
    openapi::{Part, document},
};
use std::sync::Arc;

const PATH: &str = "/openapi.json";
/// How long caches may keep the document: limits change while the process runs.
const MAX_AGE_S: u32 = 60;

/// Gives a tier's part under the configuration in force.
pub(crate) type Source = Box<dyn Fn() -> Part + Send + Sync>;

/// The route. The document is made whenever it is asked for, which is rarely.
pub(crate) fn router(sources: Vec<Source>) -> Router {
    let sources = Arc::new(sources);
    let handler = async move || answer(&document_of(&sources));
    Router::new().route(PATH, get(handler).fallback(async || wrong_method()))
}

/// For paths that are no route.
pub(crate) async fn nothing_here() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("nothing is here; {PATH} says what is"))
}

fn wrong_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the description of the API is read by GET")
}

fn answer(document: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::CACHE_CONTROL, cache_control()),
        // Whoever can reach it may read it, with tools that are web pages too.
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*".to_owned()),
    ];
    (headers, document.to_string()).into_response()
}

fn cache_control() -> String {
    format!("public, max-age={MAX_AGE_S}")
}

fn document_of(sources: &[Source]) -> Value {
    let info = json!({
        "title": "Uproar",
        "version": env!("CARGO_PKG_VERSION"),
        "summary": env!("CARGO_PKG_DESCRIPTION"),
        "license": { "name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE") },
    });
    document(&info, sources.iter().map(|part| part()).chain([own()]))
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

    /// Every `$ref` of `value`.
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn the_document_of_all_tiers_is_whole() {
        let config = config::load(Role::All, &Sources::default()).unwrap();
        let (ingest, fanout) = (config.ingest, config.fanout);
        let sources: Vec<Source> =
            vec![Box::new(move || ingest::openapi(&ingest)), Box::new(move || fanout::openapi(&fanout))];
        let document = document_of(&sources);
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 10, "{found:?}");
        for reference in found {
            let target = document.pointer(reference.trim_start_matches('#'));
            assert!(target.is_some(), "{reference} leads nowhere");
        }
        let paths: Vec<_> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let all = [
            "/mqtt",
            "/openapi.json",
            "/v1/live",
            "/v1/rooms/{room}",
            "/v1/rooms/{room}/events",
            "/v1/rooms/{room}/live",
            "/v1/rooms/{room}/reactions",
        ];
        assert_eq!(paths, all);
    }
}
