//! The limit of open files.

use anyhow::ensure;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files of a process that are not connections.
const SPARE: usize = 200;

/// Files that this process and its children may open, raised as far as it is allowed without privileges.
pub(crate) fn raise() -> anyhow::Result<usize> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(usize::try_from(hard).unwrap_or(usize::MAX))
}

/// Refuses more connections, which are called `what`, than a process may open that may open `files` files.
pub(crate) fn check(connections: usize, what: &str, files: usize) -> anyhow::Result<()> {
    ensure!(
        connections.saturating_add(SPARE) <= files,
        "{connections} {what} don't fit into one process: it may open {files} files (ulimit -Hn)"
    );
    Ok(())
}
