//! One membership in the group: from opening the feed until it is lost or the process stops.

use crate::{
    config::Config,
    core::{Closed, Kind, Now, Rollup, Tally},
    metrics as names,
    pending::{Limits, Pending, Window},
};
use eventlog::{CommitError, Committer, FeedError, FeedEvent, FeedEvents, Record};
use metrics::{counter, gauge, histogram};
use service::{CancellationToken, Clock, Condition};
use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use wire::BatchRef;

/// How long after a failed commit the next one is tried.
const RETRY: Duration = Duration::from_millis(200);
/// How long commits may fail before the process is unready: a rebalance refuses one or two of each member.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest time between two looks at the clock.
const IDLE_TICK_MS: u64 = 1_000;

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The process stops.
    Shutdown,
    /// The feed must be opened again; the log says what was committed.
    Reopen(String),
}

type Commit = Pin<Box<dyn Future<Output = (Result<(), CommitError>, Vec<Window>)> + Send>>;

/// Where the writing half stands. docs/commit-protocol.md draws it.
enum Phase {
    /// Windows that are closed are committed at once.
    Idle,
    /// A commit is under way; windows that close meanwhile share the next one.
    Committing(Commit),
    /// The last commit failed, and wrote nothing: the next one waits until then.
    Pausing(Instant),
}

struct Partition {
    rollup: Rollup,
    loaded_at: Instant,
    epoch: u64,
    caught_up: bool,
}

impl Partition {
    fn now(&self, wall_ms: u64) -> Now {
        Now { wall_ms, age_ms: u64::try_from(self.loaded_at.elapsed().as_millis()).unwrap_or(u64::MAX) }
    }
}

pub(crate) struct Session {
    partitions: BTreeMap<u32, Partition>,
    pending: Pending,
    committer: Arc<dyn Committer>,
    config: watch::Receiver<Arc<Config>>,
    clock: Arc<dyn Clock>,
    /// The last commit was refused, and no event has said yet which partition is gone.
    refused: bool,
    /// Holds from the time on when the group has taken us, unless `failing` for too long.
    condition: Condition,
    /// Since when commits fail, while their windows wait.
    failing: Option<Instant>,
    /// Whether the log keeps `windows`, the history.
    keeps_windows: bool,
}

impl Session {
    pub(crate) fn new(
        committer: Arc<dyn Committer>,
        config: watch::Receiver<Arc<Config>>,
        clock: Arc<dyn Clock>,
        limits: Limits,
        condition: Condition,
    ) -> Self {
        let (partitions, pending) = (BTreeMap::new(), Pending::new(limits));
        Self {
            partitions,
            pending,
            committer,
            config,
            clock,
            refused: false,
            condition,
            failing: None,
            keeps_windows: false,
        }
    }

    /// The same; `keeps_windows` says whether the log keeps `windows`.
    pub(crate) fn with_windows(self, keeps_windows: bool) -> Self {
        Self { keeps_windows, ..self }
    }

    /// Reads, rolls up and commits until the end. Leaves it to the caller to close the feed.
    pub(crate) async fn run(mut self, events: &mut dyn FeedEvents, shutdown: &CancellationToken) -> Ended {
        let ended = self.work(events, shutdown).await;
        gauge!(names::ROOMS).set(0.0);
        gauge!(names::PENDING).set(0.0);
        ended
    }

    async fn work(&mut self, events: &mut dyn FeedEvents, shutdown: &CancellationToken) -> Ended {
        let mut phase = Phase::Idle;
        loop {
            let stopping = shutdown.is_cancelled();
            if self.pending.len() > 0 && !stopping && phase.may_commit() {
                phase = Phase::Committing(self.start_commit());
            }
            self.measure();
            let due = self.until_due(&phase);
            // In a fixed order, so that a run can be repeated. Events come last because they may come without end; the
            // others pause by themselves.
            let step = tokio::select! {
                biased;
                () = shutdown.cancelled(), if !matches!(phase, Phase::Committing(_)) => return Ended::Shutdown,
                (result, windows) = phase.committed() => match self.committed(result, windows) {
                    Ok(next) => {
                        phase = next;
                        Ok(())
                    }
                    Err(why) => Err(why),
                },
                () = time::sleep(due) => {
                    self.tick();
                    Ok(())
                }
                Ok(()) = self.config.changed() => {
                    self.configure();
                    Ok(())
                }
                event = events.next(), if self.is_reading() && !stopping => self.event(event),
            };
            if let Err(why) = step {
                return Ended::Reopen(why);
            }
        }
    }

    /// Reading pauses while too much waits for its commit; but not while that is refused until an event has come.
    fn is_reading(&self) -> bool {
        !self.pending.is_full() || self.refused
    }

    fn event(&mut self, event: Result<FeedEvent, FeedError>) -> Result<(), String> {
        match event.map_err(|error| error.to_string())? {
            FeedEvent::Assigned { partition, partitions, epoch, next_offset, newest } => {
                tracing::debug!(partition, next_offset, rooms = newest.len(), "partition assigned");
                self.pending.drop_partition(partition);
                let config = **self.config.borrow();
                let rollup = Rollup::new(partition, partitions, next_offset, newest, config)
                    .with_windows(self.keeps_windows);
                self.partitions.insert(
                    partition,
                    Partition { rollup, loaded_at: Instant::now(), epoch, caught_up: false },
                );
            }
            FeedEvent::Joined => self.condition.hold(),
            FeedEvent::Revoked { partition } => {
                tracing::debug!(partition, "partition revoked");
                self.partitions.remove(&partition);
                self.pending.drop_partition(partition);
                self.refused = false;
                if self.pending.len() == 0 {
                    self.goes_on();
                }
            }
            FeedEvent::Records { partition, records } => {
                self.records(partition, &records);
                // Records may come without end; the windows of the other partitions are due all the same.
                self.tick();
            }
            FeedEvent::CaughtUp { partition, next_offset } => {
                if let Some(owned) = self.partitions.get_mut(&partition) {
                    owned.caught_up = owned.rollup.position() >= next_offset;
                }
                self.tick();
            }
        }
        Ok(())
    }

    fn records(&mut self, partition: u32, records: &[Record]) {
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        owned.caught_up = false;
        let now = owned.now(self.clock.now_ms());
        let mut tally = Tally::default();
        for record in records {
            let closed = take(&mut owned.rollup, partition, record, now, &mut tally);
            if let Some(closed) = closed {
                self.pending.push(partition, owned.epoch, closed);
            }
        }
        report(&tally);
    }

    /// Closes what is due by the clock.
    fn tick(&mut self) {
        let now_ms = self.clock.now_ms();
        for (partition, owned) in &mut self.partitions {
            let now = owned.now(now_ms);
            while let Some(closed) = owned.rollup.tick(now, owned.caught_up) {
                report_forgotten(*partition, &closed);
                self.pending.push(*partition, owned.epoch, closed);
            }
        }
    }

    fn measure(&self) {
        let rooms: usize = self.partitions.values().map(|owned| owned.rollup.room_count()).sum();
        let distinct: usize = self.partitions.values().map(|owned| owned.rollup.distinct_count()).sum();
        gauge!(names::ROOMS).set(rooms as f64);
        gauge!(names::DISTINCT).set(distinct as f64);
        gauge!(names::PENDING).set(self.pending.len() as f64);
    }

    fn until_due(&self, phase: &Phase) -> Duration {
        if self.pending.len() > 0 && matches!(phase, Phase::Pausing(until) if *until > Instant::now()) {
            return RETRY;
        }
        let now_ms = self.clock.now_ms();
        let caught_up = self.partitions.values().filter(|owned| owned.caught_up);
        let due_ms = caught_up.map(|owned| owned.rollup.due_ms(now_ms)).min().unwrap_or(u64::MAX);
        Duration::from_millis(due_ms.saturating_sub(now_ms).clamp(1, IDLE_TICK_MS))
    }

    fn start_commit(&mut self) -> Commit {
        let windows = self.pending.take();
        let committer = Arc::clone(&self.committer);
        Box::pin(async move {
            let cuts = windows.iter().map(|window| window.cut.clone()).collect();
            (committer.commit(cuts).await, windows)
        })
    }

    /// What follows from a commit's end.
    fn committed(&mut self, result: Result<(), CommitError>, windows: Vec<Window>) -> Result<Phase, String> {
        match result {
            Ok(()) => {
                self.refused = false;
                self.goes_on();
                self.report(&windows);
                Ok(Phase::Idle)
            }
            Err(CommitError::Reopen(why)) => Err(why),
            Err(error @ (CommitError::Retry(_) | CommitError::Revoked(_))) => {
                tracing::warn!(%error, windows = windows.len(), "commit failed, trying again");
                self.refused = matches!(error, CommitError::Revoked(_));
                let ours = |window: &Window| {
                    let owned = self.partitions.get(&window.cut.partition);
                    owned.is_some_and(|owned| owned.epoch == window.cut.epoch)
                };
                self.pending.put_back(windows.into_iter().filter(ours).collect());
                if matches!(error, CommitError::Retry(_)) && self.pending.len() > 0 {
                    self.fails(&error);
                }
                Ok(Phase::Pausing(Instant::now() + RETRY))
            }
        }
    }

    /// Windows wait, as their commit failed.
    fn fails(&mut self, error: &CommitError) {
        let since = *self.failing.get_or_insert_with(Instant::now);
        if since.elapsed() >= PATIENCE {
            self.condition.fail(format!("windows can't be committed: {error}"));
        }
    }

    /// No window waits for a commit that failed.
    fn goes_on(&mut self) {
        if self.failing.take().is_some() {
            self.condition.hold();
        }
    }

    fn report(&self, windows: &[Window]) {
        let now_ms = self.clock.now_ms();
        for window in windows {
            let Kind::Window { end_ms } = window.kind else { continue };
            counter!(names::WINDOWS).increment(1);
            histogram!(names::DELAY_SECONDS).record(now_ms.saturating_sub(end_ms) as f64 / 1_000.0);
        }
    }

    /// The open windows keep their end, the next ones have the new configuration.
    fn configure(&mut self) {
        let config = **self.config.borrow_and_update();
        for owned in self.partitions.values_mut() {
            owned.rollup.configure(config);
        }
    }
}

impl Phase {
    fn may_commit(&self) -> bool {
        match self {
            Self::Idle => true,
            Self::Committing(_) => false,
            Self::Pausing(until) => *until <= Instant::now(),
        }
    }

    /// The end of the commit that is under way; waits for ever where there is none.
    async fn committed(&mut self) -> (Result<(), CommitError>, Vec<Window>) {
        match self {
            Self::Committing(commit) => commit.await,
            Self::Idle | Self::Pausing(_) => std::future::pending().await,
        }
    }
}

/// Has a record of a partition counted. Says what became of its batches where that is no matter of course.
fn take(rollup: &mut Rollup, partition: u32, record: &Record, now: Now, tally: &mut Tally) -> Option<Closed> {
    let (offset, overflows, partitions) = (record.offset, tally.overflows, rollup.partitions());
    let (mut aliens, mut why) = (0, None);
    let batches = BatchRef::decode_all(&record.value).filter_map(|batch| {
        let batch = batch.map_err(|error| error.to_string()).and_then(|batch| {
            // Its totals are with another owner.
            let is_ours = eventlog::partition_of(&batch.room, partitions) == partition;
            if is_ours { Ok(batch) } else { Err("its room lives in another partition".to_owned()) }
        });
        aliens += u64::from(batch.is_err());
        batch.map_err(|error| why.get_or_insert(error)).ok()
    });
    let closed = rollup.record(offset, record.timestamp_ms, batches, now, tally);
    if let Some(error) = why {
        tracing::warn!(partition, offset, batches = aliens, error, "batches passed over");
        counter!(names::SKIPPED, "cause" => "alien").increment(aliens);
    }
    let overflows = tally.overflows - overflows;
    if overflows > 0 {
        tracing::error!(
            partition,
            offset,
            batches = overflows,
            "batches passed over, their rooms' totals are full"
        );
    }
    closed
}

fn report_forgotten(partition: u32, closed: &Closed) {
    let rooms = closed.records.len();
    let cause = match closed.kind {
        Kind::Window { .. } => return,
        Kind::Silent => "silent",
        Kind::TooMany => {
            tracing::warn!(
                partition,
                rooms,
                "there are more than aggregator.max_rooms: those silent the longest are forgotten, with their totals"
            );
            "too_many"
        }
    };
    counter!(names::FORGOTTEN, "cause" => cause).increment(rooms as u64);
}

fn report(tally: &Tally) {
    counter!(names::REACTIONS).increment(tally.counted);
    counter!(names::LATE).increment(tally.late);
    counter!(names::SKEWED).increment(tally.skewed);
    counter!(names::OTHERS, "limit" => "room").increment(tally.beyond_room);
    counter!(names::OTHERS, "limit" => "partition").increment(tally.beyond_partition);
    counter!(names::SKIPPED, "cause" => "overflow").increment(tally.overflows);
    counter!(names::SKIPPED, "cause" => "replayed").increment(tally.replayed);
}
