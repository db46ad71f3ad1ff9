//! What the viewers of one protocol have seen. Pure: payloads and times come in, no sockets.

use crate::spread::Spread;
use std::sync::Arc;
use wire::{Frame, RoomName};

/// The viewers of one protocol.
#[derive(Debug)]
pub(crate) struct Audience {
    room: RoomName,
    seats: Vec<Seat>,
    /// From the end of a frame's window to its receipt.
    pub(crate) delays: Spread,
    /// The delay recorded last.
    pub(crate) newest_delay_us: Option<u64>,
    /// Frames received before their window's end: the clocks differ.
    pub(crate) ahead: u64,
    /// Frames are timed when their window ends after this, in microseconds since the epoch.
    pub(crate) timed_from_us: u64,
    /// Everybody receives the same bytes: they are decoded once.
    decoded: Option<(Vec<u8>, Arc<Frame>)>,
}

/// One viewer.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    pub(crate) connected: bool,
    /// Times that a connection was established.
    pub(crate) connects: u64,
    connected_at_us: u64,
    /// Nothing was received over this connection yet.
    fresh: bool,
    /// The newest frame.
    pub(crate) last: Option<Arc<Frame>>,
    pub(crate) frames: u64,
    /// Frames passed over while connected.
    pub(crate) skips: u64,
    /// Frames passed over from one connection to the next.
    pub(crate) missed: u64,
    /// Frames that break a promise.
    pub(crate) broken: u64,
    /// The first of them, in words.
    pub(crate) first_broken: Option<String>,
    /// Why the last connection ended, or could not be made.
    pub(crate) last_error: Option<String>,
}

impl Audience {
    pub(crate) fn new(room: RoomName, viewers: usize) -> Self {
        Self {
            room,
            seats: std::iter::repeat_with(Seat::default).take(viewers).collect(),
            delays: Spread::default(),
            newest_delay_us: None,
            ahead: 0,
            timed_from_us: u64::MAX,
            decoded: None,
        }
    }

    pub(crate) fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// How many viewers are connected.
    pub(crate) fn connected(&self) -> usize {
        self.seats.iter().filter(|seat| seat.connected).count()
    }

    /// Viewer `index` is connected and subscribed.
    pub(crate) fn connect(&mut self, index: usize, now_us: u64) {
        let seat = &mut self.seats[index];
        seat.connected = true;
        seat.fresh = true;
        seat.connects += 1;
        seat.connected_at_us = now_us;
    }

    /// Viewer `index` has no connection, because of `error`.
    pub(crate) fn disconnect(&mut self, index: usize, error: String) {
        let seat = &mut self.seats[index];
        seat.connected = false;
        seat.last_error = Some(error);
    }

    /// Viewer `index` received `payload`.
    pub(crate) fn receive(&mut self, index: usize, payload: &[u8], now_us: u64) {
        match self.decode(payload) {
            Ok(frame) => {
                self.time(&frame, self.seats[index].connected_at_us, now_us);
                self.seats[index].show(frame);
            }
            Err(why) => self.seats[index].breaks(|| why),
        }
    }

    fn decode(&mut self, payload: &[u8]) -> Result<Arc<Frame>, String> {
        if let Some((bytes, frame)) = &self.decoded
            && bytes == payload
        {
            return Ok(Arc::clone(frame));
        }
        let frame = Frame::decode(payload).map_err(|error| format!("no frame: {error}"))?;
        if frame.room != self.room {
            return Err(format!("a frame of room {:?}", frame.room));
        }
        let frame = Arc::new(frame);
        self.decoded = Some((payload.to_vec(), Arc::clone(&frame)));
        Ok(frame)
    }

    fn time(&mut self, frame: &Frame, connected_at_us: u64, now_us: u64) {
        let end_us = frame.window.end.saturating_mul(1_000);
        // A window that ended before the viewer came is the snapshot: its age says nothing about delivery.
        if end_us < connected_at_us.max(self.timed_from_us) {
            return;
        }
        self.ahead += u64::from(now_us < end_us);
        let delay_us = now_us.saturating_sub(end_us);
        self.delays.record_us(delay_us);
        self.newest_delay_us = Some(delay_us);
    }
}

impl Seat {
    /// Compares `frame` with the one before, and keeps it.
    fn show(&mut self, frame: Arc<Frame>) {
        self.frames += 1;
        let fresh = std::mem::take(&mut self.fresh);
        if let Some(last) = self.last.take() {
            match gap(&last, &frame) {
                Ok(gap) if fresh => self.missed += gap,
                Ok(gap) => self.skips += gap,
                Err(why) => self.breaks(|| why),
            }
        }
        self.last = Some(frame);
    }

    fn breaks(&mut self, why: impl FnOnce() -> String) {
        self.broken += 1;
        self.first_broken.get_or_insert_with(why);
    }
}

/// How many frames lie between `last` and `next`, or which promise `next` breaks.
fn gap(last: &Frame, next: &Frame) -> Result<u64, String> {
    // Before the first frame of a room's new life there is nothing.
    let (seq, total) = if next.since > last.since { (0, 0) } else { (last.seq, last.total) };
    let story = || format!("seq {} total {} after seq {seq} total {total}", next.seq, next.total);
    if next.since < last.since {
        return Err(format!("the room's life that began at {} came back", next.since));
    }
    if next.total < total || next.seq < seq {
        return Err(format!("went back: {}", story()));
    }
    match next.seq - seq {
        0 if next.total == total => Ok(0),
        0 => Err(format!("two frames of one number: {}", story())),
        1 if Some(next.total) == total.checked_add(next.count) => Ok(0),
        1 => Err(format!("{} with a count of {}", story(), next.count)),
        steps => Ok(steps - 1),
    }
}

#[cfg(test)]
#[path = "audience_tests.rs"]
mod tests;
