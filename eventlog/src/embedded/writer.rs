//! Appends: handed to their thread through a bounded queue.

use super::{Shared, appends::Job, worker::GONE};
use crate::{AppendError, BoxFuture, Done, Writer, port::no_partition};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc::error::TrySendError;

pub(super) struct EmbeddedWriter {
    pub(super) shared: Arc<Shared>,
    pub(super) partitions: u32,
}

impl Writer for EmbeddedWriter {
    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn send(&self, partition: u32, value: Bytes, done: Done) {
        if partition >= self.partitions {
            return done(Err(no_partition(partition, self.partitions)));
        }
        let jobs = match self.shared.appends.jobs() {
            Ok(jobs) => jobs,
            Err(why) => return done(Err(AppendError::NotWritten(why))),
        };
        let (why, job) = match jobs.try_send(Job::Append { partition, value, done }) {
            Ok(()) => return,
            Err(TrySendError::Full(job)) => ("too many appends wait for the disk", job),
            Err(TrySendError::Closed(job)) => (GONE, job),
        };
        if let Job::Append { done, .. } = job {
            done(Err(AppendError::NotWritten(why.to_owned())));
        }
    }

    fn flush(&self, deadline: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // A log that is gone has nothing left to resolve.
            let _ =
                tokio::time::timeout(deadline, self.shared.appends.ask(|answer| Job::Flush { answer })).await;
        })
    }
}
