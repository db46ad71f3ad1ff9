//! The servers under test: started one after the other, each in processes of its own, and ended when they were
//! measured.
//!
//! - [`floor`], [`mosquitto`], [`uproar`]: how each is started.

pub(crate) mod floor;
mod mosquitto;
mod uproar;

use super::{
    plan::{Candidates, Kind, Plan, Protocol, Running},
    publish::Publisher,
};
use crate::child::{Child, free_address, patiently};
use anyhow::Context as _;
use std::net::SocketAddr;
use tempfile::TempDir;

/// A server with one or more processes that know nothing of each other.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    /// The topic, or the path of the WebSocket.
    pub(crate) path: String,
    pub(crate) processes: Vec<Process>,
    /// Where viewers connect that it closes.
    pub(crate) then: Option<SocketAddr>,
    _folder: Option<TempDir>,
}

/// One process of a server.
pub(crate) struct Process {
    /// Where its viewers connect.
    pub(crate) viewers_at: SocketAddr,
    pub(crate) pid: Option<u32>,
    pub(crate) publisher: Publisher,
    child: Option<Child>,
}

/// Why `kind` can't be measured here, if so.
pub(crate) fn missing(plan: &Plan, kind: Kind) -> Option<String> {
    match kind {
        Kind::Floor => None,
        Kind::Mosquitto => mosquitto::missing(plan),
        _ => crate::uproar::missing(&plan.uproar),
    }
}

/// Refuses a configuration with which one of the servers would not start.
pub(crate) async fn check(plan: &Plan) -> anyhow::Result<()> {
    let Candidates::Start { kinds, .. } = &plan.candidates else { return Ok(()) };
    for kind in kinds.iter().filter(|kind| kind.is_uproar() && missing(plan, **kind).is_none()) {
        uproar::check(plan, *kind).await?;
    }
    Ok(())
}

impl Server {
    /// Starts all processes of `kind`, and returns when they take viewers.
    pub(crate) async fn start(plan: &Plan, kind: Kind, room: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let mut processes = Vec::new();
        for index in 0..plan.server_processes {
            let dir = folder.path().join(format!("{}-{index}", kind.name()));
            std::fs::create_dir(&dir)?;
            let started = match kind {
                Kind::Floor => start_floor(&dir, room).await,
                Kind::Mosquitto => mosquitto::start(plan, &dir, room).await,
                _ => uproar::start(plan, kind, &dir, room).await,
            };
            processes.push(started.with_context(|| format!("{} does not start", kind.name()))?);
        }
        let path = match kind.protocol() {
            Protocol::Mqtt => topic(room),
            Protocol::Ws => format!("/v1/rooms/{room}/live"),
            Protocol::Sse => format!("/v1/rooms/{room}/events"),
        };
        let (name, protocol) = (kind.name().to_owned(), kind.protocol());
        Ok(Self { name, protocol, path, processes, then: None, _folder: Some(folder) })
    }

    /// A server that somebody else runs, and feeds.
    pub(crate) fn of(running: &Running) -> Self {
        let process = Process {
            viewers_at: running.address,
            pid: running.pid,
            publisher: Publisher::Nobody,
            child: None,
        };
        Self {
            name: running.name.clone(),
            protocol: running.protocol,
            path: running.path.clone(),
            processes: vec![process],
            then: running.then,
            _folder: None,
        }
    }

    /// The processes whose memory and CPU can be seen.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.processes.iter().filter_map(|process| process.pid).collect()
    }

    /// Sum over all processes; `None` where none can be seen.
    pub(crate) fn sum(&self, look: impl Fn(u32) -> anyhow::Result<u64>) -> anyhow::Result<Option<u64>> {
        let pids = self.pids();
        let sum = pids.iter().map(|pid| look(*pid)).sum::<anyhow::Result<u64>>();
        let sum = sum.with_context(|| format!("{} has ended{}", self.name, self.last_words()))?;
        Ok((!pids.is_empty()).then_some(sum))
    }

    /// What it said, where it was started here.
    fn last_words(&self) -> String {
        let children = self.processes.iter().filter_map(|process| process.child.as_ref());
        let words: Vec<_> = children.map(Child::last_words).collect();
        if words.is_empty() { String::new() } else { format!(": {}", words.join(" / ")) }
    }

    /// Ends what was started.
    pub(crate) async fn end(self) {
        for process in self.processes {
            if let Some(child) = process.child {
                child.end().await;
            }
        }
    }
}

/// The topic of a room, the same for all servers.
pub(crate) fn topic(room: &str) -> String {
    format!("reactions/{room}")
}

async fn start_floor(dir: &std::path::Path, room: &str) -> anyhow::Result<Process> {
    let address = free_address()?;
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.args(["floor", "--listen", &address.to_string()]);
    let child = Child::start(command, dir)?;
    with_mqtt(child, address, room).await
}

/// A process whose viewers and whose publisher use the same MQTT port.
async fn with_mqtt(mut child: Child, address: SocketAddr, room: &str) -> anyhow::Result<Process> {
    let publisher = patiently(&mut child, || Publisher::mqtt(address, topic(room))).await?;
    Ok(Process { viewers_at: address, pid: Some(child.pid), publisher, child: Some(child) })
}
