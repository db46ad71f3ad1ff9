//! Appends: handed to their thread through a bounded queue.

use super::{
    Shared,
    append_thread::{GROUP_BYTES_MAX, Job},
    worker::GONE,
};
use crate::{Append, AppendError, BoxFuture, Writer, port::no_partition};
use std::{
    mem,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::mpsc::error::TrySendError;

/// The appends of more are refused, unless the queue is empty.
const QUEUED_BYTES_MAX: usize = 64 << 20;

pub(super) struct EmbeddedWriter {
    pub(super) shared: Arc<Shared>,
    pub(super) partitions: u32,
}

impl EmbeddedWriter {
    /// Hands over what becomes one group, so that the thread doesn't sync the first while the others are on their way.
    fn queue(&self, appends: Vec<Append>, bytes: usize) {
        let queued = &self.shared.queued_bytes;
        let before = queued.fetch_add(bytes, Ordering::Relaxed);
        let refused = if before > 0 && before + bytes > QUEUED_BYTES_MAX {
            Some(("too many bytes wait for the disk", appends))
        } else {
            match self.shared.appends.try_send(Job::Append { appends, bytes }) {
                Ok(()) => None,
                Err(TrySendError::Full(job)) => refused("too many appends wait for the disk", job),
                Err(TrySendError::Closed(job)) => refused(GONE, job),
            }
        };
        let Some((why, appends)) = refused else { return };
        queued.fetch_sub(bytes, Ordering::Relaxed);
        for Append { done, .. } in appends {
            done(Err(AppendError::NotWritten(why.to_owned())));
        }
    }
}

fn refused(why: &'static str, job: Job) -> Option<(&'static str, Vec<Append>)> {
    match job {
        Job::Append { appends, .. } => Some((why, appends)),
        Job::Flush { .. } | Job::Resume { .. } => None,
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
            bytes += size_of::<Append>() + append.value.len();
            together.push(append);
            if bytes >= GROUP_BYTES_MAX {
                self.queue(mem::take(&mut together), mem::take(&mut bytes));
            }
        }
        if !together.is_empty() {
            self.queue(together, bytes);
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
