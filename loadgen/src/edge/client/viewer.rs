//! One viewer: knocks, is let in, and listens.

use super::{
    super::{
        lines::Order,
        mqtt::{self, Packet},
        plan::Protocol,
        sse,
        ws::{self, Message},
    },
    receipts::Receipts,
};
use crate::clock::now_us;
use mio::{event::Event, net::TcpStream};
use nix::errno::Errno;
use socket2::{Domain, Socket, Type};
use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::SocketAddr,
    time::Duration,
};

/// What became of an event.
pub(super) enum Outcome {
    Fine,
    /// The connection is over, with the reason.
    Over(String),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Away,
    /// The connection is being made.
    Knocking,
    /// CONNECT or the upgrade was sent.
    Greeted,
    /// SUBSCRIBE was sent.
    Subscribed,
    Watching,
}

/// As small as can be: there are hundreds of thousands.
#[derive(Debug, Default)]
pub(super) struct Viewer {
    stream: Option<TcpStream>,
    /// The start of a packet that is not complete.
    pending: Vec<u8>,
    last_seq: u64,
    phase: Phase,
    attempt: u8,
    /// It was let in once.
    was_in: bool,
}

/// What all viewers share.
pub(super) struct Desk {
    pub(super) order: Order,
    /// What is said second over MQTT, and first over HTTP.
    pub(super) greeting: Vec<u8>,
    pub(super) receipts: Receipts,
}

impl Viewer {
    pub(super) fn is_watching(&self) -> bool {
        self.phase == Phase::Watching
    }

    pub(super) fn is_on_its_way(&self) -> bool {
        !matches!(self.phase, Phase::Away | Phase::Watching)
    }

    /// Tells one attempt from the next.
    pub(super) fn attempt(&self) -> u8 {
        self.attempt
    }

    /// Begins to connect, from `source` where there is one.
    pub(super) fn open(&mut self, to: SocketAddr, source: Option<SocketAddr>) -> io::Result<&mut TcpStream> {
        self.attempt = self.attempt.wrapping_add(1);
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        // Closing resets the connection: thousands in TIME_WAIT would be in the way of the next server.
        socket.set_linger(Some(Duration::ZERO))?;
        if let Some(source) = source {
            socket.bind(&source.into())?;
        }
        match socket.connect(&to.into()) {
            Err(error) if !in_progress(&error) => return Err(error),
            _ => self.phase = Phase::Knocking,
        }
        Ok(self.stream.insert(TcpStream::from_std(socket.into())))
    }

    /// It is in. Says whether it is for the first time.
    pub(super) fn enter(&mut self) -> bool {
        !std::mem::replace(&mut self.was_in, true)
    }

    pub(super) fn was_in(&self) -> bool {
        self.was_in
    }

    pub(super) fn close(&mut self) {
        let Self { last_seq, attempt, was_in, .. } = *self;
        *self = Self { last_seq, attempt, was_in, ..Self::default() };
    }

    pub(super) fn close_unless_watching(&mut self) {
        if !self.is_watching() {
            self.close();
        }
    }

    /// Writes a few bytes. A socket that takes nothing now is in trouble that the next read shows.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        if let Some(stream) = &mut self.stream {
            let _ = stream.write(bytes);
        }
    }

    /// Does what `event` asks for.
    pub(super) fn act(&mut self, event: &Event, index: usize, buffer: &mut [u8], desk: &mut Desk) -> Outcome {
        if self.phase == Phase::Knocking && event.is_writable() {
            if let Some(Ok(Some(error)) | Err(error)) = self.stream.as_ref().map(TcpStream::take_error) {
                return Outcome::Over(format!("cannot connect: {error}"));
            }
            self.phase = Phase::Greeted;
            match desk.order.protocol {
                Protocol::Mqtt => {
                    let client_id = format!("{}-{index}", desk.order.name);
                    self.say(&mqtt::connect(&client_id, desk.order.keep_alive_s));
                }
                Protocol::Ws | Protocol::Sse => self.say(&desk.greeting),
            }
        }
        if event.is_readable() || event.is_error() {
            return self.read(event.is_read_closed() || event.is_error(), buffer, desk);
        }
        Outcome::Fine
    }

    fn read(&mut self, to_the_end: bool, buffer: &mut [u8], desk: &mut Desk) -> Outcome {
        loop {
            let Some(stream) = &mut self.stream else { return Outcome::Fine };
            let length = match stream.read(buffer) {
                Ok(0) => return Outcome::Over("closed by the server".to_owned()),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Outcome::Fine,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Outcome::Over(error.to_string()),
            };
            let mut pending = std::mem::take(&mut self.pending);
            let heard = if pending.is_empty() {
                self.hear(&buffer[..length], desk).map(|used| {
                    pending.extend(&buffer[used..length]);
                })
            } else {
                pending.extend(&buffer[..length]);
                self.hear(&pending, desk).map(|used| drop(pending.drain(..used)))
            };
            if let Err(why) = heard {
                return Outcome::Over(why);
            }
            // An empty vector that keeps its memory would add up.
            self.pending = if pending.is_empty() { Vec::new() } else { pending };
            // A short read has emptied the socket; what comes later is an event of its own.
            if length < buffer.len() && !to_the_end {
                return Outcome::Fine;
            }
        }
    }

    /// Takes all whole packets off `bytes`, and returns their length.
    fn hear(&mut self, bytes: &[u8], desk: &mut Desk) -> Result<usize, String> {
        let at_us = now_us();
        let mut used = 0;
        while let Some(length) = match desk.order.protocol {
            Protocol::Mqtt => self.hear_packet(&bytes[used..], desk, at_us)?,
            Protocol::Ws if self.phase == Phase::Greeted => self.enter_with(ws::take_answer(&bytes[used..])?),
            Protocol::Ws => self.hear_message(&bytes[used..], &mut desk.receipts, at_us)?,
            Protocol::Sse if self.phase == Phase::Greeted => {
                self.enter_with(sse::take_answer(&bytes[used..])?)
            }
            Protocol::Sse => self.hear_event(&bytes[used..], &mut desk.receipts, at_us),
        } {
            used += length;
        }
        Ok(used)
    }

    /// Watches from the server's answer on, where that is there.
    fn enter_with(&mut self, answered: Option<usize>) -> Option<usize> {
        if answered.is_some() {
            self.phase = Phase::Watching;
        }
        answered
    }

    fn hear_packet(&mut self, bytes: &[u8], desk: &mut Desk, at_us: u64) -> Result<Option<usize>, String> {
        let Some((packet, length)) = mqtt::take(bytes).map_err(|_| "not MQTT 3.1.1".to_owned())? else {
            return Ok(None);
        };
        match (packet, self.phase) {
            (Packet::Publish { topic, payload }, _) => {
                let right = topic == desk.order.path.as_bytes()
                    && desk.receipts.note(payload, &mut self.last_seq, at_us);
                desk.receipts.odd += u64::from(!right);
            }
            (Packet::Connack(0), Phase::Greeted) => {
                self.say(&desk.greeting);
                self.phase = Phase::Subscribed;
            }
            (Packet::Connack(code), Phase::Greeted) => {
                return Err(format!("CONNACK with return code {code}"));
            }
            (Packet::Suback(0), Phase::Subscribed) => self.phase = Phase::Watching,
            (Packet::Suback(code), Phase::Subscribed) => return Err(format!("SUBACK with {code:#04x}")),
            (Packet::Pingresp, _) => {}
            _ => desk.receipts.odd += 1,
        }
        Ok(Some(length))
    }

    fn hear_message(
        &mut self,
        bytes: &[u8],
        receipts: &mut Receipts,
        at_us: u64,
    ) -> Result<Option<usize>, String> {
        let broken = |_| "a WebSocket frame that no viewer expects".to_owned();
        let Some((message, length)) = ws::take(bytes).map_err(broken)? else { return Ok(None) };
        match message {
            Message::Text(text) => {
                let right = receipts.note(text, &mut self.last_seq, at_us) || text.starts_with(b"{\"hello\"");
                receipts.odd += u64::from(!right);
            }
            Message::Ping(payload) => self.say(&ws::pong(payload)),
            Message::Pong => {}
            Message::Close(code) => return Err(format!("closed by the server with code {code:?}")),
        }
        Ok(Some(length))
    }

    fn hear_event(&mut self, bytes: &[u8], receipts: &mut Receipts, at_us: u64) -> Option<usize> {
        let (data, length) = sse::take(bytes)?;
        if let Some(data) = data {
            receipts.odd += u64::from(!receipts.note(data, &mut self.last_seq, at_us));
        }
        Some(length)
    }
}

fn in_progress(error: &io::Error) -> bool {
    // EINPROGRESS has no stable kind.
    error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(Errno::EINPROGRESS as i32)
}
