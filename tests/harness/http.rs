//! One HTTP request at a time, with hyper.

use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// `None` where nobody answers.
pub async fn get(address: &str, path: &str) -> Option<Answer> {
    request(address, Request::get(path).header("host", address).body(Full::default()).unwrap()).await
}

/// Posts JSON; `None` where nobody answers.
pub async fn post(address: &str, path: &str, body: &str) -> Option<Answer> {
    let request_builder =
        Request::post(path).header("host", address).header("content-type", "application/json");
    request(address, request_builder.body(Full::from(body.to_owned())).unwrap()).await
}

/// Posts reactions of a room, and returns the status.
pub async fn react(address: &str, room: &str, body: &str) -> u16 {
    post(address, &format!("/v1/rooms/{room}/reactions"), body).await.map_or(0, |answer| answer.status)
}

async fn request(address: &str, request: Request<Full<Bytes>>) -> Option<Answer> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    // Owns the sender: the connection ends with it.
    let answer = async move {
        let response = sender.send_request(request).await.ok()?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.ok()?.to_bytes();
        Some(Answer { status, body: String::from_utf8(body.to_vec()).ok()? })
    };
    tokio::join!(answer, connection).0
}
