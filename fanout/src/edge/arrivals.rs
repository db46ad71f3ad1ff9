//! How viewers come into a shard.

use super::{
    mailbox::Newcomer,
    shard::Shard,
    speech::{Audience, Greeting, How, Snapshot},
    viewer::Viewer,
};
use crate::{
    metrics::{Protocol, refused},
    registry::{Seat, Watch},
    websocket::{self, Opcode},
};
use mio::{Interest, Token, net::TcpStream};
use service::files;
use std::{
    io::{self, Write as _},
    net::Shutdown,
};

/// Viewers that are accepted before others are looked after.
const ACCEPTS: usize = 256;

impl Newcomer {
    /// Tells a viewer that finds no place to come again, and closes its connection. Nobody waits until the socket takes that: a
    /// new one has room.
    pub(super) fn turn_away(self) {
        let Self { mut stream, greeting, .. } = self;
        let mut goodbye = Vec::new();
        match greeting {
            Greeting::Json { .. } | Greeting::Mqtt => {
                websocket::put_close(&mut goodbye, 1013, "too many viewers come at once, try again later");
            }
            // An EventSource comes back when its stream ends, after the time in `start`.
            Greeting::Events { start, .. } => goodbye = start,
        }
        if let Err(error) = stream.write_all(&goodbye).and_then(|()| stream.shutdown(Shutdown::Write)) {
            tracing::debug!(%error, "a viewer could not be told to come again");
        }
    }
}

impl Shard {
    /// Takes in a viewer that came over HTTP.
    pub(super) fn welcome(&mut self, newcomer: Newcomer) {
        let Newcomer { stream, seat, greeting, input } = newcomer;
        let Some(key) = self.seat(TcpStream::from_std(stream), seat) else { return };
        self.hall.viewers[key].keep_unfinished(&input, false, self.hall.now_ms);
        self.hall.with(key, |_, answers, audience| match greeting {
            Greeting::Json { rooms, hello } => {
                websocket::put_message(answers, Opcode::Text, &hello);
                rooms.iter().for_each(|room| join(room, Snapshot::Send, audience));
            }
            Greeting::Events { room, start, seen } => {
                answers.extend(start);
                join(&room, seen.map_or(Snapshot::Send, Snapshot::SendUnless), audience);
            }
            Greeting::Mqtt => {}
        });
        self.work(key);
    }

    /// Gives a viewer its place in the shard.
    fn seat(&mut self, mut stream: TcpStream, seat: Seat) -> Option<usize> {
        let entry = self.hall.viewers.vacant_entry();
        let key = entry.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, Token(key), interest) {
            refused("system");
            tracing::warn!(%error, "a viewer's socket could not be watched; is fs.epoll.max_user_watches reached?");
            return None;
        }
        entry.insert(Viewer::new(stream, seat, self.hall.now_ms));
        if let Some(turn_ms) = self.leaving.is_some().then(|| self.turn_ms())
            && let Some(leaving) = &mut self.leaving
        {
            leaving.push_back((turn_ms, key));
        }
        Some(key)
    }

    /// Accepts some of those who knock.
    pub(super) fn accept(&mut self) {
        if !self.accepts {
            return;
        }
        for _ in 0..ACCEPTS {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((stream, _)) if !files::leaves(files::RESERVED, &stream) => refused("files"),
                Ok((stream, from)) => {
                    match self.edge.registry.admit(Protocol::Mqtt, from.ip(), self.hall.limits) {
                        Ok(seat) => {
                            if let Some(key) = self.seat(stream, seat) {
                                self.work(key);
                            }
                        }
                        // Nothing may be said before its CONNECT: it is closed.
                        Err(full) => full.refuse(),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.accepts = false;
                    return;
                }
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    // The next tick tries again.
                    refused(if files::are_used_up(&error) { "files" } else { "system" });
                    tracing::warn!(%error, "viewers can't be accepted");
                    self.accepts = false;
                    return;
                }
            }
        }
    }
}

/// Joins a room that has been watched for the viewer until now: so its place can't have been taken by others.
fn join(room: &Watch, snapshot: Snapshot, audience: &mut dyn Audience) {
    let joined = audience.join(&room.room, How { snapshot, retain_as_published: false });
    debug_assert!(joined.is_ok(), "{joined:?}");
}

/// Whether an accept failed because of one peer, or the way to it: the next one may do better (accept(2), "Error handling").
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
        TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | TimedOut
    )
}
