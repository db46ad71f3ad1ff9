//! A viewer on a WebSocket: a greeting, then frames.

use super::{CONNECT_PATIENCE, Lost, Viewer};
use crate::target::HttpTarget;
use anyhow::{Context as _, anyhow, bail};
use futures_util::StreamExt as _;
use std::{convert::Infallible, time::Duration};
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};
use wire::Hello;

/// What the library would reserve for each viewer is 32 times this.
const READ_BUFFER_BYTES: usize = 4 << 10;

/// Watches until the connection is lost.
pub(super) async fn watch(
    target: &HttpTarget,
    viewer: &Viewer,
    permit: OwnedSemaphorePermit,
) -> Result<Infallible, Lost> {
    let (mut socket, hello) = timeout(CONNECT_PATIENCE, open(target, viewer))
        .await
        .context("no greeting in time")
        .flatten()
        .with_context(|| format!("WebSocket at {target}"))?;
    viewer.connected(permit);
    loop {
        match socket.next().await.context("the connection ended")?? {
            Message::Text(text) => viewer.receive(text.as_bytes()),
            Message::Binary(bytes) => viewer.receive(&bytes),
            Message::Close(reason) => {
                let reason = reason.map_or_else(|| "without a reason".to_owned(), |frame| frame.to_string());
                return Err(Lost {
                    error: anyhow!("closed by the server: {reason}"),
                    jitter: Duration::from_millis(hello.reconnect_jitter_ms),
                });
            }
            // Pings are answered by the library.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

async fn open(target: &HttpTarget, viewer: &Viewer) -> anyhow::Result<(WebSocketStream<TcpStream>, Hello)> {
    let path = target.path(&format!("/v1/rooms/{}/live", viewer.room));
    let url = format!("ws://{}{path}", target.address);
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    let (mut socket, _) = client_async_with_config(url, target.connect().await?, Some(config)).await?;
    loop {
        match socket.next().await.context("the connection ended before the greeting")?? {
            Message::Text(text) => {
                let hello = serde_json::from_str(&text).context("the first text is no greeting")?;
                return Ok((socket, hello));
            }
            Message::Ping(_) | Message::Pong(_) => {}
            other => bail!("instead of the greeting came {other:?}"),
        }
    }
}
