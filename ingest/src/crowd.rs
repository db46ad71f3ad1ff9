//! Who will post again at once. Programs and proxies with few connections post anew when they are answered. When all are back
//! and wait who were answered lately, nobody is expected before the answers go out, so to wait for more would be for nothing:
//! they are not held to one post a commit interval.
//!
//! Lately is since batches last went by the interval: nobody is waited for longer than that. Known of connections on the short
//! way, which have one request at a time (`service::http::App::plain`).

use crate::shared::Shared;
use std::sync::{
    Arc,
    atomic::{
        AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
};
use tokio::time::Instant;

/// Those who were answered lately and are not back: in the upper half how often batches went by the interval, in the lower one
/// how many were answered since.
#[derive(Debug, Default)]
pub(crate) struct Crowd(AtomicU64);

/// What is known of a connection on the short way: the upper half and one, while it is away; else nothing.
#[derive(Debug, Default)]
pub struct Guest(AtomicU64);

impl Shared {
    /// Hands the open batches over if nobody else is expected to add to them. Called when a request begins to wait.
    pub(crate) fn look_who_waits(self: &Arc<Self>) {
        if self.everyone_waits() {
            self.hand_over_early(Instant::now());
        }
    }

    /// Whether there are open batches, and nobody is expected to add to them.
    pub(crate) fn everyone_waits(&self) -> bool {
        // A request that is inside without an open batch is with the log, or not answered yet: its client is expected too.
        let Self { batches, crowd, gate, .. } = self;
        batches.is_filled() && crowd.is_complete() && gate.inside() <= batches.waiting()
    }
}

impl Crowd {
    /// A request of the guest is here.
    pub(crate) fn comes(&self, guest: &Guest) {
        let Some(then) = guest.0.swap(0, Relaxed).checked_sub(1) else { return };
        let back = |away| (away >> 32 == then).then_some(away - 1);
        // Else it was not waited for any more.
        let _ = self.0.fetch_update(SeqCst, SeqCst, back);
    }

    /// The guest is answered.
    pub(crate) fn goes(&self, guest: &Guest) {
        guest.0.store((self.0.fetch_add(1, SeqCst) >> 32) + 1, Relaxed);
    }

    /// A request is here of somebody who may have several at a time, and so may send another.
    pub(crate) fn other_comes(&self) {
        self.goes(&Guest::default());
    }

    /// The interval is over, or nothing came for that long.
    pub(crate) fn waits_no_longer(&self) {
        let intervals = self.0.load(SeqCst) >> 32;
        self.0.store((intervals + 1) << 32, SeqCst);
    }

    /// Whether nobody is away who was answered lately.
    fn is_complete(&self) -> bool {
        self.0.load(SeqCst) as u32 == 0
    }
}

#[cfg(test)]
mod tests;
