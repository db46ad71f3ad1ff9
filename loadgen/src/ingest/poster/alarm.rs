//! Waking up in time: a poll's own timeout knows milliseconds only, and requests may be due every few microseconds.

use mio::{Registry, Token};
use std::{
    io,
    time::{Duration, Instant},
};

/// A timer among the events of a poll.
pub(super) struct Alarm {
    #[cfg(target_os = "linux")]
    timer: nix::sys::timerfd::TimerFd,
    #[cfg(target_os = "linux")]
    set: Option<Instant>,
}

#[cfg(target_os = "linux")]
impl Alarm {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
        use std::os::fd::{AsFd as _, AsRawFd as _};
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        let fd = timer.as_fd().as_raw_fd();
        registry.register(&mut mio::unix::SourceFd(&fd), token, mio::Interest::READABLE)?;
        Ok(Self { timer, set: None })
    }

    /// How long to poll so that it ends at `until`, and not after `longest`.
    pub(super) fn wait(&mut self, until: Instant, now: Instant, longest: Duration) -> io::Result<Duration> {
        use nix::sys::{
            time::TimeSpec,
            timerfd::{Expiration, TimerSetTimeFlags},
        };
        let wait = until.saturating_duration_since(now);
        if wait.is_zero() || wait > longest {
            return Ok(wait.min(longest));
        }
        if self.set != Some(until) {
            let expiration = Expiration::OneShot(TimeSpec::from_duration(wait));
            self.timer.set(expiration, TimerSetTimeFlags::empty())?;
            self.set = Some(until);
        }
        Ok(longest)
    }
}

#[cfg(not(target_os = "linux"))]
impl Alarm {
    pub(super) fn new(_: &Registry, _: Token) -> io::Result<Self> {
        Ok(Self {})
    }

    /// How long to poll so that it ends at `until`, and not after `longest`.
    pub(super) fn wait(&mut self, until: Instant, now: Instant, longest: Duration) -> io::Result<Duration> {
        Ok(until.saturating_duration_since(now).min(longest))
    }
}
