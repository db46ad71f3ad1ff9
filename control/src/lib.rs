//! What operators order: a room closed, how often its clients post, its own catalogue.
//!
//! - [`Orders`]: what is in force, which requests and frames look up. [`Follower`] feeds it from the log.
//! - [`admin`]: the HTTP interface that reads and changes orders.

pub mod admin;
mod follow;
pub mod metrics;
mod orders;

pub use follow::Follower;
pub use orders::{Orders, Room, Rooms};

/// Rooms that may have orders, at the most: every process keeps them in memory.
pub const ROOMS_MAX: usize = 10_000;
