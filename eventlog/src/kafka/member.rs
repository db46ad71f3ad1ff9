//! The callbacks of rebalances. They run on the thread that polls the consumer.
//!
//! An assignment is answered at once, with nothing: each partition is added by the thread's loop, once its state is
//! loaded. So neither the group nor the partitions that stay wait for the load. (To answer later would: librdkafka
//! pauses all partitions until an assignment is answered.)

use super::{
    client::{Role, log_error, log_line},
    ownership::Ownership,
};
use rdkafka::{
    ClientContext, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaRespErr,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long a commit that is under way may hold up the revoking of its partitions. Past it, the group's coordinator
/// decides: the next owner waits for a transaction that is still open.
const COMMIT_PATIENCE: Duration = Duration::from_secs(3);

/// What a rebalance brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Assigned(Vec<u32>),
    Revoked(Vec<u32>),
    /// The group has thrown this member out, or has not been heard of for the session timeout.
    Lost,
}

/// The context of a member's consumer.
pub(super) struct MemberContext {
    pub(super) topic: String,
    pub(super) ownership: Arc<Ownership>,
    changes: Mutex<Vec<Change>>,
}

impl MemberContext {
    pub(super) fn new(topic: String, ownership: Arc<Ownership>) -> Self {
        Self { topic, ownership, changes: Mutex::default() }
    }

    /// What came since the last call.
    pub(super) fn take_changes(&self) -> Vec<Change> {
        std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, change: Change) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }

    fn assigned(&self, consumer: &BaseConsumer<Self>, partitions: Vec<u32>) {
        if let Err(error) = consumer.incremental_assign(&TopicPartitionList::new()) {
            tracing::warn!(%error, "an assignment could not be answered");
        }
        self.ownership.renew(consumer.group_metadata());
        tracing::info!(?partitions, "partitions assigned");
        self.note(Change::Assigned(partitions));
    }

    fn revoked(&self, consumer: &BaseConsumer<Self>, partitions: Vec<u32>) {
        let lost = consumer.assignment_lost();
        if lost {
            self.ownership.renew(None);
        }
        self.ownership.revoke(&partitions, if lost { Duration::ZERO } else { COMMIT_PATIENCE });
        // Those that are loading are not in the consumer's own assignment.
        let reading = consumer.assignment().map(|all| partitions_of(&all, &self.topic)).unwrap_or_default();
        let mut leaving = TopicPartitionList::new();
        for partition in partitions.iter().filter(|partition| reading.contains(partition)) {
            leaving.add_partition(&self.topic, *partition as i32);
        }
        if let Err(error) = consumer.incremental_unassign(&leaving).or_else(|_| consumer.unassign()) {
            tracing::warn!(%error, "a revocation could not be answered");
        }
        if !lost {
            self.ownership.renew(consumer.group_metadata());
        }
        tracing::info!(?partitions, lost, "partitions revoked");
        self.note(if lost { Change::Lost } else { Change::Revoked(partitions) });
    }
}

/// The partitions of `topic` in `list`.
pub(super) fn partitions_of(list: &TopicPartitionList, topic: &str) -> Vec<u32> {
    list.elements_for_topic(topic).iter().filter_map(|element| element.partition().try_into().ok()).collect()
}

impl ClientContext for MemberContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_line(Role::Feed, level, facility, text);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        log_error(Role::Feed, &error, reason);
    }
    fn stats(&self, _: Statistics) {}
}

impl ConsumerContext for MemberContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = partitions_of(list, &self.topic);
        match kind {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assigned(consumer, partitions),
            _ => self.revoked(consumer, partitions),
        }
    }
}
