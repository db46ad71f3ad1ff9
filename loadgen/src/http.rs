//! HTTP/1.1 requests over connections that stay open.

use crate::target::HttpTarget;
use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, StatusCode, body::Incoming, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::task::JoinSet;

/// Longest body that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// One connection, one request at a time.
pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    // Moves the bytes; ends with the connection.
    _driver: JoinSet<()>,
}

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Not a byte of it was written: send it again on another connection.
    Unsent,
    /// It was written, in part at least: whether it took effect is unknown.
    Broken(String),
}

impl Connection {
    pub(crate) async fn open(target: &HttpTarget, patience: Duration) -> anyhow::Result<Self> {
        let opening = async {
            let (sender, driver) = http1::handshake(TokioIo::new(target.connect().await?)).await?;
            anyhow::Ok((sender, driver))
        };
        let (sender, driver) = tokio::time::timeout(patience, opening)
            .await
            .context("connecting takes too long")
            .flatten()
            .with_context(|| format!("cannot connect to {target}"))?;
        let mut tasks = JoinSet::new();
        // Its error also reaches the request that it concerns.
        tasks.spawn(async move { drop(driver.await) });
        Ok(Self { sender, _driver: tasks })
    }

    /// Sends `request` and reads all of the answer, so that the connection can be used again.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        if self.sender.ready().await.is_err() {
            return Err(Failure::Unsent);
        }
        let answer = self.sender.try_send_request(request).await.map_err(|mut error| {
            if error.take_message().is_some() {
                Failure::Unsent
            } else {
                Failure::Broken(format!("{:#}", anyhow::Error::from(error.into_error())))
            }
        })?;
        let status = answer.status();
        let body = read(answer.into_body()).await.map_err(|error| Failure::Broken(format!("{error:#}")))?;
        Ok((status, body))
    }

    /// Fetches `path`.
    pub(crate) async fn get(
        &mut self,
        target: &HttpTarget,
        path: &str,
        patience: Duration,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let request =
            Request::get(target.path(path)).header(HOST, &target.address).body(Full::new(Bytes::new()))?;
        match tokio::time::timeout(patience, self.send(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Failure::Broken(why))) => Err(anyhow::Error::msg(why)),
            Ok(Err(Failure::Unsent)) => Err(anyhow::anyhow!("the server closed the connection")),
            Err(_) => Err(anyhow::anyhow!("no answer within {patience:?}")),
        }
        .with_context(|| format!("GET {target}{path}"))
    }
}

/// Fetches `path` over a connection of its own.
pub(crate) async fn get(
    target: &HttpTarget,
    path: &str,
    patience: Duration,
) -> anyhow::Result<(StatusCode, Bytes)> {
    Connection::open(target, patience).await?.get(target, path, patience).await
}

async fn read(body: Incoming) -> anyhow::Result<Bytes> {
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(anyhow::Error::from_boxed)?;
    Ok(body.to_bytes())
}
