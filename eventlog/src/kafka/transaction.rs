//! One window's transaction: aggregates and offsets, all or nothing. All of it blocks; it runs on the committer's
//! thread.

use super::{
    client::{Clients, Producer, left_until},
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
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

const PAUSE: Duration = Duration::from_millis(10);
/// How long a member whose generation was refused waits to hear of the next one before it tries again.
const SETTLE: Duration = Duration::from_secs(1);
/// What aborting may take after the time for committing is up.
pub(super) const ABORT: Duration = Duration::from_secs(3);

/// The transactional producer.
pub(super) struct Transactions {
    producer: Producer,
    id: String,
    reactions: String,
    aggregates: String,
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
enum Failure {
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
            timeout: Duration::from_millis(clients.config.transaction_timeout_ms.into()),
            progress,
        })
    }

    /// Commits `cuts`, if all of them are ours.
    pub(super) fn commit(&self, ownership: &Ownership, cuts: &[Cut]) -> Result<(), CommitError> {
        let deadline = Instant::now() + self.timeout;
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
        let (why, stale) = match self.attempt(&permit, cuts, deadline) {
            Ok(()) => return Ok(()),
            Err(Failure::Abort { why, stale }) => (why, stale),
            Err(Failure::Reopen(why)) => return Err(self.reopen(&why)),
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

    fn attempt(&self, permit: &Permit<'_>, cuts: &[Cut], deadline: Instant) -> Result<(), Failure> {
        self.progress.enter(Step::SendingRecords);
        again(deadline, || self.producer.begin_transaction())?;
        let outcomes = self.send_all(cuts, deadline)?;
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

    fn send_all(&self, cuts: &[Cut], deadline: Instant) -> Result<Arc<Outcomes>, Failure> {
        let outcomes = Arc::new(Outcomes::default());
        for cut in cuts {
            for (room, value) in &cut.aggregates {
                let send = || {
                    let record = BaseRecord::with_opaque_to(&self.aggregates, outcomes.expect_one())
                        .partition(cut.partition as i32)
                        .key(room.as_bytes());
                    let record = match value {
                        Some(value) => record.payload(&value[..]),
                        None => record,
                    };
                    // The opaque comes back with the error: it takes back that it is expected.
                    self.producer.send(record).map_err(|(error, record)| {
                        (record.delivery_opaque)(Ok(()));
                        error
                    })
                };
                send_when_there_is_room(deadline, send)?;
            }
        }
        Ok(outcomes)
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
fn again(deadline: Instant, step: impl Fn() -> Result<(), KafkaError>) -> Result<(), Failure> {
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
    state: Mutex<(usize, Option<String>)>,
    changed: Condvar,
}

impl Outcomes {
    /// One more record is on its way; the result is called with its outcome.
    fn expect_one(self: &Arc<Self>) -> Box<super::client::OnDelivery> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
        let outcomes = Arc::clone(self);
        Box::new(Box::new(move |outcome: Result<(), KafkaError>| {
            let mut state = outcomes.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.0 -= 1;
            if let Err(error) = outcome {
                state.1.get_or_insert(error.to_string());
            }
            outcomes.changed.notify_all();
        }))
    }

    /// Waits for all of them; the first failure ends the wait.
    fn wait(&self, deadline: Instant) -> Result<(), String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*state {
                (_, Some(failure)) => return Err(failure.clone()),
                (0, None) => return Ok(()),
                _ if Instant::now() >= deadline => return Err("records were not delivered in time".into()),
                _ => {}
            }
            let left = left_until(deadline);
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_waits_for_every_record_and_fails_with_the_first_that_fails() {
        let outcomes = Arc::new(Outcomes::default());
        let (first, second) = (outcomes.expect_one(), outcomes.expect_one());
        first(Ok(()));
        assert!(outcomes.wait(Instant::now()).unwrap_err().contains("not delivered in time"));
        second(Ok(()));
        assert_eq!(outcomes.wait(Instant::now()), Ok(()));
        outcomes.expect_one()(Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge)));
        assert!(outcomes.wait(Instant::now()).is_err());
    }
}
