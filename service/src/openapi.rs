//! What a tier contributes to the OpenAPI 3.1 document of the process: operations, and the schemas that they name.
//!
//! Schemas come from the types that are sent, answers from the very [`Problem`]s that are answered.

use crate::Problem;
use schemars::{
    JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, transform::RecursiveTransform,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const SCHEMAS: &str = "#/components/schemas/";

/// One tier's part of the document.
#[derive(Debug)]
pub struct Part {
    generator: SchemaGenerator,
    schemas: Map<String, Value>,
    paths: Map<String, Value>,
}

impl Default for Part {
    fn default() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = SCHEMAS.trim_start_matches('#').trim_end_matches('/').into();
            settings.meta_schema = None;
        });
        let settings = settings.with_transform(RecursiveTransform(name_integers));
        Self { generator: settings.into_generator(), schemas: Map::new(), paths: Map::new() }
    }
}

impl Part {
    /// A reference to the schema of `T`.
    pub fn schema_of<T: JsonSchema>(&mut self) -> Value {
        self.generator.subschema_for::<T>().to_value()
    }

    /// Names a schema that no type has, such as one that depends on the configuration, and gives the reference to it.
    pub fn name(&mut self, name: &str, schema: Value) -> Value {
        self.schemas.insert(name.to_owned(), schema);
        json!({ "$ref": format!("{SCHEMAS}{name}") })
    }

    /// Adds an operation.
    pub fn add(&mut self, method: &str, path: &str, operation: Value) {
        let item = self.paths.entry(path).or_insert_with(|| json!({}));
        item[method] = operation;
    }

    /// Responses by status: each problem, under the name of its cause, is an example of its status.
    pub fn responses<'a>(
        &mut self,
        problems: impl IntoIterator<Item = (&'a str, Problem)>,
    ) -> Map<String, Value> {
        let mut by_status: BTreeMap<u16, Vec<(&str, Problem)>> = BTreeMap::new();
        for (cause, problem) in problems {
            by_status.entry(problem.status().as_u16()).or_default().push((cause, problem));
        }
        let schema = self.schema_of::<Problem>();
        by_status.into_iter().map(|(status, kinds)| (status.to_string(), response(&schema, &kinds))).collect()
    }
}

/// Gives integers the formats that OpenAPI has: generators of clients take what they don't know for 32 bits, which hold no time
/// in ms.
fn name_integers(schema: &mut Schema) {
    let format = match schema.get("format").and_then(Value::as_str) {
        Some("uint8" | "uint16" | "uint32") => "int32",
        Some("uint64") => "int64",
        _ => return,
    };
    schema.insert("format".into(), format.into());
}

fn response(schema: &Value, kinds: &[(&str, Problem)]) -> Value {
    let title = kinds.first().and_then(|(_, problem)| problem.status().canonical_reason());
    let mut examples = Map::new();
    for (cause, problem) in kinds {
        // Two of one cause differ in their words.
        let second = examples.contains_key(*cause).then(|| format!("{cause}_{}", examples.len()));
        examples.insert(second.unwrap_or_else(|| (*cause).into()), json!({ "value": problem }));
    }
    let causes: Vec<_> = examples.keys().map(String::as_str).collect();
    let mut response = json!({
        "description": format!("{}: {}.", title.unwrap_or("Refused"), causes.join(", ")),
        "content": { "application/problem+json": { "schema": schema, "examples": examples } },
    });
    let retries = kinds.iter().filter(|(_, problem)| problem.retry_after_s().is_some()).count();
    if retries > 0 {
        response["headers"]["Retry-After"] = json!({
            "description": "Seconds to wait before the request is sent again.",
            "required": retries == kinds.len(),
            "schema": { "type": "integer", "minimum": 1 },
        });
    }
    response
}

/// The document of `parts`.
pub fn document(info: &Value, parts: impl IntoIterator<Item = Part>) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for mut part in parts {
        paths.append(&mut part.paths);
        schemas.append(&mut part.schemas);
        schemas.append(&mut part.generator.take_definitions(true));
    }
    json!({
        "openapi": "3.1.0",
        "info": info,
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;

    #[test]
    fn problems_become_the_examples_of_their_status() {
        let mut part = Part::default();
        let away = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the log is away");
        let responses = part.responses([
            ("away", away.clone().retry_after(5)),
            ("stopping", Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping")),
            ("busy", Problem::new(StatusCode::TOO_MANY_REQUESTS, "busy").retry_after(1)),
            ("away", away.clone()),
        ]);
        assert_eq!(responses.keys().collect::<Vec<_>>(), ["429", "503"]);
        let unavailable = &responses["503"];
        assert_eq!(unavailable["headers"]["Retry-After"]["required"], false);
        assert_eq!(responses["429"]["headers"]["Retry-After"]["required"], true);
        let examples = &unavailable["content"]["application/problem+json"]["examples"];
        assert_eq!(examples["away"]["value"], json!(away));
        assert_eq!(examples.as_object().unwrap().len(), 3);
    }

    #[test]
    fn a_document_has_the_operations_and_schemas_of_its_parts() {
        let mut one = Part::default();
        let problem = one.schema_of::<Problem>();
        assert_eq!(problem, json!({ "$ref": "#/components/schemas/Problem" }));
        one.add("get", "/a", json!({ "responses": {} }));
        one.add("post", "/a", json!({}));
        let mut two = Part::default();
        assert_eq!(two.name("Two", json!({ "type": "string" }))["$ref"], "#/components/schemas/Two");
        two.add("get", "/b", json!({}));
        let document = document(&json!({ "title": "t", "version": "1" }), [one, two]);
        assert_eq!(document["paths"]["/a"].as_object().unwrap().len(), 2);
        assert!(document["paths"]["/b"]["get"].is_object());
        assert_eq!(document["components"]["schemas"]["Two"]["type"], "string");
        assert_eq!(document["components"]["schemas"]["Problem"]["type"], "object");
    }
}
