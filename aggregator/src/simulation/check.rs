//! What must hold at the end of a run. The invariants themselves are those of [`wire::audit`].

use super::world::World;
use bytes::Bytes;
use eventlog::MemoryLog;
use std::collections::BTreeMap;
use wire::{
    Aggregate, Batch, RoomName, WindowRecord,
    audit::{Auditor, Report, WindowAuditor},
};

/// Audits all that was ever committed against all that was ever appended.
pub(crate) fn audit(log: &MemoryLog) -> Report {
    let mut auditor = Auditor::of_whole_history();
    for partition in 0..log.partitions() {
        for record in log.reactions(partition) {
            auditor.record(partition, record.offset, &record.value);
        }
    }
    for (partition, room, value) in log.aggregates() {
        auditor.committed(partition, &room, value.as_deref());
    }
    let mut report = auditor.report();
    audit_windows(log).into_iter().for_each(|found| report.merge(found));
    report
}

/// Audits the windows of each partition against its newest aggregates.
fn audit_windows(log: &MemoryLog) -> Vec<Report> {
    let mut auditors: Vec<_> = (0..log.partitions()).map(WindowAuditor::of_all_windows).collect();
    for (partition, room, value) in log.aggregates() {
        let aggregate = value.and_then(|value| Aggregate::decode(&value).ok());
        auditors[partition as usize].aggregate(&room, aggregate.as_ref());
    }
    for (partition, room, value) in log.windows() {
        auditors[partition as usize].window(&room, &value);
    }
    auditors.into_iter().map(WindowAuditor::report).collect()
}

/// By room, the sum of its windows over all of its lives.
fn sums_of_windows(log: &MemoryLog) -> BTreeMap<RoomName, u64> {
    let mut sums = BTreeMap::new();
    for (_, room, value) in log.windows() {
        *sums.entry(room).or_default() += WindowRecord::decode(&value).map_or(0, |record| record.count);
    }
    sums
}

/// The run is over: all trouble ends, everything must come to rest, and then everything must be right. Gives the
/// findings.
pub(super) async fn end(world: &mut World) -> Result<Vec<String>, String> {
    world.heal();
    let ends = last_batches(world);
    let rested = world.until(|world| is_at_rest(world, &ends)).await?;
    let mut findings = Vec::new();
    if !rested {
        findings.push("a minute after all trouble ended it has not come to rest".into());
    }
    findings.extend(world.unready().iter().map(|why| format!("unready: {why}")));
    let before = aggregates(world);
    world.rest(5_000).await?;
    if rested && aggregates(world) != before {
        findings.push("windows come out although all is at rest".into());
    }
    world.stop_all();
    if !world.until(World::is_empty).await? {
        findings.push("an instance does not stop".into());
    }
    let report = audit(&world.memory);
    findings.extend(report.findings.iter().map(ToString::to_string));
    findings.extend(compare(world, &report));
    findings.extend(world.log.misuse());
    Ok(findings)
}

fn compare(world: &World, report: &Report) -> Vec<String> {
    let mut findings = Vec::new();
    let windows = sums_of_windows(&world.memory);
    for (room, accepted) in &world.accepted {
        let sum = windows.get(room).copied().unwrap_or(0);
        if sum != *accepted {
            findings.push(format!("room {room}: {accepted} accepted, {sum} in its windows"));
        }
        let counted = report.rooms.get(room).map_or(0, |sums| sums.counted);
        if counted != *accepted {
            findings.push(format!("room {room}: {accepted} accepted, {counted} counted"));
        }
    }
    for (partition, cut) in &report.cuts {
        let committed = world.memory.committed(*partition);
        if committed != *cut {
            findings.push(format!("partition {partition}: {committed} committed, the last cut was {cut}"));
        }
    }
    if report.uncounted > 0 {
        findings.push(format!("{} reactions are in no window", report.uncounted));
    }
    if report.is_clean() && report.compared != report.windows {
        findings.push(format!("{} of {} windows compared", report.compared, report.windows));
    }
    findings.extend(
        report.rooms.iter().filter(|(_, sums)| !sums.at_rest).map(|(r, _)| format!("room {r}: no rest")),
    );
    findings
}

/// By partition, the offset after the last batch. Poison behind it is committed with the next window.
fn last_batches(world: &World) -> Vec<u64> {
    let last = |partition| {
        let records = world.memory.reactions(partition);
        records
            .iter()
            .rev()
            .find(|record| Batch::decode_all(&record.value).any(|batch| batch.is_ok()))
            .map_or(0, |r| r.offset + 1)
    };
    (0..world.memory.partitions()).map(last).collect()
}

/// All are ready, everything is committed, and the last window of each room had no reactions.
fn is_at_rest(world: &World, ends: &[u64]) -> bool {
    world.unready().is_empty()
        && (0..).zip(ends).all(|(partition, end)| world.memory.committed(partition) >= *end)
        && newest(world).values().all(|value| Aggregate::decode(value).is_ok_and(|newest| newest.count == 0))
}

fn newest(world: &World) -> BTreeMap<RoomName, Bytes> {
    let mut newest = BTreeMap::new();
    for (_, room, value) in world.memory.aggregates() {
        match value {
            Some(value) => newest.insert(room, value),
            None => newest.remove(&room),
        };
    }
    newest
}

/// How many aggregates there are; forgotten rooms don't count.
fn aggregates(world: &World) -> usize {
    world.memory.aggregates().iter().filter(|(_, _, value)| value.is_some()).count()
}
