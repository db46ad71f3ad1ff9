//! Servers that a run starts: child processes with their log in a file, and the wait until they are there.

use crate::{http, target::HttpTarget};
use anyhow::{Context as _, bail};
use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{process::Command, time::Instant};

/// How long a server may take to start.
const START_WITHIN: Duration = Duration::from_secs(30);

/// Dropped, it is killed: servers of a run have nothing to keep.
pub(crate) struct Child {
    child: tokio::process::Child,
    pub(crate) pid: u32,
    log: PathBuf,
}

impl Child {
    /// Starts `command` in `dir`, where its log goes too.
    pub(crate) fn start(mut command: Command, dir: &Path) -> anyhow::Result<Self> {
        let log = dir.join("log");
        let file = File::create(&log)?;
        let program = command.as_std().get_program().to_owned();
        let child = command
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let pid = child.id().context("ended at once")?;
        Ok(Self { child, pid, log })
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The end of its log, on one line.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().filter(|line| !line.trim().is_empty()).take(5).collect();
        match lines.is_empty() {
            true => "it said nothing".to_owned(),
            false => format!("it said: {}", lines.into_iter().rev().collect::<Vec<_>>().join(" | ")),
        }
    }

    /// Kills it.
    pub(crate) async fn end(mut self) {
        // It may have ended by itself.
        let _ = self.child.kill().await;
    }
}

/// Waits until `path` answers 200.
pub(crate) async fn until_ready(child: &mut Child, target: &HttpTarget, path: &str) -> anyhow::Result<()> {
    patiently(child, || async {
        let (status, _) = http::get(target, path, Duration::from_secs(2)).await?;
        if status == hyper::StatusCode::OK { Ok(()) } else { bail!("{path} answers {status}") }
    })
    .await
}

/// Tries again until it works, the process has ended, or it has taken too long.
pub(crate) async fn patiently<T, F>(child: &mut Child, mut attempt: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let deadline = Instant::now() + START_WITHIN;
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if child.has_ended() || Instant::now() >= deadline => {
                return Err(error.context(child.last_words()));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// An address that nobody listens on. Somebody else could take it in between, on a busy machine.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
