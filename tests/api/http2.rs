//! HTTP/2 with prior knowledge, by clients that others wrote.

use super::{ROOM, plan, with_a_frame};
use crate::{
    end_to_end::until_total,
    harness::{process::tool, wait::PATIENCE},
};
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// Begins 50 posts on one connection and does not end them, sends whole ones before and after their end, and says how each
/// was answered.
const HALF_POSTS: &str = r#"
    const session = require("http2").connect(process.argv[1]);
    const post = (body, whole) => new Promise((resolve, reject) => {
        const headers = { ":method": "POST", ":path": process.argv[2], "content-type": "application/json" };
        const stream = session.request(headers).on("response", (answer) => resolve(answer[":status"])).on("error", reject);
        whole ? stream.end(body) : stream.write(body);
    });
    (async () => {
        const begun = Date.now();
        const halves = Array.from({ length: 50 }, () => post('{"reaction":', false));
        const before = await post('{"reaction":"a"}', true);
        const half = await Promise.all(halves);
        const took_ms = Date.now() - begun;
        console.log(JSON.stringify({ before, half, took_ms, after: await post('{"reaction":"a"}', true) }));
        session.destroy();
    })();
"#;

#[tokio::test]
async fn curl_reads_and_posts() {
    let Some(mut read) = tool("curl", "apt-get install curl") else { return };
    let Some(mut post) = tool("curl", "apt-get install curl") else { return };
    let dir = tempfile::tempdir().unwrap();
    let uproar = with_a_frame(&dir).await;
    // One request a run: curl 7.88.1 can't use a connection twice (curl issue 10634).
    for command in [&mut read, &mut post] {
        command.args(["-s", "--http2-prior-knowledge", "-w", " %{http_version} %{http_code}"]);
    }
    let said = read.arg(format!("http://{}/v1/rooms/{ROOM}", uproar.http)).output().unwrap().stdout;
    assert!(String::from_utf8_lossy(&said).ends_with(" 2 200"), "{}", String::from_utf8_lossy(&said));
    post.args(["-H", "content-type: application/json", "-d", r#"{"reaction":"a"}"#]);
    let said = post.arg(format!("http://{}/v1/rooms/{ROOM}/reactions", uproar.http)).output().unwrap().stdout;
    assert_eq!(String::from_utf8_lossy(&said), r#"{"accepted":1} 2 202"#);
}

#[tokio::test]
async fn a_hundred_streams_of_one_connection_are_each_answered() {
    const POSTS: u64 = 2_000;
    let Some(mut h2load) = tool("h2load", "apt-get install nghttp2-client") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut uproar = plan(&dir).start().await;
    let body = dir.path().join("body");
    std::fs::write(&body, r#"{"reaction":"a"}"#).unwrap();
    h2load.args(["--clients", "1", "--max-concurrent-streams", "100", "--requests", &POSTS.to_string()]);
    h2load.args(["--no-tls-proto", "h2c", "--header", "content-type: application/json", "--data"]).arg(&body);
    h2load.arg(format!("http://{}/v1/rooms/{ROOM}/reactions", uproar.http));
    let output = tokio::process::Command::from(h2load).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(&format!("status codes: {POSTS} 2xx, 0 3xx, 0 4xx, 0 5xx")), "{said}");
    until_total(&uproar.http, ROOM, POSTS).await;
    uproar.stop();
}

#[tokio::test]
async fn bodies_that_do_not_come_are_given_up_and_their_connection_is_not() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let Some(mut node) = tool("node", "apt-get install nodejs") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut uproar = plan(&dir).set(format!("ingest.ack_timeout_ms={}", TIMEOUT.as_millis())).start().await;
    node.args(["-e", HALF_POSTS, &format!("http://{}", uproar.http)]);
    node.arg(format!("/v1/rooms/{ROOM}/reactions"));
    let output = tokio::process::Command::from(node).kill_on_drop(true).output();
    let output = timeout(PATIENCE, output).await.expect("all are answered").unwrap();
    let said: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!((&said["before"], &said["after"]), (&202.into(), &202.into()), "{said}");
    assert_eq!(said["half"], Value::from(vec![408; 50]), "{said}");
    assert!(said["took_ms"].as_u64().unwrap() >= TIMEOUT.as_millis() as u64, "{said}");
    until_total(&uproar.http, ROOM, 2).await;
    uproar.stop();
}
