//! The command `repartition`: carries the totals of all rooms into a new log, which may have another number of partitions.
//!
//! A room's partition follows from its name and the number of partitions. So a log can't get more of them while it is in use:
//! a room would begin at zero elsewhere. This reads each room's newest aggregate from the old log and commits it to the new
//! one, in the partition where it belongs there. Nothing of the old log is changed.

mod carry;

use crate::{
    check::print,
    cli::{Failure, Role},
    config::{self, Config},
};
use anyhow::{Context, bail, ensure};
use carry::{Carried, last_cut, newest, verify, write};
use clap::Args;
use eventlog::{History, LogKind};
use service::config::Sources;
use std::{
    io::{Write, stderr},
    mem,
};
use tokio::task::block_in_place;

#[derive(Debug, Args)]
pub(crate) struct RepartitionArgs {
    /// One value of the new log, over those of the old one; may be repeated
    #[arg(long, required = true, value_name = "SECTION.KEY=VALUE")]
    to: Vec<String>,
}

/// What `uproar repartition --help` says at its end.
pub(crate) const HELP: &str = "Offline: stop ingest, wait until nothing is pending, then stop the aggregators. The new log needs names of its own, and
must be empty. What was cut short is done again by the same command. The history (`windows`) stays with the old log.

Examples:
  uproar repartition --config uproar.toml --to log.partitions=12 \\
      --to log.kafka.reactions_topic=reactions-12 --to log.kafka.aggregates_topic=aggregates-12 \\
      --to log.kafka.windows_topic=windows-12
  uproar repartition --set log.partitions=3 --to log.partitions=8 --to log.embedded.dir=data-8";

/// Carries the totals over, and says how many.
pub(crate) fn run(args: &RepartitionArgs, mut sources: Sources) -> Result<(), Failure> {
    let old = config::load(Role::All, &sources).map_err(Failure::Config)?;
    sources.sets.extend(args.to.iter().cloned());
    let new = config::load(Role::All, &sources).map_err(Failure::Config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Running(error.into()))?;
    let carried = runtime.block_on(repartition(&old, &new));
    // Threads of the client library may not come back.
    runtime.shutdown_background();
    let Carried { rooms, total } = carried.map_err(Failure::Running)?;
    let (from, to) = (old.log.partitions, new.log.partitions);
    let text = format!("REPARTITIONED {rooms} rooms, total {total}, from {from} partitions to {to}\n");
    print(&text)
}

async fn repartition(old: &Config, new: &Config) -> anyhow::Result<Carried> {
    refuse_same(&old.log, &new.log)?;
    // An embedded log is locked meanwhile: a server that still runs on it is refused.
    let _locked = match old.log.kind {
        LogKind::Embedded => Some(eventlog::open(&old.log).await.context("the old log")?),
        LogKind::Kafka => None,
    };
    let source = block_in_place(|| eventlog::history(&old.log)).context("the old log")?;
    let before = block_in_place(|| ends(&*source))?;
    block_in_place(|| refuse_open(&*source))?;
    let rooms = block_in_place(|| newest(&*source, new.log.partitions))?;
    tell(&format!("{} rooms were read", rooms.len()));
    let log = eventlog::open(&new.log).await.context("the new log")?;
    let target = block_in_place(|| eventlog::history(&new.log)).context("the new log")?;
    block_in_place(|| refuse_used(&*target))?;
    write(&*log, &rooms).await?;
    tell("written; what the new log holds is compared");
    let carried = block_in_place(|| verify(&*target, &rooms))?;
    let after = block_in_place(|| ends(&*source))?;
    // The client library may hang when it is closed; the process ends now anyway.
    mem::forget((source, target));
    ensure!(
        before == after,
        "reactions came into the old log meanwhile: stop ingest, and repeat with another new log"
    );
    Ok(carried)
}

/// Where each partition of `reactions` ends.
fn ends(source: &dyn History) -> anyhow::Result<Vec<u64>> {
    (0..source.partitions()).map(|partition| Ok(source.span(partition)?.reactions.end)).collect()
}

/// Refuses a log with reactions that are not rolled up.
fn refuse_open(source: &dyn History) -> anyhow::Result<()> {
    for partition in 0..source.partitions() {
        let span = source.span(partition)?;
        let committed = match span.committed {
            Some(committed) => committed,
            None => last_cut(source, partition, &span)?,
        };
        let end = span.reactions.end;
        if committed < end {
            bail!(
                "partition {partition} of the old log holds reactions that are not rolled up (from {committed} to {end}): let the \
                 aggregators run until a window after the last post is committed, then stop them"
            );
        }
    }
    Ok(())
}

/// Refuses a new log that is a part of the old one.
fn refuse_same(old: &eventlog::Config, new: &eventlog::Config) -> anyhow::Result<()> {
    let shared = match (old.kind, new.kind) {
        (LogKind::Embedded, LogKind::Embedded) => {
            (old.embedded.dir == new.embedded.dir).then_some("log.embedded.dir")
        }
        (LogKind::Kafka, LogKind::Kafka) => [
            (&old.kafka.reactions_topic, &new.kafka.reactions_topic, "log.kafka.reactions_topic"),
            (&old.kafka.aggregates_topic, &new.kafka.aggregates_topic, "log.kafka.aggregates_topic"),
            (&old.kafka.windows_topic, &new.kafka.windows_topic, "log.kafka.windows_topic"),
        ]
        .into_iter()
        .find_map(|(old, new, key)| (old == new).then_some(key)),
        _ => None,
    };
    match shared {
        Some(key) => bail!("{key} is the same for both logs: name another one with --to {key}=…"),
        None => Ok(()),
    }
}

/// Refuses a log that took reactions.
fn refuse_used(target: &dyn History) -> anyhow::Result<()> {
    for partition in 0..target.partitions() {
        let reactions = target.span(partition)?.reactions;
        ensure!(reactions.end == 0, "the new log is in use: partition {partition} holds reactions");
    }
    Ok(())
}

/// One line of progress.
fn tell(text: &str) {
    // Nobody has to see it.
    let _ = writeln!(stderr(), "uproar repartition: {text}");
}
