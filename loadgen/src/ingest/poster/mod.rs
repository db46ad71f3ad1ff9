//! A thread that posts: all its connections in one poll loop, with two system calls a request and no allocation, so that
//! the server under test keeps the machine.
//!
//! - [`alarm`]: waking up in time for the next request of an open loop.
//! - [`connection`]: a socket, and what is under way on it.
//! - [`signals`]: the phases of a round, which the main thread calls.

mod alarm;
mod connection;
pub(crate) mod signals;

use super::{
    answer::{self, Answer},
    outcome::{Answered, Outcome},
    pace::{Next, Pace},
    requests::{Ledger, Requests, Turns},
};
use crate::sources::PER_SOURCE;
use alarm::Alarm;
use anyhow::Context as _;
use connection::{Connection, Sent};
use mio::{Events, Poll, Token, event::Event};
use signals::{Phase, Signals};
use std::{
    collections::VecDeque,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

/// Time between two looks at the phase, at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// How long opening a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The same for one attempt. After a full listen queue TCP alone would wait for a second and more. A connection that broke
/// gets one: everything else waits meanwhile.
const ATTEMPT_WITHIN: Duration = Duration::from_millis(200);
/// Time between two bursts of connections.
const BURST_INTERVAL: Duration = Duration::from_millis(2);
/// Requests that are sent before answers are read, sockets that are read before requests are sent, and connections that
/// are opened in a row.
const BURST: usize = 128;
/// Sockets are their own tokens.
const ALARM: Token = Token(usize::MAX);

/// What one thread is to do.
pub(crate) struct Order {
    pub(crate) address: SocketAddr,
    /// Addresses to connect from. Empty: the system chooses.
    pub(crate) sources: Vec<Ipv4Addr>,
    pub(crate) connections: usize,
    /// Requests under way on a connection at most.
    pub(crate) pipeline: usize,
    pub(crate) requests: Arc<Requests>,
    pub(crate) turns: Turns,
    pub(crate) ledger: Ledger,
    /// The schedule of an open loop.
    pub(crate) pace: Option<Pace>,
    /// How long to wait for answers at the end.
    pub(crate) timeout: Duration,
    pub(crate) signals: Arc<Signals>,
}

/// Connects, posts through the phases, and returns when all is answered.
pub(crate) fn run(order: Order) -> anyhow::Result<Outcome> {
    let mut poster = Poster::new(order)?;
    poster.connect_all()?;
    poster.order.signals.enter_connected();
    let Some(start) = poster.order.signals.wait_for_start() else { return Ok(poster.outcome) };
    poster.start = start;
    poster.post()?;
    Ok(poster.end())
}

struct Poster {
    order: Order,
    poll: Poll,
    alarm: Alarm,
    connections: Vec<Connection>,
    /// Connections with room for another request (open loop): once for each.
    free: VecDeque<usize>,
    outcome: Outcome,
    phase: Phase,
    /// CPU time of this thread when its phase began.
    cpu_before: Option<(Duration, Duration)>,
    start: Instant,
    under_way: usize,
    /// For what is read, and for what is to be written.
    buffer: Vec<u8>,
    out: Vec<u8>,
}

impl Poster {
    fn new(mut order: Order) -> anyhow::Result<Self> {
        let poll = Poll::new().context("cannot poll")?;
        let free = (0..order.pipeline).flat_map(|_| 0..order.connections).collect();
        Ok(Self {
            alarm: Alarm::new(poll.registry(), ALARM).context("cannot set a timer")?,
            connections: (0..order.connections).map(|_| Connection::new(order.pipeline)).collect(),
            free,
            outcome: Outcome::new(std::mem::take(&mut order.ledger)),
            phase: Phase::Connect,
            cpu_before: None,
            start: Instant::now(),
            under_way: 0,
            buffer: vec![0; 64 << 10],
            out: Vec::with_capacity(4 << 10),
            poll,
            order,
        })
    }

    /// Opens all connections, not faster than a listen queue is emptied: one that overflows would hold TCP up for many
    /// seconds, and a server may close those that were idle meanwhile.
    fn connect_all(&mut self) -> anyhow::Result<()> {
        for index in 0..self.connections.len() {
            if index % BURST == BURST - 1 {
                std::thread::sleep(BURST_INTERVAL);
            }
            let deadline = Instant::now() + CONNECT_WITHIN;
            while let Err(error) = self.connect(index) {
                if error.kind() != ErrorKind::TimedOut || Instant::now() >= deadline {
                    let address = self.order.address;
                    return Err(error).with_context(|| format!("cannot connect to {address} ({index} are)"));
                }
            }
        }
        Ok(())
    }

    fn connect(&mut self, index: usize) -> std::io::Result<()> {
        let source = self.order.sources.get(index / PER_SOURCE).copied();
        let registry = self.poll.registry();
        self.connections[index].open(self.order.address, source, ATTEMPT_WITHIN, registry, Token(index))
    }

    fn post(&mut self) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(BURST);
        let mut give_up_at = None;
        loop {
            let phase = self.order.signals.phase();
            if phase != self.phase {
                self.enter(phase);
            }
            let due = self.send_what_is_due()?;
            if self.phase == Phase::Stop {
                let give_up_at = *give_up_at.get_or_insert_with(|| Instant::now() + self.order.timeout);
                if (due.is_none() && self.under_way == 0) || Instant::now() >= give_up_at {
                    return Ok(());
                }
            }
            match self.poll.poll(&mut events, Some(due.unwrap_or(LOOK_INTERVAL))) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return Err(error).context("cannot poll");
                }
                _ => {}
            }
            for event in events.iter().filter(|event| event.token() != ALARM) {
                self.hear(event);
            }
        }
    }

    fn enter(&mut self, phase: Phase) {
        if phase < Phase::Stop {
            self.cpu_before = signals::thread_cpu();
        } else if let Some((before, after)) = self.cpu_before.zip(signals::thread_cpu()) {
            self.outcome.poster_user = after.0.saturating_sub(before.0);
            self.outcome.poster_system = after.1.saturating_sub(before.1);
        }
        // A closed loop is set going once, and keeps itself going.
        if self.phase == Phase::Connect && self.order.pace.is_none() {
            (0..self.connections.len()).for_each(|index| self.refill(index, self.order.pipeline));
        }
        self.phase = phase;
    }

    /// Sends what is due in an open loop. How long to wait for more; `None` when there is no more.
    fn send_what_is_due(&mut self) -> anyhow::Result<Option<Duration>> {
        let Some(mut pace) = self.order.pace.take() else { return Ok(None) };
        let mut now = Instant::now();
        let mut sent = 0;
        let until = loop {
            match pace.next(now - self.start, self.has_free()) {
                Next::Send(due) => {
                    let timed = pace.is_counted(due);
                    self.send_free(self.start + due, timed, now);
                    now = Instant::now();
                    sent += 1;
                    if sent == BURST {
                        // Answers wait to be read.
                        break Some(now);
                    }
                }
                Next::Wait(until) => break Some(self.start + until),
                Next::Over => break None,
            }
        };
        self.order.pace = Some(pace);
        match until {
            Some(until) => Ok(Some(self.alarm.wait(until, now, LOOK_INTERVAL)?)),
            None => Ok(None),
        }
    }

    /// Whether some connection takes another request. Forgets those that are gone.
    fn has_free(&mut self) -> bool {
        while let Some(index) = self.free.front() {
            if self.connections[*index].is_open() {
                return true;
            }
            self.free.pop_front();
        }
        false
    }

    fn send_free(&mut self, due: Instant, timed: bool, now: Instant) {
        let Some(index) = self.free.pop_front() else { return };
        let what = self.order.turns.take();
        self.under_way += 1;
        self.out.clear();
        self.order.requests.write(what, &mut self.out);
        let connection = &mut self.connections[index];
        connection.under_way.push_back(Sent { what, due: Some(due), sent: now, timed });
        connection.write(&self.out);
    }

    /// Sends `count` requests of a closed loop.
    fn refill(&mut self, index: usize, count: usize) {
        let sent = Instant::now();
        let timed = self.phase == Phase::Measure;
        self.out.clear();
        let connection = &mut self.connections[index];
        for _ in 0..count {
            let what = self.order.turns.take();
            self.order.requests.write(what, &mut self.out);
            connection.under_way.push_back(Sent { what, due: None, sent, timed });
        }
        self.under_way += count;
        connection.write(&self.out);
    }

    fn hear(&mut self, event: &Event) {
        let index = event.token().0;
        if event.is_writable() {
            self.connections[index].flush();
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let heard = self.read(index, &mut buffer);
        self.buffer = buffer;
        match heard {
            Ok(0) => {}
            Ok(answers) if self.order.pace.is_some() => (0..answers).for_each(|_| self.free.push_back(index)),
            Ok(answers) if self.phase < Phase::Stop => self.refill(index, answers),
            Ok(_) => {}
            Err(why) => self.lose(index, &why),
        }
    }

    /// Reads all that there is: how many answers, or why the connection is over.
    fn read(&mut self, index: usize, buffer: &mut [u8]) -> Result<usize, String> {
        let mut answers = 0;
        loop {
            match self.connections[index].read(buffer) {
                Ok(0) => return Err("the server closed the connection".to_owned()),
                Ok(length) => {
                    answers += self.take_answers(index, &buffer[..length])?;
                    // A short read has emptied the socket: the next byte, or its end, is another event.
                    if length < buffer.len() {
                        return Ok(answers);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(answers),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("cannot read: {error}")),
            }
        }
    }

    /// Takes the answers that are whole, and keeps the beginning of the next one.
    fn take_answers(&mut self, index: usize, bytes: &[u8]) -> Result<usize, String> {
        let mut rest = std::mem::take(&mut self.connections[index].partial);
        let answers = if rest.is_empty() {
            let (answers, used) = self.take_whole(index, bytes)?;
            rest.extend_from_slice(&bytes[used..]);
            answers
        } else {
            rest.extend_from_slice(bytes);
            let (answers, used) = self.take_whole(index, &rest)?;
            rest.drain(..used);
            answers
        };
        self.connections[index].partial = rest;
        Ok(answers)
    }

    /// How many whole answers there are, and how many bytes they take.
    fn take_whole(&mut self, index: usize, bytes: &[u8]) -> Result<(usize, usize), String> {
        let now = Instant::now();
        let (mut answers, mut used) = (0, 0);
        while let Some(answer) = answer::take(&bytes[used..])? {
            used += answer.length;
            answers += 1;
            let sent = self.connections[index].under_way.pop_front();
            self.record(&sent.ok_or("an answer to no request")?, &answer, now);
            if answer.last {
                return Err("the server closed the connection after an answer".to_owned());
            }
        }
        Ok((answers, used))
    }

    fn record(&mut self, sent: &Sent, answer: &Answer<'_>, now: Instant) {
        self.under_way -= 1;
        if answer.status == 202 && !self.order.requests.confirms(sent.what, answer.body) {
            self.outcome.odd += 1;
            self.outcome.note(|| format!("a 202 that says {}", String::from_utf8_lossy(answer.body)));
        }
        if answer.status != 202 {
            self.outcome.note(|| format!("{}: {}", answer.status, String::from_utf8_lossy(answer.body)));
        }
        self.outcome.record(&Answered {
            what: sent.what,
            status: answer.status,
            measured: self.phase == Phase::Measure,
            timed: sent.timed,
            from_schedule: sent.due.map(|due| now - due),
            from_send: now - sent.sent,
        });
    }

    /// The connection is gone, and with it what was under way on it; another takes its place.
    fn lose(&mut self, index: usize, why: &str) {
        let lost = self.connections[index].close();
        if !lost.is_empty() {
            self.outcome.note(|| format!("a connection broke: {why}"));
        }
        self.under_way -= lost.len();
        self.outcome.broken += lost.len() as u64;
        lost.iter().for_each(|sent| self.outcome.ledger.unknown[sent.what] += 1);
        if self.phase == Phase::Stop {
            return;
        }
        if let Err(error) = self.connect(index) {
            self.outcome.connect_errors += 1;
            self.outcome.note(|| format!("cannot connect: {error}"));
        } else if self.order.pace.is_none() {
            self.refill(index, self.order.pipeline);
        } else {
            self.free.retain(|free| *free != index);
            (0..self.order.pipeline).for_each(|_| self.free.push_back(index));
        }
    }

    /// Closes the books: whoever has no answer by now gets none.
    fn end(mut self) -> Outcome {
        for connection in &mut self.connections {
            for sent in connection.close() {
                self.outcome.unanswered += 1;
                self.outcome.ledger.unknown[sent.what] += 1;
            }
        }
        if self.outcome.unanswered > 0 {
            let within = self.order.timeout;
            self.outcome.note(|| format!("requests without an answer within {within:?}"));
        }
        if let Some(pace) = self.order.pace {
            (self.outcome.due, self.outcome.not_sent) = pace.close();
        }
        self.outcome
    }
}

#[cfg(test)]
mod tests;
