//! The tier that pushes frames to viewers.
//!
//! - `follow`: reads `aggregates`, cuts each to a frame, encodes it once, and publishes it.
//! - `frames`: a frame in the forms in which it goes out.
//! - `registry`: the newest frame of each room, and who watches it.
//! - `http`: snapshots, and JSON over WebSocket.
//! - `broker`: the MQTT broker for trusted clients.
//! - `drain`: how viewers leave when the process stops.
//!
//! Newest or nothing: nobody has a queue. Whoever can't keep up finds the newest frame when it is ready again.

mod broker;
mod config;
mod drain;
mod fanout;
mod follow;
mod frames;
mod http;
pub mod metrics;
mod registry;
#[cfg(test)]
mod tests;

pub use config::{BrokerConfig, Config};
pub use fanout::{Deps, Error, Fanout};
