//! The task that tells the other processes of our viewers, and hears of theirs.

use super::{
    elsewhere::{KEPT, Others, Taken},
    record::random_node,
    report::{Report, Reports},
};
use crate::{
    fanout::Shared,
    metrics::{OCCUPANCY_CONNECTED, OCCUPANCY_LEFT_OUT, OCCUPANCY_RECORDS},
};
use bytes::Bytes;
use eventlog::{EventLog, LossyChannel};
use metrics::{counter, gauge};
use service::{Backoff, CancellationToken};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::{self, MissedTickBehavior, interval, sleep, timeout};

/// How often what is too old is forgotten.
const TICK: Duration = Duration::from_millis(500);
/// A report every 1.5 s, and every 3 s one about all rooms. So one of those may be lost, and the next comes before `KEPT` is over.
const TICKS_PER_REPORT: u32 = 3;
/// Before the channel is opened again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a stop waits for the last report to be on its way.
const LAST_REPORT: Duration = Duration::from_secs(1);

/// Between the registry and the other processes.
pub(crate) struct Sharing {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) shared: Arc<Shared>,
}

/// Why the exchange of reports is over.
enum Ended {
    /// The process stops.
    Stopped,
    /// The configuration has turned occupancy off.
    TurnedOff,
    /// The channel must be opened again.
    Broken(String),
}

impl Sharing {
    /// Runs until `stop`, and then tells the others that this process has no viewers any more. Without a channel only our own viewers
    /// count, and nobody is less ready for that.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut config = self.shared.config.clone();
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let is_on = async { config.wait_for(|config| config.occupancy).await.is_ok() };
            if stop.run_until_cancelled(is_on).await != Some(true) {
                return;
            }
            let why = match stop.run_until_cancelled(self.log.occupancy()).await {
                // The log serves one process: there are no others.
                None | Some(Ok(None)) => return,
                Some(Err(error)) => error.to_string(),
                Some(Ok(Some(channel))) => match Exchange::new(&self.shared, channel).run(&stop).await {
                    Ended::Stopped => return,
                    Ended::TurnedOff => {
                        backoff.reset();
                        continue;
                    }
                    Ended::Broken(why) => {
                        backoff.reset();
                        why
                    }
                },
            };
            gauge!(OCCUPANCY_CONNECTED).set(0.0);
            let pause = backoff.next_pause();
            tracing::warn!(why, pause_ms = pause.as_millis(), "only viewers of this process are counted");
            stop.run_until_cancelled(sleep(pause)).await;
        }
    }
}

/// An open channel, and what went over it.
struct Exchange<'a> {
    shared: &'a Shared,
    channel: Box<dyn LossyChannel>,
    reports: Reports,
    others: Others,
    ticks: u32,
    /// When a record of this process last came back.
    heard_own_at: Option<Instant>,
}

impl<'a> Exchange<'a> {
    fn new(shared: &'a Shared, channel: Box<dyn LossyChannel>) -> Self {
        let node = random_node();
        let others = Others::new(&node, Arc::clone(shared.registry.elsewhere()));
        Self { shared, channel, reports: Reports::new(&node), others, ticks: 0, heard_own_at: None }
    }

    async fn run(mut self, stop: &CancellationToken) -> Ended {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    self.leave().await;
                    return Ended::Stopped;
                }
                _ = ticks.tick() => {
                    if !self.shared.config().occupancy {
                        self.leave().await;
                        gauge!(OCCUPANCY_CONNECTED).set(0.0);
                        return Ended::TurnedOff;
                    }
                    self.tick();
                }
                record = self.channel.receive() => match record {
                    Ok(record) => self.take(&record),
                    Err(error) => return Ended::Broken(error.to_string()),
                }
            }
        }
    }

    fn tick(&mut self) {
        let now = now();
        self.others.expire(now);
        gauge!(OCCUPANCY_CONNECTED).set(f64::from(u8::from(self.is_connected(now))));
        if self.ticks.is_multiple_of(TICKS_PER_REPORT) {
            let Report { records, left_out } = self.reports.next(self.shared.registry.viewers_here());
            self.send(records);
            counter!(OCCUPANCY_LEFT_OUT, "of" => "own").increment(left_out as u64);
        }
        self.ticks = self.ticks.wrapping_add(1);
    }

    fn is_connected(&self, now: Instant) -> bool {
        self.heard_own_at.is_some_and(|at| now.saturating_duration_since(at) < KEPT)
    }

    fn send(&self, records: Vec<Bytes>) {
        for record in records {
            count(if self.channel.send(record) { "sent" } else { "not_sent" });
        }
    }

    fn take(&mut self, record: &[u8]) {
        let now = now();
        match self.others.take(record, now) {
            Taken::Own => self.heard_own_at = Some(now),
            Taken::Counted { left_out } => {
                count("received");
                counter!(OCCUPANCY_LEFT_OUT, "of" => "others").increment(left_out as u64);
            }
            Taken::Malformed => count("malformed"),
            Taken::TooManyNodes => count("too_many_nodes"),
        }
    }

    /// Tells the others that nobody is here any more. The process may end after this, so it waits until the last record has come
    /// back.
    async fn leave(&mut self) {
        let records = self.reports.last();
        let Some(last) = records.last().cloned() else { return };
        self.send(records);
        if self.is_connected(now()) {
            let back = async { while self.channel.receive().await.is_ok_and(|record| record != last) {} };
            let _ = timeout(LAST_REPORT, back).await;
        }
    }
}

/// By the runtime's clock, which tests can move.
fn now() -> Instant {
    time::Instant::now().into_std()
}

fn count(outcome: &'static str) {
    counter!(OCCUPANCY_RECORDS, "outcome" => outcome).increment(1);
}
