//! The limit of open files.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that this process and its children may open, raised as far as it is allowed without privileges.
pub(crate) fn raise() -> anyhow::Result<usize> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(usize::try_from(hard).unwrap_or(usize::MAX))
}
