//! The body of a request: the whole of it, if it is short and comes soon.

use crate::refusal::Refusal;
use axum::body::HttpBody;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use std::{pin::pin, time::Duration};
use tokio::time::timeout;

/// Reads a body. A `Content-Length` that is too long is refused before any of it is read.
pub(super) async fn read<B>(body: B, max_bytes: usize, patience_ms: u64) -> Result<Bytes, Refusal>
where
    B: HttpBody<Data = Bytes>,
{
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(Refusal::BodyTooLong(max_bytes));
    }
    let mut reading = pin!(collect(body, max_bytes));
    // Nearly always it came with the head: no timer then.
    if let Some(read) = reading.as_mut().now_or_never() {
        return read;
    }
    let read = timeout(Duration::from_millis(patience_ms), reading).await;
    read.unwrap_or(Err(Refusal::BodySlow(patience_ms)))
}

/// Puts the body together; nothing is copied if it came in one piece.
async fn collect<B: HttpBody<Data = Bytes>>(body: B, max_bytes: usize) -> Result<Bytes, Refusal> {
    let mut body = pin!(body);
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        // Trailers are passed over.
        let Ok(piece) = frame.map_err(|_| Refusal::BodyBroken)?.into_data() else { continue };
        if whole.len() + piece.len() > max_bytes {
            return Err(Refusal::BodyTooLong(max_bytes));
        }
        if whole.is_empty() && body.is_end_stream() {
            return Ok(piece);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.into())
}
