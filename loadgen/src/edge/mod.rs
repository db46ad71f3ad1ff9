//! The scenario that measures the viewers' edge from outside: very many viewers, from several processes, on one server
//! after the other.
//!
//! - [`cli`], [`plan`], [`limits`]: what is asked for, and whether the system allows it.
//! - [`servers`], [`publish`]: what is measured, and who causes its frames.
//! - [`client`], [`clients`], [`lines`]: the processes that hold the viewers, and how they are spoken with.
//! - [`mqtt`], [`ws`], [`sse`]: as much of the protocols as that needs. A client library costs more than the servers under test.
//! - [`mod@measure`], [`figures`], [`report`]: a server's run, and what it adds up to.

pub(crate) mod cli;
pub(crate) mod client;
mod clients;
mod figures;
mod limits;
mod lines;
mod measure;
mod mqtt;
mod plan;
mod publish;
mod report;
pub(crate) mod servers;
mod sse;
mod ws;

use crate::{files, progress::note, report::hand_out, sources::Sources};
use measure::{measure, start_and_measure};
use plan::{Candidates, Plan};
use report::{Conditions, NotMeasured, Report, Row};
use servers::Server;
use tokio_util::sync::CancellationToken;

/// Raises the limits, checks what is asked for, and measures until `stop`. Whether all is clean.
pub(crate) async fn run(args: cli::EdgeArgs, stop: CancellationToken) -> anyhow::Result<bool> {
    let plan = args.plan(files::raise()?)?;
    let Some(checked) = stop.run_until_cancelled(servers::check(&plan)).await else { return Ok(false) };
    checked?;
    for hint in limits::System::look().hints(&plan) {
        note(&format!("hint: {hint}"));
    }
    let report = compare(&plan, &stop).await;
    hand_out(&report.to_text(), &report, plan.report.as_deref(), stop.is_cancelled())?;
    Ok(report.clean)
}

/// Measures one server after the other, until `stop`; one that fails does not keep the others from it.
async fn compare(plan: &Plan, stop: &CancellationToken) -> Report {
    let conditions = Conditions::of(plan);
    let (mut rows, mut not_measured, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    let mut sources = Sources::new();
    let mut add = |server: &str, measured: Option<anyhow::Result<Row>>| match measured {
        Some(Ok(row)) => rows.push(row),
        Some(Err(error)) => not_measured.push(failed(server, &error)),
        None => not_measured.push(interrupted(server)),
    };
    match &plan.candidates {
        Candidates::Running(running) => {
            let run = measure(plan, Server::of(running), "", &mut sources);
            add(&running.name, stop.run_until_cancelled(run).await);
        }
        Candidates::Start { kinds, named } => {
            for kind in kinds {
                if let Some(why) = servers::missing(plan, *kind) {
                    note(&format!("{} is left out: {why}", kind.name()));
                    left_out.push(NotMeasured { server: kind.name().to_owned(), why, skipped: !named });
                    continue;
                }
                let run = start_and_measure(plan, *kind, &mut sources);
                add(kind.name(), stop.run_until_cancelled(run).await);
            }
        }
    }
    not_measured.extend(left_out);
    Report::new(conditions, rows, not_measured)
}

fn failed(server: &str, error: &anyhow::Error) -> NotMeasured {
    note(&format!("{server}: {error:#}"));
    NotMeasured { server: server.to_owned(), why: format!("{error:#}"), skipped: false }
}

fn interrupted(server: &str) -> NotMeasured {
    NotMeasured { server: server.to_owned(), why: "the run was interrupted".to_owned(), skipped: false }
}
