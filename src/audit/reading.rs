//! One partition, from the log to the auditor.

use crate::progress::Progress;
use bytes::Bytes;
use eventlog::{History, HistoryAggregate, HistorySpan, OpenError, Record, windows::FollowedWindow};
use std::cell::{Cell, RefCell};
use wire::{
    Aggregate,
    audit::{
        Foresight, KeptAggregate, KeptRecord, Report, Retention, Scope, Span, WindowAuditor,
        partition as audit_partition,
    },
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
    keeps_windows: bool,
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
    let auditor = RefCell::new(WindowAuditor::of_kept_windows(partition));
    let aggregates = aggregates(history, partition, &span)?.inspect(|kept| {
        step(&windows);
        tell_newest(&mut auditor.borrow_mut(), kept);
    });
    let mut report = audit_partition(
        scope,
        aggregates,
        history.reactions(partition, &span)?.map(kept_record).inspect(|_| step(&records)),
    )?;
    // After the aggregates: all of their windows are there by now.
    if keeps_windows && let Some(windows) = history.windows(partition, 0)? {
        let mut auditor = auditor.into_inner();
        for window in windows {
            let FollowedWindow { room, value, .. } = window?;
            auditor.window(&room, &value);
        }
        report.merge(auditor.report());
        report.rooms.values_mut().for_each(|sums| sums.partition = partition);
    }
    Ok(Read { report, aggregates: windows.get(), reactions: records.get() })
}

fn tell_newest(auditor: &mut WindowAuditor, kept: &Result<KeptAggregate<Bytes>, OpenError>) {
    let Ok(KeptAggregate { room: Some(room), value, .. }) = kept else { return };
    match value.as_ref().map(|value| Aggregate::decode(value)) {
        None => auditor.aggregate(room, None),
        Some(Ok(aggregate)) => auditor.aggregate(room, Some(&aggregate)),
        // It is a finding already.
        Some(Err(_)) => {}
    }
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
