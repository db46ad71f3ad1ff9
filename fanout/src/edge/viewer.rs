//! One viewer's socket. It costs a fixed number of bytes, whatever happens: the rest of one frame that is partly
//! written, the answers to what was read at once, and for each room whether something is due.

use super::{budget::Budget, everything::Everything, rooms::Place, speech::Speech};
use crate::{
    metrics::{Meters, Protocol},
    registry::Seat,
};
use bytes::{Buf, Bytes};
use mio::net::TcpStream;
use std::io::{self, ErrorKind, Read, Write};

/// A viewer of a shard.
#[derive(Debug)]
pub(super) struct Viewer {
    pub(super) stream: TcpStream,
    pub(super) speech: Speech,
    pub(super) seat: Seat,
    pub(super) subscriptions: Vec<Subscription>,
    /// The subscription that has the next turn to have its newest frame sent. After the last one `all` has a turn.
    pub(super) turn: u32,
    unfinished: Option<Box<Unfinished>>,
    /// What it may send.
    pub(super) budget: Budget,
    /// The rest of a frame that is partly written.
    unsent: Bytes,
    /// Answers. They come after the rest, before other frames.
    pub(super) answers: Vec<u8>,
    /// When it last showed that it is there or, if it was pinged since then, when that was; by the shard's clock.
    pub(super) quiet_since_ms: u64,
    pub(super) is_pinged: bool,
    /// The socket may have something to read.
    pub(super) readable: bool,
    /// The shard's loop has it on its list of viewers to serve.
    pub(super) is_queued: bool,
    phase: Phase,
    /// Watches all rooms: those that are due, in turn.
    pub(super) all: Option<Box<Everything>>,
}

/// Something that a viewer began to send, and has not sent to its end.
#[derive(Debug)]
struct Unfinished {
    since_ms: u64,
    /// Its start, unless the session keeps it.
    bytes: Vec<u8>,
}

/// Where a viewer is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Its socket took all that was due.
    Open,
    /// Its socket has not taken all that is due since then.
    Blocked { since_ms: u64 },
    /// It was told goodbye. It may close its side until then; nothing else that it does counts.
    Leaving { until_ms: u64, has_shut_down: bool },
}

/// A room that a viewer watches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscription {
    pub(super) place: Place,
    pub(super) due: Due,
    pub(super) retain_as_published: bool,
}

/// What a viewer is to get of a room as soon as its socket takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// The newest frame.
    Newest,
    /// The newest frame, marked as retained.
    Snapshot,
}

/// What became of bytes for a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// All of them, or at least a part, whose rest is kept.
    Begun,
    /// None.
    Nothing,
}

/// Deliveries to be counted, by protocol.
#[derive(Debug, Default)]
pub(super) struct Tally([Counts; Protocol::ALL.len()]);

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) deliveries: u64,
    pub(super) skipped: u64,
    pub(super) sent_bytes: u64,
}

impl Tally {
    pub(super) fn of(&mut self, protocol: Protocol) -> &mut Counts {
        &mut self.0[protocol as usize]
    }

    /// Counts what was delivered since the last call.
    pub(super) fn flush(&mut self, meters: &Meters) {
        for protocol in Protocol::ALL {
            let Counts { deliveries, skipped, sent_bytes } = std::mem::take(self.of(protocol));
            if deliveries + skipped + sent_bytes > 0 {
                let meters = meters.of(protocol);
                meters.deliveries.increment(deliveries);
                meters.skipped.increment(skipped);
                meters.sent_bytes.increment(sent_bytes);
            }
        }
    }
}

impl Viewer {
    pub(super) fn new(stream: TcpStream, seat: Seat, now_ms: u64) -> Self {
        Self {
            stream,
            speech: Speech::of(seat.protocol),
            seat,
            subscriptions: Vec::new(),
            turn: 0,
            unfinished: None,
            budget: Budget::default(),
            unsent: Bytes::new(),
            answers: Vec::new(),
            quiet_since_ms: now_ms,
            is_pinged: false,
            readable: true,
            is_queued: false,
            phase: Phase::Open,
            all: None,
        }
    }

    /// It showed that it is there.
    pub(super) fn hear(&mut self, now_ms: u64) {
        (self.quiet_since_ms, self.is_pinged) = (now_ms, false);
    }

    /// Whether it began to send something, and has not sent its end.
    #[cfg(test)]
    pub(super) fn has_unfinished(&self) -> bool {
        self.unfinished.is_some()
    }

    /// What it sent whose rest has not come.
    pub(super) fn unfinished(&self) -> &[u8] {
        self.unfinished.as_ref().map_or(&[], |unfinished| &unfinished.bytes)
    }

    /// Keeps what has no end yet. The time that it may take counts from its first byte.
    pub(super) fn keep_unfinished(&mut self, rest: &[u8], has_finished_another: bool, now_ms: u64) {
        let before = self.unfinished.take().filter(|_| !has_finished_another);
        if !rest.is_empty() || self.speech.keeps_unfinished() {
            let since_ms = before.map_or(now_ms, |before| before.since_ms);
            self.unfinished = Some(Box::new(Unfinished { since_ms, bytes: rest.to_vec() }));
        }
    }

    /// Whether it has not finished in time what it began to send.
    pub(super) fn is_overdue(&self, now_ms: u64, timeout_ms: u64) -> bool {
        // The rest may have come already where we don't read on because it does not take its answers.
        let may_be_here = self.readable && self.blocked_since_ms().is_some();
        let since_ms = self.unfinished.as_ref().map(|unfinished| unfinished.since_ms);
        !may_be_here && since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) > timeout_ms)
    }

    /// Whether it was told goodbye.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving { .. })
    }

    /// Until when it may answer a goodbye, if it was told one.
    pub(super) fn leaves_ms(&self) -> Option<u64> {
        match self.phase {
            Phase::Leaving { until_ms, .. } => Some(until_ms),
            Phase::Open | Phase::Blocked { .. } => None,
        }
    }

    /// Begins its goodbye, or shortens it.
    pub(super) fn leave(&mut self, until_ms: u64) {
        let has_shut_down = matches!(self.phase, Phase::Leaving { has_shut_down: true, .. });
        self.phase = Phase::Leaving { until_ms, has_shut_down };
    }

    /// Since when its socket has not taken all that is due.
    pub(super) fn blocked_since_ms(&self) -> Option<u64> {
        match self.phase {
            Phase::Blocked { since_ms } => Some(since_ms),
            Phase::Open | Phase::Leaving { .. } => None,
        }
    }

    /// Its socket did not take all. The time counts from the first time on.
    pub(super) fn block(&mut self, now_ms: u64) {
        if self.phase == Phase::Open {
            self.phase = Phase::Blocked { since_ms: now_ms };
        }
    }

    /// Its socket took all, or nothing is due any more.
    pub(super) fn unblock(&mut self) {
        if matches!(self.phase, Phase::Blocked { .. }) {
            self.phase = Phase::Open;
        }
    }

    /// After the last byte of a goodbye the socket says that no more comes. Once: each shutdown(2) makes the socket
    /// ready again, so that one for each readiness would never end.
    fn shut_down_if_leaving(&mut self) {
        if let Phase::Leaving { has_shut_down: has_shut_down @ false, .. } = &mut self.phase {
            *has_shut_down = true;
            let _ = self.stream.shutdown(std::net::Shutdown::Write);
        }
    }

    /// Whether the socket has taken all that was given to it.
    pub(super) fn is_idle(&self) -> bool {
        self.unsent.is_empty() && self.answers.is_empty()
    }

    /// Offers a frame. Only for an idle viewer.
    pub(super) fn send(&mut self, frame: &Bytes, now_ms: u64, tally: &mut Tally) -> io::Result<Sent> {
        // Larger than it said that it takes: as if it had been sent (MQTT 5, 3.1.2.11.4).
        if frame.len() > self.speech.frame_bytes_max() {
            return Ok(Sent::Begun);
        }
        let written = write(&mut self.stream, frame)?;
        let counts = tally.of(self.seat.protocol);
        counts.sent_bytes += written as u64;
        if written == frame.len() {
            self.unblock();
        } else {
            self.block(now_ms);
            if written == 0 {
                return Ok(Sent::Nothing);
            }
            self.unsent = frame.slice(written..);
        }
        counts.deliveries += 1;
        Ok(Sent::Begun)
    }

    /// Writes what is left of a frame, and answers. Says whether the socket took all.
    pub(super) fn flush(&mut self, now_ms: u64, tally: &mut Tally) -> io::Result<bool> {
        if self.is_idle() {
            // Nothing is written, so a socket that takes no frame stays blocked.
            self.shut_down_if_leaving();
            return Ok(true);
        }
        while !self.is_idle() {
            let next = if self.unsent.is_empty() { &self.answers[..] } else { &self.unsent[..] };
            let written = write(&mut self.stream, next)?;
            if written == 0 {
                self.block(now_ms);
                return Ok(false);
            }
            tally.of(self.seat.protocol).sent_bytes += written as u64;
            if !self.unsent.is_empty() {
                self.unsent.advance(written);
            } else if written == self.answers.len() {
                // Its memory is given back.
                self.answers = Vec::new();
            } else {
                self.answers.drain(..written);
            }
        }
        self.unsent = Bytes::new();
        self.unblock();
        self.shut_down_if_leaving();
        Ok(true)
    }
}

/// Writes what the socket takes.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match stream.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            written => return written,
        }
    }
}

/// Reads what there is; `None`: nothing for now, `Some(0)`: the end.
pub(super) fn read(stream: &mut TcpStream, into: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match stream.read(into) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read.map(Some),
        }
    }
}
