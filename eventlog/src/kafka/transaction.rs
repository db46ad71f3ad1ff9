//! One window's transaction: aggregates, windows and offsets, all or nothing. All of it blocks; it runs on the committer's
//! thread.

use super::{
    client::{Clients, Producer, Undelivered, left_until},
    errors::{Remedy, open_error, remedy},
    ownership::{Ownership, Permit},
};
use crate::{CommitError, Cut, OpenError};
use rdkafka::{
    Offset, TopicPartitionList,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, Producer as _},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

const PAUSE: Duration = Duration::from_millis(10);
/// How long a member whose generation was refused waits to hear of the next one before it tries again.
const SETTLE: Duration = Duration::from_secs(1);
/// Brokers that have acknowledged a record this long ago are taken to go on.
const MOVING: Duration = Duration::from_secs(1);
/// What aborting may take after the time for committing is up.
pub(super) const ABORT: Duration = Duration::from_secs(3);

/// The transactional producer.
pub(super) struct Transactions {
    producer: Producer,
    id: String,
    reactions: String,
    aggregates: String,
    windows: String,
    timeout: Duration,
    progress: Progress,
}

/// What the thread is doing: said when it does not come back. docs/commit-protocol.md draws it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Step {
    #[default]
    Initialising,
    Idle,
    SendingRecords,
    SendingOffsets,
    AwaitingDeliveries,
    Committing,
    Aborting,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Initialising => "initialising transactions",
            Self::Idle => "idle",
            Self::SendingRecords => "sending records",
            Self::SendingOffsets => "sending offsets",
            Self::AwaitingDeliveries => "awaiting deliveries",
            Self::Committing => "committing",
            Self::Aborting => "aborting",
        })
    }
}

/// The step of a thread, for those that wait for it.
#[derive(Clone, Default)]
pub(super) struct Progress(Arc<Mutex<Step>>);

impl Progress {
    fn enter(&self, step: Step) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }

    pub(super) fn now(&self) -> Step {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a transaction did not come to its end.
pub(super) enum Failure {
    /// It must be aborted. `stale`: the group refused this member's generation.
    Abort { why: String, stale: bool },
    /// The producer is of no use any more.
    Reopen(String),
}

impl Transactions {
    /// Fences the producer that had this `id` before, and ends the transaction that it may have left open.
    pub(super) fn open(
        clients: &Clients,
        id: &str,
        progress: Progress,
        deadline: Instant,
    ) -> Result<Self, OpenError> {
        progress.enter(Step::Initialising);
        let producer = clients.committer(id)?;
        loop {
            match producer.init_transactions(left_until(deadline)) {
                Ok(()) => break,
                Err(error) if remedy(&error) == Remedy::Again && Instant::now() < deadline => {
                    thread::sleep(PAUSE);
                }
                Err(error) => return Err(open_error("transactions can't be initialised", &error)),
            }
        }
        Ok(Self {
            producer,
            id: id.to_owned(),
            reactions: clients.config.reactions_topic.clone(),
            aggregates: clients.config.aggregates_topic.clone(),
            windows: clients.config.windows_topic.clone(),
            timeout: Duration::from_millis(clients.config.transaction_timeout_ms.into()),
            progress,
        })
    }

    /// Commits `cuts`, if all of them are ours.
    pub(super) fn commit(&self, ownership: &Ownership, cuts: &[Cut]) -> Result<(), CommitError> {
        // The rest is for the abort: a broker whose time is up first fences this producer, and the outcome is unknown.
        let deadline = Instant::now() + self.timeout * 4 / 5;
        let permit = ownership.begin(cuts).inspect_err(|_| warn_fenced(cuts, "this member gave it up"))?;
        let outcome = self.transact(ownership, permit, cuts, deadline);
        if !matches!(outcome, Err(CommitError::Reopen(_))) {
            self.progress.enter(Step::Idle);
        }
        outcome
    }

    fn transact(
        &self,
        ownership: &Ownership,
        permit: Permit<'_>,
        cuts: &[Cut],
        deadline: Instant,
    ) -> Result<(), CommitError> {
        let outcomes = Arc::default();
        let (why, stale) = match self.attempt(&permit, cuts, deadline, &outcomes) {
            Ok(()) => return Ok(()),
            Err(Failure::Abort { why, stale }) => (why, stale),
            Err(Failure::Reopen(why)) => return Err(self.reopen(&why)),
        };
        let now = Instant::now();
        let why = if stale || now < deadline {
            why
        } else {
            lock(&outcomes.tally).too_large(cuts, self.timeout, now).unwrap_or(why)
        };
        self.progress.enter(Step::Aborting);
        let until = deadline.max(Instant::now() + ABORT);
        match again(until, || self.producer.abort_transaction(left_until(until))) {
            Ok(()) => {}
            Err(Failure::Abort { why, .. } | Failure::Reopen(why)) => return Err(self.reopen(&why)),
        }
        let generation = permit.generation;
        drop(permit);
        if !stale {
            return Err(CommitError::Retry(why));
        }
        warn_fenced(cuts, "the group's coordinator refused this member");
        match ownership.settle(cuts, generation, SETTLE) {
            true => Err(CommitError::Retry(why)),
            false => Err(CommitError::Revoked(why)),
        }
    }

    fn attempt(
        &self,
        permit: &Permit<'_>,
        cuts: &[Cut],
        deadline: Instant,
        outcomes: &Arc<Outcomes>,
    ) -> Result<(), Failure> {
        self.progress.enter(Step::SendingRecords);
        again(deadline, || self.producer.begin_transaction())?;
        self.send_all(cuts, deadline, outcomes)?;
        self.progress.enter(Step::SendingOffsets);
        // While the records are on their way.
        let offsets = self.offsets(cuts).map_err(|error| Failure::Reopen(error.to_string()))?;
        again(deadline, || {
            self.producer.send_offsets_to_transaction(&offsets, &permit.group, left_until(deadline))
        })?;
        self.progress.enter(Step::AwaitingDeliveries);
        outcomes.wait(deadline).map_err(|why| Failure::Abort { why, stale: false })?;
        // The binding's commit polls for a whole 100 ms while any delivery is outstanding. The last one counts as such
        // until its report is freed, a moment after it was handed to us.
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_micros(50));
        }
        self.progress.enter(Step::Committing);
        match again(deadline, || self.producer.commit_transaction(left_until(deadline))) {
            Err(Failure::Abort { why, stale: false }) if Instant::now() >= deadline => {
                Err(Failure::Reopen(why))
            }
            outcome => outcome,
        }
    }

    fn send_all(&self, cuts: &[Cut], deadline: Instant, outcomes: &Arc<Outcomes>) -> Result<(), Failure> {
        for cut in cuts {
            let aggregates =
                cut.aggregates.iter().map(|(room, value)| (&self.aggregates, room, value.as_ref()));
            let windows = cut.windows.iter().map(|(room, value)| (&self.windows, room, Some(value)));
            for (topic, room, value) in aggregates.chain(windows) {
                let send = || {
                    let record = BaseRecord::with_opaque_to(topic, outcomes.expect_one())
                        .partition(cut.partition as i32)
                        .key(room.as_bytes());
                    let record = match value {
                        Some(value) => record.payload(&value[..]),
                        None => record,
                    };
                    // The opaque comes back with the error: it takes back that it is expected.
                    self.producer.send(record).map_err(|(error, record)| {
                        (record.delivery_opaque)(Err(Undelivered::NotTaken(error.clone())));
                        error
                    })
                };
                send_when_there_is_room(deadline, send)?;
            }
        }
        Ok(())
    }

    fn offsets(&self, cuts: &[Cut]) -> Result<TopicPartitionList, KafkaError> {
        let mut next = BTreeMap::<u32, u64>::new();
        for cut in cuts {
            let offset = next.entry(cut.partition).or_default();
            *offset = cut.next_offset.max(*offset);
        }
        let mut list = TopicPartitionList::new();
        for (partition, offset) in next {
            list.add_partition_offset(&self.reactions, partition as i32, Offset::Offset(offset as i64))?;
        }
        Ok(list)
    }

    fn reopen(&self, why: &str) -> CommitError {
        let fatal = self.producer.client().fatal_error().map(|(code, _)| code);
        if let Some(
            RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch,
        ) = fatal
        {
            tracing::warn!(
                transactional_id = self.id,
                why,
                "commit fenced: the transaction ran out of time, or another process has the same log.kafka.instance_id"
            );
        }
        CommitError::Reopen(format!("{}: {why}", self.progress.now()))
    }
}

/// Once for each partition, of which many windows may have waited.
fn warn_fenced(cuts: &[Cut], by: &str) {
    let partitions: BTreeSet<_> = cuts.iter().map(|cut| (cut.partition, cut.epoch)).collect();
    for (partition, epoch) in partitions {
        tracing::warn!(partition, epoch, by, "commit fenced: the partition is not ours");
    }
}

/// Repeats a step while that may help.
pub(super) fn again(deadline: Instant, step: impl Fn() -> Result<(), KafkaError>) -> Result<(), Failure> {
    loop {
        let Err(error) = step() else { return Ok(()) };
        match remedy(&error) {
            Remedy::Again if Instant::now() < deadline => thread::sleep(PAUSE),
            Remedy::Again => return Err(Failure::Abort { why: error.to_string(), stale: false }),
            Remedy::Abort { stale } => return Err(Failure::Abort { why: error.to_string(), stale }),
            Remedy::Reopen => return Err(Failure::Reopen(error.to_string())),
        }
    }
}

fn send_when_there_is_room(
    deadline: Instant,
    send: impl Fn() -> Result<(), KafkaError>,
) -> Result<(), Failure> {
    loop {
        match send() {
            Ok(()) => return Ok(()),
            Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) if Instant::now() < deadline => {
                thread::sleep(PAUSE);
            }
            Err(error) => return Err(Failure::Abort { why: error.to_string(), stale: false }),
        }
    }
}

/// What became of the records of one transaction.
#[derive(Default)]
struct Outcomes {
    tally: Mutex<Tally>,
    changed: Condvar,
}

#[derive(Default)]
struct Tally {
    under_way: usize,
    delivered: usize,
    /// When the last of those was acknowledged.
    last: Option<Instant>,
    failure: Option<String>,
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outcomes {
    /// One more record is on its way; the result is called with its outcome.
    fn expect_one(self: &Arc<Self>) -> Box<super::client::OnDelivery> {
        lock(&self.tally).under_way += 1;
        let outcomes = Arc::clone(self);
        Box::new(Box::new(move |outcome: Result<(), Undelivered>| {
            let now = Instant::now();
            let mut tally = lock(&outcomes.tally);
            // There may be 100,000 records, and one wait for all of them.
            if tally.take(outcome, now) {
                outcomes.changed.notify_all();
            }
        }))
    }

    /// Waits for all of them; the first failure ends the wait.
    fn wait(&self, deadline: Instant) -> Result<(), String> {
        let mut tally = lock(&self.tally);
        loop {
            match &*tally {
                Tally { failure: Some(failure), .. } => return Err(failure.clone()),
                Tally { under_way: 0, .. } => return Ok(()),
                _ if Instant::now() >= deadline => return Err("records were not delivered in time".into()),
                _ => {}
            }
            let left = left_until(deadline);
            tally = self.changed.wait_timeout(tally, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Tally {
    /// Counts an outcome. Returns whether the wait for all of them is over by it.
    fn take(&mut self, outcome: Result<(), Undelivered>, now: Instant) -> bool {
        self.under_way -= 1;
        match outcome {
            Ok(()) => {
                self.delivered += 1;
                self.last = Some(now);
            }
            // It will be sent again, or that has been given up by the caller.
            Err(Undelivered::NotTaken(_)) => {}
            Err(Undelivered::Failed(error)) if self.failure.is_none() => {
                self.failure = Some(error.to_string());
                return true;
            }
            Err(Undelivered::Failed(_)) => {}
        }
        self.under_way == 0
    }

    /// What to say of `cuts` whose time was up at `now`, while brokers still acknowledged one record after the other.
    fn too_large(&self, cuts: &[Cut], timeout: Duration, now: Instant) -> Option<String> {
        let records: usize = cuts.iter().map(|cut| cut.aggregates.len() + cut.windows.len()).sum();
        let is_moving = self.last.is_some_and(|last| now.saturating_duration_since(last) < MOVING);
        if self.delivered >= records || !is_moving {
            return None;
        }
        let windows = if cuts.len() == 1 { "a window".to_owned() } else { format!("{} windows", cuts.len()) };
        Some(format!(
            "{windows} of {records} records does not fit log.kafka.transaction_timeout_ms = {}: {} of them were written in \
             time. Raise it together with log.kafka.session_timeout_ms, spread the rooms over more partitions, or speed the \
             brokers up (docs/operations.md, Large windows)",
            timeout.as_millis(),
            self.delivered
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: RDKafkaErrorCode) -> Result<(), Undelivered> {
        Err(Undelivered::Failed(KafkaError::MessageProduction(code)))
    }

    #[test]
    fn a_transaction_waits_for_every_record_and_fails_with_the_first_that_fails() {
        let outcomes = Arc::new(Outcomes::default());
        let (first, second) = (outcomes.expect_one(), outcomes.expect_one());
        first(Ok(()));
        assert!(outcomes.wait(Instant::now()).unwrap_err().contains("not delivered in time"));
        second(Ok(()));
        assert_eq!(outcomes.wait(Instant::now()), Ok(()));
        let (third, fourth) = (outcomes.expect_one(), outcomes.expect_one());
        third(Err(Undelivered::NotTaken(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull))));
        fourth(Ok(()));
        assert_eq!(outcomes.wait(Instant::now()), Ok(()), "what was not taken is sent again");
        outcomes.expect_one()(failed(RDKafkaErrorCode::MessageSizeTooLarge));
        assert!(outcomes.wait(Instant::now()).is_err());
    }

    #[test]
    fn only_the_last_record_and_the_first_failure_end_the_wait() {
        let now = Instant::now();
        let mut tally = Tally { under_way: 5, ..Tally::default() };
        assert!(!tally.take(Ok(()), now));
        assert!(tally.take(failed(RDKafkaErrorCode::MessageTimedOut), now));
        assert!(!tally.take(failed(RDKafkaErrorCode::PurgeQueue), now));
        assert!(!tally.take(Ok(()), now));
        assert!(tally.take(Ok(()), now));
        assert!(tally.failure.unwrap().contains("timed out"));
    }

    #[test]
    fn a_window_that_is_too_large_is_told_from_brokers_that_are_away() {
        let now = Instant::now();
        let rooms = (0..100).map(|n| (format!("r{n}").parse().unwrap(), None)).collect();
        let cuts = [Cut { partition: 0, epoch: 1, next_offset: 1, aggregates: rooms, windows: Vec::new() }];
        let after = |delivered: usize, ago_ms: u64| {
            let last = now.checked_sub(Duration::from_millis(ago_ms));
            Tally { delivered, last, ..Tally::default() }.too_large(&cuts, Duration::from_secs(5), now)
        };
        let text = after(60, 10).unwrap();
        assert!(
            text.starts_with(
                "a window of 100 records does not fit log.kafka.transaction_timeout_ms = 5000: 60 of"
            ),
            "{text}"
        );
        assert_eq!(after(60, 4_000), None, "a broker went away");
        assert_eq!(after(100, 10), None, "the records were not what took long");
        assert_eq!(Tally::default().too_large(&cuts, Duration::from_secs(5), now), None);
    }
}
