//! The command `audit`: reads what the log keeps, once, and says whether it is right.

mod output;
mod reading;

use crate::{
    cli::{Failure, Role},
    config,
    progress::Progress,
};
use aggregator::core::share;
use clap::Args;
use output::Output;
use service::{Clock, SystemClock, config::Sources};
use std::{
    fmt::Display,
    io::{self, Write},
    mem,
};
use wire::{
    RoomName,
    audit::{Report, Retention},
};

/// Clean.
const CLEAN: u8 = 0;
/// Something is wrong with the log.
const FINDINGS: u8 = 1;
/// The log can't be read, what was found can't be written, or the options are wrong.
const UNTOLD: u8 = 2;

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Only this room; may be repeated. What concerns a whole partition is said all the same
    #[arg(long, value_name = "NAME")]
    room: Vec<RoomName>,
    /// Every room and every finding, however many there are
    #[arg(long)]
    all: bool,
    /// One JSON object a line: each room, then each partition with findings, then the summary
    #[arg(long)]
    json: bool,
}

/// What `uproar audit --help` says at its end.
pub(crate) const HELP: &str = "Reads `aggregates` and what is left of `reactions`, and changes nothing. It may run beside everything else; it joins
no group.

For every room: windows, count, total, late, skewed, how many reactions were compared with their records, and
\"clean\" or what is wrong. What compaction and retention took away is no fault (docs/audit.md).

Exit codes: 0 clean, 1 findings, 2 it can't be read, what was found can't be written, or wrong options.

Examples:
  uproar audit --config uproar.toml
  uproar audit --config uproar.toml --room ind-pak-final
  uproar audit --config uproar.toml --json | jq 'select(.findings | length > 0)'";

/// Audits the log that the configuration names. Gives the exit code.
pub(crate) fn run(args: &AuditArgs, sources: &Sources) -> Result<u8, Failure> {
    let config = config::load(Role::All, sources).map_err(Failure::Config)?;
    let output = Output { rooms: &args.room, all: args.all, json: args.json };
    let found = match audit(&config) {
        Ok(found) => found,
        Err(error) => return Ok(untold(&error)),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    match output.write(&found, &mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Ok(untold(&error)),
        _ => Ok(if found.report.is_clean() { CLEAN } else { FINDINGS }),
    }
}

/// Says why nobody knows whether the log is right.
fn untold(why: &dyn Display) -> u8 {
    // Somebody who closed it does not want to read.
    let _ = writeln!(io::stderr(), "uproar audit: {why}");
    UNTOLD
}

/// What an audit found.
pub(crate) struct Found {
    report: Report,
    partitions: u32,
    /// Records that were read.
    aggregates: u64,
    reactions: u64,
    /// When it began, ms since the epoch.
    now_ms: u64,
}

fn audit(config: &config::Config) -> Result<Found, eventlog::OpenError> {
    let now_ms = SystemClock.now_ms();
    let history = eventlog::history(&config.log)?;
    let partitions = history.partitions();
    let progress = Progress::start("records", Some(history.size()?));
    let mut found = Found { report: Report::default(), partitions, aggregates: 0, reactions: 0, now_ms };
    let retention = Retention {
        silent_since_ms: now_ms.saturating_sub(config.aggregator.room_ttl_ms),
        max_rooms: share(config.aggregator.max_rooms, partitions),
    };
    let keeps_windows = config.log.history_retention_ms > 0;
    for partition in 0..partitions {
        let mut read = reading::read(&*history, partition, retention, keeps_windows, &progress)?;
        if !read.report.is_clean() {
            // Kafka may compact and delete while it is read. What is there twice is there.
            read = reading::read(&*history, partition, retention, keeps_windows, &progress.again())?;
        }
        found.aggregates += read.aggregates;
        found.reactions += read.reactions;
        found.report.merge(read.report);
    }
    progress.end();
    // The client library may hang when it is closed; the process ends now anyway.
    mem::forget(history);
    Ok(found)
}
