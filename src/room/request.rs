//! One request to the admin API, over plain HTTP: the admin listener speaks no TLS.

use anyhow::{Context, anyhow, bail};
use axum::{body::Bytes, http::Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::time::Duration;
use tokio::{net::TcpStream, time::timeout};

/// The server gives its log 15 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who is asked.
pub(super) struct Server {
    host: String,
    token: String,
}

impl Server {
    pub(super) fn new(address: &str, token: &str) -> anyhow::Result<Self> {
        let url: Uri = address.parse().with_context(|| format!("{address:?} is no URL"))?;
        if url.scheme_str().is_some_and(|scheme| scheme != "http") {
            bail!(
                "{address}: the admin listener speaks plain HTTP; forward its port over ssh to reach it from afar"
            );
        }
        let host = url.host().with_context(|| format!("{address:?} names no host"))?;
        let host = format!("{host}:{}", url.port_u16().unwrap_or(80));
        Ok(Self { host, token: token.to_owned() })
    }
}

/// Asks, and reads the answer. A refusal is an error with the text of the server.
pub(super) fn ask(server: &Server, method: &str, path: &str, body: Option<String>) -> anyhow::Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(async { timeout(PATIENCE, exchange(server, method, path, body)).await });
    let (status, text) = asked.map_err(|_| anyhow!("{} did not answer in time", server.host))??;
    let answer: Value = serde_json::from_slice(&text).unwrap_or_default();
    if (200..300).contains(&status) {
        return Ok(answer);
    }
    let detail = answer["detail"].as_str().unwrap_or("it gave no reason; is this the admin listener?");
    bail!("{} refused ({status}): {detail}", server.host)
}

async fn exchange(
    server: &Server,
    method: &str,
    path: &str,
    body: Option<String>,
) -> anyhow::Result<(u16, Bytes)> {
    let Server { host, token } = server;
    let stream = TcpStream::connect(host);
    let stream = stream.await.with_context(|| format!("nobody answers at {host}"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", host)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Full::<Bytes>::from(body.unwrap_or_default()))
        .context("the token can't be sent in a header")?;
    // Owns the sender: the connection ends with it.
    let answer = async move {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
    };
    tokio::join!(answer, connection).0
}
