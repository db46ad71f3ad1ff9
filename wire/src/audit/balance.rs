//! What is left of a partition's records, against what is left of its aggregates.

use super::{Finding, Report, Retention, Scope, countable};
use crate::{Aggregate, Batch, Counts, RoomName, Source, TOTAL_MAX, batch::sum};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

/// A life whose start is that far after the oldest record is in the records from its start on: the longest window.
const SLACK_MS: u64 = 60_000;

/// Sums records up until the aggregates claim them. Per room it holds sums, and the records of the open window only.
pub(super) struct Balance<'a> {
    scope: Scope<'a>,
    rooms: BTreeMap<RoomName, Account>,
    window: Option<Open>,
    /// Rooms whose tombstones stand somewhere before the records of the next window.
    tombstones: BTreeSet<RoomName>,
    oldest_ms: Option<u64>,
    /// The offset after the last record that came.
    given: u64,
}

struct Open {
    source: Source,
    /// Its records are all left, and come after it was entered.
    known: bool,
    counted: BTreeMap<RoomName, Aggregate>,
    held: BTreeMap<RoomName, Vec<(Stamp, Batch)>>,
}

#[derive(Debug, Clone, Copy)]
struct Stamp {
    offset: u64,
    timestamp_ms: u64,
}

#[derive(Default)]
struct Account {
    /// `seq`, total and cut of its newest aggregate, while it lives.
    life: Option<(u64, u64, u64)>,
    /// What is known of it begins with a tombstone or an aggregate, not with the log.
    known: bool,
    passed: Passed,
}

/// Records that no aggregate of the room has claimed.
#[derive(Default)]
struct Passed {
    all: u64,
    counts: Counts,
    /// How much of `all` can't belong to an earlier life.
    recent: u64,
    /// Of the recent ones; the offset after the last.
    span: Option<(u64, u64)>,
    last_ms: u64,
}

impl<'a> Balance<'a> {
    pub(super) fn new(scope: Scope<'a>) -> Self {
        Self {
            scope,
            rooms: BTreeMap::new(),
            window: None,
            tombstones: BTreeSet::new(),
            oldest_ms: None,
            given: 0,
        }
    }

    /// A window begins; its records, and those between the window before and it, come next.
    pub(super) fn enter(&mut self, aggregate: &Aggregate, report: &mut Report) {
        self.leave(report);
        let source = aggregate.source;
        let known = source.from == source.to || source.from >= self.scope.span.begin.max(self.given);
        self.window = Some(Open { source, known, counted: BTreeMap::new(), held: BTreeMap::new() });
    }

    /// The next record.
    pub(super) fn record(&mut self, offset: u64, timestamp_ms: u64, value: &[u8], report: &mut Report) {
        self.oldest_ms.get_or_insert(timestamp_ms);
        self.given = offset + 1;
        for batch in self.batches(value, report) {
            self.batch(Stamp { offset, timestamp_ms }, batch);
        }
    }

    /// The batches of a record that its readers count. The others are no fault, but the report says how many there are.
    fn batches(&self, value: &[u8], report: &mut Report) -> Vec<Batch> {
        let mut counted = Vec::new();
        for batch in Batch::decode_all(value) {
            match batch {
                Ok(batch) if (self.scope.is_home)(&batch.room) => counted.push(batch),
                Ok(batch) => {
                    report.foreign += 1;
                    report.foreign_reactions = report.foreign_reactions.saturating_add(batch.count);
                }
                Err(_) => report.poison += 1,
            }
        }
        counted
    }

    fn batch(&mut self, stamp: Stamp, batch: Batch) {
        match &mut self.window {
            Some(open) if (open.source.from..open.source.to).contains(&stamp.offset) => {
                open.held.entry(batch.room.clone()).or_default().push((stamp, batch));
            }
            _ => self.pass(stamp, &batch),
        }
    }

    /// An aggregate of the window that was entered, after the window's records.
    pub(super) fn aggregate(&mut self, aggregate: Aggregate, report: &mut Report) {
        self.settle(report);
        if let Some(open) = &mut self.window {
            open.counted.entry(aggregate.room.clone()).or_insert(aggregate);
        }
    }

    /// The room is forgotten, somewhere between the window before and the next one.
    pub(super) fn tombstone(&mut self, room: &RoomName, report: &mut Report) {
        self.leave(report);
        self.tombstones.insert(room.clone());
    }

    /// A record that no window has taken.
    pub(super) fn open(&mut self, timestamp_ms: u64, value: &[u8], report: &mut Report) {
        for batch in self.batches(value, report) {
            report.uncounted = report.uncounted.saturating_add(batch.count);
            report.uncounted_since_ms.get_or_insert(timestamp_ms);
            let sums = report.rooms.entry(batch.room).or_default();
            sums.open = sums.open.saturating_add(batch.count);
        }
    }

    /// There are no more aggregates: what comes next lies behind the last window.
    pub(super) fn seal(&mut self, report: &mut Report) {
        self.leave(report);
    }

    /// All records before the last cut were given: what is not claimed by now never will be.
    pub(super) fn finish(&mut self, report: &mut Report) {
        self.settle(report);
        let Retention { silent_since_ms, max_rooms } = self.scope.retention;
        // Whenever rooms are forgotten since they are too many, those that stay were active later, so they are still there,
        // or others that drove them out.
        let is_crowded = self.rooms.values().filter(|account| account.life.is_some()).count() >= max_rooms;
        for (room, Account { life, known, passed }) in mem::take(&mut self.rooms) {
            let forgotten = passed.last_ms <= silent_since_ms || is_crowded && !known;
            match life {
                Some((_, total, _)) => self.uncounted(room, total, &passed, report),
                // Not even a tombstone is left of it, unless it can't have been forgotten yet.
                None if forgotten => bygone(&room, passed.all, report),
                None => {
                    let all = Passed { recent: passed.all, ..passed };
                    self.uncounted(room, 0, &all, report);
                }
            }
        }
    }

    /// The window is complete.
    fn leave(&mut self, report: &mut Report) {
        let Some(Open { known, counted, mut held, .. }) = self.window.take() else { return };
        report.compared += u64::from(known);
        for aggregate in counted.into_values() {
            let held = held.remove(&aggregate.room).unwrap_or_default();
            self.claim(&aggregate, known, &held, report);
        }
        for (stamp, batch) in held.into_values().flatten() {
            self.pass(stamp, &batch);
        }
    }

    /// An aggregate claims what its window holds of its room; and all that passed before, as far as it is its life's.
    fn claim(&mut self, aggregate: &Aggregate, known: bool, held: &[(Stamp, Batch)], report: &mut Report) {
        let Aggregate { room, seq, count, total, source, .. } = aggregate;
        let counts: Vec<_> = held.iter().map(|(_, batch)| batch.count).collect();
        let accepted = countable(total.saturating_sub(*count), &counts);
        let mut by_reaction = Counts::new();
        held.iter().for_each(|(_, batch)| add(&mut by_reaction, &batch.counts));
        let sums = report.rooms.entry(room.clone()).or_default();
        if known && accepted == *count {
            sums.verified = sums.verified.saturating_add(*count);
            if !agree(&aggregate.counts, aggregate.others, &by_reaction) {
                let (room, records) = (room.clone(), *source);
                report.add(Finding::Misattributed { room, seq: *seq, records });
            }
        } else if known {
            let (room, records, counted) = (room.clone(), *source, *count);
            report.add(Finding::Miscounted { room, records, counted, accepted });
        }
        let account = self.rooms.entry(room.clone()).or_default();
        let (born, passed) = (!account.known, mem::take(&mut account.passed));
        let before = account.life.replace((*seq, *total, source.to));
        account.known = true;
        match before {
            Some((last, before, _)) if last + 1 == *seq => {
                self.uncounted(room.clone(), before, &passed, report);
            }
            Some((_, before, cut)) => {
                let grown = total.saturating_sub(before);
                let accepted = passed.all.saturating_add(accepted);
                if self.scope.span.begin <= cut && grown != accepted {
                    self.sum(aggregate, grown, accepted, report);
                }
            }
            None if *seq == 1 => {
                self.uncounted(room.clone(), 0, &passed, report);
                bygone(room, passed.all - passed.recent, report);
            }
            None if born => {
                add(&mut by_reaction, &passed.counts);
                self.first(aggregate, &passed, accepted, &by_reaction, report);
            }
            None => {}
        }
    }

    /// The first aggregate that is left of a room, which is not the first that there was.
    fn first(
        &self,
        aggregate: &Aggregate,
        passed: &Passed,
        accepted: u64,
        all: &Counts,
        report: &mut Report,
    ) {
        // What was counted in an earlier log is not in the records of this one.
        let (total, count) = (aggregate.total.saturating_sub(aggregate.carried), aggregate.count);
        let (recent, most) = (passed.recent.saturating_add(accepted), passed.all.saturating_add(accepted));
        // All of this life is in the records.
        let whole = self.scope.span.begin == 0
            || self.oldest_ms.is_some_and(|oldest| oldest.saturating_add(SLACK_MS) <= aggregate.since);
        let too_much = recent > total && recent <= TOTAL_MAX;
        let too_little = whole && most < total;
        if too_much || too_little {
            self.sum(aggregate, total, if too_much { recent } else { most }, report);
        } else if most == total
            && aggregate.carried == 0
            && !agree(&aggregate.totals, aggregate.others_total, all)
        {
            let records = Source { from: self.scope.span.begin, ..aggregate.source };
            let (room, seq) = (aggregate.room.clone(), aggregate.seq);
            report.add(Finding::Misattributed { room, seq, records });
        } else if recent == total || most == total {
            let sums = report.rooms.entry(aggregate.room.clone()).or_default();
            sums.verified = sums.verified.saturating_add(total.saturating_sub(count));
        }
        if most > total {
            bygone(&aggregate.room, passed.all - passed.recent, report);
        }
    }

    fn sum(&self, aggregate: &Aggregate, total: u64, accepted: u64, report: &mut Report) {
        let records = Source { from: self.scope.span.begin, ..aggregate.source };
        let (room, seq) = (aggregate.room.clone(), aggregate.seq);
        report.add(Finding::Sum { room, seq, total, records, accepted });
    }

    /// Records that lie where an aggregate should have claimed them.
    fn uncounted(&self, room: RoomName, total: u64, passed: &Passed, report: &mut Report) {
        // A room that is full passes batches over.
        if passed.recent == 0 || total.saturating_add(passed.recent) > TOTAL_MAX {
            return;
        }
        let (from, to) = passed.span.unwrap_or_default();
        let records = Source { partition: self.scope.partition, from, to };
        report.add(Finding::Uncounted { room, records, count: passed.recent });
    }

    /// No aggregate of its room has claimed the record so far.
    fn pass(&mut self, stamp: Stamp, batch: &Batch) {
        let account = self.rooms.entry(batch.room.clone()).or_default();
        let since = if account.known { Some(0) } else { self.scope.foresight.since(&batch.room) };
        let passed = &mut account.passed;
        passed.all = passed.all.saturating_add(batch.count);
        passed.last_ms = passed.last_ms.max(stamp.timestamp_ms);
        add(&mut passed.counts, &batch.counts);
        if since.is_none_or(|since| since <= stamp.timestamp_ms) {
            passed.recent = passed.recent.saturating_add(batch.count);
            let from = passed.span.map_or(stamp.offset, |(from, _)| from);
            passed.span = Some((from, stamp.offset + 1));
        }
    }

    /// The tombstones take effect. Where windows are missing, nobody knows which records came before them.
    fn settle(&mut self, report: &mut Report) {
        for room in mem::take(&mut self.tombstones) {
            let account = self.rooms.entry(room.clone()).or_default();
            let passed = mem::take(&mut account.passed);
            (account.life, account.known) = (None, true);
            bygone(&room, passed.all, report);
        }
    }
}

fn bygone(room: &RoomName, count: u64, report: &mut Report) {
    let sums = report.rooms.entry(room.clone()).or_default();
    sums.bygone = sums.bygone.saturating_add(count);
}

fn add(sums: &mut Counts, counts: &Counts) {
    for (reaction, count) in counts {
        let sum = sums.entry(reaction.clone()).or_default();
        *sum = sum.saturating_add(*count);
    }
}

/// Whether `counted` and `others` are `held` by reaction. `others` may be of any reactions. Where the sums differ, a full room
/// passed batches over, and nothing can be said.
fn agree(counted: &Counts, others: u64, held: &Counts) -> bool {
    let is_whole = sum(counted.values().chain([&others])) == sum(held.values());
    !is_whole || counted.iter().all(|(reaction, count)| held.get(reaction) >= Some(count))
}
