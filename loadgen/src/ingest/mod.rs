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

use crate::{files, progress::note, random, sources::Sources};
use anyhow::Context as _;
use audit::{Audit, audit};
use figures::{RoundFigures, Row};
use plan::{Case, Load, Mode, Plan};
use report::{Conditions, Failure, Report};
use servers::Server;
use wire::RoomName;

/// A rate that no server here comes near.
const RATE_MAX: f64 = 1_000_000.0;

/// Measures what is asked for. Whether all is clean.
pub(crate) async fn run(args: cli::IngestArgs) -> anyhow::Result<bool> {
    let plan = args.plan(files::raise()?)?;
    let conditions = Conditions::of(&plan);
    let mut run = Run::start(&plan).await?;
    match &plan.mode {
        Mode::Compare => run.compare().await,
        Mode::Curve(rates) => run.curve(rates).await,
        Mode::Overload(multiples) => run.overload(multiples).await,
    }
    let audits = if plan.audit { run.audit().await } else { Vec::new() };
    let report = Report::new(&plan.mode, conditions, run.rows, audits, run.failures);
    for server in run.servers {
        server.end().await;
    }
    show(&report);
    if let Some(path) = &plan.report {
        report.save(path)?;
    }
    Ok(report.clean)
}

#[expect(clippy::print_stdout, reason = "the report is this program's output")]
fn show(report: &Report) {
    println!("{}", report.to_text());
}

struct Run<'a> {
    plan: &'a Plan,
    rooms: Vec<RoomName>,
    servers: Vec<Server>,
    sources: Sources,
    rows: Vec<Row>,
    failures: Vec<Failure>,
}

impl<'a> Run<'a> {
    /// Starts all servers; one that fails does not keep the others from it.
    async fn start(plan: &'a Plan) -> anyhow::Result<Self> {
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
        Ok(Self { plan, rooms, servers, sources: Sources::new(), rows: Vec::new(), failures })
    }

    async fn compare(&mut self) {
        for case in &self.plan.cases {
            let loads = vec![Load::Closed; self.servers.len()];
            let mut rows = self.contest(case, &loads, "closed", self.plan.rounds).await;
            if let Some((_, bare)) =
                rows.iter().position(|(is_bare, _)| *is_bare).map(|bare| rows.remove(bare))
            {
                rows.iter_mut().for_each(|(_, row)| row.compare(&bare));
                rows.insert(0, (true, bare));
            }
            self.rows.extend(rows.into_iter().map(|(_, row)| row));
        }
    }

    async fn curve(&mut self, rates: &[u32]) {
        for case in &self.plan.cases {
            for rate in rates {
                let loads = vec![Load::Open(*rate); self.servers.len()];
                let rows = self.contest(case, &loads, &format!("{rate}/s"), self.plan.rounds).await;
                self.rows.extend(rows.into_iter().map(|(_, row)| row));
            }
        }
    }

    /// What a closed loop gets through is the capacity; then multiples of it, and what is left of it after that.
    async fn overload(&mut self, multiples: &[f64]) {
        for case in &self.plan.cases {
            let closed = vec![Load::Closed; self.servers.len()];
            let rows = self.contest(case, &closed, "capacity", 1).await;
            let capacity = |server: &Server| {
                let row = rows.iter().find(|(_, row)| row.server == server.name);
                row.map_or(0.0, |(_, row)| row.accepted_per_s)
            };
            let capacities: Vec<_> = self.servers.iter().map(capacity).collect();
            self.rows.extend(rows.into_iter().map(|(_, row)| row));
            let labels = multiples.iter().map(|multiple| (*multiple, format!("{multiple}x")));
            for (multiple, label) in labels.chain([(1.0, "1x again".to_owned())]) {
                let rate = |capacity: &f64| (capacity * multiple).clamp(1.0, RATE_MAX) as u32;
                let loads: Vec<_> = capacities.iter().map(|capacity| Load::Open(rate(capacity))).collect();
                let rows = self.contest(case, &loads, &label, self.plan.rounds).await;
                self.rows.extend(rows.into_iter().map(|(_, row)| row));
            }
        }
    }

    /// Rounds of one case, with a load for each server. They go from server to server, so that what else happens on the
    /// machine hits all alike. A row for each server that got through, with whether it is the bare one.
    async fn contest(&mut self, case: &Case, loads: &[Load], label: &str, rounds: u32) -> Vec<(bool, Row)> {
        let mut done: Vec<Vec<_>> = self.servers.iter().map(|_| Vec::new()).collect();
        for nth in 1..=rounds {
            for (index, server) in self.servers.iter_mut().enumerate() {
                if server.failed.is_some() {
                    continue;
                }
                match measure::round(self.plan, server, case, loads[index], &mut self.sources).await {
                    Ok(round) => {
                        let figures = RoundFigures::of(&round);
                        note(&format!(
                            "{}, {} room(s), {} connections, {label}, {nth}/{rounds}: {} {:.0} answers/s, {} CPU s / 1M",
                            case.body.name(),
                            case.rooms,
                            case.connections,
                            server.name,
                            figures.answers_per_s,
                            figures
                                .cpu_s_per_million
                                .map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.1}")),
                        ));
                        done[index].push(round);
                    }
                    Err(error) => {
                        let why = format!("{error:#}");
                        note(&format!("{}: {why}", server.name));
                        self.failures.push(Failure { server: server.name.clone(), why: why.clone() });
                        server.failed = Some(why);
                    }
                }
            }
        }
        let rows = self.servers.iter().zip(&done).zip(loads).filter(|((_, rounds), _)| !rounds.is_empty());
        rows.map(|((server, rounds), load)| {
            let rate = match load {
                Load::Closed => None,
                Load::Open(rate) => Some(*rate),
            };
            (server.is_bare, Row::of(&server.name, *case, label, rate, rounds))
        })
        .collect()
    }

    async fn audit(&self) -> Vec<Audit> {
        let mut audits = Vec::new();
        for server in &self.servers {
            audits.extend(audit(self.plan, server, &self.rooms).await);
        }
        audits
    }
}
