//! One server, measured from its start to its end.

use super::{
    clients::Clients,
    figures::{self, Seen},
    plan::{Candidates, Kind, Plan},
    publish,
    report::Row,
    servers::Server,
};
use crate::{clock::now_us, proc, progress::Progress, random, sources::Sources};
use anyhow::{Context as _, ensure};
use std::time::Duration;
use tokio::time::Instant;

/// How long to wait for a first frame that others cause.
const FIRST_FRAME_WITHIN: Duration = Duration::from_secs(120);

/// Starts `kind`, measures it, and ends it.
pub(crate) async fn start_and_measure(plan: &Plan, kind: Kind, sources: &mut Sources) -> anyhow::Result<Row> {
    // A new name for each: no snapshot of an earlier run greets the viewers.
    let room = format!("edge-{}", random::token());
    let server = Server::start(plan, kind, &room).await?;
    measure(plan, server, &room, sources).await
}

/// Measures `server`, and ends it if it was started here.
pub(crate) async fn measure(
    plan: &Plan,
    server: Server,
    room: &str,
    sources: &mut Sources,
) -> anyhow::Result<Row> {
    let mut run = Run { plan, server, room, clients: Clients::new(), row: Row::default() };
    let measured = run.measure(sources).await;
    // First the clients, so that their resets leave no connection behind.
    run.clients.end().await;
    run.server.end().await;
    measured.map(|()| run.row)
}

struct Run<'a> {
    plan: &'a Plan,
    server: Server,
    room: &'a str,
    clients: Clients,
    row: Row,
}

/// What is known before the measured frames.
struct Start {
    at: Instant,
    /// The newest frame of each server process.
    bases: Vec<u64>,
    cpu_ms: Option<u64>,
}

impl Run<'_> {
    async fn measure(&mut self, sources: &mut Sources) -> anyhow::Result<()> {
        self.row.server = self.server.name.clone();
        self.row.processes = self.server.processes.len();
        self.connect(sources).await?;
        let at = self.warm_up().await?;
        self.row.rss_start_kib = self.server.sum(proc::rss_kib)?;
        self.row.tcp_start_kib = proc::tcp_kib();
        let (start, published_us) = self.broadcast(at).await?;
        let cpu_ms = self.server.sum(proc::cpu_ms)?;
        self.row.rss_end_kib = self.server.sum(proc::rss_kib)?;
        self.row.tcp_end_kib = proc::tcp_kib();
        self.row.cpu_ms = cpu_ms.zip(start.cpu_ms).map(|(end, start)| end - start);
        self.add_up(&start, &published_us);
        Ok(())
    }

    /// Lets the viewers in, then those who never read.
    async fn connect(&mut self, sources: &mut Sources) -> anyhow::Result<()> {
        self.row.rss_before_kib = self.server.sum(proc::rss_kib)?;
        self.clients.start(self.plan, &self.server, sources, self.plan.viewers, false).await?;
        self.until_settled("connecting").await?;
        self.row.rss_idle_kib = self.server.sum(proc::rss_kib)?;
        self.row.connects_per_s = self.clients.connects_per_s();
        self.row.viewers_asked = self.plan.viewers;
        self.row.viewers = self.clients.sum(false, |standing| standing.connected);
        let why = || self.clients.trouble().unwrap_or_default();
        ensure!(self.row.viewers > 0, "no viewer gets in: {}", why());
        if self.plan.silent > 0 {
            self.clients.start(self.plan, &self.server, sources, self.plan.silent, true).await?;
            self.until_settled("connecting the silent").await?;
            self.row.silent_asked = self.plan.silent;
            self.row.silent = self.clients.sum(true, |standing| standing.connected);
        }
        Ok(())
    }

    async fn until_settled(&mut self, phase: &str) -> anyhow::Result<()> {
        // Clients give up by themselves; the time on top is for their last line.
        let patience = self.plan.connect_timeout + Duration::from_secs(5);
        let mut progress = self.progress(phase, self.plan.connect_timeout);
        self.clients.until(Instant::now() + patience, &mut progress, Clients::all_settled).await?;
        Ok(())
    }

    fn progress(&self, phase: &str, length: Duration) -> Progress {
        Progress::start(format!("{}: {phase}", self.server.name), length, 0)
    }

    fn fed_by_others(&self) -> bool {
        matches!(self.plan.candidates, Candidates::Running(_))
    }

    /// One frame that is not measured. Returns when the first one that is should be caused.
    async fn warm_up(&mut self) -> anyhow::Result<Instant> {
        let processes = self.server.processes.len();
        let first =
            if self.fed_by_others() { FIRST_FRAME_WITHIN } else { self.plan.interval + self.plan.settle };
        let mut progress = self.progress("warming up", first);
        self.publish(1).await?;
        let everywhere = |clients: &Clients| (0..processes).all(|server| clients.newest(server).is_some());
        let came = self.clients.until(Instant::now() + first, &mut progress, everywhere).await?;
        ensure!(came, "no frame arrives within {first:?}");
        let complete = |clients: &Clients| {
            (0..processes)
                .all(|server| clients.newest(server).is_some_and(|seq| clients.all_have(server, seq)))
        };
        self.clients.until(Instant::now() + self.plan.settle, &mut progress, complete).await?;
        Ok(self.first_slot())
    }

    /// Where frames are made of windows, these lie on a grid: well within the one that is open, so that each window gets
    /// one reaction. Otherwise soon.
    fn first_slot(&self) -> Instant {
        let window_end_ms = (0..self.server.processes.len())
            .filter_map(|server| self.clients.receipt(server, self.clients.newest(server)?)?.end_ms)
            .max();
        let interval_us = u64::try_from(self.plan.interval.as_micros()).unwrap_or(u64::MAX);
        let now = now_us();
        // 0.4 of a window: the frame of the window before has arrived by then, and this one has not ended.
        let phase = window_end_ms.unwrap_or(0).saturating_mul(1_000) + interval_us * 2 / 5;
        let late = now.saturating_sub(phase) % interval_us;
        let wait = if phase > now { phase - now } else { interval_us - late };
        Instant::now() + Duration::from_micros(wait.min(2 * interval_us))
    }

    async fn publish(&mut self, seq: u64) -> anyhow::Result<()> {
        let interval_ms = u64::try_from(self.plan.interval.as_millis()).unwrap_or(u64::MAX);
        let payload = publish::frame(self.room, seq, now_us() / 1_000, interval_ms, self.plan.frame_bytes);
        for process in &mut self.server.processes {
            process.publisher.publish(&payload).await?;
        }
        Ok(())
    }

    /// Causes the frames, and waits until everybody has the last one. With the times of publication, where they are
    /// known.
    async fn broadcast(&mut self, at: Instant) -> anyhow::Result<(Start, Vec<u64>)> {
        let processes = self.server.processes.len();
        let frames = u32::try_from(self.plan.frames).unwrap_or(u32::MAX);
        let mut progress = self.progress("broadcasting", self.plan.interval * frames);
        self.clients.until(at, &mut progress, |_| false).await?;
        let bases = (0..processes).map(|server| self.clients.newest(server).unwrap_or(0)).collect();
        let start = Start { at, bases, cpu_ms: self.server.sum(proc::cpu_ms)? };
        let mut published_us = Vec::new();
        if !self.fed_by_others() {
            for nth in 0..frames {
                self.clients.until(start.at + self.plan.interval * nth, &mut progress, |_| false).await?;
                let own_clock = self.server.processes.iter().all(|process| process.publisher.is_mqtt());
                published_us.extend(own_clock.then(now_us));
                // After the one of the warm-up.
                self.publish(2 + u64::from(nth)).await.with_context(|| format!("frame {nth}"))?;
            }
        }
        let all_have_all = |clients: &Clients| {
            let mut last = start.bases.iter().map(|base| base + self.plan.frames).enumerate();
            last.all(|(server, seq)| clients.all_have(server, seq))
        };
        let deadline = start.at + self.plan.interval * (frames + 1) + self.plan.settle;
        self.clients
            .until(deadline.max(Instant::now() + self.plan.settle), &mut progress, all_have_all)
            .await?;
        Ok((start, published_us))
    }

    /// Measured frames that there were. Others may cause fewer than are asked for: after the newest that somebody got
    /// nobody knows of any.
    fn frames(&self, start: &Start) -> u64 {
        let asked = self.plan.frames;
        if !self.fed_by_others() {
            return asked;
        }
        let came = start
            .bases
            .iter()
            .enumerate()
            .filter_map(|(server, base)| Some(self.clients.newest(server)? - base));
        came.max().unwrap_or(0).min(asked)
    }

    fn add_up(&mut self, start: &Start, published_us: &[u64]) {
        let clients = &self.clients;
        let seen: Vec<_> = (0..self.server.processes.len())
            .map(|server| {
                let base = start.bases[server];
                let measured = base + 1..=base + self.plan.frames;
                let receipts = measured.filter_map(|seq| Some((seq, clients.receipt(server, seq)?)));
                Seen { viewers: clients.connected(server), base, receipts: receipts.collect() }
            })
            .collect();
        self.row.frames_asked = self.plan.frames;
        self.row.frames = self.frames(start);
        self.row.figures = figures::gather(&seen, self.row.frames, published_us);
        self.row.lost = clients.sum(false, |standing| standing.lost);
        self.row.moved = clients.sum(false, |standing| standing.moved);
        self.row.widest_gap = clients.widest_gap();
        self.row.retries =
            clients.sum(false, |standing| usize::try_from(standing.retries).unwrap_or(usize::MAX));
        self.row.odd = clients.sum(false, |standing| usize::try_from(standing.odd).unwrap_or(usize::MAX));
        self.row.frame_bytes =
            (0..seen.len()).flat_map(|server| clients.of(server)).map(|s| s.frame_bytes).max();
        self.row.trouble = clients.trouble();
    }
}
