//! `control` on Kafka: a compacted topic of one partition, whose offsets are the versions.
//!
//! Kafka can't compare and set. Fencing makes up for it: every writer uses the same transactional id. A writer first fences its
//! rivals, then reads the topic to its end, compares, writes and commits. A rival that comes in between fences this one, and the
//! commit fails. So what was compared is still true when the commit succeeds (docs/decisions/0019).

use super::{
    client::{Clients, Isolation, Reader, Role, left_until, log_error, log_line},
    errors::open_error,
    follower::{Following, STALL, hand_over, next_records},
    state::{Decided, await_decided},
    thread,
    topic_reader::{LoadUntil, list},
    transaction::{Failure, again},
};
use crate::{
    BoxFuture, ControlEvent, ControlPut, ControlReader, ControlRecord, FeedError, OpenError, PutError,
    control::check_expected,
};
use bytes::Bytes;
use rdkafka::{
    ClientContext, Message, Offset, Statistics,
    config::RDKafkaLogLevel,
    consumer::Consumer,
    error::KafkaError,
    message::BorrowedMessage,
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
};
use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, mpsc as channel},
    thread::sleep,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// How long the reader may take to find the topic's end.
const START: Duration = Duration::from_secs(20);
/// How often a writer that rivals fence tries.
const ATTEMPTS: u32 = 8;
/// What all attempts may take.
const IN_ALL: Duration = Duration::from_secs(12);
/// When the caller gives the thread up.
const DEADLINE: Duration = Duration::from_secs(15);
/// The longest pause between attempts. Rivals pause for random times, so that they don't fence each other for ever.
const PAUSE_MS_MAX: u64 = 250;

/// Follows `control`.
pub(super) fn open(clients: Arc<Clients>) -> Result<Following<ControlEvent>, OpenError> {
    Following::start("kafka-orders", clients, follow)
}

impl ControlReader for Following<ControlEvent> {
    fn next(&mut self) -> BoxFuture<'_, Result<ControlEvent, FeedError>> {
        Box::pin(Self::next(self))
    }
}

fn follow(clients: &Clients, reader: &Reader, events: &mpsc::Sender<ControlEvent>) -> Result<(), String> {
    let behind = start(clients, reader, Instant::now() + START, &|| events.is_closed())?;
    let topic = &clients.config.control_topic;
    let read = |behind: &mut LoadUntil| next_records(reader, topic, behind, record);
    hand_over(behind, read, (ControlEvent::Records, ControlEvent::CaughtUp), events)
}

/// Has the client read the topic from its start. Gives how far its end is away.
fn start(
    clients: &Clients,
    reader: &Reader,
    deadline: Instant,
    is_stopped: &dyn Fn() -> bool,
) -> Result<LoadUntil, String> {
    let topic = &clients.config.control_topic;
    let Decided { begins, ends, open } = await_decided(clients, reader, topic, &[0], deadline, is_stopped)?;
    if let Some(why) = open {
        return Err(why);
    }
    let assigned = list(topic, &[0], Offset::Beginning).and_then(|list| reader.assign(&list));
    assigned.map_err(|error| format!("reading {topic}: {error}"))?;
    Ok(LoadUntil::new(&begins, &ends, STALL, Instant::now()))
}

/// A record without a key, or with one that is no text, can be none of ours.
fn record(message: &BorrowedMessage<'_>) -> Option<ControlRecord> {
    let key = str::from_utf8(message.key()?).ok()?.to_owned();
    let value = message.payload().map(Bytes::copy_from_slice);
    Some(ControlRecord { key, version: version(message.offset()), value })
}

/// Versions begin at 1.
fn version(offset: i64) -> u64 {
    offset as u64 + 1
}

/// Writes a key, if it holds what is expected.
pub(super) async fn put(clients: Arc<Clients>, put: ControlPut) -> Result<u64, PutError> {
    let asked = thread::ask("kafka-control", DEADLINE, move || Put::new(&clients, &put).run()).await;
    asked.unwrap_or_else(|| Err(PutError::Unknown("no answer from the brokers in time".into())))
}

struct Put<'a> {
    clients: &'a Clients,
    put: &'a ControlPut,
    deadline: Instant,
    /// The version that the key had before the first attempt whose outcome is not known.
    unsure_since: Option<u64>,
}

/// Why an attempt came to no end.
enum Missed {
    /// A rival came in between, or the brokers are in trouble: try again.
    Again(String),
    /// This is the outcome.
    Ended(PutError),
}

impl<'a> Put<'a> {
    fn new(clients: &'a Clients, put: &'a ControlPut) -> Self {
        Self { clients, put, deadline: Instant::now() + IN_ALL, unsure_since: None }
    }

    fn run(mut self) -> Result<u64, PutError> {
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            match self.attempt() {
                Ok(version) => return Ok(version),
                Err(Missed::Ended(error)) => return Err(error),
                Err(Missed::Again(why)) => last = why,
            }
            if Instant::now() >= self.deadline {
                break;
            }
            sleep(Duration::from_millis(RandomState::new().hash_one(0) % PAUSE_MS_MAX));
        }
        match self.unsure_since {
            Some(_) => Err(PutError::Unknown(last)),
            None => Err(PutError::Unavailable(last)),
        }
    }

    fn attempt(&mut self) -> Result<u64, Missed> {
        let config = self.clients.transactional_config(&format!("{}-control", self.clients.config.group));
        let producer: ControlProducer =
            self.clients.create(&config, ControlContext).map_err(|error| Missed::Again(error.to_string()))?;
        let outcome = self.attempt_with(&producer);
        // Dropping it may hang.
        if let Err(error) = thread::start("kafka-drop", move || drop(producer)) {
            tracing::warn!(%error, "no thread to drop a producer on");
        }
        outcome
    }

    fn attempt_with(&mut self, producer: &ControlProducer) -> Result<u64, Missed> {
        let doing = |error: KafkaError| Missed::Again(open_error("fencing rivals", &error).to_string());
        self.repeat(|| producer.init_transactions(left_until(self.deadline))).map_err(doing)?;
        let newest = self.read_newest()?;
        let last = newest.as_ref().map_or(0, |record| record.version);
        if let (Some(before), Some(newest)) = (self.unsure_since, &newest)
            && newest.version > before
            && newest.value == self.put.value
        {
            return Ok(newest.version);
        }
        let current = newest.filter(|record| record.value.is_some()).map(|record| record.version);
        check_expected(self.put.expected, current).map_err(Missed::Ended)?;
        self.write(producer, last)
    }

    /// The newest record of the key, which may be a tombstone.
    fn read_newest(&self) -> Result<Option<ControlRecord>, Missed> {
        let reader = self.clients.reader(Role::Loader, Isolation::Committed);
        let reader = reader.map_err(|error| Missed::Again(error.to_string()))?;
        let read = || -> Result<Option<ControlRecord>, String> {
            let mut behind = start(self.clients, &reader, self.deadline, &|| false)?;
            let mut newest = None;
            while !behind.is_done() {
                if Instant::now() >= self.deadline {
                    return Err("the topic was not read in time".into());
                }
                let records = next_records(&reader, &self.clients.config.control_topic, &mut behind, record)?;
                newest = records.into_iter().rfind(|record| record.key == self.put.key).or(newest);
            }
            Ok(newest)
        };
        let newest = read().map_err(Missed::Again);
        if let Err(error) = thread::start("kafka-drop", move || drop(reader)) {
            tracing::warn!(%error, "no thread to drop a reader on");
        }
        newest
    }

    /// Writes and commits. `last`: the version of the key's newest record.
    fn write(&mut self, producer: &ControlProducer, last: u64) -> Result<u64, Missed> {
        let topic = &self.clients.config.control_topic;
        let (told, outcome) = channel::channel();
        let deadline = self.deadline;
        let sent = again(deadline, || producer.begin_transaction()).and_then(|()| {
            let record = BaseRecord::with_opaque_to(topic, Box::new(told)).partition(0).key(&self.put.key);
            let record = match &self.put.value {
                Some(value) => record.payload(&value[..]),
                None => record,
            };
            let taken = producer.send(record);
            taken.map_err(|(error, _)| Failure::Abort { why: error.to_string(), stale: false })
        });
        let committed = sent.and_then(|()| {
            let delivered = outcome.recv_timeout(left_until(deadline));
            let delivered = delivered.unwrap_or_else(|_| Err("it was not delivered in time".into()));
            let offset = delivered.map_err(|why| Failure::Abort { why, stale: false })?;
            again(deadline, || producer.commit_transaction(left_until(deadline))).inspect_err(|_| {
                // It may have been committed all the same: the next attempt will read it.
                self.unsure_since.get_or_insert(last);
            })?;
            Ok(version(offset))
        });
        committed.map_err(|failure| match failure {
            Failure::Abort { why, .. } => {
                // The next attempt ends it too.
                drop(producer.abort_transaction(left_until(deadline)));
                Missed::Again(why)
            }
            Failure::Reopen(why) => Missed::Again(why),
        })
    }

    fn repeat(&self, step: impl Fn() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
        loop {
            match step() {
                Err(error) if super::errors::is_again(&error) && Instant::now() < self.deadline => {
                    sleep(Duration::from_millis(10));
                }
                outcome => return outcome,
            }
        }
    }
}

type ControlProducer = ThreadedProducer<ControlContext>;

/// Hands out at which offset a record was written.
struct ControlContext;

impl ClientContext for ControlContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_line(Role::Committer, level, facility, text);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        log_error(Role::Committer, &error, reason);
    }
    fn stats(&self, _: Statistics) {}
}

impl ProducerContext for ControlContext {
    type DeliveryOpaque = Box<channel::Sender<Result<i64, String>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, told: Self::DeliveryOpaque) {
        let outcome = result.as_ref().map(|message| message.offset()).map_err(|(error, _)| error.to_string());
        // The caller may have given up.
        let _ = told.send(outcome);
    }
}
