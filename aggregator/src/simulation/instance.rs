//! One process of the tier, polled by hand: so a run decides who moves, and who dies between two moves.

use crate::{Aggregator, Config, Deps, Error, pending::Limits};
use eventlog::EventLog;
use service::{CancellationToken, Clock, ManualClock, Readiness};
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};
use tokio::{sync::watch, task};

pub(super) struct Instance {
    running: Pin<Box<dyn Future<Output = Result<(), Error>>>>,
    woken: Arc<Woken>,
    shutdown: CancellationToken,
    pub(super) readiness: Readiness,
    pub(super) clock: ManualClock,
    /// What its clock is wrong by.
    pub(super) clock_off_ms: i64,
    /// Stands still, as after SIGSTOP.
    pub(super) frozen: bool,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Instance {
    pub(super) fn start(
        log: Arc<dyn EventLog>,
        config: watch::Receiver<Arc<Config>>,
        limits: Limits,
        now_ms: u64,
    ) -> Self {
        let (clock, readiness, shutdown) =
            (ManualClock::at(now_ms), Readiness::default(), CancellationToken::new());
        let clock_of_deps: Arc<dyn Clock> = Arc::new(clock.clone());
        let deps = Deps { log, readiness: readiness.clone(), clock: clock_of_deps };
        let running = Aggregator::new(config, deps).with_limits(limits).run(shutdown.clone());
        Self {
            // The runtime's task is the whole world: its budget says nothing about one instance.
            running: Box::pin(task::unconstrained(running)),
            woken: Arc::new(Woken(AtomicBool::new(true))),
            shutdown,
            readiness,
            clock,
            clock_off_ms: 0,
            frozen: false,
        }
    }

    pub(super) fn can_move(&self) -> bool {
        !self.frozen && self.woken.0.load(Ordering::Relaxed)
    }

    pub(super) fn poll(&mut self) -> Poll<Result<(), Error>> {
        self.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.woken));
        self.running.as_mut().poll(&mut Context::from_waker(&waker))
    }

    pub(super) fn stop(&self) {
        self.shutdown.cancel();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.shutdown.is_cancelled()
    }
}
