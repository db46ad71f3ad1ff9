//! Appends: handed to the writing thread through a bounded queue.

use super::{Shared, thread::Job};
use crate::{AppendError, BoxFuture, Writer};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc::error::TrySendError, oneshot};
use wire::RoomName;

pub(super) struct EmbeddedWriter {
    pub(super) shared: Arc<Shared>,
}

impl Writer for EmbeddedWriter {
    fn append(&self, room: RoomName, value: Bytes) -> BoxFuture<'static, Result<(), AppendError>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.shared.jobs().and_then(|jobs| {
            jobs.try_send(Job::Append { room, value, answer }).map_err(|error| match error {
                TrySendError::Full(_) => "too many appends wait for the disk".to_owned(),
                TrySendError::Closed(_) => super::GONE.to_owned(),
            })
        });
        Box::pin(async {
            sent.map_err(AppendError::NotWritten)?;
            answered.await.unwrap_or_else(|_| Err(AppendError::Unknown(super::GONE.into())))
        })
    }

    fn flush(&self, deadline: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // A log that is gone has nothing left to resolve.
            let _ = tokio::time::timeout(deadline, self.shared.ask(|answer| Job::Flush { answer })).await;
        })
    }
}
