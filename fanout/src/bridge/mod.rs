//! The bridge to an MQTT broker that runs elsewhere, for those who have one already: each frame as a retained message
//! on `{topic_prefix}{room}`, an empty one when the room is forgotten. MQTT 3.1.1.
//!
//! Whatever the broker does, the follower and the viewers don't notice: of each room at most one frame waits
//! (`outlet`). A frame is handed over when the kernel has it (QoS 0), or when the broker has acknowledged it (QoS 1).
//! What was under way when a connection broke may be lost: at the start of each connection every room is published
//! again, as the broker may have lost its retained messages too. So at most once, but the newest always comes; frames
//! carry `seq`.
//!
//! - `config`: where the bridge leads.
//! - `settings`: how the client library is set up.
//! - `connection`: one connection, from CONNECT to its end.
//! - `cleared`: forgotten rooms that may have to be cleared again.
//! - `failure`, `pause`: what is said of failures, and when the next try is.

mod cleared;
mod config;
mod connection;
mod failure;
mod pause;
mod settings;

pub use config::{BridgeConfig, Secret};

use crate::{
    Error,
    metrics::{BRIDGE_CONNECTED, BRIDGE_FAILURES},
    outlet::{Outlet, Pending, outlet},
    registry::Registry,
};
use cleared::Cleared;
use failure::{Failure, Said};
use futures_util::FutureExt;
use metrics::{counter, gauge};
use pause::Pauses;
use settings::Settings;
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::time::Instant;

/// How long the end of the process waits for what is pending.
pub(crate) const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that held for so long was a good one.
const GOOD_AFTER: Duration = Duration::from_secs(60);

/// A bridge, ready to run.
pub(crate) struct Bridge {
    settings: Settings,
    pending: Arc<Pending>,
    registry: Arc<Registry>,
    cleared: Cleared,
    said: Said,
}

/// The bridge, and where it is handed its frames. Fails where the configuration can't be used.
pub(crate) fn bridge(config: &BridgeConfig, registry: Arc<Registry>) -> Result<(Outlet, Bridge), Error> {
    let settings = Settings::of(config)?;
    let (outlet, pending) = outlet("bridge");
    let (cleared, said) = (Cleared::default(), Said::default());
    Ok((outlet, Bridge { settings, pending, registry, cleared, said }))
}

impl Bridge {
    /// Runs until the outlet is closed and all that was put is handed over, or can't be.
    pub(crate) async fn run(mut self) {
        let mut pauses = Pauses::default();
        loop {
            let begun = Instant::now();
            // A bug in what talks to another's broker must not end the tier.
            let ended = AssertUnwindSafe(self.connection()).catch_unwind().await;
            gauge!(BRIDGE_CONNECTED).set(0.0);
            let Err(failure) = ended.unwrap_or_else(|_| Err(Failure::fault())) else { return };
            counter!(BRIDGE_FAILURES, "cause" => failure.cause).increment(1);
            if begun.elapsed() >= GOOD_AFTER {
                pauses = Pauses::default();
                self.said.forget();
            }
            self.said.failed(&failure);
            tokio::select! {
                () = tokio::time::sleep(pauses.next()) => {}
                () = self.pending.closed() => {
                    tracing::warn!(rooms = self.pending.len(), "the bridge ends without its broker");
                    return;
                }
            }
        }
    }
}
