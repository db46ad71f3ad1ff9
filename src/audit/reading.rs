//! One partition, from the log to the auditor.

use super::progress::Progress;
use bytes::Bytes;
use eventlog::{History, HistoryAggregate, HistorySpan, OpenError, Record};
use std::cell::Cell;
use wire::audit::{
    Foresight, KeptAggregate, KeptRecord, Report, Retention, Scope, Span, partition as audit_partition,
};

/// A partition that was read and audited.
pub(super) struct Read {
    pub(super) report: Report,
    pub(super) aggregates: u64,
    pub(super) reactions: u64,
}

pub(super) fn read(
    history: &dyn History,
    partition: u32,
    retention: Retention,
    progress: &Progress,
) -> Result<Read, OpenError> {
    let span = history.span(partition)?;
    // Twice: what comes before a room's first aggregate is told apart by what that says.
    let foresight = Foresight::of(aggregates(history, partition, &span)?)?;
    let (windows, records) = (Cell::new(0), Cell::new(0));
    let step = |count: &Cell<u64>| {
        count.set(count.get() + 1);
        progress.step();
    };
    let partitions = history.partitions();
    let scope = Scope {
        partition,
        span: Span { begin: span.reactions.start, end: span.reactions.end, committed: span.committed },
        retention,
        foresight,
        is_home: &|room| eventlog::partition_of(room, partitions) == partition,
    };
    let report = audit_partition(
        scope,
        aggregates(history, partition, &span)?.inspect(|_| step(&windows)),
        history.reactions(partition, &span)?.map(kept_record).inspect(|_| step(&records)),
    )?;
    Ok(Read { report, aggregates: windows.get(), reactions: records.get() })
}

fn aggregates<'a>(
    history: &'a dyn History,
    partition: u32,
    span: &HistorySpan,
) -> Result<impl Iterator<Item = Result<KeptAggregate<Bytes>, OpenError>> + use<'a>, OpenError> {
    let kept = |HistoryAggregate { offset, room, value }| KeptAggregate { offset, room, value };
    Ok(history.aggregates(partition, span)?.map(move |record| record.map(kept)))
}

fn kept_record(record: Result<Record, OpenError>) -> Result<KeptRecord<Bytes>, OpenError> {
    record.map(|Record { offset, timestamp_ms, value }| KeptRecord { offset, timestamp_ms, value })
}
