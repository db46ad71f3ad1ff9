//! Appends to `reactions`: an idempotent producer, replaced when it fails for good.

use super::{
    client::{Clients, OnDelivery, Producer},
    errors::append_error,
    thread,
};
use crate::{AppendError, BoxFuture, OpenError, Writer, placement::partition_of};
use bytes::Bytes;
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    producer::BaseRecord,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{oneshot, watch};
use wire::RoomName;

/// The writer.
pub(super) struct KafkaWriter {
    clients: Arc<Clients>,
    partitions: u32,
    producer: Mutex<Option<Producer>>,
    /// Appends that are not resolved.
    pending: Arc<watch::Sender<usize>>,
}

impl KafkaWriter {
    pub(super) fn open(clients: Arc<Clients>, partitions: u32) -> Result<Self, OpenError> {
        let producer = Mutex::new(Some(clients.writer()?));
        Ok(Self { clients, partitions, producer, pending: Arc::new(watch::Sender::new(0)) })
    }

    /// Hands a record to the producer. The lock keeps the order of calls.
    fn send(&self, room: &RoomName, value: &Bytes, done: Box<OnDelivery>) {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = producer.as_ref().and_then(|producer| self.try_send(producer, room, value, done).err());
        let Some((error, done)) = refused else { return };
        if error != KafkaError::MessageProduction(RDKafkaErrorCode::Fatal) {
            return done(Err(error));
        }
        // An idempotent producer that lost count of its records takes none any more. It did not take this one.
        tracing::warn!("the producer failed for good and is replaced");
        let replaced = match self.clients.writer() {
            Ok(new) => producer.replace(new),
            Err(error) => {
                tracing::error!(%error, "the producer can't be replaced");
                return done(Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)));
            }
        };
        put_aside(replaced);
        if let Some(producer) = producer.as_ref()
            && let Err((error, done)) = self.try_send(producer, room, value, done)
        {
            done(Err(error));
        }
    }

    fn try_send(
        &self,
        producer: &Producer,
        room: &RoomName,
        value: &Bytes,
        done: Box<OnDelivery>,
    ) -> Result<(), (KafkaError, Box<OnDelivery>)> {
        let record = BaseRecord::with_opaque_to(&self.clients.config.reactions_topic, done)
            .partition(partition_of(room, self.partitions) as i32)
            .key(room.as_bytes())
            .payload(&value[..]);
        producer.send(record).map_err(|(error, record)| (error, record.delivery_opaque))
    }
}

/// Drops a producer where nobody waits for it: that may hang. What it holds is resolved by it.
fn put_aside(producer: Option<Producer>) {
    if let Err(error) = thread::start("kafka-drop", move || drop(producer)) {
        tracing::warn!(%error, "no thread to drop a producer on");
    }
}

impl Drop for KafkaWriter {
    fn drop(&mut self) {
        put_aside(self.producer.get_mut().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Writer for KafkaWriter {
    fn append(&self, room: RoomName, value: Bytes) -> BoxFuture<'static, Result<(), AppendError>> {
        let (resolve, resolved) = oneshot::channel();
        self.pending.send_modify(|pending| *pending += 1);
        let pending = Arc::clone(&self.pending);
        let done: OnDelivery = Box::new(move |outcome| {
            drop(resolve.send(outcome.map_err(|error| append_error(&error))));
            pending.send_modify(|pending| *pending -= 1);
        });
        self.send(&room, &value, Box::new(done));
        Box::pin(async {
            resolved.await.unwrap_or_else(|_| Err(AppendError::Unknown("the producer was dropped".into())))
        })
    }

    fn flush(&self, deadline: Duration) -> BoxFuture<'_, ()> {
        let mut pending = self.pending.subscribe();
        Box::pin(async move {
            let empty = pending.wait_for(|pending| *pending == 0);
            if tokio::time::timeout(deadline, empty).await.is_err() {
                tracing::warn!("appends are unresolved after the flush's deadline");
            }
        })
    }
}
