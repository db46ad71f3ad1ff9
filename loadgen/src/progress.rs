//! What is shown while a run lasts: a bar on a terminal, elsewhere a line now and then.

use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Where the run is now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Status {
    /// Requests that were sent.
    pub(crate) sent: u64,
    /// Reactions that were accepted.
    pub(crate) accepted: u64,
    /// Requests that were sent and not answered with 202.
    pub(crate) refused: u64,
    pub(crate) viewers_connected: usize,
    pub(crate) viewers: usize,
    /// The newest delay of a frame, as long as there is one.
    pub(crate) delay_us: Option<u64>,
}

/// Shows one phase of a run.
pub(crate) struct Progress {
    phase: String,
    started: Instant,
    length: Duration,
    bar: Option<ProgressBar>,
    last_line: Instant,
    /// When the last status was shown, how many were sent until then, and the rate that came of it.
    last_rate: (Instant, u64, f64),
}

impl Progress {
    /// A phase that lasts about `length`, of a run that has sent `sent` requests.
    pub(crate) fn start(phase: impl Into<String>, length: Duration, sent: u64) -> Self {
        let now = Instant::now();
        let phase = phase.into();
        let bar = std::io::stderr().is_terminal().then(|| bar(phase.clone(), length));
        Self { phase, started: now, length, bar, last_line: now, last_rate: (now, sent, 0.0) }
    }

    /// Shows `status`, where it is due.
    pub(crate) fn show(&mut self, status: &Status) {
        let now = Instant::now();
        let (since, sent, _) = self.last_rate;
        // Over a second at least, or the figure flickers.
        if now - since >= Duration::from_secs(1) {
            let rate = (status.sent - sent) as f64 / (now - since).as_secs_f64();
            self.last_rate = (now, status.sent, rate);
        }
        let rate = self.last_rate.2;
        self.tell(|| line(status, rate));
    }

    /// Shows `text`, where it is due.
    pub(crate) fn tell(&mut self, text: impl FnOnce() -> String) {
        let now = Instant::now();
        let elapsed = now - self.started;
        if let Some(bar) = &self.bar {
            bar.set_position(u64::try_from(elapsed.min(self.length).as_millis()).unwrap_or(0));
            bar.set_message(text());
        } else if now - self.last_line >= LINE_INTERVAL {
            self.last_line = now;
            note(&format!(
                "{} {:.0}s of {:.0}s: {}",
                self.phase,
                elapsed.as_secs_f64(),
                self.length.as_secs_f64(),
                text()
            ));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A remark for people, beside the output.
pub(crate) fn note(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

fn bar(phase: String, length: Duration) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
    let style = ProgressStyle::with_template("{prefix} {elapsed:>3} {bar:24} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(phase);
    bar
}

fn line(status: &Status, rate: f64) -> String {
    let delay = status.delay_us.map_or_else(|| "-".to_owned(), |us| format!("{} ms", us / 1_000));
    format!(
        "{rate:.0} POST/s, accepted {}, refused {}, viewers {}/{}, newest delay {delay}",
        status.accepted, status.refused, status.viewers_connected, status.viewers,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_what_matters() {
        let mut status = Status {
            sent: 10,
            accepted: 9,
            refused: 1,
            viewers_connected: 3,
            viewers: 4,
            delay_us: Some(31_900),
        };
        assert_eq!(
            line(&status, 1_999.7),
            "2000 POST/s, accepted 9, refused 1, viewers 3/4, newest delay 31 ms"
        );
        status.delay_us = None;
        assert!(line(&status, 0.0).ends_with("newest delay -"));
    }
}
