//! The scenario that measures what accepting a reaction costs, beside the least that an HTTP server can do.
//!
//! - [`cli`], [`plan`]: what is asked for.
//! - [`servers`], [`bare`]: what is measured.
//! - [`requests`], [`pace`], [`poster`], [`answer`]: who posts what, when, and reads the answers.
//! - [`outcome`], [`mod@measure`], [`figures`]: what a round is, and what rounds add up to.
//! - [`mod@audit`]: whether all that was accepted was counted.
//! - [`report`], [`tables`]: what people and other programs read.

mod answer;
mod audit;
pub(crate) mod bare;
pub(crate) mod cli;
mod figures;
mod measure;
mod outcome;
mod pace;
mod plan;
mod poster;
mod report;
mod requests;
mod servers;
mod tables;

use crate::{files, progress::note, random, report::hand_out, sources::Sources};
use anyhow::Context as _;
use audit::{Audit, audit};
use figures::{RoundFigures, Row};
use measure::Round;
use plan::{Case, Kind, Load, Mode, Plan};
use report::{Conditions, Failure, Report};
use servers::Server;
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;
use wire::RoomName;

/// A rate that no server here comes near.
const RATE_MAX: f64 = 1_000_000.0;

/// Measures what is asked for, until `stop`. Whether all is clean.
pub(crate) async fn run(args: cli::IngestArgs, stop: CancellationToken) -> anyhow::Result<bool> {
    let plan = args.plan(files::raise()?)?;
    let conditions = Conditions::of(&plan);
    let prepare = async {
        servers::check(&plan).await?;
        Run::start(&plan, &stop).await
    };
    let Some(prepared) = stop.run_until_cancelled(prepare).await else { return Ok(false) };
    let mut run = prepared?;
    match &plan.mode {
        Mode::Compare => run.compare().await,
        Mode::Curve(rates) => run.curve(rates).await,
        Mode::Overload(multiples) => run.overload(multiples).await,
    }
    let audits = match stop.run_until_cancelled(run.conclude()).await {
        Some(audits) => audits,
        // No audit: nobody has counted what was accepted in the round that was cut short.
        None => run.fail_all("the run was interrupted"),
    };
    let report = Report::new(&plan.mode, conditions, run.rows, audits, run.failures);
    for server in run.servers {
        server.end().await;
    }
    hand_out(&report.to_text(), &report, plan.report.as_deref(), stop.is_cancelled())?;
    Ok(report.clean)
}

struct Run<'a> {
    plan: &'a Plan,
    stop: &'a CancellationToken,
    rooms: Vec<RoomName>,
    servers: Vec<Server>,
    sources: Sources,
    rows: Vec<Row>,
    failures: Vec<Failure>,
}

impl<'a> Run<'a> {
    /// Starts all servers; one that fails does not keep the others from it.
    async fn start(plan: &'a Plan, stop: &'a CancellationToken) -> anyhow::Result<Self> {
        let run = random::token();
        let rooms = (0..plan.rooms()).map(|room| format!("ingest-{run}-{room}").parse());
        let rooms = rooms.collect::<Result<Vec<RoomName>, _>>().context("the random room name")?;
        let (mut servers, mut failures) = (Vec::new(), Vec::new());
        for candidate in &plan.candidates {
            match Server::start(plan, candidate, &rooms).await {
                Ok(server) => servers.push(server),
                Err(error) => {
                    let why = format!("it does not start: {error:#}");
                    note(&format!("{}: {why}", candidate.name()));
                    failures.push(Failure { server: candidate.name(), why });
                }
            }
        }
        Ok(Self { plan, stop, rooms, servers, sources: Sources::new(), rows: Vec::new(), failures })
    }

    async fn compare(&mut self) {
        for case in &self.plan.cases {
            self.contest(case, "closed", self.plan.rounds, |_| Load::Closed).await;
        }
    }

    async fn curve(&mut self, rates: &[u32]) {
        for case in &self.plan.cases {
            for rate in rates {
                self.contest(case, &format!("{rate}/s"), self.plan.rounds, |_| Load::Open(*rate)).await;
            }
        }
    }

    /// What a closed loop gets through is the capacity; then multiples of it, and what is left of it after that.
    async fn overload(&mut self, multiples: &[f64]) {
        for case in &self.plan.cases {
            let rows = self.contest(case, "capacity", 1, |_| Load::Closed).await;
            let capacities: BTreeMap<_, _> =
                rows.iter().map(|row| (row.server.clone(), row.accepted_per_s)).collect();
            let labels = multiples.iter().map(|multiple| (*multiple, format!("{multiple}x")));
            for (multiple, label) in labels.chain([(1.0, "1x again".to_owned())]) {
                let load = |server: &Server| {
                    let capacity = capacities.get(&server.name).copied().unwrap_or(0.0);
                    Load::Open((capacity * multiple).clamp(1.0, RATE_MAX) as u32)
                };
                self.contest(case, &label, self.plan.rounds, load).await;
            }
        }
    }

    /// Rounds of one case. They go from server to server, so that what else happens on the machine hits all alike. Adds a
    /// row for each server that got through, compared with the bare one, and returns them. Once the run is stopped it adds the
    /// rounds that are done, and none after that.
    async fn contest(
        &mut self,
        case: &Case,
        label: &str,
        rounds: u32,
        load: impl Fn(&Server) -> Load,
    ) -> &[Row] {
        let mut done: Vec<Vec<_>> = self.servers.iter().map(|_| Vec::new()).collect();
        'rounds: for nth in 1..=rounds {
            for (server, done) in self.servers.iter_mut().zip(&mut done) {
                if server.failed {
                    continue;
                }
                let load = load(server);
                let round = measure::round(self.plan, server, case, load, &mut self.sources);
                let Some(round) = self.stop.run_until_cancelled(round).await else { break 'rounds };
                match round {
                    Ok(round) => {
                        note(&format!(
                            "{}, {label}, {nth}/{rounds}: {}",
                            case.to_text(),
                            progress(server, &round)
                        ));
                        done.push(round);
                    }
                    Err(error) => self.failures.push(server.fail(format!("{error:#}"))),
                }
            }
        }
        let first = self.rows.len();
        for (server, rounds) in self.servers.iter().zip(&done).filter(|(_, rounds)| !rounds.is_empty()) {
            self.rows.push(Row::of(&server.name, *case, label, load(server), rounds));
        }
        let rows = &mut self.rows[first..];
        if let Some(bare) = rows.iter().position(|row| row.server == Kind::Bare.name()) {
            let rounds = rows[bare].rounds.clone();
            let others = rows.iter_mut().enumerate().filter(|(index, _)| *index != bare);
            others.for_each(|(_, row)| row.compare(&rounds));
        }
        &self.rows[first..]
    }

    /// Marks all servers as failed. There are no audits of them.
    fn fail_all(&mut self, why: &str) -> Vec<Audit> {
        for server in self.servers.iter_mut().filter(|server| !server.failed) {
            self.failures.push(server.fail(why.to_owned()));
        }
        Vec::new()
    }

    /// What is to be found out when all rounds are done.
    async fn conclude(&mut self) -> Vec<Audit> {
        self.find_gone().await;
        if self.plan.audit { self.audit().await } else { Vec::new() }
    }

    /// A server that is gone in the end has failed, though the last figures are from before that.
    async fn find_gone(&mut self) {
        for server in self.servers.iter_mut().filter(|server| !server.failed) {
            if let Err(error) = server.check_there().await {
                self.failures.push(server.fail(format!("it is gone in the end: {error:#}")));
            }
        }
    }

    async fn audit(&self) -> Vec<Audit> {
        let mut audits = Vec::new();
        for server in &self.servers {
            audits.extend(audit(self.plan, server, &self.rooms).await);
        }
        audits
    }
}

fn progress(server: &Server, round: &Round) -> String {
    let figures = RoundFigures::of(round);
    let cpu = figures.cpu_s_per_million.map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.1}"));
    format!("{} {:.0} answers/s, {cpu} CPU s / 1M", server.name, figures.answers_per_s)
}
