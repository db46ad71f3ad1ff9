//! A client process: up to some 18,000 viewers on one thread and one poll loop, with a few dozen bytes for each, so
//! that the server under test keeps the machine.
//!
//! - [`viewer`]: one viewer: what it says to be let in, and what it makes of what it hears.
//! - [`receipts`]: who received which frame, and when.

mod receipts;
#[cfg(test)]
mod tests;
mod viewer;

use super::{
    lines::{Order, Standing},
    mqtt,
    plan::Protocol,
};
use crate::{clock::now_us, sources::PER_SOURCE};
use anyhow::Context as _;
use mio::{Events, Interest, Poll, Token, event::Event};
use receipts::Receipts;
use std::{
    collections::VecDeque,
    io::{BufRead as _, Read as _, Write as _},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use viewer::{Desk, Outcome, Viewer};

/// Time between two lines to the parent.
const LINE_INTERVAL: Duration = Duration::from_millis(100);
/// How long a refused viewer waits before it tries again.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// An attempt that takes longer is given up, as client libraries do: after a full listen queue, TCP alone would need
/// minutes.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(10);

/// Serves one order from standard input, until that is closed.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let order: Order = serde_json::from_str(&line).context("the first line is no order")?;
    let ended = Arc::new(AtomicBool::new(false));
    let closed = Arc::clone(&ended);
    // Standard input can't be polled everywhere. The thread ends with the process.
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        closed.store(true, Ordering::Relaxed);
    });
    Hall::new(order, Instant::now())?.run(&ended)
}

/// All viewers of this process.
struct Hall {
    desk: Desk,
    poll: Poll,
    viewers: Vec<Viewer>,
    /// Those to connect, with the time before which they don't.
    waiting: VecDeque<(Instant, usize)>,
    /// Attempts with the time at which they are given up, among them such as are over.
    attempts: VecDeque<(Instant, usize, u8)>,
    in_flight: usize,
    standing: Standing,
    give_up_at: Instant,
    pings: Pings,
    changed: bool,
}

/// Who is pinged next, so that nobody exceeds the keep alive.
struct Pings {
    from: Instant,
    every: Duration,
    sent: u64,
}

impl Hall {
    fn new(order: Order, now: Instant) -> anyhow::Result<Self> {
        let keep_alive = Duration::from_secs(order.keep_alive_s.into());
        let greeting = match order.protocol {
            Protocol::Mqtt => mqtt::subscribe(&order.path),
            Protocol::Ws => super::ws::upgrade(&order.address.to_string(), &order.path),
            Protocol::Sse => super::sse::request(&order.address.to_string(), &order.path),
        };
        let share = u32::try_from(order.viewers.max(1)).unwrap_or(u32::MAX);
        Ok(Self {
            poll: Poll::new().context("cannot poll")?,
            viewers: (0..order.viewers).map(|_| Viewer::default()).collect(),
            waiting: (0..order.viewers).map(|index| (now, index)).collect(),
            attempts: VecDeque::new(),
            in_flight: 0,
            standing: Standing { first_attempt_us: now_us(), ..Standing::default() },
            give_up_at: now + Duration::from_millis(order.patience_ms),
            // The first round begins at half of the keep alive; a round takes a third of it.
            pings: Pings { from: now + keep_alive / 2, every: keep_alive / 3 / share, sent: 0 },
            changed: true,
            desk: Desk { order, greeting, receipts: Receipts::default() },
        })
    }

    fn run(mut self, ended: &AtomicBool) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(1_024);
        let mut buffer = vec![0; 64 << 10];
        let mut line_due = Instant::now();
        while !ended.load(Ordering::Relaxed) {
            let now = Instant::now();
            self.turn(now, &mut events, &mut buffer)?;
            if now >= line_due {
                line_due = now + LINE_INTERVAL;
                self.report()?;
            }
        }
        Ok(())
    }

    /// Does what is due at `now`, and waits for a moment for what the servers say.
    fn turn(&mut self, now: Instant, events: &mut Events, buffer: &mut [u8]) -> anyhow::Result<()> {
        self.connect_more(now);
        self.end_slow_attempts(now);
        if let Err(error) = self.poll.poll(events, Some(LINE_INTERVAL / 4))
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            return Err(error).context("cannot poll");
        }
        for event in &*events {
            self.hear(event, now, buffer);
        }
        if now >= self.give_up_at && self.in_flight + self.waiting.len() > 0 {
            self.give_up();
        }
        self.ping(now);
        Ok(())
    }

    /// Opens connections up to the number that may be under way.
    fn connect_more(&mut self, now: Instant) {
        while self.in_flight < self.desk.order.connecting
            && let Some((due, index)) = self.waiting.front().copied()
            && due <= now
        {
            self.waiting.pop_front();
            let source = self.desk.order.sources.get(index / PER_SOURCE);
            let source = source.map(|address| SocketAddr::from((*address, 0)));
            self.in_flight += 1;
            let viewer = &mut self.viewers[index];
            let order = &self.desk.order;
            let to = order.then.filter(|_| viewer.was_in()).unwrap_or(order.address);
            let opened = viewer.open(to, source).and_then(|stream| {
                self.poll.registry().register(stream, Token(index), Interest::READABLE | Interest::WRITABLE)
            });
            if let Err(error) = opened {
                self.refused(index, now, format!("cannot connect: {error}"));
            } else {
                self.attempts.push_back((now + ATTEMPT_WITHIN, index, viewer.attempt()));
            }
        }
    }

    fn end_slow_attempts(&mut self, now: Instant) {
        while let Some((due, index, attempt)) = self.attempts.front().copied()
            && due <= now
        {
            self.attempts.pop_front();
            let viewer = &self.viewers[index];
            if viewer.is_on_its_way() && viewer.attempt() == attempt {
                self.refused(index, now, format!("not let in within {ATTEMPT_WITHIN:?}"));
            }
        }
    }

    fn hear(&mut self, event: &Event, now: Instant, buffer: &mut [u8]) {
        let index = event.token().0;
        let viewer = &mut self.viewers[index];
        if viewer.is_watching() && self.desk.order.silent {
            return;
        }
        let was_watching = viewer.is_watching();
        let outcome = viewer.act(event, index, buffer, &mut self.desk);
        match outcome {
            Outcome::Fine => {
                if !was_watching && viewer.is_watching() {
                    self.in_flight -= 1;
                    if viewer.enter() {
                        self.standing.connected += 1;
                        self.standing.last_connected_us = now_us();
                    } else {
                        self.standing.moved += 1;
                    }
                }
            }
            Outcome::Over(_) if was_watching && self.desk.order.then.is_some() => {
                viewer.close();
                self.waiting.push_back((now, index));
                // Whenever a server drains: that may be long after the start.
                self.give_up_at = now + Duration::from_millis(self.desk.order.patience_ms);
            }
            Outcome::Over(why) if was_watching => {
                viewer.close();
                self.standing.lost += 1;
                self.standing.trouble = Some(why);
            }
            Outcome::Over(why) => {
                // It may have been let in and thrown out by bytes of one read.
                self.refused(index, now, why);
            }
        }
        self.changed = true;
    }

    fn refused(&mut self, index: usize, now: Instant, why: String) {
        self.viewers[index].close();
        self.in_flight -= 1;
        self.standing.retries += 1;
        self.standing.trouble = Some(why);
        self.waiting.push_back((now + RETRY_AFTER, index));
        self.changed = true;
    }

    /// Leaves those outside who are not in by now.
    fn give_up(&mut self) {
        let waiting = self.waiting.drain(..).filter(|(_, index)| self.viewers[*index].was_in()).count();
        self.standing.lost += waiting;
        self.in_flight = 0;
        for viewer in &mut self.viewers {
            self.standing.lost += usize::from(viewer.is_on_its_way() && viewer.was_in());
            viewer.close_unless_watching();
        }
        self.standing.failed = self.viewers.len() - self.standing.connected;
        if self.standing.failed > 0 {
            self.standing.trouble.get_or_insert_with(|| "no answer in time".to_owned());
        }
        self.changed = true;
    }

    fn ping(&mut self, now: Instant) {
        let pings = self.desk.order.protocol == Protocol::Mqtt && !self.desk.order.silent;
        // With fewer viewers than processes, some of these have none.
        if !pings || self.pings.every.is_zero() || self.viewers.is_empty() {
            return;
        }
        let due = now.saturating_duration_since(self.pings.from).as_nanos() / self.pings.every.as_nanos();
        while u128::from(self.pings.sent) < due {
            let next = usize::try_from(self.pings.sent).unwrap_or(0) % self.viewers.len();
            self.viewers[next].say(&mqtt::PINGREQ);
            self.pings.sent += 1;
        }
    }

    fn report(&mut self) -> anyhow::Result<()> {
        if !std::mem::take(&mut self.changed) {
            return Ok(());
        }
        let receipts = &mut self.desk.receipts;
        self.standing.odd = receipts.odd;
        self.standing.widest_gap = receipts.widest_gap;
        self.standing.frame_bytes = receipts.frame_bytes;
        self.standing.receipts = receipts.take_changed();
        // The parent reads it there.
        let mut lines = std::io::stdout().lock();
        let line = serde_json::to_string(&self.standing)?;
        writeln!(lines, "{line}").and_then(|()| lines.flush()).context("nobody reads the lines")
    }
}
