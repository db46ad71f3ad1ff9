//! Fills the index of a log that can't be searched.

use crate::{
    metrics::{INDEXED, REBUILT, SKIPPED},
    tier::{Archive, Reopen, Shared},
};
use eventlog::{
    EventLog, OpenError,
    windows::{ArchiveError, FollowedWindow, WindowEvent, WindowFollower, WindowIndex, WindowOffsets},
};
use metrics::counter;
use service::Condition;
use std::time::Duration;
use tokio::time;

/// How often old windows are removed.
const TRIM: Duration = Duration::from_secs(60);

/// Why an index is not gone on with.
enum Ended {
    Reopen(String),
    /// It holds what the log does not, or can't be read: it has to be made again.
    Rebuild(String),
}

/// Follows the log into the index until that fails. Where the log keeps no windows, it waits for ever.
pub(crate) async fn follow(
    log: &dyn EventLog,
    shared: &Shared,
    condition: &Condition,
) -> Result<Reopen, OpenError> {
    if !log.keeps_windows() {
        shared.archive.send_replace(Archive::Off);
        condition.hold();
        return std::future::pending().await;
    }
    let dir = shared.settings().config.dir.clone();
    let mut index = blocking(move || WindowIndex::open(&dir)).await?;
    loop {
        let (back, read) = blocking(move || {
            let offsets = index.offsets();
            (index, offsets)
        })
        .await;
        index = back;
        let ended = match read {
            Ok(offsets) => {
                let follower = log.window_follower(offsets.clone()).await?;
                let follower =
                    follower.ok_or_else(|| OpenError::Invalid("the log can't be followed".into()))?;
                let (back, ended) = fill(index, offsets, follower, shared, condition).await;
                index = back;
                ended
            }
            Err(error) => Ended::Rebuild(error.to_string()),
        };
        match ended {
            Ended::Reopen(why) => return Ok(Reopen { why }),
            Ended::Rebuild(why) => {
                tracing::warn!(why, "the history is made again from the log");
                counter!(REBUILT).increment(1);
                condition.fail("the history is made again from the log");
                shared.archive.send_replace(Archive::Starting);
                index = blocking(move || index.rebuild()).await?;
            }
        }
    }
}

/// Adds what the follower gives, until one of them fails.
async fn fill(
    mut index: WindowIndex,
    offsets: WindowOffsets,
    mut follower: Box<dyn WindowFollower>,
    shared: &Shared,
    condition: &Condition,
) -> (WindowIndex, Ended) {
    let mut trim = time::interval(TRIM);
    loop {
        let event = tokio::select! {
            event = follower.next() => event,
            () = shared.damaged.notified() => return (index, Ended::Rebuild("a request can't read it".into())),
            _ = trim.tick() => {
                let (back, trimmed) = remove_old(index, shared).await;
                index = back;
                match trimmed {
                    Ok(()) => continue,
                    Err(error) => return (index, failed(error)),
                }
            }
        };
        match event {
            Err(error) => return (index, Ended::Reopen(error.to_string())),
            Ok(WindowEvent::Starts(starts)) => {
                if let Some((partition, had)) = beyond(&offsets, &starts) {
                    let why = format!("it has partition {partition} up to {had}, which the log never had");
                    return (index, Ended::Rebuild(why));
                }
            }
            Ok(WindowEvent::Records(records)) => {
                let (back, added) = add(index, records).await;
                index = back;
                if let Err(error) = added {
                    return (index, failed(error));
                }
            }
            Ok(WindowEvent::CaughtUp) => {
                shared.archive.send_replace(Archive::Ready(index.archive()));
                condition.hold();
            }
        }
    }
}

/// A partition of which the index has more than the log.
fn beyond(offsets: &WindowOffsets, starts: &WindowOffsets) -> Option<(u32, u64)> {
    let start = |partition| starts.get(partition).copied().unwrap_or(0);
    offsets
        .iter()
        .find(|(partition, had)| start(*partition) < **had)
        .map(|(partition, had)| (*partition, *had))
}

fn failed(error: ArchiveError) -> Ended {
    match error {
        ArchiveError::Damaged(why) => Ended::Rebuild(why),
        error => Ended::Reopen(error.to_string()),
    }
}

async fn add(
    mut index: WindowIndex,
    records: Vec<FollowedWindow>,
) -> (WindowIndex, Result<(), ArchiveError>) {
    blocking(move || {
        let written = index.write(&records);
        let added = written.map(|written| {
            counter!(INDEXED).increment(written.windows);
            counter!(SKIPPED).increment(written.alien);
        });
        (index, added)
    })
    .await
}

async fn remove_old(mut index: WindowIndex, shared: &Shared) -> (WindowIndex, Result<(), ArchiveError>) {
    let before_ms = shared.clock.now_ms().saturating_sub(shared.settings().retention_ms);
    loop {
        let (back, trimmed) = blocking(move || {
            let trimmed = index.trim(before_ms);
            (index, trimmed)
        })
        .await;
        index = back;
        match trimmed {
            Ok(true) => {}
            Ok(false) => return (index, Ok(())),
            Err(error) => return (index, Err(error)),
        }
    }
}

/// Runs what blocks on a thread for that.
///
/// # Panics
///
/// Where `work` panics.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime stops, and this future with it.
            Err(_) => std::future::pending().await,
        },
    }
}
