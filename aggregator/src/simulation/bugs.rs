//! Bugs of the commit protocol, planted into the log that the instances see. A simulation that finds none of them proves
//! nothing.

use super::log::{SimCommitter, SimLog};
use eventlog::{CommitError, Cut, FeedEvent};
use wire::Aggregate;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// Commits of those who lost their partition are written all the same.
    FencingOff,
    /// The fence knows members, not assignments: a partition that came back takes commits from before it was lost.
    EpochsIgnored,
    /// A refused commit is taken for a success.
    RefusalIgnored,
    /// The offset after the next one is committed.
    OffsetAhead,
    /// The offset of the last record is committed, not the one after it.
    OffsetBehind,
    /// Aggregates are written, offsets are not.
    OffsetsForgotten,
    /// Offsets are written, aggregates are not.
    AggregatesForgotten,
    /// Windows are written twice, all else once.
    WindowsTwice,
    /// Windows are not written, all else is.
    WindowsForgotten,
    /// Some windows are not written, all else is.
    SomeWindowsForgotten,
    /// Aggregates and offsets are not one commit: produce, then commit.
    ProduceThenCommit,
    /// The same the other way round.
    CommitThenProduce,
    /// Each commit is written twice.
    WrittenTwice,
    /// Some commits that were written are told to be tried again.
    UnknownTakenForRetry,
    /// Some commits that were not written are told to be.
    UnknownTakenForSuccess,
    /// Rooms are not forgotten in the log.
    TombstonesForgotten,
    /// A new owner gets each room's aggregate before the newest.
    NewestOutdated,
    /// The owner is not told that it lost its partition.
    RevocationUntold,
    /// Some records are not delivered.
    RecordLost,
}

impl Bug {
    pub(super) const ALL: [Self; 19] = [
        Self::FencingOff,
        Self::EpochsIgnored,
        Self::RefusalIgnored,
        Self::OffsetAhead,
        Self::OffsetBehind,
        Self::OffsetsForgotten,
        Self::AggregatesForgotten,
        Self::WindowsTwice,
        Self::WindowsForgotten,
        Self::SomeWindowsForgotten,
        Self::ProduceThenCommit,
        Self::CommitThenProduce,
        Self::WrittenTwice,
        Self::UnknownTakenForRetry,
        Self::UnknownTakenForSuccess,
        Self::TombstonesForgotten,
        Self::NewestOutdated,
        Self::RevocationUntold,
        Self::RecordLost,
    ];

    /// The event as the bug leaves it.
    pub(super) fn spoil_event(self, log: &SimLog, event: FeedEvent) -> Option<FeedEvent> {
        match (self, event) {
            (Self::RevocationUntold, FeedEvent::Revoked { .. }) => None,
            (Self::RecordLost, FeedEvent::Records { partition, mut records }) => {
                records.retain(|_| !log.chance(5));
                (!records.is_empty()).then_some(FeedEvent::Records { partition, records })
            }
            (
                Self::NewestOutdated,
                FeedEvent::Assigned { partition, partitions, epoch, next_offset, newest },
            ) => {
                let newest = newest.iter().filter_map(|newest| before(log, newest)).collect();
                Some(FeedEvent::Assigned { partition, partitions, epoch, next_offset, newest })
            }
            (_, event) => Some(event),
        }
    }

    /// The commit as the bug does it.
    pub(super) async fn commit(
        self,
        committer: &SimCommitter,
        mut cuts: Vec<Cut>,
    ) -> Result<(), CommitError> {
        let SimCommitter { log, inner, told, .. } = committer;
        match self {
            Self::EpochsIgnored => {
                let told = told.lock().unwrap().clone();
                cuts.iter_mut().for_each(|cut| cut.epoch = *told.get(&cut.partition).unwrap_or(&cut.epoch));
                inner.commit(cuts).await
            }
            Self::RefusalIgnored => match inner.commit(cuts).await {
                Err(CommitError::Revoked(_)) => Ok(()),
                result => result,
            },
            Self::ProduceThenCommit => {
                inner.commit(without_offsets(log, cuts.clone())).await?;
                log.stall().await;
                inner.commit(without_aggregates(cuts)).await
            }
            Self::CommitThenProduce => {
                inner.commit(without_aggregates(cuts.clone())).await?;
                log.stall().await;
                inner.commit(cuts).await
            }
            Self::WrittenTwice => {
                inner.commit(cuts.clone()).await?;
                inner.commit(cuts).await
            }
            Self::UnknownTakenForRetry => {
                inner.commit(cuts).await?;
                if log.chance(10) { Err(CommitError::Retry("timed out".into())) } else { Ok(()) }
            }
            Self::UnknownTakenForSuccess if log.chance(10) => Ok(()),
            Self::OffsetsForgotten => inner.commit(without_offsets(log, cuts)).await,
            Self::AggregatesForgotten => inner.commit(without_aggregates(cuts)).await,
            _ => {
                cuts.iter_mut().for_each(|cut| self.spoil_cut(log, cut));
                inner.commit(cuts).await
            }
        }
    }

    fn spoil_cut(self, log: &SimLog, cut: &mut Cut) {
        match self {
            Self::OffsetAhead => cut.next_offset += 1,
            Self::OffsetBehind => cut.next_offset = cut.next_offset.saturating_sub(1),
            Self::WindowsTwice => cut.windows.extend(cut.windows.clone()),
            Self::WindowsForgotten => cut.windows.clear(),
            Self::SomeWindowsForgotten => cut.windows.retain(|_| !log.chance(5)),
            Self::TombstonesForgotten => cut.aggregates.retain(|(_, value)| value.is_some()),
            _ => {}
        }
    }
}

fn without_offsets(log: &SimLog, mut cuts: Vec<Cut>) -> Vec<Cut> {
    cuts.iter_mut().for_each(|cut| cut.next_offset = log.memory.committed(cut.partition));
    cuts
}

fn without_aggregates(mut cuts: Vec<Cut>) -> Vec<Cut> {
    for cut in &mut cuts {
        cut.aggregates.clear();
        cut.windows.clear();
    }
    cuts
}

/// The aggregate before the room's newest one.
fn before(log: &SimLog, newest: &Aggregate) -> Option<Aggregate> {
    let history = log.memory.aggregates();
    let of_room = history.iter().rev().filter(|(_, room, _)| *room == newest.room);
    of_room.skip(1).map(|(_, _, value)| Aggregate::decode(value.as_ref()?).ok()).next().flatten()
}
