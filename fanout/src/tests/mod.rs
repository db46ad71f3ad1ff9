//! The tier as its users see it: a log in memory, real sockets, real clients.

mod bridge;
mod bridge_slow;
mod broker;
pub(crate) mod counted;
mod counted_mqtt;
mod events;
mod handshake;
pub(crate) mod harness;
mod hostile;
mod live;
mod many_rooms;
mod mosquitto;
mod mqtt;
mod mqtt_refusals;
mod mqtt_times;
mod mqtt_websocket;
mod occupancy;
mod orders;
pub(crate) mod raw;
mod rooms;
mod snapshot;
mod strangers;
mod trickle;
