//! Reads all partitions of `aggregates`, without a group.

use super::{
    client::{Clients, Isolation, Reader, Role},
    state::{Decided, await_decided, room_of},
    thread,
    topic_reader::{LoadUntil, Polled, list, poll, positions},
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
    let all: Vec<u32> = (0..partitions).collect();
    let longest = Duration::from_millis(clients.config.transaction_timeout_ms.into());
    let (deadline, is_closed) = (Instant::now() + longest + START, || events.is_closed());
    // A commit is answered before it is marked in each partition: what was answered must be seen.
    let Decided { begins, ends, open } = await_decided(clients, reader, topic, &all, deadline, &is_closed)?;
    if let Some(why) = open {
        tracing::warn!(why, "following begins before all commits are decided");
    }
    let failed = |error: KafkaError| format!("reading {topic}: {error}");
    list(topic, &all, Offset::Beginning).and_then(|list| reader.assign(&list)).map_err(failed)?;
    let mut behind = LoadUntil::new(&begins, &ends, STALL, Instant::now());
    let mut is_told = false;
    while !events.is_closed() {
        let records = take_chunk(reader, &mut behind, follow_record).map_err(failed)?;
        behind.check(Instant::now()).map_err(|why| format!("reading {topic}: {why}"))?;
        if !records.is_empty() {
            if events.blocking_send(FollowEvent::Records(records)).is_err() {
                break;
            }
            behind.resume(Instant::now());
        }
        if !is_told && behind.is_done() {
            is_told = true;
            if events.blocking_send(FollowEvent::CaughtUp).is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// Up to one chunk of the records that the client has, each made by `take`. `behind` hears how far that is.
pub(super) fn take_chunk<T>(
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
