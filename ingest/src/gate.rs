//! Who may come in: nobody before the log is open and nobody once the shutdown began, and never too many at a time.

use crate::refusal::Refusal;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};

const STARTING: u8 = 0;
const OPEN: u8 = 1;
const CLOSED: u8 = 2;

/// The gate, and how many are inside.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: AtomicU8,
    inside: AtomicUsize,
}

/// One who is inside; leaves when dropped.
#[derive(Debug)]
pub(crate) struct Ticket<'a>(&'a Gate);

impl Gate {
    pub(crate) fn open(&self) {
        self.state.store(OPEN, SeqCst);
    }

    /// Lets nobody in from here on. Once [`Gate::inside`] has then been zero, nobody is or comes inside.
    pub(crate) fn close(&self) {
        self.state.store(CLOSED, SeqCst);
    }

    pub(crate) fn inside(&self) -> usize {
        self.inside.load(SeqCst)
    }

    /// Lets one in.
    pub(crate) fn enter(&self, max: usize) -> Result<Ticket<'_>, Refusal> {
        // Counted before the look at the state: whoever sees the gate open is seen by whoever closed it.
        let before = self.inside.fetch_add(1, SeqCst);
        let ticket = Ticket(self);
        match self.state.load(SeqCst) {
            STARTING => Err(Refusal::Starting),
            OPEN if before < max => Ok(ticket),
            OPEN => Err(Refusal::TooManyWaiting(max)),
            _ => Err(Refusal::Draining),
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lets_in_while_open_and_up_to_its_limit() {
        let gate = Gate::default();
        assert_eq!(gate.enter(9).unwrap_err(), Refusal::Starting);
        gate.open();
        let first = gate.enter(2).unwrap();
        let _second = gate.enter(2).unwrap();
        assert_eq!(gate.enter(2).unwrap_err(), Refusal::TooManyWaiting(2));
        assert_eq!(gate.inside(), 2);
        drop(first);
        drop(gate.enter(2).unwrap());
        gate.close();
        assert_eq!(gate.enter(9).unwrap_err(), Refusal::Draining);
        assert_eq!(gate.inside(), 1);
    }
}
