//! Reads all partitions of `aggregates`, without a group.

use super::{
    client::{Clients, Isolation, Reader, Role},
    errors::ends_reading,
    state::{await_decided, list, room_of},
    thread,
};
use crate::{BoxFuture, FeedError, FollowEvent, FollowedRecord, Follower, OpenError};
use bytes::Bytes;
use rdkafka::{Message, Offset, consumer::Consumer, error::KafkaError};
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};

/// Events that may wait for the caller.
const QUEUE: usize = 16;
/// Most records of one event.
const CHUNK: usize = 512;
/// What the first requests may take beyond the longest transaction that they may have to wait for.
const START: Duration = Duration::from_secs(15);

/// The caller's side.
pub(super) struct KafkaFollower {
    events: mpsc::Receiver<FollowEvent>,
    broken: Option<oneshot::Receiver<String>>,
    why: String,
}

/// Starts the thread that reads. It ends with the follower.
pub(super) fn open(clients: Arc<Clients>, partitions: u32) -> Result<KafkaFollower, OpenError> {
    let reader = clients.reader(Role::Follower, Isolation::Committed)?;
    let (events, receiver) = mpsc::channel(QUEUE);
    let (break_it, broken) = oneshot::channel();
    thread::start("kafka-follow", move || {
        if let Err(why) = follow(&clients, &reader, partitions, &events) {
            tracing::warn!(why, "the follower is broken");
            drop(break_it.send(why));
        }
        drop(events);
        // May hang; nobody waits for it.
        drop(reader);
    })
    .map_err(|error| OpenError::Unavailable(error.to_string()))?;
    Ok(KafkaFollower { events: receiver, broken: Some(broken), why: String::new() })
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
    // A commit is answered before it is marked in each partition: what was answered must be seen.
    if let Err(why) = await_decided(clients, reader, topic, &all, Instant::now() + longest + START) {
        tracing::warn!(why, "following begins before all commits are decided");
    }
    let assignment = list(topic, &all, Offset::Beginning).map_err(|error| error.to_string())?;
    reader.assign(&assignment).map_err(|error| error.to_string())?;
    let mut behind: BTreeSet<u32> = all.into_iter().collect();
    while !events.is_closed() {
        let (records, reached) = poll(reader)?;
        if !records.is_empty() && events.blocking_send(FollowEvent::Records(records)).is_err() {
            break;
        }
        let was_behind = !behind.is_empty();
        behind.retain(|partition| !reached.contains(partition));
        if was_behind && behind.is_empty() && events.blocking_send(FollowEvent::CaughtUp).is_err() {
            break;
        }
    }
    Ok(())
}

/// What the client has, up to one chunk, and the partitions whose end was reached.
fn poll(reader: &Reader) -> Result<(Vec<FollowedRecord>, Vec<u32>), String> {
    let (mut records, mut reached) = (Vec::new(), Vec::new());
    let mut timeout = Duration::from_millis(100);
    while records.len() < CHUNK {
        match reader.poll(timeout) {
            None => break,
            Some(Ok(message)) => {
                let room = room_of(message.key(), message.partition() as u32, message.offset());
                let value = message.payload().map(Bytes::copy_from_slice);
                records.extend(room.map(|room| FollowedRecord { room, value }));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => reached.push(partition as u32),
            Some(Err(error)) if ends_reading(&error) => return Err(error.to_string()),
            // Said in the log by the client; it goes on by itself.
            Some(Err(_)) => {}
        }
        timeout = Duration::ZERO;
    }
    Ok((records, reached))
}

impl Follower for KafkaFollower {
    fn next(&mut self) -> BoxFuture<'_, Result<FollowEvent, FeedError>> {
        Box::pin(async {
            if let Some(event) = self.events.recv().await {
                return Ok(event);
            }
            if let Some(broken) = &mut self.broken {
                self.why = broken.await.unwrap_or_else(|_| "the thread of the follower ended".into());
                self.broken = None;
            }
            Err(FeedError::Reopen(self.why.clone()))
        })
    }
}
