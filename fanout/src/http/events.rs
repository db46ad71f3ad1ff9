//! Frames as server-sent events (HTML standard, 9.2). A viewer whose socket can be had goes to the edge, as others do. Of the
//! rest (HTTP/2, requests that are not plain) the response's body is the viewer: newest or nothing holds for it as well,
//! because a frame is given to HTTP only when the one before has left its buffers.

use super::{
    NOSNIFF, Routes,
    live::{admit, seat, watch},
    room::Room,
};
use crate::{
    drain::Drain,
    edge::Greeting,
    fanout::Shared,
    frames::{COMMENT, Encoded, Form, FrameId},
    metrics::Protocol,
    registry::{Seat, Watch},
};
use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use service::http::{Offer, Peer};
use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout},
};

/// A browser's EventSource comes back by itself when a connection is lost, but gives up for good when it is refused (HTML
/// standard, 9.2.3). So nobody is refused because this node has just been started, unless that takes longer than this.
const START_PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn events(
    State(routes): State<Routes>,
    Room(room): Room,
    Peer(peer): Peer,
    headers: HeaderMap,
    offer: Option<Extension<Offer>>,
) -> Response {
    let seen = last_seen(&headers);
    let shared = Arc::clone(&routes.shared);
    tokio::select! {
        _ = timeout(START_PATIENCE, shared.until_caught_up()) => {}
        () = shared.drain.begun() => {}
    }
    let seated = seat(&shared, Protocol::Sse, peer).and_then(|seat| Ok((seat, watch(&shared, &room)?)));
    let (seat, room) = match seated {
        Ok(seated) => seated,
        Err(refusal) => return refusal.into_response(),
    };
    let answer = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        NOSNIFF,
        // Proxies such as nginx would collect events otherwise.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    if let Some(Extension(offer)) = offer {
        let greeting = Greeting::Events { start: start(&shared, &room), room, seen };
        offer.accept(move |stream, read| admit(Ok((stream, read)), &routes, seat, greeting));
        return answer.into_response();
    }
    let body = stream::unfold(Viewer::new(shared, seat, room, seen), |mut viewer| async move {
        let chunk = viewer.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), viewer))
    });
    (answer, Body::from_stream(body)).into_response()
}

/// The frame that the viewer received last, if it says so: the `id` of its event.
fn last_seen(headers: &HeaderMap) -> Option<FrameId> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

/// What a stream begins with: how long to wait before connecting again, and the greeting. That has no `id`, so the browser
/// goes on to remember that of the last frame.
fn start(shared: &Shared, watch: &Watch) -> Vec<u8> {
    let random = RandomState::new().hash_one(());
    let retry_ms = retry_ms(shared.config().reconnect_jitter_ms, random);
    let mut start = format!("retry: {retry_ms}\n\nevent: hello\ndata: ").into_bytes();
    start.extend_from_slice(&shared.hellos.encode(std::slice::from_ref(&watch.room)));
    start.extend_from_slice(b"\n\n");
    start
}

/// An EventSource waits exactly as long as it is told. So the server chooses at random, between a fifth of `jitter_ms` and all of
/// it: otherwise all viewers of a node that dies would come back in the same moment.
fn retry_ms(jitter_ms: u64, random: u64) -> u64 {
    let shortest_ms = jitter_ms / 5;
    shortest_ms + random % (jitter_ms - shortest_ms + 1)
}

struct Viewer {
    shared: Arc<Shared>,
    _seat: Seat,
    watch: Watch,
    /// The frame that it was given last.
    last: Option<Arc<Encoded>>,
    greeted: bool,
    /// Has a permit when nothing is in HTTP's buffers.
    buffers: Arc<Semaphore>,
    leave_at: Option<Instant>,
}

/// A chunk of the body; dropped when it has left the buffers.
struct Chunk {
    bytes: Bytes,
    _in_buffers: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Viewer {
    fn new(shared: Arc<Shared>, seat: Seat, mut watch: Watch, seen: Option<FrameId>) -> Self {
        watch.join();
        // What the room shows is due at once, unless the viewer has it.
        let shown = watch.shown.borrow_and_update().clone();
        let last = shown.filter(|frame| Some(frame.id()) == seen);
        if last.is_none() {
            watch.shown.mark_changed();
        }
        let buffers = Arc::new(Semaphore::new(1));
        Self { shared, _seat: seat, watch, last, greeted: false, buffers, leave_at: None }
    }

    /// The next part of the body; `None` when the viewer has to leave.
    async fn next(&mut self) -> Option<Bytes> {
        let permit = tokio::select! {
            biased;
            // Never closed.
            permit = Arc::clone(&self.buffers).acquire_owned() => permit.ok()?,
            () = turn(&self.shared.drain, &mut self.leave_at) => return None,
        };
        let bytes = if self.greeted { self.event().await? } else { start(&self.shared, &self.watch).into() };
        self.greeted = true;
        self.shared.meters.of(Protocol::Sse).sent_bytes.increment(bytes.len() as u64);
        Some(Bytes::from_owner(Chunk { bytes, _in_buffers: permit }))
    }

    async fn event(&mut self) -> Option<Bytes> {
        let ping_at = Instant::now() + Duration::from_millis(self.shared.config().ping_interval_ms);
        loop {
            tokio::select! {
                // The sender lives in the registry for as long as the room is watched.
                _ = self.watch.shown.changed() => {
                    if let Some(event) = self.newest() {
                        return Some(event);
                    }
                }
                // A comment keeps proxies from closing the connection, and finds peers that are gone.
                () = sleep_until(ping_at) => return Some(Bytes::from_static(COMMENT)),
                () = turn(&self.shared.drain, &mut self.leave_at) => return None,
            }
        }
    }

    /// The newest frame. A room that was forgotten shows nothing until its next life.
    fn newest(&mut self) -> Option<Bytes> {
        let frame = self.watch.shown.borrow_and_update().clone()?;
        let skipped = self.last.as_ref().map_or(0, |last| frame.skipped_since(last));
        let meters = self.shared.meters.of(Protocol::Sse);
        meters.deliveries.increment(1);
        meters.skipped.increment(skipped);
        let event = frame.form(Form::Event).clone();
        self.last = Some(frame);
        Some(event)
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        // At its turn, or before: when the process stops HTTP cuts who takes nothing.
        let drained = self.shared.drain.has_begun();
        self.shared.meters.closed(if drained { "drained" } else { "gone" });
    }
}

/// Waits for the turn of a viewer to leave, which it takes once.
async fn turn(drain: &Drain, leave_at: &mut Option<Instant>) {
    if leave_at.is_none() {
        drain.begun().await;
    }
    sleep_until(*leave_at.get_or_insert_with(|| drain.turn())).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::harness::{Log, PATIENCE, Stage, config};
    use futures_util::FutureExt as _;
    use std::pin::pin;

    #[test]
    fn the_time_to_retry_is_anywhere_between_a_fifth_of_the_jitter_and_all_of_it() {
        assert_eq!([0, 4_000, 4_001].map(|random| retry_ms(5_000, random)), [1_000, 5_000, 1_000]);
        assert_eq!([0, 1, u64::MAX].map(|random| retry_ms(0, random)), [0, 0, 0]);
    }

    #[tokio::test]
    async fn who_comes_while_the_log_is_read_waits_as_a_browser_that_is_refused_does_not_come_back() {
        let log = Log::new().await;
        log.log.fail_opens(u32::MAX);
        let stage = Stage::over_unready(log, config()).await;
        let room = Room("final".parse().unwrap());
        let (routes, peer) = (State(stage.routes.clone()), Peer([127, 0, 0, 1].into()));
        let mut answer = pin!(events(routes, room, peer, HeaderMap::new(), None));
        assert!(answer.as_mut().now_or_never().is_none());
        stage.log.log.fail_opens(0);
        assert_eq!(timeout(PATIENCE, answer).await.unwrap().status(), 200);
    }
}
