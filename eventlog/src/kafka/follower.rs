//! Reads all partitions of `aggregates`, without a group.

use super::{
    client::{Clients, Isolation, Reader, Role},
    state::{Decided, await_decided, room_of},
    thread,
    topic_reader::{LoadUntil, Offsets, Polled, list, poll, positions},
};
use crate::{BoxFuture, FeedError, FollowEvent, FollowedRecord, Follower, OpenError};
use bytes::Bytes;
use rdkafka::{Message, Offset, consumer::Consumer, error::KafkaError, message::BorrowedMessage};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};

/// Events that may wait for the caller.
const QUEUE: usize = 16;
/// Most records of one event.
const CHUNK: usize = 512;
/// What the first requests may take beyond the longest transaction that they may have to wait for.
pub(super) const START: Duration = Duration::from_secs(15);
/// How long it may wait for the next record until it has caught up.
pub(super) const STALL: Duration = Duration::from_secs(30);

/// The caller's side of a thread that reads a topic.
pub(super) struct Following<E> {
    events: mpsc::Receiver<E>,
    broken: Option<oneshot::Receiver<String>>,
    why: String,
}

impl<E: Send + 'static> Following<E> {
    /// Starts the thread. It ends when this is dropped.
    pub(super) fn start(
        name: &'static str,
        clients: Arc<Clients>,
        follow: impl FnOnce(&Clients, &Reader, &mpsc::Sender<E>) -> Result<(), String> + Send + 'static,
    ) -> Result<Self, OpenError> {
        let reader = clients.reader(Role::Follower, Isolation::Committed)?;
        let (events, receiver) = mpsc::channel(QUEUE);
        let (break_it, broken) = oneshot::channel();
        thread::start(name, move || {
            if let Err(why) = follow(&clients, &reader, &events) {
                tracing::warn!(why, name, "the follower is broken");
                drop(break_it.send(why));
            }
            drop(events);
            // May hang; nobody waits for it.
            drop(reader);
        })
        .map_err(|error| OpenError::Unavailable(error.to_string()))?;
        Ok(Self { events: receiver, broken: Some(broken), why: String::new() })
    }

    /// The next event. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<E, FeedError> {
        if let Some(event) = self.events.recv().await {
            return Ok(event);
        }
        if let Some(broken) = &mut self.broken {
            self.why = broken.await.unwrap_or_else(|_| "the thread of the follower ended".into());
            self.broken = None;
        }
        Err(FeedError::Reopen(self.why.clone()))
    }
}

/// Follows `aggregates`.
pub(super) fn open(clients: Arc<Clients>, partitions: u32) -> Result<Following<FollowEvent>, OpenError> {
    Following::start("kafka-follow", clients, move |clients, reader, events| {
        follow(clients, reader, partitions, events)
    })
}

fn follow_record(message: &BorrowedMessage<'_>) -> Option<FollowedRecord> {
    let room = room_of(message.key(), message.partition() as u32, message.offset())?;
    Some(FollowedRecord { room, value: message.payload().map(Bytes::copy_from_slice) })
}

fn follow(
    clients: &Clients,
    reader: &Reader,
    partitions: u32,
    events: &mpsc::Sender<FollowEvent>,
) -> Result<(), String> {
    let topic = &clients.config.aggregates_topic;
    let (begins, ends) = decided_spans(clients, reader, topic, partitions, events)?;
    let assigned = list(topic, &(0..partitions).collect::<Vec<_>>(), Offset::Beginning);
    let assigned = assigned.and_then(|list| reader.assign(&list));
    assigned.map_err(|error| format!("reading {topic}: {error}"))?;
    let behind = LoadUntil::new(&begins, &ends, STALL, Instant::now());
    let read = |behind: &mut LoadUntil| next_records(reader, topic, behind, follow_record);
    hand_over(behind, read, (FollowEvent::Records, FollowEvent::CaughtUp), events)
}

/// Where each partition begins and ends, once the commits that were answered are marked there: they must be seen.
pub(super) fn decided_spans<E>(
    clients: &Clients,
    reader: &Reader,
    topic: &str,
    partitions: u32,
    events: &mpsc::Sender<E>,
) -> Result<(Offsets, Offsets), String> {
    let all: Vec<u32> = (0..partitions).collect();
    let longest = Duration::from_millis(clients.config.transaction_timeout_ms.into());
    let (deadline, is_closed) = (Instant::now() + longest + START, || events.is_closed());
    let Decided { begins, ends, open } = await_decided(clients, reader, topic, &all, deadline, &is_closed)?;
    if let Some(why) = open {
        tracing::warn!(why, "following begins before all commits are decided");
    }
    Ok((begins, ends))
}

/// Hands over what `read` gives, and says once that all that there was at the start has been given. Ends when nobody listens any more.
pub(super) fn hand_over<T, E>(
    mut behind: LoadUntil,
    read: impl Fn(&mut LoadUntil) -> Result<Vec<T>, String>,
    (records_event, caught_up): (fn(Vec<T>) -> E, E),
    events: &mpsc::Sender<E>,
) -> Result<(), String> {
    let mut caught_up = Some(caught_up);
    while !events.is_closed() {
        let records = read(&mut behind)?;
        if !records.is_empty() {
            if events.blocking_send(records_event(records)).is_err() {
                break;
            }
            behind.resume(Instant::now());
        }
        if behind.is_done()
            && let Some(event) = caught_up.take()
            && events.blocking_send(event).is_err()
        {
            break;
        }
    }
    Ok(())
}

/// Up to one chunk of the records that the client has, each made by `take`. `behind` hears how far that is.
///
/// # Errors
///
/// The topic can't be read, or reading stalls before its end. The text says why.
pub(super) fn next_records<T>(
    reader: &Reader,
    topic: &str,
    behind: &mut LoadUntil,
    take: impl Fn(&BorrowedMessage<'_>) -> Option<T>,
) -> Result<Vec<T>, String> {
    let records = take_chunk(reader, behind, take).map_err(|error| format!("reading {topic}: {error}"))?;
    behind.check(Instant::now()).map_err(|why| format!("reading {topic}: {why}"))?;
    Ok(records)
}

fn take_chunk<T>(
    reader: &Reader,
    behind: &mut LoadUntil,
    take: impl Fn(&BorrowedMessage<'_>) -> Option<T>,
) -> Result<Vec<T>, KafkaError> {
    let mut records = Vec::new();
    let mut timeout = Duration::from_millis(100);
    while records.len() < CHUNK {
        match poll(reader, timeout)? {
            Polled::Nothing => break,
            Polled::Record(message) => {
                let (partition, offset) = (message.partition() as u32, message.offset());
                records.extend(take(&message));
                behind.advance(partition, offset as u64 + 1);
            }
            Polled::End(_) if behind.is_done() => {}
            Polled::End(_) => {
                for (partition, position) in positions(reader)? {
                    behind.advance(partition, position);
                }
            }
        }
        timeout = Duration::ZERO;
    }
    Ok(records)
}

impl Follower for Following<FollowEvent> {
    fn next(&mut self) -> BoxFuture<'_, Result<FollowEvent, FeedError>> {
        Box::pin(Self::next(self))
    }
}
