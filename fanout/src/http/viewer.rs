//! One viewer on a WebSocket: frames out, nothing in.

use crate::{
    Config,
    drain::CLOSE_WAIT,
    fanout::Shared,
    frames::Encoded,
    metrics::{CLOSES, DELIVERIES, SKIPPED},
    registry::{Seat, Shown},
};
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use metrics::counter;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until, timeout};
use wire::{FORMAT_VERSION, Hello};

/// Why a viewer was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It left.
    Gone,
    /// It sent data.
    Spoke,
    /// Its connection broke, or what it sent was malformed or too large: the library doesn't tell them apart.
    Broken,
    /// It did not answer a ping.
    Silent,
    /// It did not take a frame in time.
    Stalled,
    /// The process stops.
    Drained,
}

impl End {
    fn cause(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Spoke => "spoke",
            Self::Broken => "broken",
            Self::Silent => "silent",
            Self::Stalled => "stalled",
            Self::Drained => "drained",
        }
    }

    /// The close that is sent. None to a viewer that has left, or whose socket takes nothing.
    fn close(self) -> Option<(u16, &'static str)> {
        match self {
            Self::Gone | Self::Stalled => None,
            Self::Spoke => Some((1008, "viewers may not send data")),
            Self::Broken => Some((1008, "malformed or too large")),
            Self::Silent => Some((3008, "no answer to a ping")),
            Self::Drained => Some((1012, "this node is about to stop, connect again")),
        }
    }
}

/// Serves a viewer until it leaves or has to.
pub(super) async fn serve(socket: WebSocket, seat: Seat, shared: Arc<Shared>) {
    let config = shared.config();
    let mut viewer = Viewer { socket, seat, shown: None, config, shared };
    let Err(end) = viewer.run().await;
    counter!(CLOSES, "cause" => end.cause()).increment(1);
    tracing::debug!(room = %viewer.seat.room, cause = end.cause(), "viewer closed");
    if end != End::Stalled {
        viewer.say_goodbye(end.close()).await;
    }
}

struct Viewer {
    socket: WebSocket,
    seat: Seat,
    /// The last frame that the viewer took.
    shown: Shown,
    config: Arc<Config>,
    shared: Arc<Shared>,
}

enum Never {}

impl Viewer {
    async fn run(&mut self) -> Result<Never, End> {
        let shared = Arc::clone(&self.shared);
        self.greet().await?;
        // Marked, so that the snapshot is sent at once.
        self.seat.shown.mark_changed();
        let mut heartbeat = Heartbeat::start(&self.config);
        let mut leave_at: Option<Instant> = None;
        loop {
            let wake_at = leave_at.map_or(heartbeat.due, |leave_at| leave_at.min(heartbeat.due));
            tokio::select! {
                received = self.socket.recv() => {
                    judge(received.as_ref())?;
                    heartbeat.heard(&self.config);
                }
                // The sender lives in the registry for as long as the seat is taken.
                _ = self.seat.shown.changed() => self.show_newest().await?,
                () = sleep_until(wake_at) => {
                    if leave_at.is_some_and(|leave_at| leave_at <= Instant::now()) {
                        return Err(End::Drained);
                    }
                    heartbeat.ask(&self.config)?;
                    self.send(Message::Ping(Default::default())).await?;
                }
                () = shared.drain.begun(), if leave_at.is_none() => leave_at = Some(shared.drain.turn()),
            }
        }
    }

    async fn greet(&mut self) -> Result<(), End> {
        let hello = Hello {
            hello: FORMAT_VERSION,
            room: self.seat.room.clone(),
            reconnect_jitter_ms: self.config.reconnect_jitter_ms,
        };
        self.send(Message::Text(String::from_utf8_lossy(&hello.encode()).as_ref().into())).await
    }

    async fn show_newest(&mut self) -> Result<(), End> {
        let newest = self.seat.shown.borrow_and_update().clone();
        // A room that was forgotten shows nothing until its next life.
        let Some(frame) = newest else { return Ok(()) };
        self.send(Message::Text(frame.text())).await?;
        let skipped = self.shown.as_ref().map_or(0, |last: &Arc<Encoded>| frame.skipped_since(last));
        counter!(DELIVERIES, "protocol" => "websocket").increment(1);
        counter!(SKIPPED, "protocol" => "websocket").increment(skipped);
        self.shown = Some(frame);
        Ok(())
    }

    /// Sends one message, and waits until the socket has taken all of it. Meanwhile newer frames replace each other.
    async fn send(&mut self, message: Message) -> Result<(), End> {
        let longest = Duration::from_millis(self.config.write_timeout_ms);
        match timeout(longest, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Stalled),
        }
    }

    /// Sends the close and waits for the answer: data that is left unread would make the kernel take the close back.
    async fn say_goodbye(&mut self, close: Option<(u16, &'static str)>) {
        let goodbye = async {
            if let Some((code, reason)) = close {
                let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
                if self.socket.send(Message::Close(Some(frame))).await.is_err() {
                    return;
                }
            }
            while let Some(Ok(_)) = self.socket.recv().await {}
        };
        let _ = timeout(CLOSE_WAIT, goodbye).await;
    }
}

/// Viewers can't speak: all that they may send is control frames.
fn judge(received: Option<&Result<Message, axum::Error>>) -> Result<(), End> {
    match received {
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
        Some(Ok(Message::Text(_) | Message::Binary(_))) => Err(End::Spoke),
        Some(Ok(Message::Close(_))) | None => Err(End::Gone),
        Some(Err(_)) => Err(End::Broken),
    }
}

/// Asks a quiet viewer whether it is there.
struct Heartbeat {
    /// When to ask, or, once asked, when to give up.
    due: Instant,
    asked: bool,
}

impl Heartbeat {
    fn start(config: &Config) -> Self {
        Self { due: Instant::now() + Duration::from_millis(config.ping_interval_ms), asked: false }
    }

    fn heard(&mut self, config: &Config) {
        *self = Self::start(config);
    }

    fn ask(&mut self, config: &Config) -> Result<(), End> {
        if self.asked {
            return Err(End::Silent);
        }
        *self = Self { due: Instant::now() + Duration::from_millis(config.pong_timeout_ms), asked: true };
        Ok(())
    }
}
