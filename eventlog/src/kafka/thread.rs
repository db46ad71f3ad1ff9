//! Threads for calls that block, and may never return.
//!
//! Calls of librdkafka block, some ignore their timeout while a coordinator is away, and dropping a client may hang.
//! So each of them runs on a thread that can be left behind, and whoever needs the answer waits with a deadline.

use std::{io, thread, time::Duration};
use tokio::sync::oneshot;

/// Starts `work` on a thread of its own. Nobody joins it.
pub(super) fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// Runs `work` on a thread of its own and waits for its answer, `deadline` at the most. `None` when there is none by
/// then: the thread is left behind.
pub(super) async fn ask<T: Send + 'static>(
    name: &str,
    deadline: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    start(name, move || drop(answer.send(work()))).ok()?;
    tokio::time::timeout(deadline, answered).await.ok()?.ok()
}
