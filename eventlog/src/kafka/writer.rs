//! Appends to `reactions`: an idempotent producer, replaced when it fails for good, and when it has given up a record.
//!
//! Why the latter: the client library forgets a record whose time is up, and sends those behind it in a new epoch. A request
//! whose answer was lost may have written some of those already, and in the new epoch the broker can't tell repeats. So all
//! records that such a producer still holds are given up too, and their outcome is unknown.
//!
//! That is a race, and no proof. The library begins the new epoch by itself as soon as no request is under way, while the
//! purge follows the delivery report over two threads. A leader that answers again within these milliseconds can be sent a
//! record twice.

use super::{
    client::{Clients, OnDelivery, Producer, Undelivered},
    errors::append_error,
    thread,
};
use crate::{Append, BoxFuture, OpenError, Writer, port::no_partition};
use bytes::Bytes;
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, Producer as _, PurgeConfig},
};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// So long a producer that is put aside may take to tell what became of its records: it is told at once, unless there are very
/// many, or the machine is very busy.
const RESOLVE_WITHIN: Duration = Duration::from_secs(60);

/// The writer.
pub(super) struct KafkaWriter {
    clients: Arc<Clients>,
    partitions: u32,
    current: Arc<Mutex<Current>>,
    pending: Arc<Pending>,
}

/// The producer in use; after one that was put aside none, until the next append.
#[derive(Default)]
struct Current {
    producer: Option<Producer>,
    /// Which one it is.
    number: u64,
}

impl KafkaWriter {
    pub(super) fn open(clients: Arc<Clients>, partitions: u32) -> Result<Self, OpenError> {
        let current = Arc::<Mutex<Current>>::default();
        lock(&current).producer(&current, &clients)?;
        Ok(Self { clients, partitions, current, pending: Arc::default() })
    }

    /// Hands a record to the producer. The lock keeps the order of calls.
    fn hand_over(&self, partition: u32, value: &Bytes, done: Box<OnDelivery>) {
        let mut current = lock(&self.current);
        let Err((error, done)) = self.try_send(&mut current, partition, value, done) else { return };
        if error != KafkaError::MessageProduction(RDKafkaErrorCode::Fatal) {
            return done(Err(Undelivered::NotTaken(error)));
        }
        // An idempotent producer that lost count of its records takes none any more, nor this one.
        tracing::warn!("the producer failed for good and is replaced");
        put_aside(current.producer.take());
        if let Err((error, done)) = self.try_send(&mut current, partition, value, done) {
            done(Err(Undelivered::NotTaken(error)));
        }
    }

    fn try_send(
        &self,
        current: &mut Current,
        partition: u32,
        value: &Bytes,
        done: Box<OnDelivery>,
    ) -> Result<(), (KafkaError, Box<OnDelivery>)> {
        let producer = match current.producer(&self.current, &self.clients) {
            Ok(producer) => producer,
            Err(error) => {
                tracing::error!(%error, "the producer can't be replaced");
                return Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), done));
            }
        };
        let record = BaseRecord::with_opaque_to(&self.clients.config.reactions_topic, done)
            .partition(partition as i32)
            .payload(&value[..]);
        producer.send::<(), [u8]>(record).map_err(|(error, record)| (error, record.delivery_opaque))
    }
}

impl Current {
    /// The producer; a new one where there is none.
    fn producer(&mut self, home: &Arc<Mutex<Self>>, clients: &Clients) -> Result<&Producer, OpenError> {
        let Self { producer, number } = self;
        Ok(match producer {
            Some(producer) => producer,
            none => {
                *number += 1;
                let (home, number) = (Arc::downgrade(home), *number);
                none.insert(clients.writer(Box::new(move || replace(&home, number)))?)
            }
        })
    }
}

fn lock(current: &Mutex<Current>) -> MutexGuard<'_, Current> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Producer `number` has given up a record. This is called on its own thread, which it can't be dropped on.
fn replace(current: &Weak<Mutex<Current>>, number: u64) {
    let Some(current) = current.upgrade() else { return };
    tracing::warn!("the producer has given up a record and is replaced");
    let take = move || {
        let mut current = lock(&current);
        let taken = if current.number == number { current.producer.take() } else { None };
        drop(current);
        give_up(taken);
    };
    if let Err(error) = thread::start("kafka-drop", take) {
        tracing::error!(%error, "no thread to drop a producer on: it may write records twice");
    }
}

/// Drops a producer where nobody waits for it: that may hang.
fn put_aside(producer: Option<Producer>) {
    if let Err(error) = thread::start("kafka-drop", move || give_up(producer)) {
        tracing::warn!(%error, "no thread to drop a producer on");
    }
}

/// Resolves what the producer holds, before it sends it again, and drops it.
fn give_up(producer: Option<Producer>) {
    let Some(producer) = producer else { return };
    producer.purge(PurgeConfig::default().queue().inflight());
    // Dropped before, it waits half a second, and does not resolve what is left then.
    if let Err(error) = producer.flush(RESOLVE_WITHIN) {
        tracing::error!(%error, "a producer that is put aside does not resolve its records");
    }
}

impl Drop for KafkaWriter {
    fn drop(&mut self) {
        put_aside(lock(&self.current).producer.take());
    }
}

impl Writer for KafkaWriter {
    fn min_pause(&self) -> Duration {
        Duration::from_millis(self.clients.config.min_commit_pause_ms.into())
    }

    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn send(&self, appends: Vec<Append>) {
        for Append { partition, value, done } in appends {
            if partition >= self.partitions {
                done(Err(no_partition(partition, self.partitions)));
                continue;
            }
            let pending = Arc::clone(&self.pending);
            pending.begin();
            let delivered: OnDelivery = Box::new(move |outcome| {
                done(outcome.map_err(|error| append_error(&error)));
                pending.end();
            });
            self.hand_over(partition, &value, Box::new(delivered));
        }
    }

    fn flush(&self, deadline: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if tokio::time::timeout(deadline, self.pending.none()).await.is_err() {
                tracing::warn!("appends are unresolved after the flush's deadline");
            }
        })
    }
}

/// How many appends are not resolved.
#[derive(Default)]
struct Pending {
    count: AtomicUsize,
    none: Notify,
}

impl Pending {
    fn begin(&self) {
        self.count.fetch_add(1, SeqCst);
    }

    fn end(&self) {
        if self.count.fetch_sub(1, SeqCst) == 1 {
            self.none.notify_waiters();
        }
    }

    async fn none(&self) {
        loop {
            // Made before the look, so that an end between the two is not missed.
            let none = self.none.notified();
            if self.count.load(SeqCst) == 0 {
                return;
            }
            none.await;
        }
    }
}
