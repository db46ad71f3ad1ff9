//! Reads partitions of a topic, each up to an offset that its leader named.
//!
//! librdkafka reports the end of a partition when a fetch response says so. That response may come from a follower, or from
//! a leader that has just been elected, and both may lag. So that report ends nothing here: a partition is read when the
//! position has reached the leader's end. The position counts markers of transactions too.

use super::{
    client::Reader,
    errors::{ends_reading, keeps_out},
};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::Consumer,
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Offsets by partition.
pub(super) type Offsets = BTreeMap<u32, u64>;

/// Which partitions are not read to their ends yet, and whether reading moves. It knows no clock.
#[derive(Debug)]
pub(super) struct LoadUntil {
    unread: BTreeMap<u32, Unread>,
    stall: Duration,
    moved: bool,
    moved_at: Instant,
}

#[derive(Debug)]
struct Unread {
    position: u64,
    end: u64,
}

impl LoadUntil {
    /// Reads each partition of `ends` from its oldest offset in `begins` (0 where it has none). Reading stalls when no
    /// position moves for `stall`.
    pub(super) fn new(begins: &Offsets, ends: &Offsets, stall: Duration, now: Instant) -> Self {
        let unread = ends.iter().map(|(partition, end)| {
            let position = begins.get(partition).copied().unwrap_or(0);
            (*partition, Unread { position, end: *end })
        });
        let unread = unread.filter(|(_, unread)| unread.position < unread.end).collect();
        Self { unread, stall, moved: false, moved_at: now }
    }

    /// The next offset to be read of `partition` is `position`. Returns whether this was the last step to its end.
    pub(super) fn advance(&mut self, partition: u32, position: u64) -> bool {
        let Some(unread) = self.unread.get_mut(&partition) else { return false };
        if position > unread.position {
            unread.position = position;
            self.moved = true;
        }
        let is_read = unread.position >= unread.end;
        if is_read {
            self.unread.remove(&partition);
        }
        is_read
    }

    /// Nobody waits for this partition any more.
    pub(super) fn forget(&mut self, partition: u32) {
        self.unread.remove(&partition);
    }

    pub(super) fn is_read(&self, partition: u32) -> bool {
        !self.unread.contains_key(&partition)
    }

    pub(super) fn is_done(&self) -> bool {
        self.unread.is_empty()
    }

    /// Time that the caller spent elsewhere does not count as a stall.
    pub(super) fn resume(&mut self, now: Instant) {
        self.moved_at = now;
    }

    /// # Errors
    ///
    /// Reading stalls: the text names a partition, its position and its end.
    pub(super) fn check(&mut self, now: Instant) -> Result<(), String> {
        if std::mem::take(&mut self.moved) {
            self.moved_at = now;
        }
        let Some((partition, Unread { position, end })) = self.unread.first_key_value() else {
            return Ok(());
        };
        if now.saturating_duration_since(self.moved_at) < self.stall {
            return Ok(());
        }
        Err(format!(
            "nothing came for {} ms, with partition {partition} read up to {position} of {end}: are the brokers there?",
            self.stall.as_millis()
        ))
    }
}

/// What a poll brought.
pub(super) enum Polled<'a> {
    Record(BorrowedMessage<'a>),
    /// A fetch response said that this is the end of the partition.
    End(u32),
    /// Nothing, or an error that the client gets over by itself. The client has logged it.
    Nothing,
}

/// Asks the client for the next record.
///
/// # Errors
///
/// Reading can't go on: the offset is gone, or somebody must change something, such as rights.
pub(super) fn poll(reader: &Reader, timeout: Duration) -> Result<Polled<'_>, KafkaError> {
    match reader.poll(timeout) {
        Some(Ok(message)) => Ok(Polled::Record(message)),
        Some(Err(KafkaError::PartitionEOF(partition))) => Ok(Polled::End(partition as u32)),
        Some(Err(error)) if ends_reading(&error) || keeps_out(&error) => Err(error),
        Some(Err(_)) | None => Ok(Polled::Nothing),
    }
}

/// The next offset of each partition that is read now, markers of transactions included.
pub(super) fn positions(reader: &Reader) -> Result<Offsets, KafkaError> {
    known(&reader.position()?)
}

/// The partitions of `list` that have an offset.
///
/// # Errors
///
/// The error of the first partition that has one.
pub(super) fn known(list: &TopicPartitionList) -> Result<Offsets, KafkaError> {
    let mut offsets = Offsets::new();
    for element in list.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            offsets.insert(element.partition() as u32, offset as u64);
        }
    }
    Ok(offsets)
}

/// `partitions` of `topic`, each at `offset`.
pub(super) fn list(
    topic: &str,
    partitions: &[u32],
    offset: Offset,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition_offset(topic, *partition as i32, offset)?;
    }
    Ok(list)
}

/// The oldest or the next offset of `partitions`, as their leaders tell. Of a client that reads committed records only,
/// the next is the first one that is not decided.
pub(super) fn offsets(
    reader: &Reader,
    topic: &str,
    partitions: &[u32],
    which: Offset,
    timeout: Duration,
) -> Result<Offsets, KafkaError> {
    let known = known(&reader.offsets_for_times(list(topic, partitions, which)?, timeout)?)?;
    if known.len() < partitions.len() {
        return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition));
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(30);

    #[test]
    fn a_partition_is_read_when_its_position_has_reached_the_leaders_end() {
        let now = Instant::now();
        let mut until = LoadUntil::new(&[(0, 0), (1, 5)].into(), &[(0, 10), (1, 8)].into(), STALL, now);
        // A lagging follower reports its end here.
        assert!(!until.advance(0, 7));
        assert!(!until.is_read(0));
        assert!(until.advance(1, 8));
        assert!(!until.advance(0, 9) && !until.is_done());
        // A record behind the end, which came meanwhile.
        assert!(until.advance(0, 12) && until.is_done());
        assert!(!until.advance(0, 13), "told once");
    }

    #[test]
    fn what_is_empty_or_deleted_is_read_and_what_nobody_waits_for_is_not_waited_for() {
        let now = Instant::now();
        let ends: Offsets = [(0, 0), (1, 7), (2, 7), (3, 7)].into();
        let mut until = LoadUntil::new(&[(0, 0), (1, 7), (2, 9)].into(), &ends, STALL, now);
        assert!(until.is_read(0) && until.is_read(1) && until.is_read(2) && !until.is_read(3));
        until.forget(3);
        assert!(until.is_done());
    }

    #[test]
    fn reading_may_take_any_time_while_it_moves_and_stalls_when_nothing_moves() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut until = LoadUntil::new(&Offsets::new(), &[(0, 1_000), (1, 1)].into(), STALL, start);
        for step in 1..=100 {
            until.advance(0, step);
            assert_eq!(until.check(at(step * 29)), Ok(()));
        }
        // The same position again is no progress.
        until.advance(0, 100);
        assert_eq!(until.check(at(2_929)), Ok(()));
        let why = until.check(at(2_930)).unwrap_err();
        assert!(
            why.contains("partition 0") && why.contains("100 of 1000") && why.contains("30000 ms"),
            "{why}"
        );
        until.resume(at(2_930));
        assert_eq!(until.check(at(2_959)), Ok(()));
    }

    #[test]
    fn a_partition_without_an_offset_has_none() {
        let mut answer = list("t", &[1, 4], Offset::Offset(7)).unwrap();
        answer.add_partition_offset("t", 2, Offset::Invalid).unwrap();
        assert_eq!(known(&answer).unwrap(), [(1, 7), (4, 7)].into());
    }
}
