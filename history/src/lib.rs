//! The tier that serves the history: what came in the windows of a room, summed up per step.
//!
//! - `range`: which time a request asks for, and in which steps; `time`: how a time is written.
//! - `points`: sums windows up per step. Both are pure.
//! - `tier`: finds an archive of windows. A log that can be searched has one; otherwise `follow` fills an index.
//! - `http`: the route, and how long caches may keep an answer.

mod config;
mod follow;
mod http;
pub mod metrics;
mod points;
mod range;
#[cfg(test)]
mod tests;
mod tier;
pub mod time;

pub use config::{Config, Settings};
pub use http::openapi;
pub use points::{POINTS_MAX, Point, Points};
pub use tier::{Deps, Error, History};
