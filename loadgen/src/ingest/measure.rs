//! One round on one server.

use super::{
    outcome::Outcome,
    pace::Pace,
    plan::{Case, Load, Plan},
    poster::{
        self, Order,
        signals::{Phase, Signals},
    },
    requests::{Ledger, Turns},
    servers::Server,
};
use crate::{proc::Cpu, sources::Sources};
use anyhow::{Context as _, anyhow};
use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Time between two looks at the posters.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// What a round found out.
#[derive(Debug)]
pub(crate) struct Round {
    /// How long it was measured.
    pub(crate) length: Duration,
    /// CPU time of the server meanwhile.
    pub(crate) cpu: Option<Cpu>,
    /// Before the round with no connections, and when it was measured, with all of them.
    pub(crate) rss_before_kib: Option<u64>,
    pub(crate) rss_after_kib: Option<u64>,
    pub(crate) outcome: Outcome,
}

/// Runs a round, and adds what was accepted to the server's ledger.
pub(crate) async fn round(
    plan: &Plan,
    server: &mut Server,
    case: &Case,
    load: Load,
    sources: &mut Sources,
) -> anyhow::Result<Round> {
    let rss_before_kib = server.rss_kib()?;
    let posters = Posters::start(plan, server, case, load, sources)?;
    posters.until(|posters| posters.signals.connected() == posters.threads.len()).await;
    let start = posters.signals.start();
    posters.until(|_| start.elapsed() >= plan.warm_up).await;
    let (cpu_before, measured_from) = (server.cpu()?, Instant::now());
    posters.signals.call(Phase::Measure);
    // By the schedule of an open loop; a late start of the measurement doesn't move its end.
    posters.until(|_| start.elapsed() >= plan.warm_up + plan.duration).await;
    posters.signals.call(Phase::Stop);
    let (length, cpu_after) = (measured_from.elapsed(), server.cpu()?);
    let rss_after_kib = server.rss_kib()?;
    posters.until(|posters| posters.threads.iter().all(JoinHandle::is_finished)).await;
    let outcome = posters.join(Ledger::new(case.rooms as usize, plan.bodies.all.len()))?;
    server.ledger.add(&outcome.ledger);
    server.odd += outcome.odd;
    let cpu = cpu_after.zip(cpu_before).map(|(after, before)| Cpu {
        user_ms: after.user_ms.saturating_sub(before.user_ms),
        system_ms: after.system_ms.saturating_sub(before.system_ms),
    });
    Ok(Round { length, cpu, rss_before_kib, rss_after_kib, outcome })
}

struct Posters {
    signals: Arc<Signals>,
    threads: Vec<JoinHandle<anyhow::Result<Outcome>>>,
}

impl Posters {
    fn start(
        plan: &Plan,
        server: &Server,
        case: &Case,
        load: Load,
        sources: &mut Sources,
    ) -> anyhow::Result<Self> {
        let signals = Arc::new(Signals::default());
        let connections = case.connections as usize;
        let posters = plan.posters.min(connections);
        let mut threads = Vec::new();
        for index in 0..posters {
            let share = (index, posters);
            let connections = connections / posters + usize::from(index < connections % posters);
            let pace = |rate| Pace::new(rate, (plan.warm_up, plan.duration), plan.late, share);
            let order = Order {
                address: server.address,
                sources: sources.take(connections, server.address.ip()),
                connections,
                pipeline: plan.pipeline,
                requests: Arc::clone(&server.requests),
                turns: Turns::new(&server.requests, case.rooms, &plan.bodies, case.body, share),
                ledger: Ledger::new(case.rooms as usize, plan.bodies.all.len()),
                pace: match load {
                    Load::Closed => None,
                    Load::Open(rate) => Some(pace(rate)),
                },
                timeout: plan.timeout,
                signals: Arc::clone(&signals),
            };
            let thread = std::thread::Builder::new().name(format!("poster-{index}"));
            threads.push(thread.spawn(move || poster::run(order)).context("cannot start a thread")?);
        }
        Ok(Self { signals, threads })
    }

    /// Waits until `done`, or until a poster has ended.
    async fn until(&self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let early =
                self.signals.phase() < Phase::Stop && self.threads.iter().any(JoinHandle::is_finished);
            if early {
                return self.signals.call(Phase::Stop);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn join(mut self, ledger: Ledger) -> anyhow::Result<Outcome> {
        let mut sum = Outcome::new(ledger);
        for thread in self.threads.drain(..) {
            sum.add(&thread.join().map_err(|_| anyhow!("a poster has panicked"))??);
        }
        Ok(sum)
    }
}

impl Drop for Posters {
    fn drop(&mut self) {
        self.signals.call(Phase::Stop);
    }
}
