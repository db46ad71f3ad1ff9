//! Uproar's program, for the scenarios that start it.

use anyhow::{Context as _, ensure};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::process::Command;

/// The program that is named, or that beside this one. Absolute, as servers run in folders of their own.
pub(crate) fn program(named: Option<PathBuf>) -> std::io::Result<PathBuf> {
    match named {
        Some(file) => std::path::absolute(file),
        None => Ok(std::env::current_exe()?.with_file_name("uproar")),
    }
}

/// Why it can't be started, where it is not there.
pub(crate) fn missing(program: &Path) -> Option<String> {
    (!program.is_file()).then(|| format!("there is no {} (--uproar names it)", program.display()))
}

/// The program with a subcommand, under `settings`.
pub(crate) fn command(program: &Path, subcommand: &[&str], settings: &[String]) -> Command {
    let mut command = Command::new(program);
    command.args(subcommand).args(settings.iter().flat_map(|setting| ["--set", setting]));
    command
}

/// Has `program` check what it is going to be started with: a mistake there would show only after the servers before it
/// were measured for minutes.
pub(crate) async fn check_config(program: &Path, role: &str, settings: &[String]) -> anyhow::Result<()> {
    let mut command = command(program, &["check-config", "--role", role], settings);
    let checked = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let checked = checked.with_context(|| format!("cannot start {}", program.display()))?;
    let said = String::from_utf8_lossy(&checked.stderr);
    let said: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    ensure!(checked.status.success(), "{} would not start: {}", program.display(), said.join(" | "));
    Ok(())
}
