//! A thread that works off a bounded queue of jobs, one after the other.

use crate::OpenError;
use std::thread::JoinHandle;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

pub(super) const GONE: &str = "a thread of the embedded log is gone";

/// Dropped, it does what is queued, and ends before the drop does.
pub(super) struct Worker<J> {
    /// Both are there until the drop.
    jobs: Option<mpsc::Sender<J>>,
    thread: Option<JoinHandle<()>>,
}

impl<J: Send + 'static> Worker<J> {
    /// `work` is given the queue, and ends with it.
    pub(super) fn start(
        name: &str,
        max_queued: usize,
        work: impl FnOnce(mpsc::Receiver<J>) + Send + 'static,
    ) -> Result<Self, OpenError> {
        let (jobs, queue) = mpsc::channel(max_queued);
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || work(queue))
            .map_err(|error| OpenError::Unavailable(format!("can't start a thread: {error}")))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Puts a job into the queue, if it has room.
    pub(super) fn try_send(&self, job: J) -> Result<(), TrySendError<J>> {
        match &self.jobs {
            Some(jobs) => jobs.try_send(job),
            None => Err(TrySendError::Closed(job)),
        }
    }

    /// Has a job done, after those that are in the queue.
    pub(super) async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> J) -> Result<T, String> {
        let (answer, answered) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(GONE)?;
        jobs.send(job(answer)).await.map_err(|_| GONE)?;
        answered.await.map_err(|_| GONE.to_owned())
    }
}

impl<J> Drop for Worker<J> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
