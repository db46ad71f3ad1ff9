//! Which partitions are ours: shared by the thread that reads, which is told, and the one that commits, which asks.

use crate::{CommitError, Cut, metrics::PARTITIONS_OWNED};
use metrics::gauge;
use rdkafka::consumer::ConsumerGroupMetadata;
use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The partitions of one member, and the group's generation in which they are its.
///
/// What a commit is fenced by, the group's metadata, is taken under the same lock as the check that every cut is of a
/// partition that is ours. It is renewed in the callbacks of rebalances only, never read at commit time: after this
/// member was thrown out, librdkafka's own copy is blank, and the broker does not fence a blank one.
#[derive(Default)]
pub(super) struct Ownership {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    epochs: HashMap<u32, u64>,
    committing: Vec<u32>,
    group: Option<Arc<ConsumerGroupMetadata>>,
    /// Grows with each change of `group`.
    generation: u64,
}

/// Leave to commit. While it is held, revoking its partitions waits.
pub(super) struct Permit<'a> {
    ownership: &'a Ownership,
    /// What the group's coordinator checks.
    pub(super) group: Arc<ConsumerGroupMetadata>,
    /// Names the state of the group for [`Ownership::settle`].
    pub(super) generation: u64,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.ownership.lock().committing.clear();
        self.ownership.changed.notify_all();
    }
}

impl Ownership {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `partition` is ours, under `epoch`.
    pub(super) fn own(&self, partition: u32, epoch: u64) {
        let mut state = self.lock();
        state.epochs.insert(partition, epoch);
        gauge!(PARTITIONS_OWNED).set(state.epochs.len() as f64);
    }

    /// `partitions` are ours no more. A commit of them that is under way gets `patience` to end.
    pub(super) fn revoke(&self, partitions: &[u32], patience: Duration) {
        let mut state = self.lock();
        for partition in partitions {
            state.epochs.remove(partition);
        }
        gauge!(PARTITIONS_OWNED).set(state.epochs.len() as f64);
        self.changed.notify_all();
        drop(self.wait(state, patience, |state| {
            !state.committing.iter().any(|partition| partitions.contains(partition))
        }));
    }

    /// The group is in another generation; `None`: this member was thrown out.
    pub(super) fn renew(&self, group: Option<ConsumerGroupMetadata>) {
        let mut state = self.lock();
        state.group = group.map(Arc::new);
        state.generation += 1;
        self.changed.notify_all();
    }

    /// Leave to commit `cuts`, if all of them are ours. One commit at a time.
    pub(super) fn begin(&self, cuts: &[Cut]) -> Result<Permit<'_>, CommitError> {
        let mut state = self.lock();
        let lost = |cut: &&Cut| state.epochs.get(&cut.partition) != Some(&cut.epoch);
        if let Some(cut) = cuts.iter().find(lost) {
            return Err(CommitError::Revoked(format!("partition {}", cut.partition)));
        }
        let Some(group) = state.group.clone() else {
            return Err(CommitError::Revoked("this member is not in the group".into()));
        };
        state.committing = cuts.iter().map(|cut| cut.partition).collect();
        Ok(Permit { ownership: self, group, generation: state.generation })
    }

    /// After the coordinator refused the group's `generation`: waits until this member has heard of another one, `patience`
    /// at the most. Whether all `cuts` are ours still.
    pub(super) fn settle(&self, cuts: &[Cut], generation: u64, patience: Duration) -> bool {
        let ours = |state: &State| {
            state.group.is_some()
                && cuts.iter().all(|cut| state.epochs.get(&cut.partition) == Some(&cut.epoch))
        };
        let state = self.wait(self.lock(), patience, |state| state.generation != generation || !ours(state));
        ours(&state)
    }

    fn wait<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        patience: Duration,
        done: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let deadline = Instant::now() + patience;
        while !done(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }
}
