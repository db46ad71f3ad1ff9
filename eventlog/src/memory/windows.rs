//! The history of the log in memory.

use super::{Shared, parts::wait_for};
use crate::{
    BoxFuture, FeedError, OpenError,
    windows::{
        ArchiveError, Searched, WindowArchive, WindowEvent, WindowFollower, WindowOffsets, WindowQuery,
    },
};
use std::sync::Arc;
use tokio::sync::watch;
use wire::WindowRecord;

/// Records in one event, at the most.
const RECORDS_PER_EVENT: usize = 500;

pub(super) fn archive(shared: &Arc<Shared>) -> Result<Arc<dyn WindowArchive>, OpenError> {
    shared.look().check_open()?;
    Ok(Arc::new(MemoryArchive { shared: Arc::clone(shared) }))
}

pub(super) fn follower(
    shared: &Arc<Shared>,
    from: &WindowOffsets,
) -> Result<Box<dyn WindowFollower>, OpenError> {
    let mut state = shared.look();
    state.check_open()?;
    let partitions = state.partitions();
    let ends = |partition| state.windows.iter().filter(|it| it.partition == partition).count() as u64;
    let starts = (0..partitions).map(|partition| {
        let asked = from.get(&partition).copied().unwrap_or(0);
        (partition, if asked > ends(partition) { 0 } else { asked })
    });
    Ok(Box::new(MemoryWindows {
        changed: shared.changed.subscribe(),
        generation: state.follower_generation,
        starts: starts.collect(),
        is_started: false,
        is_caught_up: false,
        next: 0,
        end: state.windows.len(),
        shared: Arc::clone(shared),
    }))
}

struct MemoryArchive {
    shared: Arc<Shared>,
}

impl WindowArchive for MemoryArchive {
    fn search(
        &self,
        query: &WindowQuery<'_>,
        each: &mut dyn FnMut(WindowRecord),
    ) -> Result<Searched, ArchiveError> {
        let state = self.shared.look();
        let decode = |value: &[u8]| WindowRecord::decode(value).ok();
        let of_partition = state.windows.iter().filter(|it| it.partition == query.partition);
        let reached_ms = of_partition.filter_map(|it| decode(&it.value)).map(|it| it.window.start).max();
        let of_room = state.windows.iter().filter(|it| it.room == *query.room);
        let mut records: Vec<_> = of_room.filter_map(|it| decode(&it.value)).collect();
        let is_known = !records.is_empty();
        records.retain(|record| query.span.contains(&record.window.start));
        if records.len() > query.max_windows {
            return Err(ArchiveError::TooMany(query.max_windows));
        }
        records.sort_by_key(|record| record.window.start);
        records.into_iter().for_each(each);
        Ok(Searched { is_known, reached_ms })
    }
}

struct MemoryWindows {
    shared: Arc<Shared>,
    changed: watch::Receiver<()>,
    generation: u64,
    starts: WindowOffsets,
    is_started: bool,
    is_caught_up: bool,
    /// Index in the list of all windows.
    next: usize,
    /// What there was at the start.
    end: usize,
}

impl WindowFollower for MemoryWindows {
    fn next(&mut self) -> BoxFuture<'_, Result<WindowEvent, FeedError>> {
        let Self { shared, changed, generation, starts, is_started, is_caught_up, next, end } = self;
        Box::pin(wait_for(shared, changed, move |state| {
            if state.follower_generation != *generation {
                return Some(Err(FeedError::Reopen("the test says so".into())));
            }
            if !std::mem::replace(is_started, true) {
                return Some(Ok(WindowEvent::Starts(starts.clone())));
            }
            while *next < state.windows.len() && (*is_caught_up || *next < *end) {
                let new = state.windows[*next..].iter().take(RECORDS_PER_EVENT);
                *next += new.len();
                let wanted = new.filter(|it| it.offset >= starts.get(&it.partition).copied().unwrap_or(0));
                let records: Vec<_> = wanted.cloned().collect();
                if !records.is_empty() {
                    return Some(Ok(WindowEvent::Records(records)));
                }
            }
            (!std::mem::replace(is_caught_up, true)).then_some(Ok(WindowEvent::CaughtUp))
        }))
    }
}
