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

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::{
        ClientConfig,
        consumer::{BaseConsumer, Consumer},
    };

    const SOON: Duration = Duration::from_millis(20);

    fn owner_of(partition: u32, epoch: u64) -> Ownership {
        let ownership = Ownership::default();
        ownership.renew(metadata());
        ownership.own(partition, epoch);
        ownership
    }

    /// Made without a broker.
    fn metadata() -> Option<ConsumerGroupMetadata> {
        let consumer: BaseConsumer = ClientConfig::new().set("group.id", "g").create().unwrap();
        consumer.group_metadata()
    }

    fn cut(partition: u32, epoch: u64) -> [Cut; 1] {
        [Cut { partition, epoch, next_offset: 1, aggregates: Vec::new(), windows: Vec::new() }]
    }

    fn is_refused(ownership: &Ownership, cuts: &[Cut]) -> bool {
        matches!(ownership.begin(cuts), Err(CommitError::Revoked(_)))
    }

    #[test]
    fn only_cuts_of_the_present_assignment_may_be_committed() {
        let ownership = owner_of(3, 7);
        assert!(ownership.begin(&cut(3, 7)).is_ok());
        assert!(is_refused(&ownership, &cut(3, 6)), "an earlier epoch");
        assert!(is_refused(&ownership, &cut(4, 7)), "another partition");
        ownership.revoke(&[3], SOON);
        assert!(is_refused(&ownership, &cut(3, 7)), "revoked");
    }

    #[test]
    fn a_member_that_was_thrown_out_may_commit_nothing() {
        let ownership = owner_of(3, 7);
        ownership.renew(None);
        assert!(is_refused(&ownership, &cut(3, 7)));
    }

    #[test]
    fn revoking_waits_for_the_commit_that_is_under_way_but_not_for_ever() {
        let ownership = owner_of(3, 7);
        let permit = ownership.begin(&cut(3, 7)).unwrap();
        let started = Instant::now();
        ownership.revoke(&[5], Duration::from_secs(60));
        assert!(started.elapsed() < Duration::from_secs(30), "it is of another partition");
        ownership.revoke(&[3], SOON);
        assert!(started.elapsed() >= SOON);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(SOON);
                drop(permit);
            });
            ownership.revoke(&[3], Duration::from_secs(60));
        });
        assert!(started.elapsed() < Duration::from_secs(30), "the commit has ended");
    }

    #[test]
    fn after_a_refusal_by_the_group_the_next_generation_tells_what_is_still_ours() {
        let ownership = owner_of(3, 7);
        let generation = ownership.begin(&cut(3, 7)).unwrap().generation;
        let started = Instant::now();
        assert!(ownership.settle(&cut(3, 7), generation, SOON), "nothing was heard");
        assert!(started.elapsed() >= SOON, "it was waited for");
        ownership.renew(metadata());
        assert!(ownership.settle(&cut(3, 7), generation, Duration::from_secs(60)), "kept");
        ownership.revoke(&[3], SOON);
        let generation = ownership.lock().generation;
        assert!(!ownership.settle(&cut(3, 7), generation, Duration::from_secs(60)), "lost");
        assert!(started.elapsed() < Duration::from_secs(30), "what is lost is not waited for");
    }
}
