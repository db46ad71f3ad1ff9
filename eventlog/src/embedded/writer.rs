//! Appends: handed to their thread through a bounded queue.

use super::{
    Shared,
    appends::{GROUP_BYTES_MAX, Job},
    worker::GONE,
};
use crate::{Append, AppendError, BoxFuture, Writer, port::no_partition};
use std::{mem, sync::Arc, time::Duration};
use tokio::sync::mpsc::error::TrySendError;

pub(super) struct EmbeddedWriter {
    pub(super) shared: Arc<Shared>,
    pub(super) partitions: u32,
}

impl EmbeddedWriter {
    /// Hands over what becomes one group, so that the thread doesn't sync the first while the others are on their way.
    fn queue(&self, appends: Vec<Append>) {
        let (why, job) = match self.shared.appends.try_send(Job::Append(appends)) {
            Ok(()) => return,
            Err(TrySendError::Full(job)) => ("too many appends wait for the disk", job),
            Err(TrySendError::Closed(job)) => (GONE, job),
        };
        if let Job::Append(appends) = job {
            for Append { done, .. } in appends {
                done(Err(AppendError::NotWritten(why.to_owned())));
            }
        }
    }
}

impl Writer for EmbeddedWriter {
    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn send(&self, appends: Vec<Append>) {
        let (mut together, mut bytes) = (Vec::with_capacity(appends.len()), 0);
        for append in appends {
            if append.partition >= self.partitions {
                (append.done)(Err(no_partition(append.partition, self.partitions)));
                continue;
            }
            bytes += append.value.len();
            together.push(append);
            if bytes >= GROUP_BYTES_MAX {
                self.queue(mem::take(&mut together));
                bytes = 0;
            }
        }
        if !together.is_empty() {
            self.queue(together);
        }
    }

    fn flush(&self, deadline: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let flushed = self.shared.appends.ask(|answer| Job::Flush { answer });
            // A log that is gone has nothing left to resolve.
            let _ = tokio::time::timeout(deadline, flushed).await;
        })
    }
}
