//! MQTT as viewers speak it: the packets a subscriber sends, and the answers to them. Pure: slices in, bytes out.
//!
//! - `frame`: where a packet ends, and whether it may come at all.
//! - `connect`: the first packet. `packet`: all others; `subscribe` has the two with filters.
//! - `properties`, `filter`, `read`: what the packets are made of.
//! - `reason`: what is wrong with a packet, and the code that says so.
//! - `encode`: what we send.
//!
//! Decoding borrows from the slice and allocates nothing. It is strict: what the standard forbids is refused, and the
//! check names the statement (`[MQTT-…]`) of MQTT 5, or of 3.1.1 where only that has it.

pub(crate) mod connect;
pub(crate) mod encode;
pub(crate) mod filter;
pub(crate) mod frame;
pub(crate) mod packet;
mod properties;
mod read;
pub(crate) mod reason;
pub(crate) mod subscribe;
#[cfg(test)]
mod tests;

/// The versions we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5, protocol level 5.
    V5,
}
