//! Reads all partitions of `windows`, without a group, from offsets that the caller knows.

use super::{
    client::{Clients, Reader},
    follower::{Following, STALL, decided_spans, hand_over, next_records},
    state::room_of,
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
use std::{sync::Arc, time::Instant};
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
    let (begins, ends) = decided_spans(clients, reader, topic, partitions, events)?;
    let starts = starts(from, &begins, &ends);
    assign(reader, topic, &starts).map_err(|error| format!("reading {topic}: {error}"))?;
    let behind = LoadUntil::new(&starts, &ends, STALL, Instant::now());
    if events.blocking_send(WindowEvent::Starts(starts)).is_err() {
        return Ok(());
    }
    let read = |behind: &mut LoadUntil| next_records(reader, topic, behind, followed_window);
    hand_over(behind, read, (WindowEvent::Records, WindowEvent::CaughtUp), events)
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
