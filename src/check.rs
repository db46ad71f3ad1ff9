//! The commands that only print.

use crate::{
    cli::{Failure, Role},
    config,
};
use service::config::Sources;
use std::io::{self, Write};

/// `check-config`.
pub(crate) fn check(role: Role, sources: &Sources) -> Result<(), Failure> {
    config::load(role, sources).map_err(Failure::Config)?;
    print(&format!("the configuration is right for `uproar {}`\n", role.name()))
}

/// `default-config`.
pub(crate) fn print_defaults() -> Result<(), Failure> {
    print(config::DEFAULTS)
}

/// A reader that has seen enough (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Running(error.into())),
        _ => Ok(()),
    }
}
