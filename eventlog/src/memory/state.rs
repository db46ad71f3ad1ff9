//! What the log in memory holds, and its rules. Nothing here waits.

use super::{CommitFault, control::Control};
use crate::{
    AppendError, CommitError, Cut, Done, FeedError, FeedEvent, OpenError, Record, decode, port::no_partition,
    windows::FollowedWindow,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::Arc,
};
use wire::RoomName;

/// Records in one event, at the most.
const RECORDS_PER_EVENT: usize = 500;

type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

pub(super) struct State {
    clock: Clock,
    partitions: Vec<Partition>,
    /// All records of `windows`, each with the place among those of its partition.
    pub(super) windows: Vec<FollowedWindow>,
    /// All records of `aggregates`.
    pub(super) history: Vec<(u32, RoomName, Option<Bytes>)>,
    /// What compaction would leave of them.
    pub(super) newest: BTreeMap<RoomName, (u32, Bytes)>,
    /// The group, in the order of joining.
    members: BTreeMap<u64, Member>,
    last_member: u64,
    last_epoch: u64,
    /// Appends that wait to be let go.
    pub(super) held: VecDeque<(u32, Bytes, Done)>,
    holding_appends: bool,
    pub(super) fail_appends: Option<AppendError>,
    pub(super) hold_commits: bool,
    pub(super) commit_faults: VecDeque<CommitFault>,
    pub(super) fail_opens: u32,
    pub(super) unfenced: bool,
    /// Followers of an earlier generation are broken.
    pub(super) follower_generation: u64,
    pub(super) control: Control,
}

#[derive(Default)]
struct Partition {
    records: Vec<Record>,
    /// Of the last append; raw records don't count.
    last_timestamp_ms: u64,
    committed: u64,
    /// The offset of the next record of `windows`.
    next_window: u64,
    /// Member and epoch.
    owner: Option<(u64, u64)>,
    parked: bool,
}

#[derive(Default)]
struct Member {
    /// Assignments and revocations that were not told yet.
    untold: VecDeque<FeedEvent>,
    /// By partition.
    positions: BTreeMap<u32, Position>,
    broken: bool,
}

struct Position {
    next_offset: u64,
    told_end: bool,
}

impl State {
    pub(super) fn new(partitions: u32, clock: Clock) -> Self {
        Self {
            clock,
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            windows: Vec::new(),
            history: Vec::new(),
            newest: BTreeMap::new(),
            members: BTreeMap::new(),
            last_member: 0,
            last_epoch: 0,
            held: VecDeque::new(),
            holding_appends: false,
            fail_appends: None,
            hold_commits: false,
            commit_faults: VecDeque::new(),
            fail_opens: 0,
            unfenced: false,
            follower_generation: 0,
            control: Control::default(),
        }
    }

    pub(super) fn partitions(&self) -> u32 {
        self.partitions.len() as u32
    }

    pub(super) fn reactions(&self, partition: u32) -> Vec<Record> {
        self.partitions[partition as usize].records.clone()
    }

    pub(super) fn taken(&self, partition: u32) -> Option<u64> {
        let mut positions = self.members.values().filter_map(|member| member.positions.get(&partition));
        positions.next().map(|position| position.next_offset)
    }

    pub(super) fn committed(&self, partition: u32) -> u64 {
        self.partitions[partition as usize].committed
    }

    pub(super) fn check_open(&mut self) -> Result<(), OpenError> {
        match self.fail_opens.checked_sub(1) {
            Some(left) => {
                self.fail_opens = left;
                Err(OpenError::Unavailable("the test says so".into()))
            }
            None => Ok(()),
        }
    }

    // Appends.

    pub(super) fn append(&mut self, partition: u32, value: Bytes, done: Done) {
        if partition >= self.partitions() {
            return done(Err(no_partition(partition, self.partitions())));
        }
        if self.holding_appends {
            self.held.push_back((partition, value, done));
            return;
        }
        let result = match &self.fail_appends {
            Some(error) => Err(error.clone()),
            None => {
                let now = (self.clock)();
                let last = &mut self.partitions[partition as usize].last_timestamp_ms;
                *last = now.max(*last);
                let timestamp_ms = *last;
                self.push(partition, timestamp_ms, value);
                Ok(())
            }
        };
        done(result);
    }

    pub(super) fn hold_appends(&mut self, hold: bool) {
        self.holding_appends = hold;
        if !hold {
            for (partition, value, done) in mem::take(&mut self.held) {
                self.append(partition, value, done);
            }
        }
    }

    pub(super) fn push(&mut self, partition: u32, timestamp_ms: u64, value: Bytes) -> u64 {
        let records = &mut self.partitions[partition as usize].records;
        let offset = records.len() as u64;
        records.push(Record { offset, timestamp_ms, value });
        offset
    }

    // The group.

    pub(super) fn join(&mut self) -> u64 {
        self.last_member += 1;
        self.members.insert(self.last_member, Member::default());
        self.rebalance();
        if let Some(member) = self.members.get_mut(&self.last_member) {
            member.untold.push_back(FeedEvent::Joined);
        }
        self.last_member
    }

    pub(super) fn leave(&mut self, member: u64) {
        self.members.remove(&member);
        self.rebalance();
    }

    pub(super) fn park(&mut self, partition: u32, parked: bool) {
        self.partitions[partition as usize].parked = parked;
        self.rebalance();
    }

    pub(super) fn break_feeds(&mut self) {
        self.members.values_mut().for_each(|member| member.broken = true);
        self.rebalance();
    }

    pub(super) fn break_feed(&mut self, from_oldest: usize) {
        if let Some(member) = self.members.values_mut().filter(|member| !member.broken).nth(from_oldest) {
            member.broken = true;
        }
        self.rebalance();
    }

    pub(super) fn redeliver(&mut self, partition: u32, records: u64) {
        for position in self.members.values_mut().filter_map(|member| member.positions.get_mut(&partition)) {
            position.next_offset = position.next_offset.saturating_sub(records);
            position.told_end = false;
        }
    }

    fn rebalance(&mut self) {
        let members: Vec<u64> = self.members.iter().filter(|(_, m)| !m.broken).map(|(id, _)| *id).collect();
        for partition in 0..self.partitions() {
            let here = &mut self.partitions[partition as usize];
            let turn = (partition as usize).checked_rem(members.len()).map(|turn| members[turn]);
            let next = if here.parked { None } else { turn };
            let owner = here.owner.map(|(member, _)| member);
            if owner == next {
                continue;
            }
            here.owner = None;
            if let Some(member) = owner.and_then(|id| self.members.get_mut(&id)) {
                member.positions.remove(&partition);
                member.untold.push_back(FeedEvent::Revoked { partition });
            }
            if let Some(id) = next {
                self.give(partition, id);
            }
        }
    }

    fn give(&mut self, partition: u32, id: u64) {
        self.last_epoch += 1;
        let epoch = self.last_epoch;
        let here = &mut self.partitions[partition as usize];
        here.owner = Some((id, epoch));
        let next_offset = here.committed;
        let newest = self.newest.iter().filter(|(_, (p, _))| *p == partition);
        let newest = newest.filter_map(|(room, (p, value))| decode::aggregate(*p, room, value)).collect();
        let partitions = self.partitions();
        let event = FeedEvent::Assigned { partition, partitions, epoch, next_offset, newest };
        if let Some(member) = self.members.get_mut(&id) {
            member.untold.push_back(event);
            member.positions.insert(partition, Position { next_offset, told_end: false });
        }
    }

    /// The member's next event, if there is one now.
    pub(super) fn next_event(&mut self, id: u64) -> Option<Result<FeedEvent, FeedError>> {
        let broken = || Some(Err(FeedError::Reopen("the member was removed from the group".into())));
        let Some(member) = self.members.get_mut(&id).filter(|member| !member.broken) else {
            return broken();
        };
        if let Some(event) = member.untold.pop_front() {
            return Some(Ok(event));
        }
        for (partition, position) in &mut member.positions {
            let records = &self.partitions[*partition as usize].records;
            let rest = records.get(position.next_offset as usize..).unwrap_or_default();
            if !rest.is_empty() {
                let records = rest[..rest.len().min(RECORDS_PER_EVENT)].to_vec();
                position.next_offset += records.len() as u64;
                position.told_end = false;
                return Some(Ok(FeedEvent::Records { partition: *partition, records }));
            }
            if !position.told_end {
                position.told_end = true;
                let event = FeedEvent::CaughtUp { partition: *partition, next_offset: position.next_offset };
                return Some(Ok(event));
            }
        }
        None
    }

    /// Whether the member may commit these.
    fn judge(&self, id: u64, cuts: &[Cut]) -> Result<(), CommitError> {
        if self.members.get(&id).is_none_or(|member| member.broken) {
            return Err(CommitError::Reopen("the member was removed from the group".into()));
        }
        for cut in cuts {
            let owner = self.partitions.get(cut.partition as usize).and_then(|here| here.owner);
            if owner != Some((id, cut.epoch)) {
                return Err(CommitError::Revoked(format!("partition {}", cut.partition)));
            }
        }
        Ok(())
    }

    pub(super) fn commit(&mut self, id: u64, cuts: Vec<Cut>) -> Result<(), CommitError> {
        if !self.unfenced {
            self.judge(id, &cuts)?;
        }
        let fault = self.commit_faults.pop_front();
        if fault == Some(CommitFault::Retry) {
            return Err(CommitError::Retry("the test says so".into()));
        }
        if fault != Some(CommitFault::LostBefore) {
            cuts.into_iter().for_each(|cut| self.write(cut));
        }
        if fault.is_some() {
            if let Some(member) = self.members.get_mut(&id) {
                member.broken = true;
            }
            self.rebalance();
            return Err(CommitError::Reopen("the test says so".into()));
        }
        Ok(())
    }

    fn write(&mut self, cut: Cut) {
        self.partitions[cut.partition as usize].committed = cut.next_offset;
        for (room, value) in cut.windows {
            let partition = cut.partition;
            let next = &mut self.partitions[partition as usize].next_window;
            let offset = mem::replace(next, *next + 1);
            self.windows.push(FollowedWindow { partition, offset, room, value });
        }
        for (room, value) in cut.aggregates {
            match value.clone() {
                Some(value) => self.newest.insert(room.clone(), (cut.partition, value)),
                None => self.newest.remove(&room),
            };
            self.history.push((cut.partition, room, value));
        }
    }
}
