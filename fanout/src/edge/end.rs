//! Why a viewer's connection ends.

use std::io;

/// Why a viewer is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It said goodbye, or its connection broke.
    Gone,
    /// What it sent is not as its protocol says.
    Malformed,
    /// It sent more at once than it may, or accepts less than its answer takes.
    TooLarge,
    /// It tried to publish, or sent data. Viewers can't speak.
    Spoke,
    /// It asked for what it doesn't get.
    Refused,
    /// It was not heard in time.
    Silent,
    /// It did not take what was due in time: it reads nothing, or its network is gone.
    Stalled,
    /// It sent more than viewers may.
    Flooding,
    /// Reading its bytes panicked.
    Fault,
    /// The process stops.
    Drained,
}

impl End {
    /// Its name in metrics.
    pub(crate) fn cause(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Spoke => "spoke",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::Stalled => "stalled",
            Self::Flooding => "flooding",
            Self::Fault => "fault",
            Self::Drained => "drained",
        }
    }

    /// Whether somebody may still be there to hear a goodbye, and takes it.
    pub(super) fn leaves_time_for_goodbye(self) -> bool {
        !matches!(self, Self::Gone | Self::Stalled)
    }
}

/// Of a connection that broke. The kernel counts the time too (see `tune`), and mostly is first.
impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut { Self::Stalled } else { Self::Gone }
    }
}
