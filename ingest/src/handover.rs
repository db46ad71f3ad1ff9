//! Handing open batches to the log. The committer does it when their time has come, and the thread of a request that finds
//! that everyone waits does it itself: to wake the committer for that costs more than to do it.

use crate::{batches::Sealed, bell::Group, ending::Ending, shared::Shared};
use eventlog::{Append, Writer};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// Where batches go.
#[derive(Default)]
pub(crate) struct Handover(Mutex<State>);

#[derive(Default)]
struct State {
    /// While the log is open.
    writer: Option<Arc<dyn Writer>>,
    passed_at: Option<Instant>,
}

impl Handover {
    /// The log is open.
    pub(crate) fn open(&self, writer: Arc<dyn Writer>) {
        self.lock().writer = Some(writer);
    }

    /// Nothing is handed over any more.
    pub(crate) fn close(&self) {
        self.lock().writer = None;
    }

    /// When batches were handed over last. The next ones are a commit interval later, or at once if that has passed.
    pub(crate) fn passed_at(&self) -> Option<Instant> {
        self.lock().passed_at
    }

    /// The writer, for what is handed over now.
    fn pass(&self, now: Instant) -> Option<Arc<dyn Writer>> {
        let mut state = self.lock();
        state.passed_at = Some(now);
        state.writer.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
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
