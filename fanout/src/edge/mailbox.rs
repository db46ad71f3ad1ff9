//! What other threads tell a shard. Bounded: newcomers by number, frames by the number of rooms.

use super::speech::Greeting;
use crate::{newest::Newest, registry::Seat};
use bytes::Bytes;
use std::{
    mem,
    net::TcpStream,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A shard's mailbox.
#[derive(Debug)]
pub(super) struct Mailbox {
    mail: Mutex<Mail>,
    waker: mio::Waker,
    /// Newcomers that may wait until the shard takes them.
    max_newcomers: usize,
}

/// What is in it.
#[derive(Debug, Default)]
pub(super) struct Mail {
    pub(super) newcomers: Vec<Newcomer>,
    pub(super) frames: Newest,
    /// What the shard is to do. The latest counts.
    pub(super) order: Option<Order>,
}

/// What a shard is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Accept nobody, and send the viewers away as the drain says.
    Drain,
    /// End now.
    Stop,
}

/// A viewer that came over HTTP.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) stream: TcpStream,
    pub(super) seat: Seat,
    pub(super) greeting: Greeting,
    /// What was read of it beyond the handshake.
    pub(super) input: Bytes,
}

impl Mailbox {
    pub(super) fn new(waker: mio::Waker, max_newcomers: usize) -> Self {
        Self { mail: Mutex::default(), waker, max_newcomers }
    }

    /// Changes what is in the mailbox, and wakes the shard unless something was in it already.
    pub(super) fn put(&self, change: impl FnOnce(&mut Mail)) {
        let mut mail = self.lock();
        let was_empty = mail.is_empty();
        change(&mut mail);
        if was_empty
            && !mail.is_empty()
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a shard could not be woken");
        }
    }

    /// Hands a newcomer over. Gives it back where too many wait.
    pub(super) fn admit(&self, newcomer: Newcomer) -> Option<Newcomer> {
        let mut refused = None;
        self.put(|mail| {
            if mail.newcomers.len() < self.max_newcomers {
                mail.newcomers.push(newcomer);
            } else {
                refused = Some(newcomer);
            }
        });
        refused
    }

    /// Takes all that is in it.
    pub(super) fn take(&self) -> Mail {
        mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mail {
    fn is_empty(&self) -> bool {
        self.newcomers.is_empty() && self.frames.is_empty() && self.order.is_none()
    }
}
