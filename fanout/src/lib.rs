//! The tier that pushes frames to viewers.
//!
//! - `follow`: reads `aggregates`, checks each, and publishes it as a frame.
//! - `frames`: a frame in the forms in which it goes out, each made once, when it is first asked for.
//! - `registry`: the newest frame of each room, and how many watch. `newest`: of each room, what waits to be handed on.
//! - `busiest`: which rooms are worth a look.
//! - `occupancy`: how many viewers a room has in all processes.
//! - `hello`: what a viewer is told first.
//! - `edge`: the viewers' sockets, in shards.
//! - `http`: snapshots, server-sent events, and the way to WebSockets.
//! - `mqtt`, `websocket`: the protocols of viewers, pure.
//! - `outlet`: what brokers are handed: `broker`, the one for trusted clients, and `bridge`, one that runs elsewhere.
//! - `drain`: how viewers leave when the process stops.
//!
//! Newest or nothing: nobody has a queue. Whoever can't keep up finds the newest frame when it is ready again.

mod bridge;
mod broker;
mod busiest;
mod config;
mod drain;
mod edge;
mod fanout;
mod follow;
mod frames;
mod hello;
mod http;
pub mod metrics;
mod mqtt;
mod newest;
mod occupancy;
mod outlet;
mod registry;
#[cfg(test)]
mod tests;
mod websocket;

pub use bridge::{BridgeConfig, Secret};
pub use config::{BrokerConfig, Config, MqttConfig};
pub use edge::tune;
pub use fanout::{Deps, Error, Fanout};
pub use http::openapi;
