//! What a run is to do, checked.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// What viewers speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// MQTT 3.1.1 over TCP, QoS 0.
    Mqtt,
    /// JSON over a WebSocket.
    Ws,
    /// Server-sent events.
    Sse,
}

/// A server that the run starts by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The least that a server can do: the same bytes to every socket, and nothing else
    Floor,
    /// Uproar with MQTT viewers
    Uproar,
    /// Uproar with JSON WebSocket viewers
    UproarWs,
    /// Uproar with viewers of server-sent events
    UproarSse,
    /// Eclipse Mosquitto
    Mosquitto,
    /// The rumqttd that is embedded in Uproar for trusted clients
    Rumqttd,
}

impl Kind {
    /// Its name in `--servers` and in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Uproar => "uproar",
            Self::UproarWs => "uproar-ws",
            Self::UproarSse => "uproar-sse",
            Self::Mosquitto => "mosquitto",
            Self::Rumqttd => "rumqttd",
        }
    }

    /// Whether it is a process of Uproar.
    pub(crate) fn is_uproar(self) -> bool {
        matches!(self, Self::Uproar | Self::UproarWs | Self::UproarSse | Self::Rumqttd)
    }

    /// What its viewers speak.
    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::UproarWs => Protocol::Ws,
            Self::UproarSse => Protocol::Sse,
            _ => Protocol::Mqtt,
        }
    }
}

/// A server that runs already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) protocol: Protocol,
    pub(crate) address: SocketAddr,
    /// The topic, or the path of the WebSocket or of the events.
    pub(crate) path: String,
    /// As it was written.
    pub(crate) name: String,
    /// Its process, where that is on this machine.
    pub(crate) pid: Option<u32>,
    /// Where its viewers connect when it closes them.
    pub(crate) then: Option<SocketAddr>,
}

/// Whom to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Candidates {
    /// One after the other.
    Start {
        kinds: Vec<Kind>,
        /// Whether somebody asked for just these; one that is missing is a failure then.
        named: bool,
    },
    Running(Running),
}

/// A whole run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) candidates: Candidates,
    pub(crate) viewers: usize,
    /// Viewers beside them that never read.
    pub(crate) silent: usize,
    pub(crate) server_processes: usize,
    pub(crate) client_processes: usize,
    pub(crate) frames: u64,
    pub(crate) interval: Duration,
    pub(crate) frame_bytes: usize,
    /// Connections under way at a time to each server process.
    pub(crate) connecting: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) settle: Duration,
    pub(crate) keep_alive: Duration,
    pub(crate) uproar: PathBuf,
    /// `section.key=value` for Uproar.
    pub(crate) set: Vec<String>,
    pub(crate) mosquitto: PathBuf,
    pub(crate) report: Option<PathBuf>,
}

/// `total` spread over `parts` as evenly as whole numbers allow.
pub(crate) fn shares(total: usize, parts: usize) -> impl Iterator<Item = usize> {
    (0..parts).map(move |part| total / parts + usize::from(part < total % parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_even_and_add_up() {
        assert_eq!(shares(10, 3).collect::<Vec<_>>(), [4, 3, 3]);
        assert_eq!(shares(2, 3).collect::<Vec<_>>(), [1, 1, 0]);
        assert_eq!(shares(200_000, 11).sum::<usize>(), 200_000);
    }
}
