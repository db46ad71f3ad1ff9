//! The form in which aggregates are written: their JSON, piece by piece.

use super::{Aggregate, Source, Window};
use crate::{
    FORMAT_VERSION, RoomName,
    batch::sum,
    json::{self, put_counts, put_number, put_quoted},
};
use std::ops::Range;

/// What stands before each value. The version is [`FORMAT_VERSION`].
const ROOM: &[u8] = br#"{"v":1,"room":"#;
const SEQ: &[u8] = br#","seq":"#;
const SINCE: &[u8] = br#","since":"#;
const START: &[u8] = br#","window":{"start":"#;
const END: &[u8] = br#","end":"#;
const COUNT: &[u8] = br#"},"count":"#;
const COUNTS: &[u8] = br#","counts":{"#;
/// What ends counts by reaction.
const COUNTED: &[u8] = b"}";
const OTHERS: &[u8] = br#","others":"#;
const SLOTS: &[u8] = br#","slots":["#;
const LATE: &[u8] = br#"],"late":"#;
const SKEWED: &[u8] = br#","skewed":"#;
const TOTAL: &[u8] = br#","total":"#;
const TOTALS: &[u8] = br#","totals":{"#;
const OTHERS_TOTAL: &[u8] = br#","others_total":"#;
const CARRIED: &[u8] = br#","carried":"#;
const PARTITION: &[u8] = br#","source":{"partition":"#;
const FROM: &[u8] = br#","from":"#;
const TO: &[u8] = br#","to":"#;
const LAST: &[u8] = b"}}";
/// Only frames have this one.
const VIEWERS: &[u8] = br#","viewers":"#;
/// With it, a number of 20 digits, and the bracket that closes a frame.
const FRAME_TAIL_BYTES_MAX: usize = VIEWERS.len() + 20 + 1;

/// What an aggregate says beside its counts by reaction; see [`Aggregate`].
#[derive(Debug, Clone, Copy)]
pub struct Outline<'a> {
    /// The room.
    pub room: &'a RoomName,
    /// Number of the aggregate.
    pub seq: u64,
    /// Start of the room's life.
    pub since: u64,
    /// The time that is covered.
    pub window: Window,
    /// Reactions in the window.
    pub count: u64,
    /// How many of them the room does not count by name.
    pub others: u64,
    /// The same by slice.
    pub slots: &'a [u64],
    /// How many came late.
    pub late: u64,
    /// How many came from the future.
    pub skewed: u64,
    /// Reactions since `since`.
    pub total: u64,
    /// How many of them the room does not count by name.
    pub others_total: u64,
    /// How many of `total` were counted in an earlier log.
    pub carried: u64,
    /// The records that were counted.
    pub source: Source,
}

impl Outline<'_> {
    /// Writes the value of a record, as [`Aggregate::encode`] does, and without making an aggregate. The caller sees to it that
    /// counts and totals are in the order of their reactions, each once, and agree with the rest.
    ///
    /// Returns where the totals stand in `value`: what is left without them is the value of a
    /// [`WindowRecord`](crate::WindowRecord).
    pub fn write<R: AsRef<str>>(
        &self,
        value: &mut Vec<u8>,
        counts: impl IntoIterator<Item = (R, u64)>,
        totals: impl IntoIterator<Item = (R, u64)>,
    ) -> Range<usize> {
        self.write_window(value, counts);
        let start = value.len();
        put(value, TOTAL, self.total);
        value.extend_from_slice(TOTALS);
        put_counts(value, totals);
        value.extend_from_slice(COUNTED);
        put_others(value, OTHERS_TOTAL, self.others_total);
        put_others(value, CARRIED, self.carried);
        let end = value.len();
        put_source(value, self.source);
        start..end
    }

    /// Writes what came in the window: all that stands before the totals.
    fn write_window<R: AsRef<str>>(&self, value: &mut Vec<u8>, counts: impl IntoIterator<Item = (R, u64)>) {
        value.extend_from_slice(ROOM);
        // It holds nothing that is escaped.
        put_quoted(value, self.room);
        let Window { start, end } = self.window;
        for (before, n) in
            [(SEQ, self.seq), (SINCE, self.since), (START, start), (END, end), (COUNT, self.count)]
        {
            put(value, before, n);
        }
        value.extend_from_slice(COUNTS);
        put_counts(value, counts);
        value.extend_from_slice(COUNTED);
        put_others(value, OTHERS, self.others);
        let mut before = SLOTS;
        for n in self.slots {
            put(value, before, *n);
            before = b",";
        }
        if self.slots.is_empty() {
            value.extend_from_slice(SLOTS);
        }
        put(value, LATE, self.late);
        put(value, SKEWED, self.skewed);
    }
}

fn put_source(value: &mut Vec<u8>, source: Source) {
    let Source { partition, from, to } = source;
    for (before, n) in [(PARTITION, partition.into()), (FROM, from), (TO, to)] {
        put(value, before, n);
    }
    value.extend_from_slice(LAST);
}

impl Aggregate {
    /// The record's value.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_with_totals_at().0
    }

    /// The value of the [`WindowRecord`](crate::WindowRecord) of the same window. `None`: the window had no reactions.
    pub fn encode_window(&self) -> Option<Vec<u8>> {
        let (mut value, totals) = self.encode_with_totals_at();
        value.drain(totals);
        (self.count > 0).then_some(value)
    }

    fn encode_with_totals_at(&self) -> (Vec<u8>, Range<usize>) {
        let outline = Outline {
            room: &self.room,
            seq: self.seq,
            since: self.since,
            window: self.window,
            count: self.count,
            others: self.others,
            slots: &self.slots,
            late: self.late,
            skewed: self.skewed,
            total: self.total,
            others_total: self.others_total,
            carried: self.carried,
            source: self.source,
        };
        let mut value = Vec::new();
        let (counts, totals) = (self.counts.iter(), self.totals.iter());
        let totals = outline.write(&mut value, counts.map(|(r, n)| (r, *n)), totals.map(|(r, n)| (r, *n)));
        (value, totals)
    }
}

fn put(value: &mut Vec<u8>, before: &[u8], n: u64) {
    value.extend_from_slice(before);
    put_number(value, n);
}

/// Writes a count that is left out where it is zero.
fn put_others(value: &mut Vec<u8>, before: &[u8], n: u64) {
    if n > 0 {
        put(value, before, n);
    }
}

/// What is read of a value in the very form in which it is written.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) seq: u64,
    pub(super) since: u64,
    pub(super) window: Window,
    pub(super) count: u64,
    pub(super) total: u64,
    pub(super) cuts: Cuts,
}

/// Where the parts of a value lie of which a frame is made that leaves no reaction out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cuts {
    /// The first part ends here,
    first_end: usize,
    /// and the second is from here
    second: usize,
    /// to here.
    second_end: usize,
    /// A frame with place for so many reactions leaves none out.
    pub(super) distinct: usize,
}

impl Cuts {
    /// The frame, with the room's viewers where they are known.
    pub(super) fn frame(&self, value: &[u8], viewers: Option<u64>) -> Vec<u8> {
        let parts = [&value[..self.first_end], &value[self.second..self.second_end]];
        let mut frame = Vec::with_capacity(parts[0].len() + parts[1].len() + FRAME_TAIL_BYTES_MAX);
        parts.iter().for_each(|part| frame.extend_from_slice(part));
        if let Some(viewers) = viewers {
            put(&mut frame, VIEWERS, viewers);
        }
        frame.push(b'}');
        frame
    }
}

/// Reads a value. `None`: it is in another form, of another room, or contradicts itself.
pub(super) fn read(room: &RoomName, value: &[u8]) -> Option<Read> {
    let rest = value.strip_prefix(ROOM)?.strip_prefix(b"\"")?.strip_prefix(room.as_bytes())?;
    let (seq, rest) = take(SEQ, rest.strip_prefix(b"\"")?)?;
    let (since, rest) = take(SINCE, rest)?;
    let (start, rest) = take(START, rest)?;
    let (end, rest) = take(END, rest)?;
    let (count, rest) = take(COUNT, rest)?;
    let (counts, rest) = take_counts(rest.strip_prefix(COUNTS)?)?;
    let (others, rest) = take_others(OTHERS, rest.strip_prefix(COUNTED)?)?;
    let (slots, before_late) = take_slots(rest.strip_prefix(SLOTS)?)?;
    let (late, rest) = take(LATE, before_late)?;
    let (skewed, before_total) = take(SKEWED, rest)?;
    let (total, rest) = take(TOTAL, before_total)?;
    let (totals, rest) = take_counts(rest.strip_prefix(TOTALS)?)?;
    let (others_total, before_carried) = take_others(OTHERS_TOTAL, rest.strip_prefix(COUNTED)?)?;
    let (carried, before_source) = take_others(CARRIED, before_carried)?;
    let (partition, rest) = take(PARTITION, before_source)?;
    let (from, rest) = take(FROM, rest)?;
    let (to, rest) = take(TO, rest)?;
    // Both are in order.
    let mut wider = totals.iter();
    let within = counts.iter().all(|(reaction, n)| wider.any(|(it, total)| it == reaction && total >= n));
    let holds = rest == LAST
        && u32::try_from(partition).is_ok()
        && seq > 0
        && start < end
        && from <= to
        && sum(counts.iter().map(|(_, n)| n).chain([&others])) == Some(count)
        && sum(totals.iter().map(|(_, n)| n).chain([&others_total])) == Some(total)
        && others <= others_total
        && carried <= total
        && slots == count
        && late.checked_add(skewed)? <= count
        && within;
    let at = |rest: &[u8]| value.len() - rest.len();
    let cuts = Cuts {
        // With the bracket that closes the slots.
        first_end: at(before_late) + 1,
        second: at(before_total),
        second_end: at(before_carried),
        distinct: counts.len().max(totals.len()),
    };
    holds.then_some(Read { seq, since, window: Window { start, end }, count, total, cuts })
}

fn take<'a>(before: &[u8], rest: &'a [u8]) -> Option<(u64, &'a [u8])> {
    json::number(rest.strip_prefix(before)?)
}

/// A count that is left out where it is zero, and what comes after it.
fn take_others<'a>(before: &[u8], rest: &'a [u8]) -> Option<(u64, &'a [u8])> {
    if rest.starts_with(before) { take(before, rest).filter(|(n, _)| *n > 0) } else { Some((0, rest)) }
}

type CountsRead<'a> = Vec<(&'a str, u64)>;

/// Counts in the order of their reactions, each once, and what comes after them.
fn take_counts(mut rest: &[u8]) -> Option<(CountsRead<'_>, &[u8])> {
    let mut counts = CountsRead::new();
    while !rest.starts_with(b"}") {
        if !counts.is_empty() {
            rest = rest.strip_prefix(b",")?;
        }
        let (count, after) = json::count(rest)?;
        if counts.last().is_some_and(|before| before.0 >= count.0) {
            return None;
        }
        counts.push(count);
        rest = after;
    }
    Some((counts, rest))
}

/// The sum of the slots, and what comes after them.
fn take_slots(mut rest: &[u8]) -> Option<(u64, &[u8])> {
    let mut sum = 0u64;
    loop {
        let (n, after) = json::number(rest)?;
        sum = sum.checked_add(n)?;
        match after.strip_prefix(b",") {
            Some(after) => rest = after,
            None => return Some((sum, after)),
        }
    }
}

const _: () = assert!(FORMAT_VERSION == 1, "the version stands in what is before the room");
