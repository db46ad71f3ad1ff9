//! HTTP/2 with prior knowledge, by clients that others wrote.

use super::{ROOM, plan, with_a_frame};
use crate::{end_to_end::until_total, harness::process::tool};

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
