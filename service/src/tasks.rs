//! Named tasks. One that ends before it was told to stops all others: half a process is worse than none.

use std::{future::Future, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

type Ended = (&'static str, Result<(), BoxError>);
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A group of named tasks that live and stop together.
#[derive(Debug)]
pub struct Tasks {
    set: JoinSet<Ended>,
    shutdown: CancellationToken,
}

/// Why a group of tasks did not end well.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A task returned an error.
    #[error("task {task} failed: {error}")]
    Failed {
        /// Its name.
        task: &'static str,
        /// Its error.
        error: BoxError,
    },
    /// A task ended although nobody had asked it to.
    #[error("task {0} ended early")]
    EndedEarly(&'static str),
    /// A task panicked.
    #[error("a task panicked: {0}")]
    Panicked(tokio::task::JoinError),
    /// Tasks were still running at the deadline, and were cut off.
    #[error("{0} tasks were still running at the deadline and were cut off")]
    Deadline(usize),
}

impl Tasks {
    /// An empty group. `shutdown` is what its tasks watch; the group cancels it when one of them ends early.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { set: JoinSet::new(), shutdown }
    }

    /// What the tasks of this group watch.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Starts a task, which should run until the group's shutdown and then end soon.
    pub fn spawn<E: Into<BoxError>>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.set.spawn(async move { (name, task.await.map_err(Into::into)) });
    }

    /// Waits for all tasks. After the shutdown they have `deadline` to end. The first failure is returned.
    pub async fn join(mut self, deadline: Duration) -> Result<(), TaskError> {
        let mut first_failure = None;
        let shutdown = self.shutdown.clone();
        let cut_off = async {
            shutdown.cancelled().await;
            tokio::time::sleep(deadline).await;
        };
        tokio::pin!(cut_off);
        loop {
            let ended = tokio::select! {
                ended = self.set.join_next() => ended,
                () = &mut cut_off => {
                    let running = self.set.len();
                    // Not waited for: a task may block in a drop, as one of the Kafka client does. The process ends now.
                    self.set.abort_all();
                    return Err(first_failure.unwrap_or(TaskError::Deadline(running)));
                }
            };
            let Some(ended) = ended else { return first_failure.map_or(Ok(()), Err) };
            if let Some(failure) = self.failure_of(ended) {
                tracing::error!(error = %failure, "stopping because of a task");
                self.shutdown.cancel();
                first_failure.get_or_insert(failure);
            }
        }
    }

    fn failure_of(&self, ended: Result<Ended, tokio::task::JoinError>) -> Option<TaskError> {
        match ended {
            Err(panic) => Some(TaskError::Panicked(panic)),
            Ok((task, Err(error))) => Some(TaskError::Failed { task, error }),
            Ok((task, Ok(()))) if !self.shutdown.is_cancelled() => Some(TaskError::EndedEarly(task)),
            Ok((task, Ok(()))) => {
                tracing::debug!(task, "task ended");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    async fn waits(shutdown: CancellationToken) -> Result<(), io::Error> {
        shutdown.cancelled().await;
        Ok(())
    }

    #[tokio::test]
    async fn all_end_well_after_the_shutdown() {
        let mut tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("a", waits(tasks.shutdown()));
        tasks.spawn("b", waits(tasks.shutdown()));
        tasks.shutdown().cancel();
        assert!(tasks.join(Duration::from_secs(5)).await.is_ok());
    }

    #[tokio::test]
    async fn one_that_ends_early_stops_the_others() {
        let mut tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("steady", waits(tasks.shutdown()));
        tasks.spawn("hasty", async { Ok::<(), io::Error>(()) });
        let error = tasks.join(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.to_string(), "task hasty ended early");
    }

    #[tokio::test]
    async fn one_that_fails_stops_the_others_and_is_named() {
        let mut tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("steady", waits(tasks.shutdown()));
        tasks.spawn("broken", async { Err::<(), _>(io::Error::other("no disk")) });
        let error = tasks.join(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.to_string(), "task broken failed: no disk");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_that_blocks_when_it_is_cut_off_is_not_waited_for() {
        struct Blocks(std::sync::mpsc::Receiver<()>);
        impl Drop for Blocks {
            fn drop(&mut self) {
                let _ = self.0.recv();
            }
        }
        let (end, blocked) = std::sync::mpsc::channel();
        let mut tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("stuck", async {
            let _blocks = Blocks(blocked);
            std::future::pending::<Result<(), io::Error>>().await
        });
        tasks.shutdown().cancel();
        let joined =
            tokio::time::timeout(Duration::from_secs(20), tasks.join(Duration::from_millis(10))).await;
        assert!(matches!(joined, Ok(Err(TaskError::Deadline(1)))), "{joined:?}");
        drop(end);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_stop_is_cut_off_at_the_deadline() {
        let mut tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("stuck", std::future::pending::<Result<(), io::Error>>());
        tasks.shutdown().cancel();
        let error = tasks.join(Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(error, TaskError::Deadline(1)), "{error}");
    }
}
