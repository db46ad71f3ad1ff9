//! Writer, feed and follower of the log in memory.

use super::{Shared, State};
use crate::{
    Append, BoxFuture, CommitError, Committer, Cut, Feed, FeedError, FeedEvent, FeedEvents, FollowEvent,
    FollowedRecord, Follower, OpenError, Writer,
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::sync::{Mutex, watch};
use wire::RoomName;

/// Records in one event of a follower, at the most.
const RECORDS_PER_EVENT: usize = 500;

pub(super) fn writer(shared: &Arc<Shared>) -> Result<Arc<dyn Writer>, OpenError> {
    shared.look().check_open()?;
    Ok(Arc::new(MemoryWriter { shared: Arc::clone(shared) }))
}

pub(super) fn feed(shared: &Arc<Shared>) -> Result<Feed, OpenError> {
    shared.look().check_open()?;
    let member = shared.change(State::join);
    let events = MemoryEvents { shared: Arc::clone(shared), changed: shared.changed.subscribe(), member };
    let committer = MemoryCommitter { shared: Arc::clone(shared), member, turn: Mutex::new(()) };
    Ok(Feed { events: Box::new(events), committer: Arc::new(committer) })
}

pub(super) fn follower(shared: &Arc<Shared>) -> Result<Box<dyn Follower>, OpenError> {
    let mut state = shared.look();
    state.check_open()?;
    let record = |(room, (_, value)): (&RoomName, &(u32, Bytes))| FollowedRecord {
        room: room.clone(),
        value: Some(value.clone()),
    };
    Ok(Box::new(MemoryFollower {
        shared: Arc::clone(shared),
        changed: shared.changed.subscribe(),
        generation: state.follower_generation,
        first: state.newest.iter().map(record).collect(),
        caught_up: false,
        next: state.history.len(),
    }))
}

/// Waits until `look` finds something. Safe to cancel: whatever `look` takes is returned without another wait.
pub(super) async fn wait_for<T>(
    shared: &Shared,
    changed: &mut watch::Receiver<()>,
    mut look: impl FnMut(&mut State) -> Option<T>,
) -> T {
    loop {
        // Marked as seen before the look, so that no change after it is missed.
        changed.borrow_and_update();
        if let Some(found) = look(&mut shared.look()) {
            return found;
        }
        // The sender lives in `shared`, so it can't be gone.
        let _ = changed.changed().await;
    }
}

struct MemoryWriter {
    shared: Arc<Shared>,
}

impl Writer for MemoryWriter {
    fn partitions(&self) -> u32 {
        self.shared.look().partitions()
    }

    fn send(&self, appends: Vec<Append>) {
        for Append { partition, value, done } in appends {
            self.shared.change(|state| state.append(partition, value, done));
        }
    }

    fn flush(&self, deadline: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut changed = self.shared.changed.subscribe();
            let empty = wait_for(&self.shared, &mut changed, |state| state.held.is_empty().then_some(()));
            let _ = tokio::time::timeout(deadline, empty).await;
        })
    }
}

struct MemoryEvents {
    shared: Arc<Shared>,
    changed: watch::Receiver<()>,
    member: u64,
}

impl FeedEvents for MemoryEvents {
    fn next(&mut self) -> BoxFuture<'_, Result<FeedEvent, FeedError>> {
        let member = self.member;
        Box::pin(wait_for(&self.shared, &mut self.changed, move |state| state.next_event(member)))
    }

    fn close(self: Box<Self>, _deadline: Duration) -> BoxFuture<'static, ()> {
        drop(self);
        Box::pin(async {})
    }
}

impl Drop for MemoryEvents {
    fn drop(&mut self) {
        self.shared.change(|state| state.leave(self.member));
    }
}

struct MemoryCommitter {
    shared: Arc<Shared>,
    member: u64,
    turn: Mutex<()>,
}

impl Committer for MemoryCommitter {
    fn commit(&self, cuts: Vec<Cut>) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            let _turn = self.turn.lock().await;
            let mut changed = self.shared.changed.subscribe();
            wait_for(&self.shared, &mut changed, |state| (!state.hold_commits).then_some(())).await;
            self.shared.change(|state| state.commit(self.member, cuts))
        })
    }
}

struct MemoryFollower {
    shared: Arc<Shared>,
    changed: watch::Receiver<()>,
    generation: u64,
    /// What there was at the start.
    first: Vec<FollowedRecord>,
    caught_up: bool,
    /// Index in the history.
    next: usize,
}

impl Follower for MemoryFollower {
    fn next(&mut self) -> BoxFuture<'_, Result<FollowEvent, FeedError>> {
        let Self { shared, changed, generation, first, caught_up, next } = self;
        Box::pin(wait_for(shared, changed, move |state| {
            if state.follower_generation != *generation {
                return Some(Err(FeedError::Reopen("the test says so".into())));
            }
            if !first.is_empty() {
                let count = first.len().min(RECORDS_PER_EVENT);
                return Some(Ok(FollowEvent::Records(first.drain(..count).collect())));
            }
            if !std::mem::replace(caught_up, true) {
                return Some(Ok(FollowEvent::CaughtUp));
            }
            let new = state.history.iter().skip(*next).take(RECORDS_PER_EVENT);
            let record = |(_, room, value): &(u32, RoomName, Option<Bytes>)| FollowedRecord {
                room: room.clone(),
                value: value.clone(),
            };
            let records: Vec<_> = new.map(record).collect();
            *next += records.len();
            (!records.is_empty()).then_some(Ok(FollowEvent::Records(records)))
        }))
    }
}
