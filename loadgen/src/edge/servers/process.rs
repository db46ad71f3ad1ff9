//! A child process with its log in a file.

use anyhow::Context as _;
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::process::Command;

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
