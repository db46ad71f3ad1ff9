//! Handing open batches to the log. The committer does it when their time has come, and the thread of a request that finds
//! that everyone waits does it itself: to wake the committer for that costs more than to do it.

use crate::{batches::Sealed, bell::Group, ending::Ending, shared::Shared};
use eventlog::{Append, Writer};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Where batches go.
#[derive(Default)]
pub(crate) struct Handover {
    state: Mutex<State>,
    /// `early_wanted` was set.
    early: Notify,
}

#[derive(Default)]
struct State {
    /// While the log is open.
    writer: Option<Arc<dyn Writer>>,
    passed_at: Option<Instant>,
    /// The shortest pause between two handovers.
    min_pause: Duration,
    /// Everyone waited, but the log wanted a longer pause.
    early_wanted: bool,
}

impl Handover {
    /// The log is open.
    pub(crate) fn open(&self, writer: Arc<dyn Writer>) {
        let mut state = self.lock();
        state.min_pause = writer.min_pause();
        state.writer = Some(writer);
    }

    /// Nothing is handed over any more.
    pub(crate) fn close(&self) {
        self.lock().writer = None;
    }

    /// When batches were handed over last. The next ones are a commit interval later, or at once if that has passed.
    pub(crate) fn passed_at(&self) -> Option<Instant> {
        self.lock().passed_at
    }

    /// From when on the next batches may be handed over early.
    fn early_from(&self) -> Option<Instant> {
        let state = self.lock();
        state.passed_at.map(|at| at + state.min_pause)
    }

    /// Waits until somebody wanted to hand over early, and may now. Safe to cancel.
    pub(crate) async fn until_early(&self) {
        while !self.lock().early_wanted {
            self.early.notified().await;
        }
        if let Some(from) = self.early_from() {
            sleep_until(from).await;
        }
        self.lock().early_wanted = false;
    }

    /// Somebody wants to hand over early, but may not yet.
    fn want_early(&self) {
        self.lock().early_wanted = true;
        self.early.notify_one();
    }

    /// The writer, for what is handed over now.
    fn pass(&self, now: Instant) -> Option<Arc<dyn Writer>> {
        let mut state = self.lock();
        state.passed_at = Some(now);
        state.early_wanted = false;
        state.writer.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Hands the open batches over before their time, because everyone waits. The committer does it later if the log wants a
    /// longer pause.
    pub(crate) fn hand_over_early(self: &Arc<Self>, now: Instant) {
        match self.handover.early_from() {
            Some(from) if now < from => self.handover.want_early(),
            _ => self.hand_over(),
        }
    }

    /// Appends the batches of every partition that may be.
    pub(crate) fn hand_over(self: &Arc<Self>) {
        let now = Instant::now();
        let Some(writer) = self.handover.pass(now) else { return };
        let live = self.live();
        let records = self.batches.seal(&live.config, now.into_std());
        let group = Group::of(records.len());
        let append = |sealed: Sealed| Append {
            partition: sealed.partition,
            value: sealed.value.clone(),
            done: Ending::of(sealed, &group, self),
        };
        writer.send(records.into_iter().map(append).collect());
    }
}
