//! The port: what the tiers may expect of an event log, whichever adapter stands behind it.
//!
//! `reactions` holds batches, stamped by the log's clock; a record's batches are of rooms of its partition.
//! `aggregates` holds what windows yield, keyed by room, and keeps at least the newest record of each key. `windows` holds what
//! came in each window, keyed by room, and keeps it for a time; it is the history (see [`crate::windows`]). All have the same
//! partitions: partition p of `reactions` is rolled up into partition p of the others.

use crate::control::{ControlPut, ControlReader, NoControl, PutError};
use crate::windows::{WindowArchive, WindowFollower, WindowOffsets};
use bytes::Bytes;
use std::{future::Future, pin::Pin, sync::Arc, time::Duration};
use tokio::sync::oneshot;
use wire::{Aggregate, RoomName};

/// A future that can be kept in a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An open event log. Cheap to share; each part may be taken more than once.
pub trait EventLog: Send + Sync + 'static {
    /// A writer to `reactions`.
    fn writer(&self) -> BoxFuture<'_, Result<Arc<dyn Writer>, OpenError>>;
    /// A member of the group that rolls `reactions` up. One at a time in a process. Safe to cancel: who does not wait
    /// for it does not become a member, or leaves at once.
    fn feed(&self) -> BoxFuture<'_, Result<Feed, OpenError>>;
    /// A reader of all of `aggregates`.
    fn follower(&self) -> BoxFuture<'_, Result<Box<dyn Follower>, OpenError>>;
    /// The channel over which fanout processes tell each other how many viewers they have. `None`: the log serves one process
    /// only. It is opened apart from the rest, because nothing else needs it.
    fn occupancy(&self) -> BoxFuture<'_, Result<Option<Box<dyn LossyChannel>>, OpenError>> {
        Box::pin(async { Ok(None) })
    }

    /// Whether the log keeps `windows`. Where it does not, cuts should have none.
    fn keeps_windows(&self) -> bool {
        false
    }
    /// Searches `windows`. `None`: the log keeps none, or they can only be followed.
    fn archive(&self) -> BoxFuture<'_, Result<Option<Arc<dyn WindowArchive>>, OpenError>> {
        Box::pin(async { Ok(None) })
    }
    /// Reads all of `windows` in the order of the log, from `from` on. A partition that `from` does not name is read from its
    /// oldest record. `None`: the log keeps none, or they can only be searched.
    fn window_follower(
        &self,
        _from: WindowOffsets,
    ) -> BoxFuture<'_, Result<Option<Box<dyn WindowFollower>>, OpenError>> {
        Box::pin(async { Ok(None) })
    }

    /// A reader of `control`. A log that keeps no orders gives one that finds none.
    fn control(&self) -> BoxFuture<'_, Result<Box<dyn ControlReader>, OpenError>> {
        Box::pin(async { Ok(Box::new(NoControl::default()) as Box<dyn ControlReader>) })
    }
    /// Writes one key of `control`, if it still holds what the caller expects. Gives the key's new version. Resolves within 15 s.
    fn put_control(&self, put: ControlPut) -> BoxFuture<'_, Result<u64, PutError>> {
        drop(put);
        Box::pin(async { Err(PutError::Unsupported) })
    }
}

/// Why a log, or a part of it, can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It may work later (brokers away, a leader being elected): try again.
    #[error("the event log can't be reached: {0}")]
    Unavailable(String),
    /// It will not work until somebody changes something (configuration, rights, a lock held by another process).
    #[error("the event log can't be opened: {0}")]
    Invalid(String),
}

/// Hears once what became of an append: on any thread, perhaps before the call that handed the record over returns. It must not
/// block, nor call the writer. Dropped without a call: nobody knows.
pub type Done = Box<dyn FnOnce(Result<(), AppendError>) + Send + Sync>;

/// A record on its way into `reactions`.
pub struct Append {
    /// The partition. One that does not exist takes nothing: not written.
    pub partition: u32,
    /// The value.
    pub value: Bytes,
    /// Hears when the record is durable (all in-sync replicas, or synced to disk), or can't be made so.
    pub done: Done,
}

/// Appends to `reactions`. Whoever writes places the rooms, by [`partition_of`](crate::partition_of): all batches of a
/// record are of rooms of its partition.
pub trait Writer: Send + Sync + 'static {
    /// How many partitions there are. Never changes.
    fn partitions(&self) -> u32;

    /// The shortest time between two calls of [`Writer::send`] that is worth what a call costs the log. Batches that could be
    /// appended earlier should wait for it.
    fn min_pause(&self) -> Duration {
        Duration::ZERO
    }

    /// Appends records, each by itself: one may be written and another not. They are handed over before this returns, in order,
    /// and a log that syncs once for many records does so for those that come together. The adapter bounds what it holds
    /// and how long it tries: past the bounds `done` hears an error.
    fn send(&self, appends: Vec<Append>);

    /// Appends one record, and waits for it. Dropping the future takes nothing back.
    fn append(&self, partition: u32, value: Bytes) -> BoxFuture<'static, Result<(), AppendError>> {
        let (answer, answered) = oneshot::channel();
        let done: Done = Box::new(move |result| drop(answer.send(result)));
        self.send(vec![Append { partition, value, done }]);
        Box::pin(async {
            answered.await.unwrap_or_else(|_| Err(AppendError::Unknown("the log is gone".into())))
        })
    }

    /// Waits until every append is resolved, `deadline` at the most.
    fn flush(&self, deadline: Duration) -> BoxFuture<'_, ()>;
}

/// What is said of a partition that does not exist.
pub(crate) fn no_partition(partition: u32, partitions: u32) -> AppendError {
    AppendError::NotWritten(format!("there is no partition {partition}, there are {partitions}"))
}

/// Why an append did not end well.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The record is not in the log and never will be: it may be sent again.
    #[error("not written: {0}")]
    NotWritten(String),
    /// The record may be in the log or not, or may come yet: sent again, it may count twice.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// A membership in the group that rolls `reactions` up: events in, commits out. The two work side by side, so that
/// reading goes on while a commit is under way.
pub struct Feed {
    /// What happens to the partitions of this member.
    pub events: Box<dyn FeedEvents>,
    /// Writes windows.
    pub committer: Arc<dyn Committer>,
}

/// The reading half of a [`Feed`].
pub trait FeedEvents: Send {
    /// The next event; waits while there is none. Safe to cancel: no event is lost. The adapter reads ahead only up
    /// to a bound, so that a caller that doesn't ask slows the reading down.
    fn next(&mut self) -> BoxFuture<'_, Result<FeedEvent, FeedError>>;

    /// Leaves the group, so that others take over at once. Nothing is committed by it. `deadline` at the most.
    fn close(self: Box<Self>, deadline: Duration) -> BoxFuture<'static, ()>;
}

/// What happens to the partitions of a member.
#[derive(Debug)]
pub enum FeedEvent {
    /// The partition is ours from here on.
    Assigned {
        /// The partition.
        partition: u32,
        /// How many partitions the topic has.
        partitions: u32,
        /// Names this assignment; goes into every [`Cut`] of it, so that a cut of an earlier one is refused.
        epoch: u64,
        /// Where reading begins: the committed offset, or the oldest record where nothing was committed.
        next_offset: u64,
        /// The newest aggregate of each room of the partition, as of all commits before this assignment.
        newest: Vec<Aggregate>,
    },
    /// The group took this member and said what is ours, and [`FeedEvent::Assigned`] was given for each partition of it;
    /// perhaps there is none. Comes once: until then the member may yet be refused.
    Joined,
    /// The partition is no longer ours. Forget its state; a cut of it would be refused.
    Revoked {
        /// The partition.
        partition: u32,
    },
    /// Records of one partition, in the order of their offsets. Offsets grow, but may have gaps.
    Records {
        /// The partition.
        partition: u32,
        /// Never empty.
        records: Vec<Record>,
    },
    /// All that was in the partition has been given: `next_offset` is its end as far as is known. Comes again each
    /// time that the end is reached after records.
    CaughtUp {
        /// The partition.
        partition: u32,
        /// The offset that the next record will have.
        next_offset: u64,
    },
}

/// One record of `reactions`. The value is not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset in the partition.
    pub offset: u64,
    /// When the log took it, ms since the epoch, by the log's clock.
    pub timestamp_ms: u64,
    /// Its value; empty where the record has none.
    pub value: Bytes,
}

/// The feed is broken.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Close it and open another.
    #[error("the feed is broken: {0}")]
    Reopen(String),
}

/// The writing half of a [`Feed`].
pub trait Committer: Send + Sync + 'static {
    /// Writes the aggregates and windows of all cuts and their offsets: all of it or none of it, and only while each of
    /// their partitions is ours. Resolves when it is durable and visible to followers. One at a time: a second call
    /// waits for the first. Resolves within a bound that the adapter's config sets.
    fn commit(&self, cuts: Vec<Cut>) -> BoxFuture<'_, Result<(), CommitError>>;
}

/// The end of one window of one partition.
#[derive(Debug, Clone)]
pub struct Cut {
    /// The partition.
    pub partition: u32,
    /// The assignment under which its records were read.
    pub epoch: u64,
    /// Reading goes on here after a restart: the first offset that is not counted.
    pub next_offset: u64,
    /// New aggregates by room; `None` is a tombstone, which forgets the room.
    pub aggregates: Vec<(RoomName, Option<Bytes>)>,
    /// What came in the window, by room. Empty where the log keeps no `windows`.
    pub windows: Vec<(RoomName, Bytes)>,
}

/// Why a commit did not end well, by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Nothing was written, and the partitions are still ours: commit the same again.
    #[error("nothing was committed, try again: {0}")]
    Retry(String),
    /// Nothing was written, because a partition is not ours any more (its [`FeedEvent::Revoked`] says which, and may
    /// come after this): drop its cuts, commit the rest again.
    #[error("nothing was committed, a partition is not ours any more: {0}")]
    Revoked(String),
    /// The outcome is unknown, or this member was replaced by a newer one: forget all state, close the feed, open
    /// another. The log then says what was committed.
    #[error("the commit's outcome is unknown: {0}")]
    Reopen(String),
}

/// Reads all partitions of `aggregates`, committed records only.
pub trait Follower: Send {
    /// The next events; waits while there are none. Safe to cancel. First at least the newest record of each room,
    /// then [`FollowEvent::CaughtUp`] once, then each new record; a follower that lags may be given only the newest
    /// of a room. Records of one room come in the order in which they were committed.
    fn next(&mut self) -> BoxFuture<'_, Result<FollowEvent, FeedError>>;
}

/// Carries small records between processes. Any record may be lost, also while the channel says nothing of trouble. Records of one
/// process come in the order in which it sent them.
pub trait LossyChannel: Send {
    /// Hands a record over, for every process that has the channel open, this one included. Never blocks. Returns `false` where the
    /// record is dropped at once, because as many wait already as may.
    fn send(&self, record: Bytes) -> bool;

    /// The next record; waits while there is none. Safe to cancel. Records that were sent before the channel was opened don't
    /// come. They are not checked.
    ///
    /// # Errors
    /// The channel is broken. While it can't reach the others it is not: records come again afterwards.
    fn receive(&mut self) -> BoxFuture<'_, Result<Bytes, FeedError>>;
}

/// What a [`Follower`] sees.
#[derive(Debug)]
pub enum FollowEvent {
    /// Never empty.
    Records(Vec<FollowedRecord>),
    /// Everything that was there when the follower started has been given.
    CaughtUp,
}

/// One record of `aggregates`. The value is not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowedRecord {
    /// The room.
    pub room: RoomName,
    /// The aggregate; `None` is a tombstone: the room is forgotten.
    pub value: Option<Bytes>,
}
