//! The event log: one port, and the adapters behind it.
//!
//! The tiers see three small things, all on [`EventLog`]:
//! - a [`Writer`]: append a batch, resolved when it is durable;
//! - a [`Feed`]: partitions of `reactions` as they are assigned, read and revoked, and [`Committer::commit`], which
//!   writes aggregates and offsets atomically and fenced;
//! - a [`Follower`]: the newest aggregate of every room, then each new one;
//! - a [`WindowArchive`] or a [`WindowFollower`]: the history, searched or followed (see [`windows`]).
//!
//! Beside these, a [`LossyChannel`] lets fanout processes tell each other how many viewers they have.
//! What operators order is read by a [`ControlReader`] and written by [`EventLog::put_control`].
//!
//! [`history()`] opens a log for an auditor, who reads it once and changes nothing.
//!
//! Only this crate knows rdkafka and SQLite. [`open`] picks the adapter that the config names.
//! All adapters pass the suite in `conformance`.

mod config;
mod control;
mod decode;
mod embedded;
mod history;
mod kafka;
pub mod metrics;
mod open;
mod placement;
mod port;
pub mod windows;

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
#[cfg(any(test, feature = "test-util"))]
mod memory;

pub use config::{Config, EmbeddedConfig, KafkaConfig, LogKind};
pub use control::{ControlEvent, ControlPut, ControlReader, ControlRecord, Expected, PutError};
pub use history::{History, HistoryAggregate, HistorySpan, Records, history};
#[cfg(any(test, feature = "test-util"))]
pub use memory::{CommitFault, MemoryLog};
pub use open::open;
pub use placement::partition_of;
pub use port::{
    Append, AppendError, BoxFuture, CommitError, Committer, Cut, Done, EventLog, Feed, FeedError, FeedEvent,
    FeedEvents, FollowEvent, FollowedRecord, Follower, LossyChannel, OpenError, Record, Writer,
};
pub use windows::{WindowArchive, WindowFollower};
