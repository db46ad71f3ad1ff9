//! `/openapi.json` itself.

use super::{plan, raw::ask, tools};
use crate::harness::{
    http, kafka,
    process::{Plan, Uproar},
    wait::until,
};
use serde_json::Value;
use std::{fs, path::Path, process::Command};

async fn document(uproar: &Uproar) -> Value {
    http::get(&uproar.http, "/openapi.json").await.unwrap().json()
}

fn paths(document: &Value) -> Vec<&str> {
    document["paths"].as_object().unwrap().keys().map(String::as_str).collect()
}

/// Has somebody else's validator look at the document.
fn validate(tools: &Path, dir: &Path, document: &Value) {
    let path = dir.join("openapi.json");
    fs::write(&path, document.to_string()).unwrap();
    let output = Command::new(tools.join("python/bin/openapi-spec-validator")).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("OK"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn the_document_is_valid_openapi_whatever_the_configuration() {
    let Some(tools) = tools() else { return };
    let narrow = [
        "ingest.rooms=[\"final\"]",
        "ingest.catalogue=[\"🔥\"]",
        "ingest.max_distinct_per_request=1",
        "ingest.ack=received",
        "fanout.max_rooms_per_viewer=1",
    ];
    for sets in [&[][..], &narrow] {
        let dir = tempfile::tempdir().unwrap();
        let mut uproar = sets.iter().fold(plan(&dir), |plan, set| plan.set(*set)).start().await;
        let document = document(&uproar).await;
        assert_eq!(paths(&document).len(), 9, "{document}");
        validate(&tools, dir.path(), &document);
        uproar.stop();
    }
}

#[tokio::test]
async fn the_document_is_json_that_caches_and_pages_may_keep() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = plan(&dir).start().await;
    let answer =
        ask(&uproar.http, "GET /openapi.json HTTP/1.1\r\nhost: a\r\norigin: https://a.example\r\n\r\n");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=60"));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn the_document_has_the_limits_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("uproar.toml");
    fs::write(&file, "[ingest]\nmax_count = 7\n").unwrap();
    let uproar = plan(&dir).config(&file).start().await;
    let most = async || {
        let document = document(&uproar).await;
        document["components"]["schemas"]["OneReaction"]["properties"]["count"]["maximum"].as_u64().unwrap()
    };
    assert_eq!(most().await, 7);
    fs::write(&file, "[ingest]\nmax_count = 9\n").unwrap();
    until("the new limit", async || (most().await == 9).then_some(())).await;
}

#[tokio::test]
async fn a_tier_alone_describes_its_own_routes_and_answers_for_others() {
    let Some(cluster) = kafka::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    for (role, own) in [
        ("ingest", "/v1/rooms/{room}/reactions"),
        ("fanout", "/v1/rooms/{room}"),
        ("history", "/v1/rooms/{room}/history"),
    ] {
        let plan = Plan::new(role, dir.path())
            .set("log.kind=kafka")
            .set(format!("log.kafka.brokers={}", cluster.bootstrap()))
            .set(format!("log.kafka.reactions_topic=document-{role}-reactions"))
            .set(format!("log.kafka.aggregates_topic=document-{role}-aggregates"))
            .set(format!("log.kafka.windows_topic=document-{role}-windows"));
        let mut uproar = plan.start().await;
        let document = document(&uproar).await;
        let described = paths(&document);
        assert!(described.contains(&own) && described.contains(&"/openapi.json"), "{described:?}");
        let other = if role == "ingest" { "/v1/rooms/a" } else { "/v1/rooms/a/reactions" };
        let answer = ask(&uproar.http, &format!("GET {other} HTTP/1.1\r\nhost: a\r\n\r\n"));
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (404, Some("application/problem+json")),
            "{role}"
        );
        uproar.stop();
    }
}
