//! The lossy channel: topic `occupancy`, one partition, read from its end.

use super::{
    client::{Clients, OnDelivery, Producer, Reader},
    thread,
    topic_reader::{Polled, list, poll},
    topics,
};
use crate::{BoxFuture, FeedError, LossyChannel, OpenError};
use bytes::Bytes;
use rdkafka::{
    Message, Offset,
    consumer::Consumer,
    error::KafkaError,
    producer::{BaseRecord, Producer as _, PurgeConfig},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// All records are in this one.
const PARTITION: u32 = 0;
/// Records that may wait for the caller. The client library reads ahead by `queued.max.messages.kbytes`, then it waits.
const QUEUE: usize = 64;
/// How often the thread looks whether the channel is closed.
const POLL: Duration = Duration::from_millis(100);

/// The caller's side.
pub(super) struct KafkaChannel {
    topic: String,
    /// `None` only while it is dropped.
    producer: Option<Producer>,
    /// Ends with an error where the thread that reads has ended.
    records: mpsc::Receiver<Result<Bytes, String>>,
}

/// Makes the topic where it is missing, and starts the thread that reads it. The thread ends with the channel.
pub(super) async fn open(clients: Arc<Clients>) -> Result<KafkaChannel, OpenError> {
    let (preparing, runtime) = (Arc::clone(&clients), tokio::runtime::Handle::current());
    let prepare = move || topics::prepare_occupancy(&preparing, &runtime);
    thread::ask("kafka-open", topics::DEADLINE, prepare)
        .await
        .ok_or_else(|| OpenError::Unavailable("the brokers did not answer in time".into()))??;
    let (reader, producer) = (clients.lossy_reader()?, clients.lossy_writer()?);
    let (sender, records) = mpsc::channel(QUEUE);
    let topic = clients.config.occupancy_topic.clone();
    let of = topic.clone();
    thread::start("kafka-occupancy", move || {
        if let Err(error) = read(&reader, &of, &sender) {
            let _ = sender.blocking_send(Err(format!("reading {of}: {error}")));
        }
        drop(sender);
        // May hang; nobody waits for it.
        drop(reader);
    })
    .map_err(|error| OpenError::Unavailable(error.to_string()))?;
    Ok(KafkaChannel { topic, producer: Some(producer), records })
}

fn read(
    reader: &Reader,
    topic: &str,
    records: &mpsc::Sender<Result<Bytes, String>>,
) -> Result<(), KafkaError> {
    reader.assign(&list(topic, &[PARTITION], Offset::End)?)?;
    while !records.is_closed() {
        let Polled::Record(message) = poll(reader, POLL)? else { continue };
        let record = Bytes::copy_from_slice(message.payload().unwrap_or_default());
        if records.blocking_send(Ok(record)).is_err() {
            break;
        }
    }
    Ok(())
}

impl LossyChannel for KafkaChannel {
    fn send(&self, record: Bytes) -> bool {
        let Some(producer) = &self.producer else { return false };
        let delivered: OnDelivery = Box::new(|outcome| {
            if let Err(error) = outcome {
                tracing::debug!(?error, "a record of viewers was lost");
            }
        });
        let record = BaseRecord::with_opaque_to(&self.topic, Box::new(delivered))
            .partition(PARTITION as i32)
            .payload(&record[..]);
        producer.send::<(), [u8]>(record).is_ok()
    }

    fn receive(&mut self) -> BoxFuture<'_, Result<Bytes, FeedError>> {
        Box::pin(async {
            let record = self.records.recv().await;
            let record = record.unwrap_or_else(|| Err("the thread of the reader ended".into()));
            record.map_err(FeedError::Reopen)
        })
    }
}

/// Dropping the producer may hang, and what it holds may be lost.
impl Drop for KafkaChannel {
    fn drop(&mut self) {
        let Some(producer) = self.producer.take() else { return };
        let give_up = move || {
            producer.purge(PurgeConfig::default().queue().inflight());
            drop(producer);
        };
        if let Err(error) = thread::start("kafka-drop", give_up) {
            tracing::warn!(%error, "no thread to drop a producer on");
        }
    }
}
