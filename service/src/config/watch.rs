//! Notices that the configuration should be read again: SIGHUP, or the file's text changed.

use std::{io, path::PathBuf, time::Duration};
use tokio::signal::unix::Signal;

/// Why the configuration should be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// SIGHUP.
    Hangup,
    /// The file has another text. Looked at once a second: that also sees files that are swapped by links, as
    /// orchestrators do, which file events miss.
    File,
}

/// Watches for reasons to read the configuration again.
#[derive(Debug)]
pub struct FileWatch {
    hangup: Signal,
    file: Option<PathBuf>,
    text: Option<String>,
    period: tokio::time::Interval,
}

impl FileWatch {
    /// Watches SIGHUP and, if there is one, `file`.
    pub fn new(file: Option<PathBuf>) -> io::Result<Self> {
        let text = file.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        let period = tokio::time::interval(Duration::from_secs(1));
        Ok(Self { hangup: crate::signal::hangup()?, file, text, period })
    }

    /// Waits for the next change.
    pub async fn changed(&mut self) -> Change {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => return Change::Hangup,
                _ = self.period.tick(), if self.file.is_some() => {
                    // A file that can't be read right now may be half-way through a replacement.
                    let text = self.file.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
                    if text.is_some() && text != self.text {
                        self.text = text;
                        return Change::File;
                    }
                }
            }
        }
    }
}
