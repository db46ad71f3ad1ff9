//! How many viewers a room has in all fanout processes.
//!
//! Each process tells the others how many viewers its rooms have, over the log's lossy channel. Any record may be lost, so
//! everything is told again every 3 s, and a number that was not told again for 7 s no longer counts. The sum is approximate by
//! nature, and no reaction depends on it.
//!
//! - `record`: what processes tell each other.
//! - `report`: what this process tells, and when. `elsewhere`: what the others told, added up. Neither knows a clock.
//! - `share`: the task around them.

mod elsewhere;
mod record;
mod report;
mod share;
#[cfg(test)]
mod tests;

pub(crate) use elsewhere::Elsewhere;
pub(crate) use share::Sharing;
