//! How viewers come into a shard.

use super::{
    end::End,
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
use std::io;

/// Viewers that are accepted before others are looked after.
const ACCEPTS: usize = 256;

/// What a viewer is told whose room was taken by others on its way here.
const FULL: &str = "this node serves as much as it may, try again later";

impl Shard {
    /// Takes in a viewer that came over HTTP.
    pub(super) fn welcome(&mut self, newcomer: Newcomer) {
        let Newcomer { stream, seat, greeting, input } = newcomer;
        let Some(key) = self.seat(TcpStream::from_std(stream), seat) else { return };
        self.hall.viewers[key].input = input.to_vec();
        let joined = self.hall.with(key, |_, answers, audience| match greeting {
            Greeting::Json { rooms, hello } => {
                websocket::put_message(answers, Opcode::Text, &hello);
                rooms.iter().try_for_each(|room| {
                    join(room, Snapshot::Send, audience)
                        .inspect_err(|_| websocket::put_close(answers, 1013, FULL))
                })
            }
            Greeting::Events { room, start, seen } => {
                answers.extend(start);
                join(&room, seen.map_or(Snapshot::Send, Snapshot::SendUnless), audience)
            }
            Greeting::Mqtt => Ok(()),
        });
        match joined {
            Some(Err(end)) => self.end(key, end),
            _ => self.work(key),
        }
    }

    /// Gives a viewer its place in the shard.
    fn seat(&mut self, mut stream: TcpStream, seat: Seat) -> Option<usize> {
        let entry = self.hall.viewers.vacant_entry();
        let key = entry.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, Token(key), interest) {
            refused("files");
            tracing::warn!(%error, "a viewer's socket could not be watched");
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
                    // No descriptor is left, most likely: again at the next tick.
                    refused("files");
                    tracing::warn!(%error, "viewers can't be accepted");
                    self.accepts = false;
                    return;
                }
            }
        }
    }
}

/// Joins a room that has been watched for the viewer until now.
fn join(room: &Watch, snapshot: Snapshot, audience: &mut dyn Audience) -> Result<(), End> {
    let how = How { snapshot, retain_as_published: false };
    audience.join(&room.room, how).map_err(|full| {
        full.refuse();
        End::Refused
    })
}

/// Whether an accept failed because of who knocked.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, TimedOut};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | TimedOut)
}
