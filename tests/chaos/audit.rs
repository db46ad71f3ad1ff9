//! What the log itself says, read beside `uproar` or after it.

use super::accounts::{Sums, total};
use crate::harness::wait::{PATIENCE, until};
use eventlog::{Config, FeedEvent, FollowEvent, FollowedRecord, Record};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{task::JoinSet, time::timeout};
use wire::{Aggregate, Batch, audit::Auditor};

/// What a member of the group is given until it has caught up.
#[derive(Default)]
pub struct Reading {
    /// By partition: where reading began.
    pub starts: Vec<(u32, u64)>,
    /// The newest aggregate of each room.
    pub newest: Vec<Aggregate>,
    /// Every record, with its partition.
    pub records: Vec<(u32, Record)>,
}

impl Reading {
    /// Reads as a member of the group that `config` names, on until it is `enough` or does not come. Commits nothing.
    pub async fn of(config: &Config, enough: impl Fn(&Self) -> bool) -> Self {
        let log = eventlog::open(config).await.unwrap();
        let mut feed = log.feed().await.unwrap();
        let mut reading = Self::default();
        let mut behind: BTreeSet<u32> = (0..config.partitions).collect();
        while !(behind.is_empty() && enough(&reading)) {
            let Ok(event) = timeout(PATIENCE, feed.events.next()).await else { break };
            match event.unwrap() {
                FeedEvent::Assigned { partition, next_offset, newest, .. } => {
                    reading.starts.push((partition, next_offset));
                    reading.newest.extend(newest);
                }
                FeedEvent::Joined => {}
                FeedEvent::Records { partition, records } => {
                    reading.records.extend(records.into_iter().map(|record| (partition, record)));
                }
                FeedEvent::CaughtUp { partition, .. } | FeedEvent::Revoked { partition } => {
                    behind.remove(&partition);
                }
            }
        }
        feed.events.close(Duration::from_secs(10)).await;
        reading
    }

    /// The reactions in the records.
    pub fn recorded(&self) -> Sums {
        let mut sums = Sums::new();
        for batch in self.records.iter().flat_map(|(_, record)| Batch::decode_all(&record.value)) {
            let batch = batch.unwrap();
            add(&mut sums, &batch.room, &batch.counts);
        }
        sums
    }

    /// The totals of the newest aggregates.
    pub fn counted(&self) -> Sums {
        let mut sums = Sums::new();
        self.newest.iter().for_each(|aggregate| add(&mut sums, &aggregate.room, &aggregate.totals));
        sums
    }
}

fn add(sums: &mut Sums, room: &wire::RoomName, counts: &wire::Counts) {
    for (reaction, count) in counts {
        *sums.entry((room.to_string(), reaction.to_string())).or_default() += count;
    }
}

/// All of `aggregates` on Kafka: follows along from before the first record, so that compaction takes nothing away.
pub struct History {
    records: Arc<Mutex<Vec<FollowedRecord>>>,
    task: JoinSet<()>,
}

impl History {
    pub async fn follow(config: &Config) -> Self {
        let log = eventlog::open(config).await.unwrap();
        let mut follower = log.follower().await.unwrap();
        let records = Arc::<Mutex<Vec<_>>>::default();
        let mut task = JoinSet::new();
        let kept = Arc::clone(&records);
        task.spawn(async move {
            loop {
                if let FollowEvent::Records(records) = follower.next().await.unwrap() {
                    kept.lock().unwrap().extend(records);
                }
            }
        });
        Self { records, task }
    }

    /// Waits until it holds all that the records hold, then audits every window against them.
    pub async fn audit(mut self, reading: &Reading) {
        let recorded = reading.recorded();
        until("all windows in aggregates", async || (self.count() >= total(&recorded)).then_some(())).await;
        assert!(self.task.try_join_next().is_none(), "the follower broke");
        let mut auditor = Auditor::of_whole_history();
        for (partition, record) in &reading.records {
            auditor.record(*partition, record.offset, &record.value);
        }
        for record in self.records.lock().unwrap().iter() {
            let value = record.value.as_ref().expect("no room is forgotten so soon");
            let partition = Aggregate::decode(value).unwrap().source.partition;
            auditor.committed(partition, &record.room, Some(value));
        }
        let report = auditor.report();
        assert!(report.is_clean(), "{:#?}", report.findings);
        assert_eq!((report.uncounted, report.compared), (0, report.windows));
        println!(
            "audit clean: {} windows, {} records, {} reactions",
            report.windows,
            reading.records.len(),
            total(&recorded)
        );
    }

    fn count(&self) -> u64 {
        let records = self.records.lock().unwrap();
        let values = records.iter().filter_map(|record| record.value.as_ref());
        values.map(|value| Aggregate::decode(value).unwrap().count).sum()
    }
}
