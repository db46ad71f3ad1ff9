//! The third part of the port: `control`, what operators order.
//!
//! It holds the newest value of each key, and gives each write a version that is larger than all before it. A write names the
//! version that it expects, so that of two rivals only one wins. Keys and values mean nothing to the log.

use crate::{BoxFuture, FeedError};
use bytes::Bytes;

/// The condition for a write: the log makes it only if the key holds this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Anything, or nothing.
    Any,
    /// Nothing: it was never written, or forgotten.
    Absent,
    /// The value that was written with this version.
    Version(u64),
}

/// A write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPut {
    /// The key.
    pub key: String,
    /// Its new value; `None` forgets the key.
    pub value: Option<Bytes>,
    /// What it has to hold.
    pub expected: Expected,
}

/// Why a write was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// The key holds something else. Nothing was written.
    #[error("it was changed meanwhile")]
    Conflict {
        /// The version of what it holds; `None`: nothing.
        current: Option<u64>,
    },
    /// Nothing was written. It may work later.
    #[error("the event log can't be reached: {0}")]
    Unavailable(String),
    /// It may have been written, or may be yet. Read the key to find out.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// This log keeps no orders.
    #[error("this event log keeps no orders")]
    Unsupported,
}

/// Reads `control`.
pub trait ControlReader: Send {
    /// The next events; waits while there are none. Safe to cancel. First at least the newest record of each key, then
    /// [`ControlEvent::CaughtUp`] once, then each new record. Records of one key come in the order of their versions.
    fn next(&mut self) -> BoxFuture<'_, Result<ControlEvent, FeedError>>;
}

/// What a [`ControlReader`] sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlEvent {
    /// Never empty.
    Records(Vec<ControlRecord>),
    /// Everything that was there when the reader started has been given.
    CaughtUp,
}

/// One record of `control`. The value is not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlRecord {
    /// The key.
    pub key: String,
    /// The version of this write.
    pub version: u64,
    /// The value; `None` is a tombstone: the key is forgotten.
    pub value: Option<Bytes>,
}

/// Checks what is expected against the version of what a key holds.
pub(crate) fn check_expected(expected: Expected, current: Option<u64>) -> Result<(), PutError> {
    let fits = match expected {
        Expected::Any => true,
        Expected::Absent => current.is_none(),
        Expected::Version(version) => current == Some(version),
    };
    if fits { Ok(()) } else { Err(PutError::Conflict { current }) }
}

/// The reader of a log that keeps no orders.
#[derive(Debug, Default)]
pub(crate) struct NoControl {
    is_told: bool,
}

impl ControlReader for NoControl {
    fn next(&mut self) -> BoxFuture<'_, Result<ControlEvent, FeedError>> {
        Box::pin(async {
            if !std::mem::replace(&mut self.is_told, true) {
                return Ok(ControlEvent::CaughtUp);
            }
            std::future::pending().await
        })
    }
}
