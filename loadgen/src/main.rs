//! The black-box load generator and auditor: drives the public HTTP, WebSocket and MQTT interfaces as clients do,
//! and checks that what was accepted is what every viewer saw counted.
//!
//! - [`cli`]: the command line, turned into a checked plan.
//! - [`crowd`]: the scenario that posts at a fixed rate while viewers watch.
//! - [`edge`]: the scenario that measures the viewers' edge beside other servers.
//! - [`mod@ingest`]: the scenario that measures what accepting a reaction costs.
//! - [`schedule`], [`payload`], [`tally`], [`audit`], [`viewers::audience`]: the pure parts.
//! - [`post`], [`http`], [`snapshot`], [`viewers`]: what touches the network.
//! - [`child`], [`mod@uproar`], [`sources`], [`proc`], [`machine`]: servers that a run starts, addresses to reach them from, and what the kernel
//!   tells of both.
//! - [`progress`], [`spread`], [`report`]: what people and other programs read.

mod audit;
mod child;
mod cli;
mod clock;
mod crowd;
mod edge;
mod files;
mod http;
mod ingest;
mod machine;
mod payload;
mod post;
mod proc;
mod progress;
mod random;
mod report;
mod schedule;
mod shared;
mod snapshot;
mod sources;
mod spread;
mod tally;
mod target;
mod uproar;
mod viewers;

use anyhow::Context as _;
use clap::Parser as _;
use std::{process::ExitCode, time::Duration};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The audit was not clean.
const EXIT_NOT_CLEAN: u8 = 1;
/// Wrong usage, or no connection at all.
const EXIT_CANNOT_RUN: u8 = 2;
/// Interrupted. What a shell reports for SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let ended = match cli::Cli::parse().command {
        cli::Command::Crowd(args) => on_one_thread(crowd_until_interrupted(args)),
        cli::Command::Edge(args) => on_one_thread(until_interrupted(|stop| edge::run(args, stop))),
        cli::Command::Ingest(args) => on_one_thread(until_interrupted(|stop| ingest::run(args, stop))),
        cli::Command::Floor { listen } => edge::servers::floor::run(listen).map(|()| ExitCode::SUCCESS),
        cli::Command::Bare { listen } => ingest::bare::run(listen).map(|()| ExitCode::SUCCESS),
        cli::Command::EdgeClient => edge::client::run().map(|()| ExitCode::SUCCESS),
    };
    ended.unwrap_or_else(|error| complain(&error))
}

/// The server under test has the other cores, and a few thousand requests a second need no more.
fn on_one_thread(scenario: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(scenario);
    // A name look-up that hangs in a blocking thread must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

/// What asks the program to leave: Ctrl-C, SIGTERM, or a terminal that is closed.
struct Interrupts {
    interrupted: Signal,
    terminated: Signal,
    hung_up: Option<Signal>,
}

impl Interrupts {
    fn listen() -> anyhow::Result<Self> {
        let ends_on_hangup = !proc::ignores_hangup();
        Ok(Self {
            interrupted: signal(SignalKind::interrupt())?,
            terminated: signal(SignalKind::terminate())?,
            // The servers would live on: for them it means to read their configuration again.
            hung_up: ends_on_hangup.then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    async fn next(&mut self) {
        let hung_up = async {
            match &mut self.hung_up {
                Some(hung_up) => hung_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupted.recv() => {}
            _ = self.terminated.recv() => {}
            _ = hung_up => {}
        }
    }
}

/// Runs the scenario. The first interrupt ends it with a report of what was measured until then, the second leaves at once.
/// Both end all that the scenario has started.
async fn until_interrupted<S: Future<Output = anyhow::Result<bool>>>(
    scenario: impl FnOnce(CancellationToken) -> S,
) -> anyhow::Result<ExitCode> {
    let (stop, mut interrupts) = (CancellationToken::new(), Interrupts::listen()?);
    let mut scenario = std::pin::pin!(scenario(stop.clone()));
    tokio::select! {
        clean = &mut scenario => return Ok(code_of(clean?)),
        () = interrupts.next() => stop.cancel(),
    }
    progress::note("interrupted: a partial report follows; Ctrl-C again leaves at once");
    tokio::select! {
        ended = scenario => if let Err(error) = ended {
            complain(&error);
        },
        () = interrupts.next() => {}
    }
    Ok(ExitCode::from(EXIT_INTERRUPTED))
}

/// Runs the scenario. The first Ctrl-C ends the posting, the second leaves, and so does one before the posting.
async fn crowd_until_interrupted(args: cli::CrowdArgs) -> anyhow::Result<ExitCode> {
    let stop = CancellationToken::new();
    let plan = args.plan(files::raise()?)?;
    tokio::select! {
        report = crowd::run(&plan, &stop) => {
            let Some(report) = report? else {
                progress::note("left before anything was posted");
                return Ok(ExitCode::from(EXIT_INTERRUPTED));
            };
            let interrupted = stop.is_cancelled();
            report::hand_out(&report.to_text(), &report, plan.report.as_deref(), interrupted)?;
            // What was posted is audited all the same, and a loss is the worse news.
            let is_cut_short = report.audit.clean && interrupted;
            Ok(if is_cut_short { ExitCode::from(EXIT_INTERRUPTED) } else { code_of(report.audit.clean) })
        }
        interrupted = interrupted_twice(&stop) => interrupted.map(|()| ExitCode::from(EXIT_INTERRUPTED)),
    }
}

async fn interrupted_twice(stop: &CancellationToken) -> anyhow::Result<()> {
    tokio::signal::ctrl_c().await.context("cannot listen for Ctrl-C")?;
    stop.cancel();
    progress::note("posting ends here, the audit follows; Ctrl-C again leaves at once");
    tokio::signal::ctrl_c().await.context("cannot listen for Ctrl-C")
}

fn code_of(clean: bool) -> ExitCode {
    if clean { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOT_CLEAN) }
}

fn complain(error: &anyhow::Error) -> ExitCode {
    progress::note(&format!("error: {error:#}"));
    ExitCode::from(EXIT_CANNOT_RUN)
}
