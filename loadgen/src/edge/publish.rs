//! Who causes the frames.

use super::mqtt::{self, Packet};
use crate::{
    http::{Connection, Failure},
    target::HttpTarget,
};
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode, header};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// How long a step of publishing may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Far longer than any run is silent.
const KEEP_ALIVE_S: u16 = 3_600;

/// A frame of Uproar without reactions, and what each of them adds: once in the window, once in the total.
const FRAME_BYTES: usize = 173;
const REACTION_BYTES: usize = 18;

/// Causes the frames of one server process.
pub(crate) enum Publisher {
    /// Publishes them.
    Mqtt { stream: TcpStream, topic: String },
    /// Posts a reaction, from which the server makes a frame when the window is over.
    Http { target: HttpTarget, path: String, body: Bytes, connection: Option<Connection> },
    /// Somebody else does.
    Nobody,
}

impl Publisher {
    /// Connects to `address` as an MQTT client.
    pub(crate) async fn mqtt(address: SocketAddr, topic: String) -> anyhow::Result<Self> {
        let connecting = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream.write_all(&mqtt::connect("loadgen-publisher", KEEP_ALIVE_S)).await?;
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).await?;
            match mqtt::take(&answer) {
                Ok(Some((Packet::Connack(0), _))) => Ok(stream),
                _ => bail!("the publisher is refused: {answer:?}"),
            }
        };
        let stream = tokio::time::timeout(PATIENCE, connecting).await.context("no CONNACK")??;
        Ok(Self::Mqtt { stream, topic })
    }

    /// Posts to `target`, for `room`, what makes frames of about `frame_bytes`.
    pub(crate) fn http(target: HttpTarget, room: &str, frame_bytes: usize) -> Self {
        let path = format!("/v1/rooms/{room}/reactions");
        Self::Http { target, path, body: reactions(frame_bytes), connection: None }
    }

    /// Whether a frame is published at the moment that it is caused.
    pub(crate) fn is_mqtt(&self) -> bool {
        matches!(self, Self::Mqtt { .. })
    }

    /// Causes one frame: `payload`, where frames are ours to write.
    pub(crate) async fn publish(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        let publishing = async {
            match self {
                Self::Mqtt { stream, topic } => Ok(stream.write_all(&mqtt::publish(topic, payload)).await?),
                Self::Http { target, path, body, connection } => post(target, path, body, connection).await,
                Self::Nobody => Ok(()),
            }
        };
        let published = tokio::time::timeout(PATIENCE, publishing).await;
        published.context("it takes too long").flatten().context("cannot publish")
    }
}

async fn post(
    target: &HttpTarget,
    path: &str,
    body: &Bytes,
    connection: &mut Option<Connection>,
) -> anyhow::Result<()> {
    loop {
        let reused = connection.is_some();
        let mut open = match connection.take() {
            Some(open) => open,
            None => Connection::open(target, PATIENCE).await?,
        };
        let request = Request::post(target.path(path))
            .header(header::HOST, &target.address)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body.clone()))?;
        match open.send(request).await {
            Ok((status, _)) => {
                ensure!(status == StatusCode::ACCEPTED, "POST {path} is answered {status}");
                *connection = Some(open);
                return Ok(());
            }
            // The server closes connections that are idle.
            Err(Failure::Unsent) if reused => {}
            Err(Failure::Unsent) => bail!("POST {path}: the connection is closed at once"),
            Err(Failure::Broken(why)) => bail!("POST {path}: {why}"),
        }
    }
}

/// A request with as many distinct reactions as make a frame of about `frame_bytes`. It has room for ten.
fn reactions(frame_bytes: usize) -> Bytes {
    let emoji = ["🔥", "👏", "😂", "😍", "😮", "😢", "🎉", "💯", "🙌", "😡"];
    let distinct = (frame_bytes.saturating_sub(FRAME_BYTES) / REACTION_BYTES).clamp(1, emoji.len());
    let counts: BTreeMap<_, _> = emoji.into_iter().take(distinct).map(|emoji| (emoji, 1)).collect();
    serde_json::json!({ "reactions": counts }).to_string().into()
}

/// A frame of about `bytes`, that tells its number and its time as Uproar's do.
pub(crate) fn frame(room: &str, seq: u64, at_ms: u64, interval_ms: u64, bytes: usize) -> Vec<u8> {
    let start = at_ms.saturating_sub(interval_ms);
    let head = format!(
        r#"{{"v":1,"room":"{room}","seq":{seq},"window":{{"start":{start},"end":{at_ms}}},"filler":""#
    );
    let filler = "x".repeat(bytes.saturating_sub(head.len() + 2));
    format!("{head}{filler}\"}}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_json_of_the_size_that_was_asked_for() {
        let payload = frame("edge-1", 7, 5_000, 2_000, 300);
        assert_eq!(payload.len(), 300);
        let json: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!((json["seq"].as_u64(), json["window"]["start"].as_u64()), (Some(7), Some(3_000)));
    }

    #[test]
    fn a_request_holds_as_many_reactions_as_the_frame_has_room_for() {
        let distinct = |bytes| {
            let body: serde_json::Value = serde_json::from_slice(&reactions(bytes)).unwrap();
            body["reactions"].as_object().unwrap().len()
        };
        assert_eq!([150, 300, 60_000].map(distinct), [1, 7, 10]);
    }

    #[test]
    fn a_frame_that_is_too_small_for_its_head_is_larger() {
        let payload = frame("edge-1", 7, 5_000, 2_000, 10);
        assert!(serde_json::from_slice::<serde_json::Value>(&payload).is_ok());
        assert!(payload.len() > 10);
    }
}
