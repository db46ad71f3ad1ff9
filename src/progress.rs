//! How far a long reading is, for people who wait at a terminal.

use std::{
    cell::Cell,
    io::{IsTerminal, Write, stderr},
    time::{Duration, Instant},
};

/// Records between two looks at the clock.
const STEPS: u64 = 4_096;
const EVERY: Duration = Duration::from_millis(200);

/// A line on standard error, where that is a terminal.
pub(crate) struct Progress {
    what: &'static str,
    /// `None`: nobody knows how many there are.
    total: Option<u64>,
    read: Cell<u64>,
    told: Cell<Instant>,
    is_shown: bool,
}

impl Progress {
    /// Counts `what`: `total` of them will be read, or fewer.
    pub(crate) fn start(what: &'static str, total: Option<u64>) -> Self {
        let (read, told) = (Cell::new(0), Cell::new(Instant::now()));
        Self { what, total, read, told, is_shown: stderr().is_terminal() }
    }

    /// The same, without a line if `is_hidden`.
    pub(crate) fn hidden_if(self, is_hidden: bool) -> Self {
        Self { is_shown: self.is_shown && !is_hidden, ..self }
    }

    /// The same for what is read once more, and does not count.
    pub(crate) fn again(&self) -> Self {
        Self::start(self.what, self.total).hidden_if(true)
    }

    /// One more record.
    pub(crate) fn step(&self) {
        let read = self.read.get() + 1;
        self.read.set(read);
        if self.is_shown && read.is_multiple_of(STEPS) && self.told.get().elapsed() >= EVERY {
            self.told.set(Instant::now());
            // Nobody has to see it.
            let _ = write!(stderr(), "\r{}\u{1b}[K", self.text(read));
        }
    }

    fn text(&self, read: u64) -> String {
        let what = self.what;
        match self.total {
            Some(total) => {
                let percent = (read * 100).checked_div(total).unwrap_or(100).min(100);
                format!("{read} of {total} {what}, {percent} %")
            }
            None => format!("{read} {what} read"),
        }
    }

    /// Takes the line away.
    pub(crate) fn end(&self) {
        if self.is_shown {
            let _ = write!(stderr(), "\r\u{1b}[K");
        }
    }
}
