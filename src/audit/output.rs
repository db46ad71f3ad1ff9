//! What an audit found, for people and for programs.

use super::Found;
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{self, Write},
};
use wire::{
    RoomName,
    audit::{Finding, RoomSums},
};

/// Rooms that are shown of those that are clean, and of those that are not.
const CLEAN_SHOWN: usize = 20;
const WRONG_SHOWN: usize = 50;
/// Findings that are shown of a room or a partition.
const FINDINGS_SHOWN: usize = 5;

/// What is shown, and how.
pub(super) struct Output<'a> {
    pub(super) rooms: &'a [RoomName],
    pub(super) all: bool,
    pub(super) json: bool,
}

/// The findings of each room and of each partition, in their order.
struct Sorted<'a> {
    rooms: BTreeMap<&'a RoomName, Vec<&'a Finding>>,
    partitions: BTreeMap<u32, Vec<&'a Finding>>,
}

impl Output<'_> {
    pub(super) fn write(&self, found: &Found, out: &mut impl Write) -> io::Result<()> {
        let mut sorted = Sorted { rooms: BTreeMap::new(), partitions: BTreeMap::new() };
        for finding in &found.report.findings {
            match (finding.room(), finding.partition()) {
                (Some(room), _) => sorted.rooms.entry(room).or_default().push(finding),
                (None, partition) => {
                    sorted.partitions.entry(partition.unwrap_or_default()).or_default().push(finding);
                }
            }
        }
        if self.json { self.json(found, &sorted, out) } else { self.table(found, &sorted, out) }
    }

    /// The rooms to show: those with the most findings first.
    fn shown<'a>(&self, found: &'a Found) -> Vec<(&'a RoomName, &'a RoomSums)> {
        let wanted = |room: &RoomName| self.rooms.is_empty() || self.rooms.contains(room);
        let mut rooms: Vec<_> = found.report.rooms.iter().filter(|(room, _)| wanted(room)).collect();
        rooms.sort_by_key(|(_, sums)| std::cmp::Reverse(sums.findings));
        rooms
    }

    fn json(&self, found: &Found, sorted: &Sorted<'_>, out: &mut impl Write) -> io::Result<()> {
        for (room, sums) in self.shown(found) {
            let findings = sorted.rooms.get(room).map(Vec::as_slice).unwrap_or_default();
            let line = json!({
                "room": room,
                "partition": sums.partition,
                "clean": sums.findings == 0,
                "findings": told(findings),
                "windows": sums.windows,
                "count": sums.counted,
                "total": sums.total,
                "verified": sums.verified,
                "late": sums.late,
                "skewed": sums.skewed,
                "open": sums.open,
                "compacted": sums.compacted,
                "bygone": sums.bygone,
                "forgotten": sums.forgotten,
            });
            writeln!(out, "{line}")?;
        }
        for (partition, findings) in &sorted.partitions {
            writeln!(out, "{}", json!({"partition": partition, "clean": false, "findings": told(findings)}))?;
        }
        let report = &found.report;
        let sums = Sums::of(found);
        let line = json!({"summary": {
            "clean": report.is_clean(),
            "findings": report.findings.len() as u64 + report.more_findings,
            "partitions": found.partitions,
            "rooms": report.rooms.len(),
            "rooms_with_findings": sums.wrong,
            "windows": report.windows,
            "windows_compared": report.compared,
            "holes": report.holes,
            "aggregates": found.aggregates,
            "records": found.reactions,
            "poison": report.poison,
            "foreign": report.foreign,
            "foreign_reactions": report.foreign_reactions,
            "count": sums.counted,
            "total": sums.total,
            "verified": sums.verified,
            "late": sums.late,
            "skewed": sums.skewed,
            "open": report.uncounted,
            "open_for_ms": report.uncounted_since_ms.map(|since| found.now_ms.saturating_sub(since)),
        }});
        writeln!(out, "{line}")
    }

    fn table(&self, found: &Found, sorted: &Sorted<'_>, out: &mut impl Write) -> io::Result<()> {
        let rooms = self.shown(found);
        let wrong = rooms.iter().filter(|(_, sums)| sums.findings > 0).count();
        let most = |most: usize, of: usize| if self.all { of } else { of.min(most) };
        let (wrong_shown, clean_shown) = (most(WRONG_SHOWN, wrong), most(CLEAN_SHOWN, rooms.len() - wrong));
        if !rooms.is_empty() {
            writeln!(
                out,
                "{:<32} {:>9} {:>12} {:>12} {:>12} {:>8} {:>8} {:>8}",
                "room", "windows", "count", "total", "verified", "late", "skewed", "open"
            )?;
        }
        for (room, sums) in rooms[..wrong_shown].iter().chain(&rooms[wrong..wrong + clean_shown]) {
            let RoomSums { windows, counted, total, verified, late, skewed, open, findings, .. } = sums;
            let verdict = if *findings == 0 { "clean".to_owned() } else { format!("{findings} WRONG") };
            writeln!(
                out,
                "{:<32} {windows:>9} {counted:>12} {total:>12} {verified:>12} {late:>8} {skewed:>8} {open:>8}  {verdict}",
                &***room
            )?;
            self.findings(sorted.rooms.get(room).map(Vec::as_slice).unwrap_or_default(), out)?;
        }
        let left = rooms.len() - wrong_shown - clean_shown;
        if left > 0 {
            let wrong_left = wrong - wrong_shown;
            writeln!(out, "... {left} rooms more, {wrong_left} of them with findings (--all shows them)")?;
        }
        for room in self.rooms.iter().filter(|room| !found.report.rooms.contains_key(*room)) {
            writeln!(out, "{:<32} nothing is kept of it", &**room)?;
        }
        for (partition, findings) in &sorted.partitions {
            writeln!(out, "partition {partition}: {} WRONG", findings.len())?;
            self.findings(findings, out)?;
        }
        self.summary(found, out)
    }

    fn findings(&self, findings: &[&Finding], out: &mut impl Write) -> io::Result<()> {
        let shown = if self.all { findings.len() } else { findings.len().min(FINDINGS_SHOWN) };
        for finding in &findings[..shown] {
            writeln!(out, "    {finding}")?;
        }
        if shown < findings.len() {
            writeln!(out, "    ... {} more", findings.len() - shown)?;
        }
        Ok(())
    }

    fn summary(&self, found: &Found, out: &mut impl Write) -> io::Result<()> {
        let (report, sums) = (&found.report, Sums::of(found));
        let verdict = match report.findings.len() as u64 + report.more_findings {
            0 => "clean".to_owned(),
            findings => format!("{findings} FINDINGS in {} rooms", sums.wrong),
        };
        write!(
            out,
            "AUDIT {verdict}: {} rooms in {} partitions, total {} ({} verified), {} windows ({} compared, {} holes), \
             {} aggregates and {} records read, late {}, skewed {}, poison {}, foreign {}, open {}",
            report.rooms.len(),
            found.partitions,
            sums.total,
            sums.verified,
            report.windows,
            report.compared,
            report.holes,
            found.aggregates,
            found.reactions,
            sums.late,
            sums.skewed,
            report.poison,
            report.foreign,
            report.uncounted,
        )?;
        match report.uncounted_since_ms {
            Some(since) => writeln!(out, " for {} ms", found.now_ms.saturating_sub(since)),
            None => writeln!(out),
        }
    }
}

fn told(findings: &[&Finding]) -> Vec<serde_json::Value> {
    findings.iter().map(|it| json!({"kind": it.kind(), "text": it.to_string()})).collect()
}

/// Over all rooms.
#[derive(Default)]
struct Sums {
    wrong: u64,
    counted: u64,
    total: u64,
    verified: u64,
    late: u64,
    skewed: u64,
}

impl Sums {
    fn of(found: &Found) -> Self {
        let mut sums = Self::default();
        for room in found.report.rooms.values() {
            sums.wrong += u64::from(room.findings > 0);
            sums.counted = sums.counted.saturating_add(room.counted);
            sums.total = sums.total.saturating_add(room.total);
            sums.verified = sums.verified.saturating_add(room.verified);
            sums.late = sums.late.saturating_add(room.late);
            sums.skewed = sums.skewed.saturating_add(room.skewed);
        }
        sums
    }
}
