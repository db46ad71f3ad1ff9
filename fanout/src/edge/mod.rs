//! The viewers' edge: shards, each a thread with an event loop and a share of the viewers. Everything that a viewer
//! does, and every frame, is handled in the shard that holds its socket.
//!
//! - `shard`: the event loop; `arrivals`, `broadcast` and `pulse` are its parts. `mailbox`: what others tell it.
//! - `hall`: a shard's viewers, and who gets what. `rooms`: who watches which room; `everything`: who watches all.
//! - `viewer`: one socket: newest or nothing. `budget`: what it may send.
//! - `speech`: what viewers speak; `mqtt` is one language of it.
//! - `listener`: the sockets on which MQTT viewers arrive.

mod arrivals;
mod broadcast;
mod budget;
mod end;
mod everything;
mod hall;
#[cfg(test)]
mod hall_tests;
mod listener;
mod mailbox;
mod mqtt;
mod pulse;
mod rooms;
mod shard;
#[cfg(test)]
mod shard_tests;
mod speech;
#[cfg(test)]
mod speech_tests;
#[cfg(test)]
mod tests;
mod viewer;

pub use listener::tune;
pub(crate) use mqtt::TOPIC_PREFIX;
pub(crate) use speech::Greeting;

use crate::{Error, fanout::Shared, frames::Encoded, registry::Seat};
use bytes::Bytes;
use mailbox::{Mailbox, Newcomer, Order};
use shard::Shard;
use std::{
    io,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use tokio::sync::mpsc;
use wire::RoomName;

/// The shards, as others see them.
#[derive(Debug)]
pub(crate) struct Edge {
    mailboxes: Vec<Arc<Mailbox>>,
    turn: AtomicUsize,
    /// Where MQTT viewers connect, if they may.
    pub(crate) mqtt: Option<SocketAddr>,
}

/// Tells when a shard ends, and why. Closed when all have ended.
pub(crate) type Ended = mpsc::Receiver<String>;

impl Edge {
    /// Starts the shards. Nobody is accepted before the log is followed.
    pub(crate) fn start(shared: &Arc<Shared>) -> Result<(Arc<Self>, Ended), Error> {
        let config = shared.config();
        let shards = match config.shards {
            0 => thread::available_parallelism().map_or(1, Into::into),
            shards => shards,
        };
        let (mqtt, listeners) = if config.mqtt.enabled {
            let bound = listener::bind(&config, shards)?;
            (Some(bound.0), bound.1.into_iter().map(Some).collect())
        } else {
            (None, std::iter::repeat_with(|| None).take(shards).collect::<Vec<_>>())
        };
        let failed = |error: io::Error| Error::Edge(format!("a shard can't start: {error}"));
        let (ending, ended) = mpsc::channel(shards);
        let mut mailboxes = Vec::new();
        for (number, listener) in listeners.into_iter().enumerate() {
            let (shard, mailbox) = Shard::new(Arc::clone(shared), listener).map_err(failed)?;
            let last_words = LastWords { number, ending: ending.clone() };
            let run = move || last_words.say(shard.run());
            thread::Builder::new().name(format!("edge-{number}")).spawn(run).map_err(failed)?;
            mailboxes.push(mailbox);
        }
        Ok((Arc::new(Self { mailboxes, turn: AtomicUsize::new(0), mqtt }), ended))
    }

    /// Hands a viewer that came over HTTP to a shard. Where that has too many newcomers, the viewer is told to come again, and
    /// its connection is closed. Says whether a shard has it.
    pub(crate) fn admit(&self, stream: TcpStream, seat: Seat, greeting: Greeting, input: Bytes) -> bool {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.mailboxes.len();
        let refused = self.mailboxes[turn].admit(Newcomer { stream, seat, greeting, input });
        refused.map(Newcomer::turn_away).is_none()
    }

    /// An edge that has no place for a newcomer.
    #[cfg(test)]
    pub(crate) fn full() -> Arc<Self> {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let mailboxes = vec![Arc::new(Mailbox::new(waker, 0))];
        Arc::new(Self { mailboxes, turn: AtomicUsize::new(0), mqtt: None })
    }

    /// Tells all shards what a room shows now.
    pub(crate) fn publish(&self, room: &RoomName, frame: Option<&Arc<Encoded>>) {
        for mailbox in &self.mailboxes {
            mailbox.put(|mail| {
                mail.frames.put(room, frame.cloned());
            });
        }
    }

    /// Accepts nobody any more, and sends viewers away as the drain says.
    pub(crate) fn drain(&self) {
        self.order(Order::Drain);
    }

    /// Ends the shards; viewers that are still there are cut off.
    pub(crate) fn stop(&self) {
        self.order(Order::Stop);
    }

    fn order(&self, order: Order) {
        for mailbox in &self.mailboxes {
            mailbox.put(|mail| mail.order = Some(order));
        }
    }
}

/// Shards end with what tells them of frames, and with them their listeners.
impl Drop for Edge {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Says that a shard has ended, also when it panicked.
struct LastWords {
    number: usize,
    ending: mpsc::Sender<String>,
}

impl LastWords {
    fn say(self, ended: io::Result<()>) {
        if let Err(error) = ended {
            let _ = self.ending.try_send(format!("shard {} failed: {error}", self.number));
        }
    }
}

impl Drop for LastWords {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.ending.try_send(format!("shard {} panicked", self.number));
        }
    }
}
