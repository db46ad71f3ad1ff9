//! What is on the wire: batches, aggregates, frames, and the names in them.
//!
//! A leaf: no I/O, no clock, no runtime. Every type is validated when it is made or decoded, so that whoever
//! holds one need not check again.
//!
//! - [`RoomName`], [`Reaction`]: names with their limits.
//! - [`Batch`]: a room's part of a record of topic `reactions`; [`batch`] says how a record holds several.
//! - [`Aggregate`]: the record of topic `aggregates`; [`Outline`] writes one, [`CheckedAggregate`] passes it on unread.
//! - [`WindowRecord`]: the record of topic `windows`, an aggregate without its totals.
//! - [`Frame`]: what a viewer receives, an aggregate cut to its top N.
//! - [`control`]: what operators order, records of topic `control`.
//! - [`audit`]: what must hold for every history of aggregates.

mod aggregate;
pub mod audit;
pub mod batch;
pub mod control;
mod error;
mod fold;
mod frame;
pub mod json;
mod names;
mod schema;
mod window;

pub use aggregate::{Aggregate, CheckedAggregate, Outline, Source, Window};
pub use batch::{Batch, BatchRef};
pub use error::{DecodeError, NameError};
pub use fold::SkinTones;
pub use frame::{Frame, Hello, HelloEncoder, RoomSettings};
pub use names::{REACTION_BYTES_MAX, ROOM_NAME_LEN_MAX, Reaction, ReactionRef, RoomName, RoomNameRef};
pub use schema::counts_schema;
pub use window::WindowRecord;

/// Version of the record and frame formats; the `v` of every JSON value.
pub const FORMAT_VERSION: u32 = 1;

/// The largest count that all clients read exactly (2^53 - 1: RFC 8259, section 6). A batch may not pass it.
pub const COUNT_MAX: u64 = (1 << 53) - 1;

/// The largest total of a room: what 64-bit integers with a sign hold. Above [`COUNT_MAX`] JavaScript reads totals rounded, which
/// is better than to pass over what was accepted.
pub const TOTAL_MAX: u64 = i64::MAX as u64;

/// Counts by reaction, ordered, so that equal counts encode to equal bytes.
pub type Counts = std::collections::BTreeMap<Reaction, u64>;
