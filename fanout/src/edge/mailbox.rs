//! What other threads tell a shard. Bounded: newcomers by number, frames by the number of rooms.

use super::speech::Greeting;
use crate::{newest::Newest, registry::Seat};
use bytes::Bytes;
use std::{
    io, mem,
    net::TcpStream,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Newcomers that may wait until the shard takes them.
const MAX_NEWCOMERS: usize = 1_024;

/// A shard's mailbox.
#[derive(Debug)]
pub(super) struct Mailbox {
    mail: Mutex<Mail>,
    waker: mio::Waker,
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
    pub(super) fn new(waker: mio::Waker) -> Self {
        Self { mail: Mutex::default(), waker }
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

    /// Hands a newcomer over, unless too many wait.
    pub(super) fn admit(&self, newcomer: Newcomer) -> io::Result<()> {
        let mut refused = false;
        self.put(|mail| {
            refused = mail.newcomers.len() >= MAX_NEWCOMERS;
            if !refused {
                mail.newcomers.push(newcomer);
            }
        });
        if refused { Err(io::ErrorKind::QuotaExceeded.into()) } else { Ok(()) }
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
