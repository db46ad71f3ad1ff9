//! The tier as its users see it: a log in memory, real sockets, real clients.

mod counted;
pub(crate) mod harness;
mod live;
mod mqtt;
mod snapshot;
