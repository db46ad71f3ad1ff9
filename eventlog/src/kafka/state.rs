//! What a new owner of a partition starts from: the committed offset, and the newest aggregate of each room.

use super::{
    client::{Clients, Isolation, Reader, Role, left_until},
    errors,
};
use crate::{decode, metrics::ALIEN_RECORDS, placement::partition_of};
use metrics::counter;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::Consumer,
    error::{KafkaError, RDKafkaErrorCode},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    thread,
    time::{Duration, Instant},
};
use wire::{Aggregate, RoomName};

/// How long one request may take; they are repeated until the deadline of the whole.
const REQUEST: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);
/// Where operators read on.
const HELP: &str = "docs/operations.md";

/// The state of one partition.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) partition: u32,
    pub(super) next_offset: u64,
    /// Offsets before that which are gone, and were not counted.
    pub(super) uncounted: u64,
    pub(super) newest: Vec<Aggregate>,
}

/// Offsets by partition.
type Offsets = BTreeMap<u32, u64>;

/// Loads the state of `partitions`, of `count` in all, as of all commits before now. The text of an error says what went
/// wrong.
pub(super) fn load(
    clients: &Clients,
    partitions: &[u32],
    count: u32,
    deadline: Instant,
) -> Result<Vec<Loaded>, String> {
    let (reactions, aggregates) = (&clients.config.reactions_topic, &clients.config.aggregates_topic);
    let reader = clients
        .reader(Role::Loader, Isolation::Committed)
        .map_err(|error: crate::OpenError| error.to_string())?;
    // In this order: once the offsets are stable, every transaction that moved them is decided, and its aggregates
    // are below the end as it is from then on.
    let committed = persist(deadline, || committed(&reader, reactions, partitions))?;
    await_decided(clients, &reader, aggregates, partitions, deadline)?;
    let begin = persist(deadline, || offsets(&reader, reactions, partitions, Offset::Beginning))?;
    let end = persist(deadline, || offsets(&reader, reactions, partitions, Offset::End))?;
    let mut newest = newest(&reader, aggregates, partitions, deadline)?;
    let state = partitions.iter().map(|partition| {
        let newest: Vec<_> = newest.remove(partition).unwrap_or_default().into_values().collect();
        refuse_moved(*partition, count, &newest)?;
        let span = begin.get(partition).copied().unwrap_or(0)..=end.get(partition).copied().unwrap_or(0);
        let known = match committed.get(partition) {
            Some(offset) => Some(*offset),
            None => expired(&reader, reactions, *partition, &newest, *span.start(), deadline)?,
        };
        let next_offset = start(*partition, known, span)
            .inspect_err(|why| tracing::error!(partition, why, "the partition can't be gone on with"))?;
        let uncounted = known.map_or(0, |known| next_offset - known);
        tell_set_back(*partition, next_offset, &newest);
        Ok(Loaded { partition: *partition, next_offset, uncounted, newest })
    });
    state.collect()
}

/// Refuses rooms that live in another partition now: their totals would begin anew there.
fn refuse_moved(partition: u32, count: u32, newest: &[Aggregate]) -> Result<(), String> {
    let home = |room: &RoomName| partition_of(room, count);
    let Some(moved) = newest.iter().find(|aggregate| home(&aggregate.room) != partition) else {
        return Ok(());
    };
    let why = format!(
        "room {} has its totals in partition {partition}, but belongs to partition {} of {count}: the number of partitions \
         was changed ({HELP}, Partitions)",
        moved.room,
        home(&moved.room)
    );
    tracing::error!(partition, why, "the partition can't be gone on with");
    Err(why)
}

/// Where to go on without a committed offset: Kafka forgets them when a group is away for long, and when the topic is
/// deleted. The aggregates tell where they end; unless the oldest record is younger than the last window.
fn expired(
    reader: &Reader,
    topic: &str,
    partition: u32,
    newest: &[Aggregate],
    begin: u64,
    deadline: Instant,
) -> Result<Option<u64>, String> {
    let Some(reached) = newest.iter().map(|aggregate| aggregate.source.to).max() else { return Ok(None) };
    let end_ms = newest.iter().map(|aggregate| aggregate.window.end).max().unwrap_or(0);
    let younger = persist(deadline, || {
        let from = list(topic, &[partition], Offset::Offset(end_ms as i64))?;
        known(&reader.offsets_for_times(from, REQUEST)?)
    })?;
    if begin < reached && younger.get(&partition) == Some(&begin) {
        let why = made_anew(partition, reached);
        tracing::error!(partition, why, "the partition can't be gone on with");
        return Err(why);
    }
    Ok(Some(reached))
}

fn made_anew(partition: u32, counted: u64) -> String {
    format!(
        "partition {partition} of the reactions was counted up to offset {counted}, but is another one now: the topic was \
         deleted and made anew, or has lost its end ({HELP}, A topic that was made anew)"
    )
}

/// Where reading begins.
fn start(partition: u32, known: Option<u64>, span: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let (begin, end) = span.into_inner();
    let Some(known) = known else { return Ok(begin) };
    if known < begin {
        tracing::error!(
            partition,
            from = known,
            to = begin,
            "reactions were deleted before they were counted"
        );
        return Ok(begin);
    }
    if known > end { Err(made_anew(partition, known)) } else { Ok(known) }
}

/// Says where what is counted already begins again.
fn tell_set_back(partition: u32, from: u64, newest: &[Aggregate]) {
    let to = newest.iter().map(|aggregate| aggregate.source.to).max().unwrap_or(0);
    if from < to {
        tracing::error!(partition, from, to, "the group's offset was set back: reactions are counted again");
    }
}

/// Waits until no transaction is open below the end that the partitions of `topic` have now. A transaction's offsets
/// may be settled before its aggregates are: the coordinator marks one partition after the other.
pub(super) fn await_decided(
    clients: &Clients,
    reader: &Reader,
    topic: &str,
    partitions: &[u32],
    deadline: Instant,
) -> Result<(), String> {
    let mut said = false;
    let probe = clients
        .reader(Role::Loader, Isolation::Uncommitted)
        .map_err(|error: crate::OpenError| error.to_string())?;
    let written = persist(deadline, || offsets(&probe, topic, partitions, Offset::End))?;
    loop {
        let decided = persist(deadline, || offsets(reader, topic, partitions, Offset::End))?;
        let open = written.iter().find(|(partition, end)| decided.get(partition) < Some(end));
        let Some((partition, end)) = open else { return Ok(()) };
        if Instant::now() >= deadline {
            return Err(format!("a transaction is open below offset {end} of {topic}/{partition}"));
        }
        if !said {
            tracing::info!(topic, partition, end, "waiting for an open transaction to end");
            said = true;
        }
        thread::sleep(PAUSE);
    }
}

/// The newest aggregate of each room, by partition.
fn newest(
    reader: &Reader,
    topic: &str,
    partitions: &[u32],
    deadline: Instant,
) -> Result<HashMap<u32, HashMap<RoomName, Aggregate>>, String> {
    let assignment = list(topic, partitions, Offset::Beginning).map_err(|error| error.to_string())?;
    reader.assign(&assignment).map_err(|error| error.to_string())?;
    let mut unread: BTreeSet<u32> = partitions.iter().copied().collect();
    let mut newest: HashMap<u32, HashMap<RoomName, Aggregate>> = HashMap::new();
    while !unread.is_empty() {
        match reader.poll(left_until(deadline).min(Duration::from_millis(100))) {
            Some(Ok(message)) => {
                let partition = message.partition() as u32;
                fold(
                    newest.entry(partition).or_default(),
                    partition,
                    message.key(),
                    message.payload(),
                    message.offset(),
                );
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&(partition as u32));
            }
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                return Err(format!("reading {topic}: {code}"));
            }
            // Said in the log by the client; it goes on by itself.
            Some(Err(_)) | None => {}
        }
        if Instant::now() >= deadline && !unread.is_empty() {
            return Err(format!("partitions {unread:?} of {topic} could not be read in time"));
        }
    }
    Ok(newest)
}

fn fold(
    newest: &mut HashMap<RoomName, Aggregate>,
    partition: u32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    offset: i64,
) {
    let Some(room) = room_of(key, partition, offset) else { return };
    match value {
        None => {
            newest.remove(&room);
        }
        Some(value) => {
            if let Some(aggregate) = decode::aggregate(partition, &room, value) {
                newest.insert(room, aggregate);
            }
        }
    }
}

/// The room that a record's key names. What is not a room name is passed over, counted and logged.
pub(super) fn room_of(key: Option<&[u8]>, partition: u32, offset: i64) -> Option<RoomName> {
    let room = str::from_utf8(key?).ok().and_then(|key| key.parse().ok());
    if room.is_none() {
        counter!(ALIEN_RECORDS).increment(1);
        tracing::warn!(
            partition,
            offset,
            "alien record of aggregates was passed over: its key is not a room"
        );
    }
    room
}

/// The committed offsets of `partitions`, those of them that have one. Waits for transactions that would change them:
/// a client that reads committed records only asks for stable offsets only.
fn committed(reader: &Reader, topic: &str, partitions: &[u32]) -> Result<Offsets, KafkaError> {
    let asked = list(topic, partitions, Offset::Invalid)?;
    known(&reader.committed_offsets(asked, REQUEST)?)
}

/// The oldest or the next offset of `partitions`. Of a client that reads committed records only, the next is the
/// first one that is not decided.
fn offsets(reader: &Reader, topic: &str, partitions: &[u32], which: Offset) -> Result<Offsets, KafkaError> {
    let known = known(&reader.offsets_for_times(list(topic, partitions, which)?, REQUEST)?)?;
    if known.len() < partitions.len() {
        return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition));
    }
    Ok(known)
}

fn known(list: &TopicPartitionList) -> Result<Offsets, KafkaError> {
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

/// Repeats a request until it is answered, or `deadline`.
fn persist<T>(deadline: Instant, request: impl Fn() -> Result<T, KafkaError>) -> Result<T, String> {
    loop {
        match request() {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() < deadline && !errors::is_final(&error) => thread::sleep(PAUSE),
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn reading_begins_at_the_known_offset_or_at_the_oldest_record() {
        assert_eq!(start(0, Some(7), 0..=20), Ok(7));
        assert_eq!(start(0, Some(20), 0..=20), Ok(20));
        assert_eq!(start(0, None, 3..=20), Ok(3));
        assert_eq!(start(0, Some(7), 10..=20), Ok(10), "what was deleted can't be read");
    }

    #[test]
    fn a_request_is_repeated_until_the_deadline_unless_that_is_of_no_use() {
        // Answered the third time: how often it was asked.
        let ask = |code: RDKafkaErrorCode, deadline: Instant| {
            let asked = Cell::new(0);
            let answer = persist(deadline, || {
                asked.set(asked.get() + 1);
                if asked.get() < 3 { Err(KafkaError::OffsetFetch(code)) } else { Ok(()) }
            });
            (answer.is_ok(), asked.get())
        };
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(60));
        assert_eq!(ask(RDKafkaErrorCode::RequestTimedOut, later), (true, 3));
        assert_eq!(ask(RDKafkaErrorCode::GroupAuthorizationFailed, later), (false, 1));
        assert_eq!(ask(RDKafkaErrorCode::RequestTimedOut, now), (false, 1));
    }

    #[test]
    fn a_partition_without_an_offset_has_none() {
        let mut answer = list("t", &[1, 4], Offset::Offset(7)).unwrap();
        answer.add_partition_offset("t", 2, Offset::Invalid).unwrap();
        assert_eq!(known(&answer).unwrap(), [(1, 7), (4, 7)].into());
    }

    #[test]
    fn a_log_that_ends_before_what_was_counted_of_it_is_refused() {
        let why = start(5, Some(27), 10..=20).unwrap_err();
        assert!(
            why.contains("partition 5") && why.contains("27") && why.contains("docs/operations.md"),
            "{why}"
        );
    }

    #[test]
    fn rooms_that_live_elsewhere_by_the_number_of_partitions_are_refused() {
        let aggregate = Aggregate::decode(include_bytes!("../../../wire/golden/aggregate.json")).unwrap();
        let home = |count| partition_of(&aggregate.room, count);
        let moved = (9..).find(|count| home(*count) != home(8)).unwrap();
        let newest = [aggregate.clone()];
        assert_eq!(refuse_moved(home(8), 8, &newest), Ok(()));
        let why = refuse_moved(home(8), moved, &newest).unwrap_err();
        assert!(why.contains(&*aggregate.room) && why.contains(&format!("of {moved}")), "{why}");
    }

    #[test]
    fn the_last_record_of_a_room_counts_and_a_tombstone_forgets_it() {
        let golden = include_bytes!("../../../wire/golden/aggregate.json");
        let first = Aggregate::decode(golden).unwrap();
        let second = Aggregate { seq: first.seq + 1, ..first.clone() };
        let key = first.room.as_bytes();
        let mut newest = HashMap::new();
        fold(&mut newest, 3, Some(key), Some(golden), 0);
        fold(&mut newest, 3, Some(key), Some(&second.encode()), 1);
        fold(&mut newest, 3, Some(b"not a room"), Some(golden), 2);
        fold(&mut newest, 3, Some(key), Some(b"not an aggregate"), 3);
        assert_eq!(newest.values().map(|aggregate| aggregate.seq).collect::<Vec<_>>(), [second.seq]);
        fold(&mut newest, 3, Some(key), None, 4);
        assert!(newest.is_empty());
    }
}
