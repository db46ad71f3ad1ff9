//! The audit of a partition as a log keeps it: faults are found in it, and what compaction and retention took is none.

mod edges;
mod properties;

use super::*;
use crate::{Batch, COUNT_MAX, FORMAT_VERSION};
use std::{collections::BTreeSet, convert::Infallible};

const TTL_MS: u64 = 100_000;

fn room(name: &str) -> RoomName {
    name.parse().unwrap()
}

fn counts(counts: &[(&str, u64)]) -> Counts {
    counts.iter().map(|(reaction, n)| (reaction.parse().unwrap(), *n)).collect()
}

/// A log with one partition, and the tier that rolls it up.
#[derive(Debug, Clone, Default)]
struct Log {
    now_ms: u64,
    records: Vec<(u64, u64, Vec<u8>)>,
    aggregates: Vec<(u64, RoomName, Option<Aggregate>)>,
    /// What is kept of `reactions`.
    begin: u64,
    cut: u64,
    living: BTreeMap<RoomName, Aggregate>,
    /// Of more rooms, those silent the longest are forgotten when a window has closed.
    max_rooms: Option<usize>,
    /// When rooms had reactions last.
    active_ms: BTreeMap<RoomName, u64>,
    open: BTreeMap<RoomName, Counts>,
}

impl Log {
    /// A record of one batch.
    fn append(&mut self, name: &str, of: &[(&str, u64)]) {
        self.append_all([(name, counts(of))]);
    }

    /// A record of batches of a room that leave so much of its total.
    fn fill(&mut self, name: &str, left: u64) {
        // 1,024 x (2^53 - 1) + 1,023 = 2^63 - 1.
        let batches = std::iter::repeat_n(COUNT_MAX, 1_024).chain([1_023 - left]);
        self.append_all(batches.map(|n| (name, counts(&[("x", n)]))));
    }

    /// A record of several batches.
    fn append_all<N: AsRef<str>>(&mut self, batches: impl IntoIterator<Item = (N, Counts)>) {
        let mut value = Vec::new();
        for (name, counts) in batches {
            let room = room(name.as_ref());
            let sums = self.open.entry(room.clone()).or_default();
            counts.iter().for_each(|(reaction, n)| *sums.entry(reaction.clone()).or_default() += n);
            Batch::new(room, counts).unwrap().encode_into(&mut value);
        }
        self.records.push((self.records.len() as u64, self.now_ms, value));
    }

    /// Closes the window; rooms that had reactions in the one before come to rest.
    fn close(&mut self) {
        let window = Window { start: self.now_ms / 1_000 * 1_000, end: self.now_ms / 1_000 * 1_000 + 1_000 };
        let source = Source { partition: 0, from: self.cut, to: self.records.len() as u64 };
        let mut open = mem::take(&mut self.open);
        let busy = self.living.values().filter(|newest| newest.count > 0);
        for newest in busy {
            open.entry(newest.room.clone()).or_default();
        }
        for (room, counts) in open {
            let count = counts.values().sum();
            let last = self.living.get(&room);
            let mut totals = last.map(|last| last.totals.clone()).unwrap_or_default();
            counts.iter().for_each(|(reaction, n)| *totals.entry(reaction.clone()).or_default() += n);
            let aggregate = Aggregate {
                v: FORMAT_VERSION,
                room: room.clone(),
                seq: last.map_or(0, |last| last.seq) + 1,
                since: last.map_or(window.start, |last| last.since),
                window,
                count,
                counts,
                others: 0,
                slots: vec![count],
                late: 0,
                skewed: 0,
                total: totals.values().sum(),
                totals,
                others_total: 0,
                carried: 0,
                source,
            };
            self.put(room.clone(), Some(aggregate.clone()));
            if count > 0 {
                self.active_ms.insert(room.clone(), window.end);
            }
            self.living.insert(room, aggregate);
        }
        // A transaction ends with a marker, which takes an offset.
        self.cut = source.to;
        self.now_ms = window.end;
        self.thin_out();
    }

    fn put(&mut self, room: RoomName, aggregate: Option<Aggregate>) {
        let offset = self.aggregates.last().map_or(0, |(offset, ..)| offset + 1);
        self.aggregates.push((offset, room, aggregate));
    }

    /// Time passes, and rooms that are at rest are forgotten.
    fn silence(&mut self) {
        self.close();
        self.close();
        self.now_ms += TTL_MS;
        let resting = mem::take(&mut self.living);
        resting.into_keys().for_each(|room| self.put(room, None));
    }

    /// Forgets those silent the longest of too many rooms.
    fn thin_out(&mut self) {
        let silent = self.living.values().filter(|newest| newest.count == 0);
        let mut silent: Vec<_> = silent.map(|it| (self.active_ms[&it.room], it.room.clone())).collect();
        silent.sort();
        silent.truncate(self.living.len().saturating_sub(self.max_rooms.unwrap_or(usize::MAX)));
        for (_, room) in silent {
            self.living.remove(&room);
            self.put(room, None);
        }
    }

    /// Compacts the records of `aggregates` before the `n`th; tombstones may go too.
    fn compact(&mut self, n: usize, tombstones: bool) {
        let newest: BTreeMap<_, _> =
            self.aggregates[..n].iter().enumerate().map(|(n, (_, room, _))| (room.clone(), n)).collect();
        let mut at = 0;
        self.aggregates.retain(|(_, room, aggregate)| {
            at += 1;
            at > n || newest[room] == at - 1 && (aggregate.is_some() || !tombstones)
        });
    }

    fn trim(&mut self, begin: u64) {
        self.begin = begin;
        self.records.retain(|(offset, ..)| *offset >= begin);
    }

    /// The newest aggregates only, and the committed offset.
    fn newest_only(&mut self) {
        self.compact(self.aggregates.len(), true);
    }

    fn audit(&self) -> Report {
        self.audit_with(Some(self.cut))
    }

    fn audit_with(&self, committed: Option<u64>) -> Report {
        let end = self.records.last().map_or(self.begin, |(offset, ..)| offset + 1);
        let span = Span { begin: self.begin, end, committed };
        let aggregates = || {
            self.aggregates.iter().map(|(offset, room, aggregate)| {
                let value = aggregate.as_ref().map(Aggregate::encode);
                Ok::<_, Infallible>(KeptAggregate { offset: *offset, room: Some(room.clone()), value })
            })
        };
        let records = self.records.iter().map(|(offset, timestamp_ms, value)| {
            Ok(KeptRecord { offset: *offset, timestamp_ms: *timestamp_ms, value })
        });
        let foresight = Foresight::of(aggregates()).unwrap();
        let retention = Retention {
            silent_since_ms: self.now_ms.saturating_sub(TTL_MS),
            max_rooms: self.max_rooms.unwrap_or(usize::MAX),
        };
        let is_home = |room: &RoomName| !room.starts_with("foreign");
        let scope = Scope { partition: 0, span, retention, foresight, is_home: &is_home };
        partition(scope, aggregates(), records).unwrap()
    }

    fn findings(&self) -> Vec<String> {
        self.audit().findings.iter().map(ToString::to_string).collect()
    }

    /// The nth aggregate of a room.
    fn nth(&mut self, name: &str, n: usize) -> &mut Aggregate {
        let of_room = self.aggregates.iter_mut().filter(|(_, room, _)| &**room == name);
        of_room.filter_map(|(.., aggregate)| aggregate.as_mut()).nth(n).unwrap()
    }
}

/// Three windows of room a, two of room b, one record that is open.
fn good() -> Log {
    let mut log = Log { now_ms: 1_000_000, ..Log::default() };
    log.append("a", &[("x", 2), ("y", 1)]);
    log.append("b", &[("x", 5)]);
    log.close();
    log.append("a", &[("x", 4)]);
    log.close();
    log.append("a", &[("y", 6)]);
    log.append("b", &[("x", 7)]);
    log.close();
    log.append("a", &[("x", 8)]);
    log
}

/// As [`good`], then rooms come to rest, and there is place for one.
fn crowded() -> Log {
    let mut log = good();
    log.close();
    log.close();
    log.max_rooms = Some(1);
    log.thin_out();
    log
}

#[test]
fn a_good_history_is_clean_and_every_reaction_in_it_is_verified() {
    let log = good();
    let report = log.audit();
    assert_eq!(log.findings(), [""; 0]);
    let a = RoomSums { windows: 3, counted: 13, total: 13, verified: 13, open: 8, ..RoomSums::default() };
    let b = RoomSums { windows: 3, counted: 12, total: 12, verified: 12, ..RoomSums::default() };
    assert_eq!(report.rooms, [(room("a"), a), (room("b"), b)].into());
    assert_eq!((report.windows, report.compared, report.holes, report.uncounted), (3, 3, 0, 8));
    assert_eq!(report.uncounted_since_ms, Some(1_003_000));
    assert_eq!(report.cuts, [(0, 5)].into());
}

#[test]
fn a_window_that_is_missing_is_a_gap_and_the_rooms_in_it_are_named() {
    let mut log = good();
    log.close();
    log.append("c", &[("x", 3)]);
    log.close();
    log.append("c", &[("x", 1)]);
    log.close();
    log.aggregates.retain(|(.., it)| it.as_ref().unwrap().source.from != 6);
    let gap = "partition 0: the records 6 to 7 are in no window";
    let beyond = |it: &String| it.starts_with("room c: seq 2, expected 1") || it.contains("3 in the records");
    let findings = log.findings();
    assert!(findings.iter().any(|it| it == gap), "{findings:?}");
    assert!(findings.iter().any(beyond), "{findings:?}");
}

#[test]
fn overlaps_are_seen_and_named_once() {
    let mut log = good();
    for name in ["a", "b"] {
        log.nth(name, 2).source.from = 2;
    }
    assert_eq!(log.findings(), ["partition 0: the records 2 to 3 are in two windows"]);
    // Counted in both, too.
    let a = log.nth("a", 2);
    (a.count, a.counts, a.slots) = (10, counts(&[("x", 4), ("y", 6)]), vec![10]);
    (a.total, a.totals) = (17, counts(&[("x", 10), ("y", 7)]));
    assert_eq!(log.findings(), ["partition 0: the records 2 to 3 are in two windows"]);
}

#[test]
fn a_window_that_is_written_twice_is_seen() {
    let mut log = good();
    let last = log.aggregates[4..].to_vec();
    log.aggregates.extend(last);
    let findings = log.findings();
    assert!(
        findings.contains(&"room a: two aggregates of one window, records 3 to 5".to_owned()),
        "{findings:?}"
    );
}

#[test]
fn a_record_that_a_window_leaves_out_is_found_with_and_without_other_records_of_its_room() {
    let mut log = good();
    let a = log.nth("a", 1);
    (a.count, a.counts, a.slots) = (1, counts(&[("x", 1)]), vec![1]);
    (a.total, a.totals) = (4, counts(&[("x", 3), ("y", 1)]));
    let a = log.nth("a", 2);
    (a.total, a.totals) = (10, counts(&[("x", 3), ("y", 7)]));
    assert_eq!(log.findings(), ["room a: 1 counted, 4 in the records 2 to 3"]);

    let mut log = good();
    log.aggregates.retain(|(_, of, it)| *of != room("b") || it.as_ref().unwrap().seq < 3);
    assert_eq!(log.findings(), ["room b: 7 in the records 4 to 5 are in no aggregate"]);

    let mut log = good();
    log.aggregates.retain(|(_, of, _)| *of != room("b"));
    assert_eq!(log.findings(), ["room b: 12 in the records 1 to 5 are in no aggregate"]);
}

#[test]
fn a_record_that_a_window_leaves_out_is_found_though_the_room_goes_on_as_if_it_had_not_been() {
    let mut log = good();
    log.close();
    log.close();
    log.append("b", &[("x", 3)]);
    log.open.clear();
    log.append("a", &[("x", 1)]);
    log.close();
    log.append("b", &[("x", 1)]);
    log.close();
    assert_eq!(log.findings(), ["room b: 3 in the records 6 to 7 are in no aggregate"]);
}

#[test]
fn totals_that_go_back_or_do_not_add_up_are_found() {
    let mut log = good();
    let a = log.nth("a", 2);
    (a.total, a.totals) = (6, counts(&[("y", 6)]));
    assert_eq!(log.findings(), ["room a: total 6 after 7"]);
    let a = log.nth("a", 2);
    (a.total, a.totals) = (14, counts(&[("x", 7), ("y", 7)]));
    assert_eq!(log.findings(), ["room a: total 14, expected 13"]);
}

#[test]
fn reactions_that_are_counted_under_another_name_are_found_and_others_are_of_any_name() {
    let mut log = good();
    let a = log.nth("a", 0);
    (a.counts, a.totals) = (counts(&[("x", 1), ("y", 2)]), counts(&[("x", 1), ("y", 2)]));
    let findings = log.findings();
    let of_records = |it: &String| it == "room a: the reactions of seq 1 are not those in the records 0 to 2";
    assert!(findings.iter().any(of_records), "{findings:?}");

    let mut log = good();
    for n in 0..3 {
        let a = log.nth("a", n);
        a.others = a.counts.remove("y").unwrap_or(0);
        a.others_total = a.totals.remove("y").unwrap_or(0);
    }
    assert_eq!(log.findings(), [""; 0]);
    // More by name than there is.
    let a = log.nth("a", 1);
    (a.counts, a.others) = (counts(&[("x", 3)]), 1);
    let findings = log.findings();
    assert!(findings.iter().all(|it| !it.contains("records")), "{findings:?}");
    let a = log.nth("a", 2);
    (a.counts, a.others) = (counts(&[("x", 3)]), 3);
    let of_records = |it: &String| it == "room a: the reactions of seq 3 are not those in the records 3 to 5";
    assert!(log.findings().iter().any(of_records));
}

#[test]
fn batches_of_rooms_that_live_elsewhere_are_no_fault_and_are_told_apart() {
    let mut log = good();
    let foreign = |log: &mut Log, value: &mut Vec<u8>| {
        Batch::new(room("foreign"), counts(&[("x", 5)])).unwrap().encode_into(value);
        log.records.len() as u64
    };
    // In a window beside a batch that counts, and behind the last window.
    let mut value = mem::take(&mut log.records[1].2);
    foreign(&mut log, &mut value);
    log.records[1].2 = value;
    let mut alone = Vec::new();
    let offset = foreign(&mut log, &mut alone);
    log.records.push((offset, log.now_ms, alone));
    let report = log.audit();
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!((report.foreign, report.foreign_reactions), (2, 10));
    assert_eq!(report.uncounted, good().audit().uncounted);
    assert!(!report.rooms.contains_key(&room("foreign")));
}

#[test]
fn compaction_and_retention_leave_holes_which_are_no_faults() {
    let mut log = good();
    log.newest_only();
    log.trim(4);
    let report = log.audit();
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!((report.compared, report.rooms[&room("a")].compacted), (0, 2));
    assert_eq!(report.rooms[&room("a")].verified, 0);

    // Deleted after the span was known.
    let mut log = good();
    log.records.remove(0);
    assert_eq!((log.findings().as_slice(), log.audit().compared), (&[][..], 2));

    // The newest of b, and of a two windows later.
    let mut log = good();
    for _ in 0..3 {
        log.close();
        log.append("a", &[("x", 1)]);
    }
    log.newest_only();
    let report = log.audit();
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!((report.windows, report.holes), (2, 1));
}

#[test]
fn windows_of_records_that_never_were_are_found_without_a_committed_offset_too() {
    let mut log = good();
    log.newest_only();
    log.records.truncate(3);
    for committed in [Some(5), None] {
        let findings = log.audit_with(committed).findings;
        let kinds: Vec<_> = findings.iter().map(Finding::kind).collect();
        assert!(kinds.contains(&"beyond_end"), "{committed:?}: {kinds:?}");
    }
}

#[test]
fn all_that_is_left_of_the_records_still_proves_a_total_whose_windows_are_gone() {
    let mut log = good();
    log.newest_only();
    let report = log.audit();
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!((report.rooms[&room("a")].verified, report.rooms[&room("b")].verified), (13, 12));

    let a = log.nth("a", 0);
    (a.total, a.totals) = (14, counts(&[("x", 7), ("y", 7)]));
    assert_eq!(log.findings(), ["room a: total 14 at seq 3, 13 in the records 0 to 5"]);
    let a = log.nth("a", 0);
    (a.total, a.totals) = (12, counts(&[("x", 6), ("y", 6)]));
    assert_eq!(log.findings(), ["room a: total 12 at seq 3, 13 in the records 0 to 5"]);
    let a = log.nth("a", 0);
    (a.total, a.totals) = (13, counts(&[("x", 5), ("y", 8)]));
    assert_eq!(log.findings(), ["room a: the reactions of seq 3 are not those in the records 0 to 5"]);
}

#[test]
fn a_life_that_began_well_after_the_oldest_record_is_compared_as_a_whole() {
    let mut log = good();
    log.silence();
    let records = log.records.len() as u64;
    for n in [9, 1] {
        log.append("c", &[("x", n)]);
        log.close();
    }
    log.newest_only();
    log.trim(1);
    assert_eq!(log.findings(), [""; 0]);
    let c = log.nth("c", 0);
    (c.total, c.totals) = (11, counts(&[("x", 11)]));
    assert_eq!(log.findings(), ["room c: total 11 at seq 2, 10 in the records 1 to 8"]);
    // One that began with the oldest record may have had others, which are deleted.
    log.trim(records);
    assert_eq!(log.findings(), [""; 0]);
}

#[test]
fn a_room_that_was_forgotten_begins_again_and_its_earlier_records_prove_nothing() {
    let mut log = good();
    log.silence();
    log.append("a", &[("x", 9)]);
    log.close();
    let mut young = log.clone();
    young.newest_only();
    assert_eq!(young.findings(), [""; 0]);
    assert_eq!(young.audit().rooms[&room("a")].bygone, 21);
    log.append("a", &[("x", 1)]);
    log.close();
    assert_eq!(log.findings(), [""; 0]);
    let report = log.audit();
    assert_eq!((report.rooms[&room("a")].total, report.rooms[&room("a")].forgotten), (10, 1));
    assert_eq!((report.rooms[&room("b")].total, report.rooms[&room("b")].at_rest), (0, true));
    log.compact(log.aggregates.len(), false);
    assert_eq!((log.findings().as_slice(), log.audit().rooms[&room("b")].bygone), (&[][..], 12));
    log.newest_only();
    let report = log.audit();
    assert!(report.is_clean(), "{:?}", report.findings);
    let (a, b) = (&report.rooms[&room("a")], &report.rooms[&room("b")]);
    assert_eq!((a.total, a.verified, a.bygone, b.bygone), (10, 10, 21, 12));
    // What came after it began again is of this life.
    let a = log.nth("a", 0);
    (a.total, a.totals) = (9, counts(&[("x", 9)]));
    assert_eq!(log.findings(), ["room a: total 9 at seq 2, 10 in the records 0 to 8"]);
}

#[test]
fn a_room_that_gave_place_to_others_is_no_finding_while_there_are_as_many_as_may_be() {
    let mut log = crowded();
    assert_eq!(log.living.keys().map(|room| &**room).collect::<Vec<_>>(), ["a"]);
    assert_eq!(log.findings(), [""; 0]);
    log.newest_only();
    assert_eq!(log.findings(), [""; 0]);
    assert_eq!(log.audit().rooms[&room("b")].bygone, 12);
    log.max_rooms = Some(2);
    assert_eq!(log.findings(), ["room b: 12 in the records 1 to 5 are in no aggregate"]);
}

#[test]
fn records_behind_the_tombstone_of_a_room_must_be_counted_however_many_rooms_there_are() {
    let mut log = crowded();
    log.append("b", &[("x", 3)]);
    log.append("a", &[("x", 1)]);
    log.close();
    log.aggregates.retain(|(_, of, it)| *of != room("b") || it.is_none());
    assert_eq!(log.findings().len(), 1, "{:?}", log.findings());
}

#[test]
fn a_life_that_does_not_begin_again_with_seq_1_is_found() {
    let mut log = good();
    log.silence();
    log.append("a", &[("x", 9)]);
    log.close();
    log.nth("a", 5).seq = 2;
    assert_eq!(log.findings(), ["room a: seq 2, expected 1"]);
}

#[test]
fn where_an_aggregate_is_missing_the_growth_of_the_total_is_compared() {
    let mut log = good();
    log.aggregates.retain(|(_, of, it)| *of != room("a") || it.as_ref().unwrap().seq != 2);
    assert_eq!(log.findings(), ["room a: seq 3, expected 2"]);
    let a = log.nth("a", 1);
    (a.total, a.totals) = (14, counts(&[("x", 7), ("y", 7)]));
    let findings = log.findings();
    assert!(
        findings.iter().any(|it| it == "room a: total 11 at seq 3, 10 in the records 0 to 5"),
        "{findings:?}"
    );
}

#[test]
fn poison_alien_and_unreadable_records_are_told_apart() {
    let mut log = good();
    log.records[1].2 = b"not a batch".to_vec();
    log.aggregates.retain(|(_, of, _)| *of != room("b"));
    log.records[4].2 = b"{}".to_vec();
    log.records[0].2.extend(b"\nnot a batch");
    // One that no window has taken.
    log.records[5].2.extend(b"\nnot a batch");
    let report = log.audit();
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!((report.poison, report.uncounted), (4, 8));

    let alien = KeptAggregate { offset: 7, room: None, value: Some(b"{}") };
    let torn = KeptAggregate { offset: 8, room: Some(room("a")), value: Some(b"{}") };
    let none = std::iter::empty::<Result<KeptRecord<Vec<u8>>, Infallible>>();
    let span = Span { begin: 0, end: 0, committed: Some(3) };
    let kept = [Ok(alien), Ok(torn)].into_iter();
    let retention = Retention { silent_since_ms: 0, max_rooms: 10 };
    let scope = Scope { partition: 0, span, retention, foresight: Foresight::default(), is_home: &|_| true };
    let report = partition(scope, kept, none).unwrap();
    let kinds: BTreeSet<_> = report.findings.iter().map(Finding::kind).collect();
    assert_eq!(kinds, ["alien", "unreadable", "beyond_end"].into());
}

#[test]
fn a_full_room_passes_batches_over() {
    let mut log = Log { now_ms: 1_000_000, ..Log::default() };
    log.fill("a", 0);
    log.close();
    let value = Batch::new(room("a"), counts(&[("x", 1)])).unwrap().encode();
    log.records.push((1, log.now_ms, value));
    log.append("b", &[("x", 1)]);
    log.close();
    assert_eq!(log.findings(), [""; 0]);
    // At rest, too.
    log.records.push((3, log.now_ms, log.records[1].2.clone()));
    log.append("b", &[("x", 1)]);
    log.close();
    assert_eq!(log.findings(), [""; 0]);
}

#[test]
fn a_room_with_aggregates_in_two_partitions_is_found() {
    let mut report = good().audit();
    report.merge(good().audit());
    assert_eq!(report.findings.iter().map(Finding::kind).collect::<Vec<_>>(), ["scattered", "scattered"]);
}
