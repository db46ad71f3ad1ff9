//! The tier that rolls reactions up into windows: a pure core in a thin shell.
//!
//! [`core`] knows no clock, no runtime and no log: it is fed records and ticks, and returns closed windows. The shell
//! ([`Aggregator`]) feeds it from the log, and commits what it returns.

mod config;
pub mod core;
pub mod metrics;
mod pending;
mod session;
mod shell;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use shell::{Aggregator, Deps, Error};
