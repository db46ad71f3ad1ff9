//! The phases of a round: the main thread calls them, posters look.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Where a round is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Connections are opened.
    Connect,
    /// Requests are sent and not measured.
    WarmUp,
    Measure,
    /// Nothing more is sent, but what was due before.
    Stop,
}

/// What the threads of a round share.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    phase: AtomicU8,
    connected: AtomicUsize,
    start: OnceLock<Instant>,
}

impl Signals {
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Connect,
            1 => Phase::WarmUp,
            2 => Phase::Measure,
            _ => Phase::Stop,
        }
    }

    pub(crate) fn call(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Calls the warm-up, which begins now.
    pub(crate) fn start(&self) -> Instant {
        let start = *self.start.get_or_init(Instant::now);
        self.call(Phase::WarmUp);
        start
    }

    /// A poster has all its connections.
    pub(super) fn enter_connected(&self) {
        self.connected.fetch_add(1, Ordering::Release);
    }

    /// Posters that have all their connections.
    pub(crate) fn connected(&self) -> usize {
        self.connected.load(Ordering::Acquire)
    }

    /// Waits until the warm-up is called. `None` when the round is called off.
    pub(super) fn wait_for_start(&self) -> Option<Instant> {
        loop {
            match self.phase() {
                Phase::Connect => std::thread::sleep(Duration::from_millis(1)),
                Phase::Stop => return None,
                Phase::WarmUp | Phase::Measure => return self.start.get().copied(),
            }
        }
    }
}

/// CPU time of this thread in user and in kernel mode, where the system tells.
pub(super) fn thread_cpu() -> Option<(Duration, Duration)> {
    #[cfg(target_os = "linux")]
    {
        use nix::sys::resource::{UsageWho, getrusage};
        let usage = getrusage(UsageWho::RUSAGE_THREAD).ok()?;
        let time = |time: nix::sys::time::TimeVal| {
            let micros = u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0);
            Duration::from_micros(micros)
        };
        Some((time(usage.user_time()), time(usage.system_time())))
    }
    #[cfg(not(target_os = "linux"))]
    None
}
