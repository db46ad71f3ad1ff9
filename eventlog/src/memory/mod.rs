//! The log in memory, for tests: all of the port, and knobs that make it fail, stall and rebalance on demand.
//!
//! - `state`: what the log holds and its rules; no waiting.
//! - `parts`: writer, feed and follower, which wait for the state to change. `windows`: the history, searched and followed.
//! - `control`: what operators order.
//! - `occupancy`: the lossy channel.

mod control;
mod occupancy;
mod parts;
mod state;
#[cfg(test)]
mod tests;
mod windows;

use crate::{
    AppendError, BoxFuture, ControlPut, ControlReader, EventLog, Feed, Follower, LossyChannel, OpenError,
    PutError, Record, Writer, placement,
    windows::{WindowArchive, WindowFollower, WindowOffsets},
};
use bytes::Bytes;
use occupancy::Occupancy;
use state::State;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::watch;
use wire::RoomName;

/// How a commit is made to fail, see [`MemoryLog::fail_commits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitFault {
    /// Nothing is written; [`crate::CommitError::Retry`].
    Retry,
    /// Nothing is written; [`crate::CommitError::Reopen`], and the feed is broken.
    LostBefore,
    /// All is written; [`crate::CommitError::Reopen`] all the same, and the feed is broken.
    LostAfter,
}

/// The log in memory.
///
/// It keeps everything for as long as it lives. Several feeds are one group: partition p belongs to feed p mod n, in
/// the order in which the n feeds were opened. A partition changes hands at once, whatever its owner is doing. A feed
/// leaves when its events are closed or dropped.
pub struct MemoryLog {
    shared: Arc<Shared>,
    occupancy: Arc<Occupancy>,
}

struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl Shared {
    /// Looks at the state.
    fn look(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes all who wait for a change.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.look());
        self.changed.send_replace(());
        result
    }
}

impl MemoryLog {
    /// An empty log, stamped by the system's clock.
    pub fn new(partitions: u32) -> Arc<Self> {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        Self::with_clock(partitions, Arc::new(now))
    }

    /// An empty log, stamped by `clock` (ms since the epoch), and never backwards within a partition.
    pub fn with_clock(partitions: u32, clock: Arc<dyn Fn() -> u64 + Send + Sync>) -> Arc<Self> {
        let shared =
            Shared { state: Mutex::new(State::new(partitions, clock)), changed: watch::Sender::new(()) };
        Arc::new(Self { shared: Arc::new(shared), occupancy: Arc::default() })
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> u32 {
        self.shared.look().partitions()
    }

    /// The partition of a room.
    pub fn partition_of(&self, room: &RoomName) -> u32 {
        placement::partition_of(room, self.shared.look().partitions())
    }

    /// While it is set, every append fails with it, and its record is not written, not even where the error says that
    /// the outcome is unknown. Held appends fail when they are released.
    pub fn fail_appends(&self, error: Option<AppendError>) {
        self.shared.change(|state| state.fail_appends = error);
    }

    /// While `true`, appends stay pending and write nothing; `false` lets them go on in their order.
    pub fn hold_appends(&self, hold: bool) {
        self.shared.change(|state| state.hold_appends(hold));
    }

    /// Each of the next commits fails as said, one fault a commit. A refusal (lost partition) uses none up.
    pub fn fail_commits(&self, faults: impl IntoIterator<Item = CommitFault>) {
        self.shared.change(|state| state.commit_faults.extend(faults));
    }

    /// While `true`, commits stay pending; whether they still own their partitions is judged when they are let go.
    pub fn hold_commits(&self, hold: bool) {
        self.shared.change(|state| state.hold_commits = hold);
    }

    /// The next `count` attempts to open a writer, feed or follower fail: the log is unavailable.
    pub fn fail_opens(&self, count: u32) {
        self.shared.change(|state| state.fail_opens = count);
    }

    /// Takes the partition from its owner; nobody gets it before [`Self::assign`].
    pub fn revoke(&self, partition: u32) {
        self.shared.change(|state| state.park(partition, true));
    }

    /// Gives a partition that was taken by [`Self::revoke`] to the feed whose turn it is.
    pub fn assign(&self, partition: u32) {
        self.shared.change(|state| state.park(partition, false));
    }

    /// Breaks all open feeds: their partitions go to feeds that are opened later.
    pub fn break_feeds(&self) {
        self.shared.change(State::break_feeds);
    }

    /// Breaks one of the open feeds, counted from the oldest: the group takes its process for dead.
    pub fn break_feed(&self, from_oldest: usize) {
        self.shared.change(|state| state.break_feed(from_oldest));
    }

    /// Gives the newest `records` that the partition's owner was given once more.
    pub fn redeliver(&self, partition: u32, records: u64) {
        self.shared.change(|state| state.redeliver(partition, records));
    }

    /// A fault on purpose: while `false`, commits of those who lost their partition are written all the same. Shows
    /// that tests notice it.
    pub fn fence(&self, fence: bool) {
        self.shared.change(|state| state.unfenced = !fence);
    }

    /// While `true`, records of the lossy channel are lost.
    pub fn lose_occupancy(&self, lose: bool) {
        self.occupancy.lose(lose);
    }

    /// Breaks all open lossy channels.
    pub fn break_occupancy(&self) {
        self.occupancy.break_all();
    }

    /// Sends a record over the lossy channel, as a process does that has it open.
    pub fn send_occupancy(&self, record: impl Into<Bytes>) {
        self.occupancy.send(record.into());
    }

    /// Breaks all open followers.
    pub fn break_followers(&self) {
        self.shared.change(|state| state.follower_generation += 1);
    }

    /// While it is set, every write to `control` fails with it and changes nothing.
    pub fn fail_control(&self, error: Option<PutError>) {
        self.shared.change(|state| state.control.fault = error);
    }

    /// Breaks all open readers of `control`.
    pub fn break_control(&self) {
        self.shared.change(|state| state.control.generation += 1);
    }

    /// Writes a record as it is, whatever the clock and the knobs say. Gives its offset.
    pub fn push_raw(&self, partition: u32, timestamp_ms: u64, value: impl Into<Bytes>) -> u64 {
        self.shared.change(|state| state.push(partition, timestamp_ms, value.into()))
    }

    /// All records of a partition of `reactions`, in order.
    pub fn reactions(&self, partition: u32) -> Vec<Record> {
        self.shared.look().reactions(partition)
    }

    /// All records of `aggregates` that were ever committed, in order, tombstones included.
    pub fn aggregates(&self) -> Vec<(u32, RoomName, Option<Bytes>)> {
        self.shared.look().history.clone()
    }

    /// All records of `windows` that were ever committed, in order.
    pub fn windows(&self) -> Vec<(u32, RoomName, Bytes)> {
        let look = self.shared.look();
        look.windows.iter().map(|it| (it.partition, it.room.clone(), it.value.clone())).collect()
    }

    /// Where reading of the partition begins after a restart.
    pub fn committed(&self, partition: u32) -> u64 {
        self.shared.look().committed(partition)
    }

    /// Up to where the partition's owner has taken its records; `None` where nobody owns it.
    pub fn taken(&self, partition: u32) -> Option<u64> {
        self.shared.look().taken(partition)
    }

    /// How many appends wait for [`Self::hold_appends`] to let them go.
    pub fn held_appends(&self) -> usize {
        self.shared.look().held.len()
    }
}

impl EventLog for MemoryLog {
    fn writer(&self) -> BoxFuture<'_, Result<Arc<dyn Writer>, OpenError>> {
        Box::pin(async { parts::writer(&self.shared) })
    }

    fn feed(&self) -> BoxFuture<'_, Result<Feed, OpenError>> {
        Box::pin(async { parts::feed(&self.shared) })
    }

    fn follower(&self) -> BoxFuture<'_, Result<Box<dyn Follower>, OpenError>> {
        Box::pin(async { parts::follower(&self.shared) })
    }

    fn occupancy(&self) -> BoxFuture<'_, Result<Option<Box<dyn LossyChannel>>, OpenError>> {
        Box::pin(async { Ok(Some(occupancy::open(&self.occupancy))) })
    }

    fn keeps_windows(&self) -> bool {
        true
    }

    fn archive(&self) -> BoxFuture<'_, Result<Option<Arc<dyn WindowArchive>>, OpenError>> {
        Box::pin(async { windows::archive(&self.shared).map(Some) })
    }

    fn window_follower(
        &self,
        from: WindowOffsets,
    ) -> BoxFuture<'_, Result<Option<Box<dyn WindowFollower>>, OpenError>> {
        Box::pin(async move { windows::follower(&self.shared, &from).map(Some) })
    }

    fn control(&self) -> BoxFuture<'_, Result<Box<dyn ControlReader>, OpenError>> {
        Box::pin(async { control::reader(&self.shared) })
    }

    fn put_control(&self, put: ControlPut) -> BoxFuture<'_, Result<u64, PutError>> {
        Box::pin(async { self.shared.change(|state| state.control.put(put)) })
    }
}
