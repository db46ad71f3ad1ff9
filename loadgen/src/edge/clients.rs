//! The client processes, seen from the one that starts them.

use super::{
    lines::{Order, Receipt, Standing},
    plan::{Plan, shares},
    servers::Server,
};
use crate::{progress::Progress, random, sources::Sources};
use anyhow::{Context as _, bail};
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdout, Command},
    sync::mpsc,
    task::JoinSet,
    time::Instant,
};

/// Lines that wait to be read here; beyond it clients wait.
const LINES_MAX: usize = 64;
/// Time between two looks at the clock.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// All client processes of one server.
pub(crate) struct Clients {
    stands: Vec<Stand>,
    lines: mpsc::Receiver<(usize, Option<Standing>)>,
    said: mpsc::Sender<(usize, Option<Standing>)>,
    readers: JoinSet<()>,
}

/// One client process.
struct Stand {
    // Ends when its standard input is closed, and is killed otherwise.
    child: Child,
    /// Index of the server process that it is connected to.
    server: usize,
    asked: usize,
    silent: bool,
    standing: Standing,
}

impl Clients {
    pub(crate) fn new() -> Self {
        let (said, lines) = mpsc::channel(LINES_MAX);
        Self { stands: Vec::new(), lines, said, readers: JoinSet::new() }
    }

    /// Starts client processes that connect `viewers` to `server`, spread evenly over its processes.
    pub(crate) async fn start(
        &mut self,
        plan: &Plan,
        server: &Server,
        sources: &mut Sources,
        viewers: usize,
        silent: bool,
    ) -> anyhow::Result<()> {
        let per_server = if silent { 1 } else { plan.client_processes.div_ceil(plan.server_processes) };
        for (index, (process, share)) in
            server.processes.iter().zip(shares(viewers, server.processes.len())).enumerate()
        {
            for viewers in shares(share, per_server) {
                let order = Order {
                    protocol: server.protocol,
                    address: process.viewers_at,
                    path: server.path.clone(),
                    viewers,
                    name: format!("viewer-{}", random::token()),
                    sources: sources.take(viewers, process.viewers_at.ip()),
                    connecting: (plan.connecting / per_server).max(1),
                    patience_ms: u64::try_from(plan.connect_timeout.as_millis()).unwrap_or(u64::MAX),
                    keep_alive_s: u16::try_from(plan.keep_alive.as_secs()).unwrap_or(u16::MAX),
                    silent,
                    then: server.then,
                };
                self.spawn(&order, index).await.context("cannot start a client process")?;
            }
        }
        Ok(())
    }

    async fn spawn(&mut self, order: &Order, server: usize) -> anyhow::Result<()> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("edge-client")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let line = serde_json::to_string(order)? + "\n";
        // It stays open within the child's handle: closed, the client would leave.
        child.stdin.as_mut().context("no standard input")?.write_all(line.as_bytes()).await?;
        let output = child.stdout.take().context("no standard output")?;
        self.readers.spawn(read(output, self.stands.len(), self.said.clone()));
        self.stands.push(Stand {
            child,
            server,
            asked: order.viewers,
            silent: order.silent,
            standing: Standing::default(),
        });
        Ok(())
    }

    /// Takes in what clients say until `done`, or until `deadline`. Whether it was done.
    pub(crate) async fn until(
        &mut self,
        deadline: Instant,
        progress: &mut Progress,
        done: impl Fn(&Self) -> bool,
    ) -> anyhow::Result<bool> {
        loop {
            if done(self) {
                return Ok(true);
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(false);
            }
            progress.tell(|| self.to_text());
            match tokio::time::timeout_at(deadline.min(now + LOOK_INTERVAL), self.lines.recv()).await {
                Ok(Some((index, Some(standing)))) => self.stands[index].take(standing),
                Ok(Some((_, None)) | None) => bail!("a client process has ended early"),
                Err(_) => {}
            }
        }
    }

    fn to_text(&self) -> String {
        let mut text = format!("viewers {}/{}", self.sum(false, |s| s.connected), self.asked(false));
        let (retries, lost) = (self.sum(false, |s| s.retries as usize), self.sum(false, |s| s.lost));
        if retries > 0 {
            text += &format!(", {retries} attempts refused");
        }
        if lost > 0 {
            text += &format!(", {lost} lost");
        }
        if let Some(seq) = (0..=self.servers()).filter_map(|server| self.newest(server)).max() {
            let count = (0..=self.servers()).filter_map(|server| self.receipt(server, seq)).map(|r| r.count);
            text += &format!(", frame {seq} received {} times", count.sum::<u64>());
        }
        text
    }

    fn servers(&self) -> usize {
        self.stands.iter().map(|stand| stand.server).max().unwrap_or(0)
    }

    /// Whether everybody is in, or given up.
    pub(crate) fn all_settled(&self) -> bool {
        self.stands.iter().all(|stand| stand.standing.connected + stand.standing.failed >= stand.asked)
    }

    /// Viewers asked for.
    pub(crate) fn asked(&self, silent: bool) -> usize {
        self.stands.iter().filter(|stand| stand.silent == silent).map(|stand| stand.asked).sum()
    }

    /// Sum over all processes of the reading, or of the silent viewers.
    pub(crate) fn sum(&self, silent: bool, of: impl Fn(&Standing) -> usize) -> usize {
        self.stands.iter().filter(|stand| stand.silent == silent).map(|stand| of(&stand.standing)).sum()
    }

    /// The most frames that a reading viewer missed between two that it got.
    pub(crate) fn widest_gap(&self) -> u64 {
        let reading = self.stands.iter().filter(|stand| !stand.silent);
        reading.map(|stand| stand.standing.widest_gap).max().unwrap_or(0)
    }

    /// Reading viewers that server process `server` let in.
    pub(crate) fn connected(&self, server: usize) -> u64 {
        self.of(server).map(|standing| standing.connected as u64).sum()
    }

    /// What the reading viewers of server process `server` say.
    pub(crate) fn of(&self, server: usize) -> impl Iterator<Item = &Standing> {
        let stands = self.stands.iter().filter(move |stand| stand.server == server && !stand.silent);
        stands.map(|stand| &stand.standing)
    }

    /// The newest frame that anybody received from server process `server`.
    pub(crate) fn newest(&self, server: usize) -> Option<u64> {
        self.of(server).filter_map(|standing| standing.receipts.keys().next_back()).max().copied()
    }

    /// All receipts of a frame of server process `server`.
    pub(crate) fn receipt(&self, server: usize, seq: u64) -> Option<Receipt> {
        self.of(server).filter_map(|standing| standing.receipts.get(&seq).copied()).reduce(Receipt::and)
    }

    /// Whether all who are in, and still there, have received the frame.
    pub(crate) fn all_have(&self, server: usize, seq: u64) -> bool {
        let there: usize = self.of(server).map(|standing| standing.connected - standing.lost).sum();
        self.receipt(server, seq).map_or(0, |receipt| receipt.count) >= there as u64
    }

    /// Viewers let in a second, from the first attempt to the last success.
    pub(crate) fn connects_per_s(&self) -> Option<f64> {
        let standings =
            || self.stands.iter().filter(|s| !s.silent).map(|s| &s.standing).filter(|s| s.connected > 0);
        let first = standings().map(|standing| standing.first_attempt_us).min()?;
        let last = standings().map(|standing| standing.last_connected_us).max()?;
        let connected: usize = standings().map(|standing| standing.connected).sum();
        Some(connected as f64 * 1e6 / last.saturating_sub(first).max(1) as f64)
    }

    /// What went wrong last.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.stands.iter().find_map(|stand| stand.standing.trouble.clone())
    }

    /// Lets all clients go, and waits until their connections are closed.
    pub(crate) async fn end(mut self) {
        for mut stand in std::mem::take(&mut self.stands) {
            drop(stand.child.stdin.take());
            let _ = tokio::time::timeout(Duration::from_secs(5), stand.child.wait()).await;
        }
    }
}

impl Stand {
    fn take(&mut self, mut standing: Standing) {
        let mut receipts = std::mem::take(&mut self.standing.receipts);
        receipts.append(&mut standing.receipts);
        self.standing = Standing { receipts, ..standing };
    }
}

async fn read(output: ChildStdout, index: usize, said: mpsc::Sender<(usize, Option<Standing>)>) {
    let mut lines = BufReader::new(output).lines();
    loop {
        let line = lines.next_line().await.ok().flatten();
        let standing = line.and_then(|line| serde_json::from_str(&line).ok());
        let ended = standing.is_none();
        if said.send((index, standing)).await.is_err() || ended {
            return;
        }
    }
}
