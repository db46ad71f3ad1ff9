//! The roll-up of one partition.

use super::{
    Now, Tally,
    names::Names,
    open::{OpenWindow, window_at},
    room::{Closing, Place, RoomState},
    share,
};
use crate::Config;
use bytes::Bytes;
use slab::Slab;
use std::{
    collections::{HashMap, HashSet},
    mem,
};
use wire::{Aggregate, BatchRef, RoomName, Source};

/// How long after a look for silent rooms the next one is due, at the most.
const EXPIRY_MAX_MS: u64 = 60_000;
/// How many silent rooms one look forgets, at the most.
const FORGOTTEN_MAX: usize = 10_000;

/// The roll-up of one partition, from the offset where its last committed window was cut.
#[derive(Debug)]
pub struct Rollup {
    partition: u32,
    partitions: u32,
    config: Config,
    /// Where the open window began: the last cut.
    from: u64,
    /// The offset that comes next.
    position: u64,
    /// End of the last window; 0 before the first.
    last_end_ms: u64,
    open: Option<OpenWindow>,
    /// By number. Those in the open window, and those that come to rest, stay.
    rooms: Slab<RoomState>,
    numbers: HashMap<RoomName, usize>,
    /// The reactions that rooms count by name.
    names: Names,
    /// How long ago this was loaded, by a clock that never jumps.
    age_ms: u64,
    /// Rooms with reactions in the last closed window: they get a rest aggregate if they have none in the next.
    resting: Vec<usize>,
    /// When to look for rooms to forget.
    expiry_ms: u64,
    /// There may be too many rooms.
    is_crowded: bool,
    /// Whether windows give records of their own, for the history.
    keeps_windows: bool,
}

/// What was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A window.
    Window {
        /// Its end in ms since the epoch.
        end_ms: u64,
    },
    /// The lives of rooms that had no reactions for the TTL.
    Silent,
    /// The lives of those rooms that were silent the longest, of too many.
    TooMany,
}

/// A closed window, or rooms that are forgotten (then `from` is `to`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// First offset of the window.
    pub from: u64,
    /// The cut: the first offset after it.
    pub to: u64,
    /// Which of these it is.
    pub kind: Kind,
    /// What it yields, in the order of the rooms' names: aggregates, or tombstones.
    pub records: Vec<(RoomName, Option<Bytes>)>,
    /// Where history is kept: what came in the window, of each room with reactions in it, in the order of the rooms' names.
    pub windows: Vec<(RoomName, Bytes)>,
}

/// A room that can be forgotten. Those silent the longest come first: of the rooms that were there when the core was loaded,
/// and of the later ones, those whose last window ended first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Silent {
    active_age_ms: u64,
    active_ms: u64,
    number: usize,
}

impl Rollup {
    /// Goes on at `next_offset` with the newest aggregate of each room.
    pub fn new(
        partition: u32,
        partitions: u32,
        next_offset: u64,
        newest: Vec<Aggregate>,
        config: Config,
    ) -> Self {
        let last_end_ms = newest.iter().map(|a| a.window.end).max().unwrap_or(0);
        let (mut rooms, mut numbers, mut resting) = (Slab::new(), HashMap::new(), Vec::new());
        for aggregate in newest {
            let (room, had_reactions) = (aggregate.room.clone(), aggregate.count > 0);
            let number = rooms.insert(RoomState::from_newest(aggregate));
            numbers.insert(room, number);
            if had_reactions {
                resting.push(number);
            }
        }
        let (from, position) = (next_offset, next_offset);
        let distinct = rooms.iter().map(|(_, room)| room.distinct()).sum();
        Self {
            partition,
            partitions,
            config,
            from,
            position,
            last_end_ms,
            open: None,
            rooms,
            numbers,
            names: Names::new(distinct, partitions, &config),
            age_ms: 0,
            resting,
            expiry_ms: 0,
            is_crowded: true,
            keeps_windows: false,
        }
    }

    /// The same; `keeps_windows` says whether windows give records of their own, for the history.
    pub fn with_windows(self, keeps_windows: bool) -> Self {
        Self { keeps_windows, ..self }
    }

    /// Takes a new configuration; an open window keeps its end.
    pub fn configure(&mut self, config: Config) {
        self.config = config;
        self.names.configure(self.partitions, &config);
        self.is_crowded = true;
    }

    /// The offset that comes next.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// Rooms that are known.
    pub fn room_count(&self) -> usize {
        self.rooms.len()
    }

    /// Reactions that rooms count by name.
    pub fn distinct_count(&self) -> usize {
        self.names.taken()
    }

    /// Takes the record at `offset`. It may close the window before it; one without a batch that counts does not.
    pub fn record<'a>(
        &mut self,
        offset: u64,
        timestamp_ms: u64,
        batches: impl IntoIterator<Item = BatchRef<'a>>,
        now: Now,
        tally: &mut Tally,
    ) -> Option<Closed> {
        let now_ms = self.advance_age(now);
        if offset < self.position {
            tally.replayed += 1;
            return None;
        }
        self.position = offset + 1;
        let mut batches = batches.into_iter().peekable();
        while batches.next_if(|batch| self.overflows(batch)).is_some() {
            tally.overflows += 1;
        }
        batches.peek()?;
        let skewed = timestamp_ms > now_ms.saturating_add(self.config.interval_ms);
        let past_end = self.open.as_ref().is_some_and(|open| timestamp_ms >= open.window.end);
        let closed = if past_end && !skewed { self.close(offset) } else { None };
        let at_ms = if skewed { now_ms } else { timestamp_ms };
        let mut open = self.open.take().unwrap_or_else(|| self.open_at(at_ms, now_ms));
        let start_ms = open.window.start;
        // A record from the future may lie before its window too, where that was opened by a clock that is ahead.
        let late = timestamp_ms < start_ms && !skewed;
        let place = Place { start_ms, slot: open.slot(at_ms), slots: open.slots, late, skewed };
        for batch in batches {
            self.count(&batch, place, &mut open.rooms, tally);
        }
        self.names.drain_into(tally);
        self.open = Some(open);
        closed
    }

    fn overflows(&self, batch: &BatchRef<'_>) -> bool {
        let number = self.numbers.get(&*batch.room);
        number.is_some_and(|number| !self.rooms[*number].has_place_for(batch.count))
    }

    fn count(&mut self, batch: &BatchRef<'_>, place: Place, open: &mut Vec<usize>, tally: &mut Tally) {
        let number = match self.numbers.get(&*batch.room) {
            Some(number) => *number,
            None => {
                let name = RoomName::from(&batch.room);
                let number = self.rooms.insert(RoomState::new(name.clone(), place.start_ms, self.age_ms));
                self.numbers.insert(name, number);
                number
            }
        };
        let state = &mut self.rooms[number];
        if !state.has_place_for(batch.count) {
            tally.overflows += 1;
            return;
        }
        if !state.is_in_window() {
            open.push(number);
        }
        state.add(batch, place, &mut self.names);
        tally.counted += batch.count;
        tally.late += if place.late { batch.count } else { 0 };
        tally.skewed += if place.skewed { batch.count } else { 0 };
    }

    /// Time passes. `caught_up`: the log is read to its end. Call it again until it returns `None`.
    pub fn tick(&mut self, now: Now, caught_up: bool) -> Option<Closed> {
        let now_ms = self.advance_age(now);
        if mem::take(&mut self.is_crowded)
            && let Some(forgotten) = self.thin_out()
        {
            return Some(forgotten);
        }
        if !caught_up {
            return None;
        }
        // Far ahead, where the clock went back.
        let look = now_ms >= self.expiry_ms || self.expiry_ms - now_ms > EXPIRY_MAX_MS;
        if look && let Some(forgotten) = self.expire(now_ms) {
            return Some(forgotten);
        }
        if self.open.is_none() && !self.resting.is_empty() {
            self.open = Some(self.open_at(now_ms, now_ms));
        }
        let due = self.open.as_ref().is_some_and(|open| now_ms >= self.closes_at(open, now_ms));
        if due { self.close(self.position) } else { None }
    }

    /// Takes the age over. Gives the wall clock's time.
    fn advance_age(&mut self, now: Now) -> u64 {
        self.age_ms = self.age_ms.max(now.age_ms);
        now.wall_ms
    }

    /// When the next tick is worth its while, ms since the epoch.
    pub fn due_ms(&self, now_ms: u64) -> u64 {
        match &self.open {
            Some(open) => self.closes_at(open, now_ms),
            None => self.expiry_ms,
        }
    }

    /// When the clock closes the window: past its end and the grace. At once where the end is further away than any
    /// window opens (the clock went back): else nothing would come out until the clock is there again.
    fn closes_at(&self, open: &OpenWindow, now_ms: u64) -> u64 {
        let reach_ms = 2 * self.config.interval_ms.max(open.window.len_ms());
        let in_reach = open.window.end <= now_ms.saturating_add(reach_ms);
        if in_reach { open.window.end.saturating_add(self.config.grace_ms) } else { now_ms }
    }

    /// Windows don't overlap, unless the last one lies in the future (the clock went back).
    fn open_at(&self, at_ms: u64, now_ms: u64) -> OpenWindow {
        let in_reach = self.last_end_ms <= now_ms.saturating_add(self.config.interval_ms);
        let floor_ms = if in_reach { self.last_end_ms } else { 0 };
        let window = window_at(at_ms, floor_ms, self.partition, self.partitions, self.config);
        OpenWindow::new(window, self.config.slots)
    }

    fn close(&mut self, cut: u64) -> Option<Closed> {
        let OpenWindow { window, slots, rooms: mut numbers } = self.open.take()?;
        let rooms = &mut self.rooms;
        let resting = mem::take(&mut self.resting);
        numbers.extend(resting.into_iter().filter(|number| !rooms[*number].is_in_window()));
        numbers.sort_unstable_by(|a, b| rooms[*a].name().cmp(rooms[*b].name()));
        let source = Source { partition: self.partition, from: self.from, to: cut };
        let closing = Closing { window, slots, source, age_ms: self.age_ms };
        let (mut records, mut windows) = (Vec::with_capacity(numbers.len()), Vec::new());
        let mut value = Vec::new();
        numbers.retain(|number| {
            let room = &mut rooms[*number];
            let had_reactions = room.is_in_window();
            value.clear();
            let totals = room.close(closing, &mut value);
            records.push((room.name().clone(), Some(Bytes::copy_from_slice(&value))));
            if had_reactions && self.keeps_windows {
                value.drain(totals);
                windows.push((room.name().clone(), Bytes::copy_from_slice(&value)));
            }
            had_reactions
        });
        self.resting = numbers;
        self.last_end_ms = window.end;
        self.is_crowded = true;
        let from = mem::replace(&mut self.from, cut);
        Some(Closed { from, to: cut, kind: Kind::Window { end_ms: window.end }, records, windows })
    }

    /// Forgets rooms that had no reactions for the TTL. Looks through all rooms, so only now and then.
    fn expire(&mut self, now_ms: u64) -> Option<Closed> {
        let ttl_ms = self.config.room_ttl_ms;
        self.expiry_ms = now_ms + (ttl_ms / 8).clamp(1, EXPIRY_MAX_MS);
        // The clock went back: their silence is counted from now on.
        self.rooms.iter_mut().for_each(|(_, room)| room.active_ms = room.active_ms.min(now_ms));
        let mut silent = self.silent();
        silent.retain(|silent| {
            let by_age = silent.active_age_ms.saturating_add(ttl_ms) <= self.age_ms;
            by_age && silent.active_ms.saturating_add(ttl_ms) <= now_ms
        });
        Self::keep_longest(&mut silent, FORGOTTEN_MAX);
        self.forget(silent, Kind::Silent)
    }

    /// Leaves at most `most`: those that have been silent the longest.
    fn keep_longest(silent: &mut Vec<Silent>, most: usize) {
        if most < silent.len() {
            silent.select_nth_unstable(most);
            silent.truncate(most);
        }
    }

    /// Of too many rooms, forgets those that have been silent the longest.
    fn thin_out(&mut self) -> Option<Closed> {
        let share = share(self.config.max_rooms, self.partitions);
        let beyond = self.rooms.len().checked_sub(share).filter(|beyond| *beyond > 0)?;
        // Rooms that are new in the open window have no aggregate yet: the log knows the others only, and has to be left with a
        // whole share of them, or an audit can't tell that it was full.
        let open = self.open.iter().flat_map(|open| &open.rooms);
        let new = open.filter(|number| self.rooms[**number].is_new()).count();
        let excess = beyond.checked_sub(new).filter(|excess| *excess > 0)?;
        let mut silent = self.silent();
        Self::keep_longest(&mut silent, excess);
        self.forget(silent, Kind::TooMany)
    }

    /// Rooms that can be forgotten, which those in a window or coming to rest can't.
    fn silent(&self) -> Vec<Silent> {
        let resting: HashSet<_> = self.resting.iter().copied().collect();
        let is_silent =
            |number: &usize, state: &RoomState| !state.is_in_window() && !resting.contains(number);
        let silent = self.rooms.iter().filter(|(number, state)| is_silent(number, state));
        let silent = silent.map(|(number, state)| Silent {
            active_age_ms: state.active_age_ms,
            active_ms: state.active_ms,
            number,
        });
        silent.collect()
    }

    fn forget(&mut self, silent: Vec<Silent>, kind: Kind) -> Option<Closed> {
        let forgotten = silent.into_iter().map(|silent| self.rooms.remove(silent.number));
        let mut forgotten: Vec<_> = forgotten
            .map(|room| {
                self.names.give_back(room.distinct());
                room.into_name()
            })
            .collect();
        forgotten.sort();
        for room in &forgotten {
            self.numbers.remove(room);
        }
        let records: Vec<_> = forgotten.into_iter().map(|room| (room, None)).collect();
        let from = self.from;
        (!records.is_empty()).then_some(Closed { from, to: from, kind, records, windows: Vec::new() })
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
