//! The audit of one partition as a log keeps it.

use super::{Auditor, Finding, Report, balance::Balance};
use crate::{Aggregate, RoomName};
use std::collections::BTreeMap;

/// What a log keeps of one partition of `reactions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The oldest record that is left.
    pub begin: u64,
    /// The offset that the next record will have.
    pub end: u64,
    /// Where the last window was cut, where the log says so apart from its aggregates.
    pub committed: Option<u64>,
}

/// A record of `aggregates`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAggregate<V> {
    /// Its offset, or its place in the order.
    pub offset: u64,
    /// The room that its key names, if it does.
    pub room: Option<RoomName>,
    /// Its value; `None` is a tombstone.
    pub value: Option<V>,
}

/// A record of `reactions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRecord<V> {
    /// Its offset.
    pub offset: u64,
    /// When the log took it, ms since the epoch.
    pub timestamp_ms: u64,
    /// Its value.
    pub value: V,
}

/// When rooms of the partition are forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Rooms without reactions since then may be forgotten: now less their TTL.
    pub silent_since_ms: u64,
    /// Of more rooms than these, those silent the longest may be forgotten.
    pub max_rooms: usize,
}

/// What the aggregates of a partition say of the records before them: of each room, when the first life of which
/// something is left began.
#[derive(Debug, Clone, Default)]
pub struct Foresight(BTreeMap<RoomName, Option<u64>>);

impl Foresight {
    /// Reads all aggregates of the partition.
    pub fn of<V: AsRef<[u8]>, E>(
        aggregates: impl Iterator<Item = Result<KeptAggregate<V>, E>>,
    ) -> Result<Self, E> {
        let mut first = BTreeMap::new();
        for kept in aggregates {
            let KeptAggregate { room: Some(room), value, .. } = kept? else { continue };
            first.entry(room).or_insert_with(|| {
                let aggregate = value.and_then(|value| Aggregate::decode(value.as_ref()).ok());
                aggregate.map(|aggregate| aggregate.since)
            });
        }
        Ok(Self(first))
    }

    /// When the life of the room began that its first aggregate is of.
    pub(super) fn since(&self, room: &RoomName) -> Option<u64> {
        self.0.get(room).copied().flatten()
    }
}

/// What is audited: one partition of a log.
pub struct Scope<'a> {
    /// The partition.
    pub partition: u32,
    /// What is kept of its records.
    pub span: Span,
    /// When its rooms are forgotten.
    pub retention: Retention,
    /// What its aggregates say of the records before them.
    pub foresight: Foresight,
    /// Whether a room lives in the partition. Batches of other rooms are passed over by every reader.
    pub is_home: &'a dyn Fn(&RoomName) -> bool,
}

/// Audits one partition: `aggregates` in the order of the log, as far as compaction left them, and `records` as far as
/// retention did. Holds sums for each room and the records of one window, however long the partition is.
///
/// Each window is compared with its records, and the total of a room's first aggregate with all records of its life,
/// where they are left. Records of a room that no aggregate of it claims are a finding, unless they may belong to a
/// life that was forgotten.
pub fn partition<V: AsRef<[u8]>, W: AsRef<[u8]>, E>(
    scope: Scope<'_>,
    aggregates: impl Iterator<Item = Result<KeptAggregate<V>, E>>,
    records: impl Iterator<Item = Result<KeptRecord<W>, E>>,
) -> Result<Report, E> {
    let mut records = records.peekable();
    // Some may have been deleted since the span was known.
    let begin = records.peek().and_then(|first| first.as_ref().ok()).map_or(0, |first| first.offset);
    let Scope { partition, span, .. } = scope;
    let span = Span { begin: span.begin.max(begin), ..span };
    let mut audit = Audit {
        auditor: Auditor::of_kept_history(),
        balance: Balance::new(Scope { span, ..scope }),
        found: Report::default(),
        entered: None,
        cut: 0,
        records,
    };
    for kept in aggregates {
        audit.aggregate(partition, kept?)?;
    }
    audit.end(partition, span)
}

struct Audit<'a, I: Iterator> {
    auditor: Auditor,
    balance: Balance<'a>,
    /// What the balance found.
    found: Report,
    entered: Option<(crate::Source, crate::Window)>,
    cut: u64,
    records: std::iter::Peekable<I>,
}

impl<W: AsRef<[u8]>, E, I: Iterator<Item = Result<KeptRecord<W>, E>>> Audit<'_, I> {
    fn aggregate<V: AsRef<[u8]>>(&mut self, partition: u32, kept: KeptAggregate<V>) -> Result<(), E> {
        let KeptAggregate { offset, room, value } = kept;
        let Some(room) = room else {
            self.found.add(Finding::Alien { partition, offset });
            return Ok(());
        };
        let value = value.as_ref().map(AsRef::as_ref);
        self.auditor.committed(partition, &room, value);
        let Some(value) = value else {
            self.balance.tombstone(&room, &mut self.found);
            return Ok(());
        };
        let decoded = Aggregate::decode(value).ok();
        let Some(aggregate) = decoded.filter(|it| it.room == room && it.source.partition == partition) else {
            return Ok(());
        };
        let window = (aggregate.source, aggregate.window);
        if self.entered != Some(window) {
            self.entered = Some(window);
            self.balance.enter(&aggregate, &mut self.found);
            self.cut = self.cut.max(aggregate.source.to);
            self.give(aggregate.source.to)?;
        }
        self.balance.aggregate(aggregate, &mut self.found);
        Ok(())
    }

    /// Gives the balance all records before `to`.
    fn give(&mut self, to: u64) -> Result<(), E> {
        while let Some(next) = self.records.next_if(|next| !matches!(next, Ok(next) if next.offset >= to)) {
            let KeptRecord { offset, timestamp_ms, value } = next?;
            self.balance.record(offset, timestamp_ms, value.as_ref(), &mut self.found);
        }
        Ok(())
    }

    fn end(mut self, partition: u32, span: Span) -> Result<Report, E> {
        let cut = self.cut.max(span.committed.unwrap_or(0));
        self.balance.seal(&mut self.found);
        self.give(cut)?;
        self.balance.finish(&mut self.found);
        for next in &mut self.records {
            let KeptRecord { timestamp_ms, value, .. } = next?;
            self.balance.open(timestamp_ms, value.as_ref(), &mut self.found);
        }
        if cut > span.end {
            self.found.add(Finding::BeyondEnd { partition, cut, end: span.end });
        }
        let mut report = self.auditor.report();
        report.complete(self.found);
        report.rooms.values_mut().for_each(|sums| sums.partition = partition);
        Ok(report)
    }
}
