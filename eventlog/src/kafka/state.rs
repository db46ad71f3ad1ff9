//! What a new owner of a partition starts from: the committed offset, and the newest aggregate of each room.

use super::{
    client::{Clients, Isolation, Reader, Role},
    errors,
    topic_reader::{Offsets, known, list, offsets},
};
use crate::{metrics::ALIEN_RECORDS, placement::partition_of};
use metrics::counter;
use rdkafka::{Offset, consumer::Consumer, error::KafkaError};
use std::{
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
    /// Records of `aggregates` that were read for it, superseded ones included.
    pub(super) records: u64,
}

/// Where the partitions of a load stand.
#[derive(Debug)]
pub(super) struct Positions {
    /// Of those that have one.
    committed: Offsets,
    /// The oldest and the next offset of `aggregates`, as the leaders tell.
    pub(super) begins: Offsets,
    pub(super) ends: Offsets,
    /// The oldest and the next offset of `reactions`.
    oldest: Offsets,
    next: Offsets,
}

impl Positions {
    /// Asks for them, and waits until every transaction that moved the committed offsets is decided.
    pub(super) fn ask(
        clients: &Clients,
        reader: &Reader,
        partitions: &[u32],
        deadline: Instant,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Self, String> {
        let (reactions, aggregates) = (&clients.config.reactions_topic, &clients.config.aggregates_topic);
        // In this order: once the offsets are stable, every transaction that moved them is decided, and its aggregates
        // are below the end as it is from then on.
        let committed = persist(deadline, is_stopped, || committed(reader, reactions, partitions))?;
        let Decided { begins, ends, open } =
            await_decided(clients, reader, aggregates, partitions, deadline, is_stopped)?;
        if let Some(why) = open {
            return Err(why);
        }
        let ask =
            |which| persist(deadline, is_stopped, || offsets(reader, reactions, partitions, which, REQUEST));
        let (oldest, next) = (ask(Offset::Beginning)?, ask(Offset::End)?);
        Ok(Self { committed, begins, ends, oldest, next })
    }
}

/// Decides where reading of `partition`, of `count` in all, begins. The text of an error says why it can't.
pub(super) fn start_from(
    clients: &Clients,
    reader: &Reader,
    positions: &Positions,
    partition: u32,
    count: u32,
    newest: Vec<Aggregate>,
    deadline: Instant,
) -> Result<Loaded, String> {
    let of = |offsets: &Offsets| offsets.get(&partition).copied();
    refuse_moved(partition, count, &newest)?;
    let span = of(&positions.oldest).unwrap_or(0)..=of(&positions.next).unwrap_or(0);
    let known = match of(&positions.committed) {
        Some(offset) => Some(offset),
        None => {
            let topic = &clients.config.reactions_topic;
            expired(reader, topic, partition, &newest, *span.start(), deadline)?
        }
    };
    let next_offset = start(partition, known, span)
        .inspect_err(|why| tracing::error!(partition, why, "the partition can't be gone on with"))?;
    let uncounted = known.map_or(0, |known| next_offset - known);
    tell_set_back(partition, next_offset, &newest);
    Ok(Loaded { partition, next_offset, uncounted, newest, records: 0 })
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
    let younger = persist(deadline, &|| false, || {
        let from = list(topic, &[partition], Offset::Offset(end_ms as i64))?;
        known(&reader.offsets_for_times(from, REQUEST)?)
    })?;
    if begin < reached && younger.get(&partition) == Some(&begin) {
        let why = made_anew(partition, reached);
        tracing::error!(partition, why, "the partition can't be gone on with");
        return Err(why);
    }
    // A window that only forgot rooms leaves no aggregate behind that tells of it.
    tracing::warn!(
        partition,
        from = reached,
        "the group has no committed offset: reading begins where the newest aggregate ends. Reactions of rooms that were \
         forgotten since then are counted again (docs/operations.md, Offsets that expired)"
    );
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

/// Where the partitions of a topic end, as their leaders tell, for a client that reads committed records only.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) begins: Offsets,
    pub(super) ends: Offsets,
    /// A transaction that was still open when the time was up.
    pub(super) open: Option<String>,
}

/// Waits until no transaction is open below the end that the partitions of `topic` have now. A transaction's offsets
/// may be settled before its aggregates are: the coordinator marks one partition after the other.
pub(super) fn await_decided(
    clients: &Clients,
    reader: &Reader,
    topic: &str,
    partitions: &[u32],
    deadline: Instant,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Decided, String> {
    let mut said = false;
    let probe = clients
        .reader(Role::Loader, Isolation::Uncommitted)
        .map_err(|error: crate::OpenError| error.to_string())?;
    let ask = |reader: &Reader, which| {
        persist(deadline, is_stopped, || offsets(reader, topic, partitions, which, REQUEST))
    };
    let written = ask(&probe, Offset::End)?;
    let begins = ask(reader, Offset::Beginning)?;
    loop {
        let ends = ask(reader, Offset::End)?;
        let open = written.iter().find(|(partition, end)| ends.get(partition) < Some(end));
        let Some((partition, end)) = open else { return Ok(Decided { begins, ends, open: None }) };
        if Instant::now() >= deadline || is_stopped() {
            let open = Some(format!("a transaction is open below offset {end} of {topic}/{partition}"));
            return Ok(Decided { begins, ends, open });
        }
        if !said {
            tracing::info!(topic, partition, end, "waiting for an open transaction to end");
            said = true;
        }
        thread::sleep(PAUSE);
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

/// Repeats a request until it is answered, `deadline`, or nobody waits for it any more.
fn persist<T>(
    deadline: Instant,
    is_stopped: &dyn Fn() -> bool,
    request: impl Fn() -> Result<T, KafkaError>,
) -> Result<T, String> {
    loop {
        match request() {
            Ok(answer) => return Ok(answer),
            Err(_) if is_stopped() => return Err("nobody waits for it any more".into()),
            Err(error) if Instant::now() < deadline && !errors::is_final(&error) => thread::sleep(PAUSE),
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::error::RDKafkaErrorCode;
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
            let answer = persist(deadline, &|| false, || {
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
}
