//! What a client process and the one that started it say to each other: a line of JSON each.

use super::plan::Protocol;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

/// First and only line to a client process. It leaves when its standard input is closed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) protocol: Protocol,
    pub(crate) address: SocketAddr,
    /// The topic, or the path of the WebSocket.
    pub(crate) path: String,
    pub(crate) viewers: usize,
    /// Start of the MQTT client ids, unlike that of any other client process.
    pub(crate) name: String,
    /// Addresses to connect from, so that ports don't run out. Empty: the system chooses.
    pub(crate) sources: Vec<Ipv4Addr>,
    /// Connections under way at a time.
    pub(crate) connecting: usize,
    /// How long to go on connecting, from the start and from each time that a viewer moves.
    pub(crate) patience_ms: u64,
    pub(crate) keep_alive_s: u16,
    /// Connect, subscribe, and never read again.
    pub(crate) silent: bool,
    /// Where to connect when the server closes a viewer.
    pub(crate) then: Option<SocketAddr>,
}

/// How a client process stands, several times a second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// Viewers that were let in, whether or not they are still there.
    pub(crate) connected: usize,
    /// Viewers that were given up.
    pub(crate) failed: usize,
    /// Attempts that were refused or broke.
    pub(crate) retries: u64,
    /// Viewers that were let in and then closed, and that are not on their way elsewhere.
    pub(crate) lost: usize,
    /// How often a viewer was closed, and let in elsewhere.
    pub(crate) moved: usize,
    /// The most frames that a viewer missed between two that it got.
    pub(crate) widest_gap: u64,
    /// When the first attempt began, and when the last viewer was let in.
    pub(crate) first_attempt_us: u64,
    pub(crate) last_connected_us: u64,
    /// Packets that no viewer should get.
    pub(crate) odd: u64,
    /// Why the latest attempt, or the latest viewer, failed.
    pub(crate) trouble: Option<String>,
    /// Size of the latest frame's JSON.
    pub(crate) frame_bytes: usize,
    /// By `seq`: only what has changed since the line before.
    pub(crate) receipts: BTreeMap<u64, Receipt>,
}

/// Who received a frame and when, us since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) first_us: u64,
    pub(crate) last_us: u64,
    pub(crate) count: u64,
    /// End of the window that the frame is about, as the frame says.
    pub(crate) end_ms: Option<u64>,
}

impl Receipt {
    /// What both saw together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            first_us: self.first_us.min(other.first_us),
            last_us: self.last_us.max(other.last_us),
            count: self.count + other.count,
            end_ms: self.end_ms.or(other.end_ms),
        }
    }
}
