//! Reads all partitions of `windows`, without a group, from offsets that the caller knows.

use super::{
    client::{Clients, Reader},
    follower::{Following, STALL, START, take_chunk},
    state::{Decided, await_decided, room_of},
    topic_reader::{LoadUntil, Offsets},
};
use crate::{
    BoxFuture, FeedError, OpenError,
    windows::{FollowedWindow, WindowEvent, WindowFollower, WindowOffsets},
};
use bytes::Bytes;
use rdkafka::{
    Message, Offset, TopicPartitionList, consumer::Consumer, error::KafkaError, message::BorrowedMessage,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Follows `windows`.
pub(super) fn open(
    clients: Arc<Clients>,
    partitions: u32,
    from: WindowOffsets,
) -> Result<Following<WindowEvent>, OpenError> {
    Following::start("kafka-windows", clients, move |clients, reader, events| {
        follow(clients, reader, partitions, &from, events)
    })
}

fn follow(
    clients: &Clients,
    reader: &Reader,
    partitions: u32,
    from: &WindowOffsets,
    events: &mpsc::Sender<WindowEvent>,
) -> Result<(), String> {
    let topic = &clients.config.windows_topic;
    let all: Vec<u32> = (0..partitions).collect();
    let longest = Duration::from_millis(clients.config.transaction_timeout_ms.into());
    let (deadline, is_closed) = (Instant::now() + longest + START, || events.is_closed());
    // A commit is answered before it is marked in each partition: what was answered must be seen.
    let Decided { begins, ends, open } = await_decided(clients, reader, topic, &all, deadline, &is_closed)?;
    if let Some(why) = open {
        tracing::warn!(why, "following begins before all commits are decided");
    }
    let starts = starts(from, &begins, &ends);
    let failed = |error: KafkaError| format!("reading {topic}: {error}");
    assign(reader, topic, &starts).map_err(failed)?;
    let mut behind = LoadUntil::new(&starts, &ends, STALL, Instant::now());
    let mut is_told = false;
    if events.blocking_send(WindowEvent::Starts(starts)).is_err() {
        return Ok(());
    }
    while !events.is_closed() {
        let records = take_chunk(reader, &mut behind, followed_window).map_err(failed)?;
        behind.check(Instant::now()).map_err(|why| format!("reading {topic}: {why}"))?;
        if !records.is_empty() {
            if events.blocking_send(WindowEvent::Records(records)).is_err() {
                break;
            }
            behind.resume(Instant::now());
        }
        if !is_told && behind.is_done() {
            is_told = true;
            if events.blocking_send(WindowEvent::CaughtUp).is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// Where reading of each partition starts.
fn starts(from: &WindowOffsets, begins: &Offsets, ends: &Offsets) -> Offsets {
    let start = |(partition, end): (&u32, &u64)| {
        let begin = begins.get(partition).copied().unwrap_or(0);
        let asked = from.get(partition).copied().unwrap_or(begin);
        // The topic never had an offset beyond its end: it is another topic.
        (*partition, if asked > *end { begin } else { asked.max(begin) })
    };
    ends.iter().map(start).collect()
}

fn assign(reader: &Reader, topic: &str, starts: &Offsets) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::with_capacity(starts.len());
    for (partition, start) in starts {
        list.add_partition_offset(topic, *partition as i32, Offset::Offset(*start as i64))?;
    }
    reader.assign(&list)
}

fn followed_window(message: &BorrowedMessage<'_>) -> Option<FollowedWindow> {
    let (partition, offset) = (message.partition() as u32, message.offset());
    let room = room_of(message.key(), partition, offset)?;
    let value = message.payload().map(Bytes::copy_from_slice).unwrap_or_default();
    Some(FollowedWindow { partition, offset: offset as u64, room, value })
}

impl WindowFollower for Following<WindowEvent> {
    fn next(&mut self) -> BoxFuture<'_, Result<WindowEvent, FeedError>> {
        Box::pin(Self::next(self))
    }
}

#[cfg(test)]
mod tests {
    use super::starts;

    #[test]
    fn reading_starts_where_the_index_ends_unless_the_topic_has_no_such_offset() {
        let (begins, ends) =
            ([(0, 10), (1, 10), (2, 10), (3, 10)].into(), [(0, 50), (1, 50), (2, 50), (3, 50)].into());
        // Known, deleted meanwhile, of another topic, and new.
        let starts = starts(&[(0, 20), (1, 5), (2, 51)].into(), &begins, &ends);
        assert_eq!(starts, [(0, 20), (1, 10), (2, 10), (3, 10)].into());
    }
}
