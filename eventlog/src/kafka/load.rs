//! Loads what a new owner starts from: one load for the partitions of an assignment, side by side.
//!
//! A load has a deadline on progress, not on the whole: `aggregates` may hold millions of records that compaction has not
//! removed yet, and a load that starts again from the first record would never end. Only a room's newest record is kept,
//! as bytes, and decoded once at the end.

use super::{
    client::{Clients, Isolation, Reader, Role},
    state::{self, Loaded, Positions},
    topic_reader::{LoadUntil, Polled, list, poll, positions},
};
use crate::decode;
use rdkafka::{Message, Offset, TopicPartitionList, consumer::Consumer};
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};
use wire::{Aggregate, RoomName};

/// Records between two looks at the clock, and at which partitions are still wanted.
const LOOK_EVERY: u32 = 1_024;
const POLL: Duration = Duration::from_millis(100);

/// Held by the feed while it waits for the load of a partition. Dropping it stops that load.
pub(super) type Ticket = Arc<()>;

/// A partition to be loaded, for as long as its ticket is held.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) partition: u32,
    ticket: Weak<()>,
}

impl Wanted {
    pub(super) fn new(partition: u32, ticket: &Ticket) -> Self {
        Self { partition, ticket: Arc::downgrade(ticket) }
    }

    pub(super) fn is_for(&self, ticket: &Ticket) -> bool {
        self.ticket.ptr_eq(&Arc::downgrade(ticket))
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.ticket.strong_count() > 0
    }
}

/// How long a load may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// All requests before the first record: they wait for open transactions to be decided.
    pub(super) requests: Duration,
    /// Between two steps of progress while records are read.
    pub(super) stall: Duration,
}

/// Loads the state of each partition of `wanted`, as of all commits before now, and tells each as soon as it is loaded.
/// Returns early when no partition is wanted any more.
///
/// # Errors
///
/// Why the partitions that were not told can't be loaded, and which they are.
pub(super) fn load(
    clients: &Clients,
    mut wanted: Vec<Wanted>,
    count: u32,
    patience: Patience,
    tell: &mut dyn FnMut(&Wanted, Result<Loaded, String>),
) -> Result<(), (String, Vec<Wanted>)> {
    load_all(clients, &mut wanted, count, patience, tell).map_err(|why| (why, wanted))
}

fn load_all(
    clients: &Clients,
    wanted: &mut Vec<Wanted>,
    count: u32,
    patience: Patience,
    tell: &mut dyn FnMut(&Wanted, Result<Loaded, String>),
) -> Result<(), String> {
    let reader = clients
        .reader(Role::Loader, Isolation::Committed)
        .map_err(|error: crate::OpenError| error.to_string())?;
    let deadline = Instant::now() + patience.requests;
    let is_stopped = || !wanted.iter().any(Wanted::is_wanted);
    let partitions: Vec<u32> = wanted.iter().map(|wanted| wanted.partition).collect();
    let positions = Positions::ask(clients, &reader, &partitions, deadline, &is_stopped)?;
    let topic = &clients.config.aggregates_topic;
    // Offsets, not "the beginning": the client asks for that again, and when a leader changes it waits 500 ms for the answer.
    let mut start = TopicPartitionList::new();
    for (partition, begin) in &positions.begins {
        start
            .add_partition_offset(topic, *partition as i32, Offset::Offset(*begin as i64))
            .map_err(|error| error.to_string())?;
    }
    reader.assign(&start).map_err(|error| error.to_string())?;
    let until = LoadUntil::new(&positions.begins, &positions.ends, patience.stall, Instant::now());
    let mut loading = Loading { reader: &reader, topic, wanted, until, rooms: HashMap::new() };
    let mut finish = |wanted: &Wanted, rooms: Rooms| {
        let deadline = Instant::now() + patience.requests;
        let records = rooms.records;
        let loaded = state::start_from(
            clients,
            &reader,
            &positions,
            wanted.partition,
            count,
            rooms.decode(),
            deadline,
        );
        tell(wanted, loaded.map(|loaded| Loaded { records, ..loaded }));
    };
    loading.run(&mut finish)
}

/// The partitions of one load that are not told yet.
struct Loading<'a> {
    reader: &'a Reader,
    topic: &'a str,
    wanted: &'a mut Vec<Wanted>,
    until: LoadUntil,
    rooms: HashMap<u32, Rooms>,
}

impl Loading<'_> {
    fn run(&mut self, finish: &mut dyn FnMut(&Wanted, Rooms)) -> Result<(), String> {
        let mut records = 0;
        loop {
            self.drop_unwanted()?;
            self.finish_read(finish);
            if self.wanted.is_empty() {
                return Ok(());
            }
            self.until.check(Instant::now())?;
            // Until a partition is read, or it is time for a look.
            while !self.step(&mut records)? && !records.is_multiple_of(LOOK_EVERY) {}
        }
    }

    /// Takes one record. Returns whether there may be something to do besides reading.
    fn step(&mut self, records: &mut u32) -> Result<bool, String> {
        let failed = |error| format!("reading {}: {error}", self.topic);
        match poll(self.reader, POLL).map_err(failed)? {
            Polled::Record(message) => {
                *records = records.wrapping_add(1);
                let (partition, offset) = (message.partition() as u32, message.offset());
                let rooms = self.rooms.entry(partition).or_default();
                rooms.take(partition, message.key(), message.payload(), offset);
                Ok(self.until.advance(partition, offset as u64 + 1))
            }
            Polled::End(_) => {
                for (partition, position) in positions(self.reader).map_err(failed)? {
                    self.until.advance(partition, position);
                }
                Ok(true)
            }
            Polled::Nothing => Ok(true),
        }
    }

    fn drop_unwanted(&mut self) -> Result<(), String> {
        let gone: Vec<u32> =
            self.wanted.iter().filter(|it| !it.is_wanted()).map(|wanted| wanted.partition).collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.wanted.retain(|wanted| !gone.contains(&wanted.partition));
        for partition in &gone {
            self.until.forget(*partition);
            self.rooms.remove(partition);
        }
        self.pause(&gone)
    }

    fn finish_read(&mut self, finish: &mut dyn FnMut(&Wanted, Rooms)) {
        let is_read = |wanted: &mut Wanted| self.until.is_read(wanted.partition);
        let read: Vec<Wanted> = self.wanted.extract_if(.., is_read).collect();
        for wanted in read {
            // Failing costs only the fetches of a partition that is not needed any more.
            let _ = self.pause(&[wanted.partition]);
            finish(&wanted, self.rooms.remove(&wanted.partition).unwrap_or_default());
            self.until.resume(Instant::now());
        }
    }

    /// Fetches no more of these partitions.
    fn pause(&self, partitions: &[u32]) -> Result<(), String> {
        let list = list(self.topic, partitions, Offset::Invalid);
        list.and_then(|list| self.reader.pause(&list)).map_err(|error| error.to_string())
    }
}

/// The newest record of each room of one partition.
#[derive(Debug, Default)]
struct Rooms {
    newest: HashMap<RoomName, Vec<u8>>,
    partition: u32,
    /// Records that were read, superseded ones included.
    records: u64,
}

impl Rooms {
    fn take(&mut self, partition: u32, key: Option<&[u8]>, value: Option<&[u8]>, offset: i64) {
        self.partition = partition;
        self.records += 1;
        let name = key.and_then(|key| str::from_utf8(key).ok()).unwrap_or_default();
        match value {
            None => drop(self.newest.remove(name)),
            // A stray record: the one before stays. This counts and logs it.
            Some(value) if !value.starts_with(b"{") => drop(decode::aggregate(partition, name, value)),
            // A known room costs neither an allocation nor a check of its name.
            Some(value) if let Some(newest) = self.newest.get_mut(name) => {
                newest.clear();
                newest.extend_from_slice(value);
            }
            Some(value) => {
                let Some(room) = state::room_of(key, partition, offset) else { return };
                self.newest.insert(room, value.to_vec());
            }
        }
    }

    fn decode(self) -> Vec<Aggregate> {
        let Self { newest, partition, .. } = self;
        newest.iter().filter_map(|(room, value)| decode::aggregate(partition, room, value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_record_of_a_room_counts_and_a_tombstone_forgets_it() {
        let golden = include_bytes!("../../../wire/golden/aggregate.json");
        let first = Aggregate::decode(golden).unwrap();
        let second = Aggregate { seq: first.seq + 1, ..first.clone() };
        let key = Some(first.room.as_bytes());
        let decoded = |rooms: &Rooms| {
            let rooms = Rooms { newest: rooms.newest.clone(), ..*rooms };
            rooms.decode().iter().map(|aggregate| aggregate.seq).collect::<Vec<_>>()
        };
        let mut rooms = Rooms::default();
        rooms.take(3, key, Some(golden), 0);
        rooms.take(3, key, Some(&second.encode()), 1);
        rooms.take(3, Some(b"not/a room"), Some(golden), 2);
        rooms.take(3, key, Some(b"not an aggregate"), 3);
        assert_eq!(decoded(&rooms), [second.seq]);
        rooms.take(3, key, None, 4);
        assert!(decoded(&rooms).is_empty());
        assert_eq!(rooms.records, 5);
    }

    #[test]
    fn a_partition_is_wanted_while_its_ticket_is_held() {
        let (ticket, other) = (Ticket::default(), Ticket::default());
        let wanted = Wanted::new(3, &ticket);
        assert!(wanted.is_wanted() && wanted.is_for(&ticket) && !wanted.is_for(&other));
        drop(ticket);
        assert!(!wanted.is_wanted());
    }
}
