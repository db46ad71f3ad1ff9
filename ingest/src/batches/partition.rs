//! The batches of one partition: those that are open, and those under way. Knows no lock and no clock.

use crate::{
    combine::Combined,
    config::{Ack, Config},
    refusal::Refusal,
    request::Ask,
    verdict::{Outcome, RoomVerdict, Verdict},
};
use bytes::Bytes;
use std::{
    collections::HashMap,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};
use wire::RoomName;

/// Records that came back are tried again after this.
pub(super) const RETRY: Duration = Duration::from_millis(100);
/// A record that has so many bytes takes no further room. With the longest batch of a room it still is below 1 MB.
const RECORD_BYTES_ENOUGH: usize = 64 << 10;
/// What a room often takes in a record, without its reactions.
const ROOM_BYTES_OFTEN: usize = 60;
/// What a reaction often takes.
const REACTION_BYTES_OFTEN: usize = 16;

/// One partition.
#[derive(Default)]
pub(super) struct Partition {
    open: Option<Open>,
    /// What was sealed and has not ended.
    in_flight: Vec<Flight>,
    /// Records that came back, as they are tried again. They are not merged into the open batches: what a record holds, and how
    /// many there are, keeps the bound of when they were sealed, however often they come back.
    returned: Vec<Sealed>,
    /// Rooms that the last sealed batches were of: about as many will come.
    rooms_expected: usize,
    /// When a record was last committed, or the first of a row was sealed.
    progress_at: Option<Instant>,
    /// A record came back: try again then.
    retry_at: Option<Instant>,
}

/// The open batches, one a room.
struct Open {
    rooms: HashMap<RoomName, OpenBatch>,
    since: Instant,
    verdict: Arc<Verdict>,
}

/// The open batch of a room.
struct OpenBatch {
    /// How many rooms came before this one.
    number: u32,
    combined: Combined,
}

/// What was sealed at a time.
struct Flight {
    verdict: Arc<Verdict>,
    /// Records that have not ended.
    records: usize,
}

/// A record that is to be appended. It has to come back to [`super::Batches::end`].
pub(crate) struct Sealed {
    /// Its partition.
    pub(crate) partition: u32,
    /// Its value.
    pub(crate) value: Bytes,
    /// How many batches it holds, one a room.
    pub(crate) batches: u64,
    /// How many reactions they count.
    pub(crate) count: u64,
    /// When the first of these came.
    pub(crate) since: Instant,
    /// What of it was answered already.
    pub(super) promised: Vec<(RoomName, Combined)>,
    verdict: Arc<Verdict>,
    /// Its number among the records that have this verdict.
    number: u32,
}

/// What was given up.
#[derive(Default)]
pub(crate) struct Abandoned {
    /// Rooms with open batches.
    pub(crate) rooms: usize,
    /// Records under way.
    pub(crate) unresolved: usize,
    /// Promised reactions that are not in the log: of open batches, and of records that came back.
    pub(crate) lost: u64,
}

impl Sealed {
    fn new(partition: u32, since: Instant, verdict: Arc<Verdict>) -> Self {
        let (value, promised) = (Bytes::new(), Vec::new());
        Self { partition, value, batches: 0, count: 0, since, promised, verdict, number: 0 }
    }

    /// Adds a batch. `value` is what becomes its value.
    fn add(&mut self, value: &mut Vec<u8>, room: RoomName, combined: Combined) {
        wire::batch::write_line(value, &room, combined.counts(), combined.count());
        self.batches += 1;
        self.count += combined.count();
        self.promised.extend(combined.into_promised().map(|promised| (room, promised)));
    }

    /// It was not written: what is to be tried again is what was promised of it. Nobody waits for that.
    fn again(self) -> Option<Self> {
        if self.promised.is_empty() {
            return None;
        }
        if self.promised() == self.count {
            return Some(Self { verdict: Arc::default(), number: 0, ..self });
        }
        let (mut again, mut value) = (Self::new(self.partition, self.since, Arc::default()), Vec::new());
        for (room, promised) in self.promised {
            again.add(&mut value, room, promised);
        }
        again.value = value.into();
        Some(again)
    }

    /// How many of its reactions were answered already.
    pub(crate) fn promised(&self) -> u64 {
        self.promised.iter().map(|(_, promised)| promised.count()).sum()
    }
}

impl Partition {
    /// Adds to the room's open batch. `may_come` is asked where the room has none; it gets the number of those that have one.
    pub(super) fn add(
        &mut self,
        room: &RoomName,
        (ask, ack): (&Ask, Ack),
        config: &Config,
        now: Instant,
        may_come: impl FnOnce(usize) -> Result<(), Refusal>,
    ) -> Result<RoomVerdict, Refusal> {
        self.refuse_if_stalled(config, now)?;
        if let Some(open) = &mut self.open
            && let Some(known) = open.rooms.get_mut(room)
        {
            known.combined.add(ask, ack, config.max_distinct_per_batch)?;
            return Ok(RoomVerdict::new(&open.verdict, known.number));
        }
        let mut new = Combined::default();
        new.add(ask, ack, config.max_distinct_per_batch)?;
        may_come(self.open.as_ref().map_or(0, |open| open.rooms.len()))?;
        let open = self.open.get_or_insert_with(|| Open::new(now, self.rooms_expected));
        // At most `Config::max_rooms`, 10,000,000.
        let number = open.rooms.len() as u32;
        open.rooms.insert(room.clone(), OpenBatch { number, combined: new });
        Ok(RoomVerdict::new(&open.verdict, number))
    }

    /// The log takes nothing more of this partition, and has not for a while: a request would only wait.
    fn refuse_if_stalled(&self, config: &Config, now: Instant) -> Result<(), Refusal> {
        if !self.is_full(config) && self.retry_at.is_none() {
            return Ok(());
        }
        let silent = self.progress_at.map(|at| now.saturating_duration_since(at)).unwrap_or_default();
        if silent >= Duration::from_millis(config.stall_ms) {
            return Err(Refusal::Stalled(config.stall_ms));
        }
        Ok(())
    }

    fn is_full(&self, config: &Config) -> bool {
        self.under_way() >= config.in_flight_per_partition
    }

    /// Whether there is something to seal, or to try again.
    pub(super) fn is_filled(&self) -> bool {
        self.open.is_some() || !self.returned.is_empty()
    }

    /// Whether records came back and are not to be tried again yet.
    pub(super) fn pauses(&self, now: Instant) -> bool {
        self.retry_at.is_some_and(|at| at > now)
    }

    /// Takes out all records that came back. They are as many as were under way at a time, and are under way again.
    pub(super) fn take_returned(&mut self) -> Vec<Sealed> {
        let flight = |again: &Sealed| Flight::of(&again.verdict);
        self.in_flight.extend(self.returned.iter().map(flight));
        mem::take(&mut self.returned)
    }

    /// Takes the open batches out, unless too much is under way.
    pub(super) fn seal(&mut self, number: u32, config: &Config, now: Instant) -> Option<Sealing> {
        if self.is_full(config) {
            return None;
        }
        let open = self.open.take()?;
        if self.in_flight.is_empty() && self.retry_at.is_none() {
            self.progress_at = Some(now);
        }
        self.rooms_expected = open.rooms.len();
        // One record, until the number is known.
        self.in_flight.push(Flight::of(&open.verdict));
        Some(Sealing { partition: number, open })
    }

    /// The sealed batches make `records`, and not just one.
    pub(super) fn expect(&mut self, records: &[Sealed]) {
        let Some(first) = records.first() else { return };
        if let Some(flight) = self.in_flight.iter_mut().find(|flight| flight.is_of(&first.verdict)) {
            flight.records = records.len();
        }
    }

    /// A record has ended: takes back what was promised and not written, and gives its verdict.
    pub(super) fn end(&mut self, sealed: Sealed, outcome: Outcome, now: Instant) {
        if outcome == Outcome::Committed {
            self.progress_at = Some(now);
            self.retry_at = None;
        }
        if let Some(at) = self.in_flight.iter().position(|flight| flight.is_of(&sealed.verdict))
            && self.in_flight[at].ends(sealed.number, outcome)
        {
            self.in_flight.remove(at);
        }
        if outcome == Outcome::NotWritten
            && let Some(again) = sealed.again()
        {
            self.retry_at = Some(now + RETRY);
            self.returned.push(again);
        }
        if self.in_flight.is_empty() && !self.is_filled() {
            self.retry_at = None;
        }
    }

    /// Records under way.
    pub(super) fn under_way(&self) -> usize {
        self.in_flight.iter().map(|flight| flight.records).sum()
    }

    /// Gives up everything.
    pub(super) fn abandon(&mut self) -> Abandoned {
        self.in_flight.iter().for_each(|flight| flight.verdict.give(Outcome::Unknown));
        let unresolved = self.under_way();
        let returned = mem::take(&mut self.returned).iter().map(Sealed::promised).sum();
        let mut all = Abandoned { rooms: 0, unresolved, lost: returned };
        if let Some(open) = self.open.take() {
            open.verdict.give(Outcome::NotWritten);
            all.rooms = open.rooms.len();
            let promised = open.rooms.into_values().filter_map(|batch| batch.combined.into_promised());
            all.lost += promised.map(|promised| promised.count()).sum::<u64>();
        }
        all
    }
}

impl Flight {
    fn of(verdict: &Arc<Verdict>) -> Self {
        Self { verdict: Arc::clone(verdict), records: 1 }
    }

    fn is_of(&self, verdict: &Arc<Verdict>) -> bool {
        Arc::ptr_eq(&self.verdict, verdict)
    }

    /// One of its records has ended. Whether it was the last.
    fn ends(&mut self, number: u32, outcome: Outcome) -> bool {
        self.verdict.give_record(number, outcome);
        self.records = self.records.saturating_sub(1);
        self.records == 0
    }
}

impl Open {
    fn new(since: Instant, rooms: usize) -> Self {
        Self { rooms: HashMap::with_capacity(rooms), since, verdict: Arc::default() }
    }
}

/// Batches that were taken out, and are to be put into records: that needs no lock.
pub(super) struct Sealing {
    partition: u32,
    open: Open,
}

impl Sealing {
    /// How many rooms they are of.
    pub(super) fn rooms(&self) -> usize {
        self.open.rooms.len()
    }

    /// The records, one unless it would be long.
    pub(super) fn into_records(self) -> Vec<Sealed> {
        let Open { rooms, since, verdict } = self.open;
        let record = || Sealed::new(self.partition, since, Arc::clone(&verdict));
        let reactions: usize = rooms.values().map(|batch| batch.combined.distinct()).sum();
        let expected = rooms.len() * ROOM_BYTES_OFTEN + reactions * REACTION_BYTES_OFTEN;
        let expected = expected.min(2 * RECORD_BYTES_ENOUGH);
        let (mut records, mut last, mut value) = (Vec::new(), record(), Vec::with_capacity(expected));
        // Which record each room is in; empty while there is one.
        let (mut of_room, count) = (Vec::new(), rooms.len());
        for (room, OpenBatch { number, combined }) in rooms {
            if value.len() >= RECORD_BYTES_ENOUGH {
                last.value = mem::take(&mut value).into();
                let next = Sealed { number: last.number + 1, ..record() };
                records.push(mem::replace(&mut last, next));
                of_room.resize(count, 0);
            }
            if let Some(record) = of_room.get_mut(number as usize) {
                *record = last.number;
            }
            last.add(&mut value, room, combined);
        }
        last.value = value.into();
        records.push(last);
        if records.len() > 1 {
            verdict.split(of_room, records.len());
        }
        records
    }
}
