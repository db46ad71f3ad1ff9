//! The audit: what must hold for every history of `aggregates`, whoever wrote it and whatever died meanwhile. Pure, so that
//! tests, the simulation and whoever audits a real log share it.
//!
//! - The windows of a partition chain: each begins at the offset where the one before was cut.
//! - A window gives one aggregate a room, once.
//! - Within one life of a room, `seq` has no gaps, `since` stays, and totals grow by the window's counts.
//! - A room is forgotten only at rest.
//! - Where the records of `reactions` are known too: each window counts what its records hold, room by room.
//!
//! [`Auditor`] holds these rules. [`partition()`] audits one partition as a log keeps it, compacted and trimmed, with
//! what is left of its records (`balance`). [`WindowAuditor`] compares the history, `windows`, with the newest aggregates.

mod balance;
mod finding;
#[cfg(test)]
mod kept_tests;
mod partition;
mod report;
#[cfg(test)]
mod tests;
mod windows;

pub use finding::Finding;
pub use partition::{Foresight, KeptAggregate, KeptRecord, Retention, Scope, Span, partition};
pub use report::{Report, RoomSums};
pub use windows::WindowAuditor;

use crate::{Aggregate, BatchRef, Counts, RoomName, Source, TOTAL_MAX, Window};
use std::{
    collections::{BTreeMap, VecDeque},
    mem,
};

/// Takes a history in the order of the log, and says what is wrong with it.
///
/// The order matters within a partition only. After a finding it goes on from what it found, so that one fault is
/// reported once. Holds the newest totals of every living room, and the records that no window has taken yet.
#[derive(Debug)]
pub struct Auditor {
    /// The log may have lost what is older than each key's newest record.
    compacted: bool,
    partitions: BTreeMap<u32, Partition>,
    lives: BTreeMap<RoomName, Life>,
    report: Report,
}

#[derive(Debug, Default)]
struct Partition {
    /// The window that aggregates come from now.
    open: Option<OpenWindow>,
    /// Batches that no window has taken yet.
    batches: VecDeque<(u64, RoomName, u64)>,
    /// The offsets that are known record by record.
    known: Option<(u64, u64)>,
    /// A key came again: from here on nothing was compacted.
    repeated: bool,
    /// The same was so in the window before: the next one must chain.
    chained: bool,
}

#[derive(Debug)]
struct OpenWindow {
    source: Source,
    window: Window,
    /// Total before the window, and count in it.
    rooms: BTreeMap<RoomName, (u64, u64)>,
}

/// A room from its first aggregate to its tombstone.
#[derive(Debug, Default)]
struct Life {
    seq: u64,
    since: u64,
    total: u64,
    totals: Counts,
    others_total: u64,
}

impl Auditor {
    /// For a history that is whole: it begins at the first offset and with the first aggregate of every room.
    pub fn of_whole_history() -> Self {
        Self::new(false)
    }

    /// For a history as a log keeps it: of each key the newest record up to some point, and all records after it. Where
    /// that point is shows when a key comes for the second time: nothing was compacted from there on. Before it, windows
    /// that are missing are counted as holes; after it, they are findings. What is kept of a room is always the end of
    /// its history, so that its `seq` may begin anywhere, and then has no gaps.
    pub fn of_kept_history() -> Self {
        Self::new(true)
    }

    fn new(compacted: bool) -> Self {
        let report = Report::default();
        Self { compacted, partitions: BTreeMap::new(), lives: BTreeMap::new(), report }
    }

    /// A record of `reactions`, as it stands in the log. Come in the order of their offsets, and before the aggregates that
    /// they count in. Windows with records that never came here are not compared with them.
    pub fn record(&mut self, partition: u32, offset: u64, value: &[u8]) {
        let here = self.partitions.entry(partition).or_default();
        let from = here.known.map_or(offset, |(from, _)| from);
        here.known = Some((from, offset + 1));
        let batches = BatchRef::decode_all(value).filter_map(Result::ok);
        here.batches.extend(batches.map(|batch| (offset, RoomName::from(&batch.room), batch.count)));
    }

    /// The next record of `aggregates` in `partition`, as it stands in the log: its key, and its value or tombstone.
    pub fn committed(&mut self, partition: u32, room: &RoomName, value: Option<&[u8]>) {
        let Some(value) = value else { return self.tombstone(partition, room) };
        match Aggregate::decode(value) {
            Ok(aggregate) if aggregate.room == *room => self.aggregate(partition, &aggregate),
            Ok(aggregate) => self.unreadable(room, format!("it is of room {}", aggregate.room)),
            Err(error) => self.unreadable(room, error.to_string()),
        }
    }

    fn unreadable(&mut self, room: &RoomName, why: String) {
        self.report.add(Finding::Unreadable { room: room.clone(), why });
    }

    /// The next record of `aggregates` in `partition` is an aggregate.
    pub fn aggregate(&mut self, partition: u32, aggregate: &Aggregate) {
        let Aggregate { room, seq, source, .. } = aggregate;
        let repeated = self.report.rooms.contains_key(room);
        if let Err(why) = aggregate.check() {
            self.report.add(Finding::Inconsistent { room: room.clone(), seq: *seq, why });
        }
        if source.partition != partition {
            let (room, names) = (room.clone(), source.partition);
            self.report.add(Finding::WrongPartition { room, partition, names });
        }
        self.enter_window(partition, aggregate);
        self.partitions.entry(partition).or_default().repeated |= repeated;
        let before = self.lives.get(room).map_or(0, |life| life.total);
        if let Some(open) = self.partitions.entry(partition).or_default().open.as_mut()
            && open.rooms.insert(room.clone(), (before, aggregate.count)).is_some()
        {
            self.report.add(Finding::Twice { room: room.clone(), records: *source });
            return;
        }
        self.live_on(partition, aggregate);
        let sums = self.report.rooms.entry(room.clone()).or_default();
        sums.windows += 1;
        sums.partition = partition;
        sums.total = aggregate.total;
        sums.counted = sums.counted.saturating_add(aggregate.count);
        sums.late = sums.late.saturating_add(aggregate.late);
        sums.skewed = sums.skewed.saturating_add(aggregate.skewed);
        sums.at_rest = aggregate.count == 0;
    }

    /// The next record of `aggregates` in `partition` is a tombstone.
    pub fn tombstone(&mut self, partition: u32, room: &RoomName) {
        self.leave_window(partition);
        self.partitions.entry(partition).or_default().repeated |= self.report.rooms.contains_key(room);
        let sums = self.report.rooms.entry(room.clone()).or_default();
        (sums.partition, sums.total) = (partition, 0);
        sums.forgotten += 1;
        let busy = self.lives.remove(room).is_some() && !mem::replace(&mut sums.at_rest, true);
        if busy {
            self.report.add(Finding::ForgottenWhileBusy { room: room.clone() });
        }
    }

    /// What was found. Records that no window has taken are summed up as not counted.
    pub fn report(mut self) -> Report {
        let partitions: Vec<_> = self.partitions.keys().copied().collect();
        for partition in partitions {
            self.leave_window(partition);
        }
        let left = self.partitions.values().flat_map(|here| &here.batches);
        self.report.uncounted = left.map(|(_, _, count)| count).sum();
        self.report
    }

    /// Where the aggregate begins another window than the one before, the windows must chain.
    fn enter_window(&mut self, partition: u32, aggregate: &Aggregate) {
        let (source, window) = (aggregate.source, aggregate.window);
        let open = self.partitions.get(&partition).and_then(|here| here.open.as_ref());
        if open.is_some_and(|open| (open.source, open.window) == (source, window)) {
            return;
        }
        self.leave_window(partition);
        let chained = self.partitions.get(&partition).is_some_and(|here| here.chained);
        let expected = self.report.cuts.get(&partition).copied().or((!self.compacted).then_some(0));
        if let Some(cut) = expected.filter(|cut| *cut < source.from) {
            if self.compacted && !chained {
                self.report.holes += 1;
            } else {
                self.report.add(Finding::Gap { partition, from: cut, to: source.from });
            }
        }
        if let Some(cut) = expected.filter(|cut| *cut > source.from) {
            self.report.add(Finding::Overlap { partition, from: source.from, to: cut });
        }
        self.report.windows += 1;
        self.report.cuts.insert(partition, source.to);
        let open = OpenWindow { source, window, rooms: BTreeMap::new() };
        self.partitions.entry(partition).or_default().open = Some(open);
    }

    /// The window is complete: compares it with its records.
    fn leave_window(&mut self, partition: u32) {
        let Some(here) = self.partitions.get_mut(&partition) else { return };
        let Some(OpenWindow { source, rooms, .. }) = here.open.take() else { return };
        here.chained = here.repeated;
        let known = here
            .known
            .is_some_and(|(from, to)| source.from == source.to || (from <= source.from && source.to <= to));
        let mut held: BTreeMap<RoomName, Vec<u64>> = BTreeMap::new();
        while let Some((offset, room, count)) = here.batches.pop_front_if(|batch| batch.0 < source.to) {
            if offset >= source.from {
                held.entry(room).or_default().push(count);
            }
        }
        if let Some((from, _)) = here.known.as_mut() {
            *from = source.to.max(*from);
        }
        if !known {
            return;
        }
        self.report.compared += 1;
        for room in rooms.keys().filter(|room| !held.contains_key(*room)).cloned().collect::<Vec<_>>() {
            held.insert(room, Vec::new());
        }
        for (room, counts) in held {
            let total = self.lives.get(&room).map_or(0, |life| life.total);
            let (before, counted) = rooms.get(&room).copied().unwrap_or((total, 0));
            let accepted = countable(before, &counts);
            if counted != accepted {
                self.report.add(Finding::Miscounted { room, records: source, counted, accepted });
            }
        }
    }

    /// The aggregate must follow the room's last one.
    fn live_on(&mut self, partition: u32, aggregate: &Aggregate) {
        let repeated = self.partitions.get(&partition).is_some_and(|here| here.repeated);
        let Aggregate { room, seq, since, total, totals, others_total, .. } = aggregate;
        let (seq, since, total) = (*seq, *since, *total);
        let next = |life: &Life| Life { seq: life.seq + 1, since: life.since, ..life.grown_by(aggregate) };
        let newborn = || Life { seq: 1, since, ..Life::default().grown_by(aggregate) };
        let last = self.lives.get(room);
        // A life that was carried over from an earlier log began there.
        let from_birth = aggregate.carried == 0 && (!self.compacted || repeated || seq == 1);
        let expected = last.map(next).or_else(|| from_birth.then(newborn));
        if let Some(expected) = expected {
            let room = room.clone();
            if seq != expected.seq {
                self.report.add(Finding::Seq { room: room.clone(), expected: expected.seq, found: seq });
            }
            if since != expected.since {
                self.report.add(Finding::Since {
                    room: room.clone(),
                    expected: expected.since,
                    found: since,
                });
            }
            if let Some(before) = last.map(|life| life.total).filter(|before| *before > total) {
                self.report.add(Finding::TotalBack { room, before, found: total });
            } else if seq > expected.seq {
                // What the aggregates between would add is unknown.
            } else if total != expected.total {
                self.report.add(Finding::Total { room, expected: expected.total, found: total });
            } else if *totals != expected.totals || *others_total != expected.others_total {
                self.report.add(Finding::Totals { room });
            }
        }
        if last.is_none() && !from_birth {
            self.report.rooms.entry(room.clone()).or_default().compacted += seq - 1;
        }
        let life = Life { seq, since, total, totals: totals.clone(), others_total: *others_total };
        self.lives.insert(room.clone(), life);
    }
}

impl Life {
    /// The sums after the aggregate's window.
    fn grown_by(&self, aggregate: &Aggregate) -> Self {
        let mut totals = self.totals.clone();
        for (reaction, count) in &aggregate.counts {
            let sum = totals.entry(reaction.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
        let total = self.total.saturating_add(aggregate.count);
        let others_total = self.others_total.saturating_add(aggregate.others);
        Self { seq: 0, since: 0, total, totals, others_total }
    }
}

/// How much of `counts` a room takes whose total is `total`: a batch that would pass [`TOTAL_MAX`] is passed over.
fn countable(total: u64, counts: &[u64]) -> u64 {
    let add = |sum: u64, count: &u64| sum.checked_add(*count).filter(|sum| *sum <= TOTAL_MAX).unwrap_or(sum);
    counts.iter().fold(total, add) - total
}
