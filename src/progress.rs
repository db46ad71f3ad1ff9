//! How far a long reading is, for who waits at a terminal.

use std::{
    cell::Cell,
    io::{IsTerminal, Write, stderr},
    time::{Duration, Instant},
};

/// Records between two looks at the clock.
const STEPS: u64 = 4_096;
const EVERY: Duration = Duration::from_millis(200);

/// A line on standard error, where that is a terminal.
pub(super) struct Progress {
    total: u64,
    read: Cell<u64>,
    told: Cell<Instant>,
    terminal: bool,
}

impl Progress {
    /// `total` records will be read, or fewer.
    pub(super) fn start(total: u64) -> Self {
        Self { total, read: Cell::new(0), told: Cell::new(Instant::now()), terminal: stderr().is_terminal() }
    }

    /// The same for what is read once more, and does not count.
    pub(super) fn again(&self) -> Self {
        Self { terminal: false, ..Self::start(self.total) }
    }

    /// One more record.
    pub(super) fn step(&self) {
        let read = self.read.get() + 1;
        self.read.set(read);
        if self.terminal && read.is_multiple_of(STEPS) && self.told.get().elapsed() >= EVERY {
            self.told.set(Instant::now());
            let percent = (read * 100).checked_div(self.total).unwrap_or(100).min(100);
            // Nobody has to see it.
            let _ = write!(stderr(), "\r{read} of {} records, {percent} %\u{1b}[K", self.total);
        }
    }

    /// Takes the line away.
    pub(super) fn end(&self) {
        if self.terminal {
            let _ = write!(stderr(), "\r\u{1b}[K");
        }
    }
}
