//! What a run found out: JSON for programs, and tables for people ([`super::tables`]).

use super::{
    audit::Audit,
    figures::Row,
    plan::{Mode, Plan},
    tables,
};
use crate::machine::Machine;
use serde::Serialize;
use std::fmt::Write as _;

/// All figures of a run. Field names are a contract: programs read them.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    /// `compare`, `curve` or `overload`.
    pub(crate) mode: &'static str,
    pub(crate) conditions: Conditions,
    pub(crate) rows: Vec<Row>,
    pub(crate) audits: Vec<Audit>,
    /// Servers that failed.
    pub(crate) failures: Vec<Failure>,
    /// What is wrong with rows, in words.
    pub(crate) findings: Vec<String>,
    /// No server failed, there are no findings, and the audits are clean.
    pub(crate) clean: bool,
}

/// What the figures depend on.
#[derive(Debug, Serialize)]
pub(crate) struct Conditions {
    #[serde(flatten)]
    pub(crate) machine: Machine,
    pub(crate) rounds: u32,
    pub(crate) duration_ms: u64,
    pub(crate) warm_up_ms: u64,
    pub(crate) pipeline: usize,
    pub(crate) posters: usize,
    pub(crate) late_ms: u64,
    /// Reactions in a batch.
    pub(crate) batch_reactions: u64,
    pub(crate) set: Vec<String>,
}

/// A server that could not be measured, or not to the end.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    pub(crate) server: String,
    pub(crate) why: String,
}

impl Conditions {
    pub(crate) fn of(plan: &Plan) -> Self {
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            machine: Machine::now(),
            rounds: plan.rounds,
            duration_ms: ms(plan.duration),
            warm_up_ms: ms(plan.warm_up),
            pipeline: plan.pipeline,
            posters: plan.posters,
            late_ms: ms(plan.late),
            batch_reactions: plan.bodies.all.last().map_or(0, |batch| batch.count),
            set: plan.set.clone(),
        }
    }

    fn to_text(&self) -> String {
        format!(
            "{} round(s) of {} ms after {} ms of warm-up; {} posting thread(s), {} request(s) under way on a connection; \
             a batch counts {} reactions; {}{}",
            self.rounds,
            self.duration_ms,
            self.warm_up_ms,
            self.posters,
            self.pipeline,
            self.batch_reactions,
            self.machine.to_text(),
            self.machine.warning(),
        )
    }
}

impl Report {
    pub(crate) fn new(
        mode: &Mode,
        conditions: Conditions,
        rows: Vec<Row>,
        audits: Vec<Audit>,
        failures: Vec<Failure>,
    ) -> Self {
        let findings: Vec<_> = rows.iter().filter_map(|row| finding(mode, row)).collect();
        let clean = !rows.is_empty() && findings.is_empty() && failures.is_empty();
        let clean = clean && audits.iter().all(|audit| audit.clean);
        let mode = match mode {
            Mode::Compare => "compare",
            Mode::Curve(_) => "curve",
            Mode::Overload(_) => "overload",
        };
        Self { scenario: "ingest", mode, conditions, rows, audits, failures, findings, clean }
    }

    /// The report for people, without a line break at its end.
    pub(crate) fn to_text(&self) -> String {
        let table = match self.mode {
            "compare" => tables::compare(&self.rows),
            "curve" => tables::curve(&self.rows),
            _ => tables::overload(&self.rows),
        };
        let mut text = format!("\n{table}\n{}", self.conditions.to_text());
        // Writing to a string can't fail.
        for row in self.rows.iter().filter(|row| !row.clean || row.not_sent > 0) {
            let _ = write!(text, "\n  - {}", remark(row));
        }
        for finding in &self.findings {
            let _ = write!(text, "\n  - NOT CLEAN: {finding}");
        }
        for Audit { server, rooms, accepted, unknown, counted, clean, findings } in &self.audits {
            let word = if *clean { "clean" } else { "NOT CLEAN" };
            let counted = counted.map_or_else(|| "?".to_owned(), |counted| counted.to_string());
            let _ = write!(
                text,
                "\n  - {server}: audit {word}: {accepted} accepted, {counted} counted, {unknown} unknown, {rooms} room(s)"
            );
            for finding in findings {
                let _ = write!(text, "\n      {finding}");
            }
        }
        for Failure { server, why } in &self.failures {
            let _ = write!(text, "\n  - {server} failed: {why}");
        }
        text + if self.clean { "\nINGEST clean" } else { "\nINGEST NOT CLEAN" }
    }
}

/// What is wrong with `row`. An open loop may ask for more than there is: to refuse is what a server is to do then, and far
/// above its capacity it may get rid of connections too.
fn finding(mode: &Mode, row: &Row) -> Option<String> {
    let asks_too_much = |status: &u16| matches!(status, 429 | 503);
    let refused = match mode {
        Mode::Compare => !row.refused.is_empty(),
        Mode::Curve(_) | Mode::Overload(_) => !row.refused.keys().all(asks_too_much),
    };
    let lost = row.broken + row.connect_errors > 0 && !matches!(mode, Mode::Overload(_));
    // At a low rate nothing may have been due.
    let asked = row.rate_per_s.is_none() || row.due > 0;
    let wrong: Vec<_> = [
        (asked && row.from_send.is_none(), "not one request was answered 202"),
        (refused && *mode == Mode::Compare, "a closed loop was refused"),
        (refused && *mode != Mode::Compare, "there are refusals other than 429 and 503"),
        (lost, "connections were lost"),
        (row.unanswered > 0, "requests have no answer"),
        (row.odd > 0, "answers of 202 don't say what was sent"),
    ]
    .into_iter()
    .filter_map(|(is, what)| is.then_some(what))
    .collect();
    (!wrong.is_empty()).then(|| format!("{}: {}", subject(row), wrong.join(", ")))
}

fn subject(row: &Row) -> String {
    format!("{}, {}, {}", row.server, row.case.to_text(), row.load)
}

/// What the table has no room for.
fn remark(row: &Row) -> String {
    let mut parts: Vec<_> = row.refused.iter().map(|(status, n)| format!("{n} answers {status}")).collect();
    for (count, what) in [
        (row.not_sent, "requests not sent in time"),
        (row.broken, "requests on connections that broke"),
        (row.unanswered, "requests without an answer"),
        (row.odd, "answers of 202 that don't say what was sent"),
        (row.connect_errors, "connections that could not be opened again"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    let first = row.trouble.as_ref().map(|why| format!("; the first: {why}")).unwrap_or_default();
    format!("{}: {}{first}", subject(row), parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            figures::tests::{CASE, round},
            plan::Load,
        },
        *,
    };

    fn conditions() -> Conditions {
        Conditions {
            machine: Machine { cores: 2, kernel: None, load_average_before: None, optimized_build: true },
            rounds: 3,
            duration_ms: 5_000,
            warm_up_ms: 1_000,
            pipeline: 1,
            posters: 1,
            late_ms: 1_000,
            batch_reactions: 52,
            set: vec![],
        }
    }

    fn report(mode: &Mode, rows: Vec<Row>, audits: Vec<Audit>) -> Report {
        Report::new(mode, conditions(), rows, audits, Vec::new())
    }

    fn audit(clean: bool) -> Audit {
        let findings = if clean { vec![] } else { vec!["r: 1 too few".to_owned()] };
        Audit { server: "s".to_owned(), rooms: 1, accepted: 9, unknown: 0, counted: Some(9), clean, findings }
    }

    #[test]
    fn a_comparison_is_clean_only_with_nothing_but_202() {
        let row = |status| Row::of("s", CASE, "closed", Load::Closed, &[round(status, 5, 1, 1)]);
        assert!(report(&Mode::Compare, vec![row(202)], vec![audit(true)]).clean);
        let refused = report(&Mode::Compare, vec![row(202), row(503)], vec![]);
        assert!(!refused.clean);
        assert!(refused.to_text().contains("s, tap, 1 room(s), 64 connections, closed: 5 answers 503"));
        assert!(!report(&Mode::Compare, vec![], vec![]).clean, "nothing measured is not clean");
    }

    #[test]
    fn the_closed_loop_that_measures_a_capacity_may_be_refused() {
        let capacity =
            Row::of("s", CASE, "capacity", Load::Closed, &[round(202, 5, 1, 1), round(503, 5, 1, 1)]);
        let report = report(&Mode::Overload(vec![2.0]), vec![capacity], vec![audit(true)]);
        assert!(report.clean && report.to_text().contains("capacity: 5 answers 503"), "{}", report.to_text());
    }

    #[test]
    fn an_open_loop_may_be_refused_but_not_miscounted() {
        let row = || Row::of("s", CASE, "2x", Load::Open(9), &[round(202, 5, 1, 1), round(503, 5, 1, 1)]);
        assert!(report(&Mode::Overload(vec![2.0]), vec![row()], vec![audit(true)]).clean);
        assert!(report(&Mode::Curve(vec![9]), vec![row()], vec![audit(true)]).clean);
        let miscounted = report(&Mode::Overload(vec![2.0]), vec![row()], vec![audit(false)]);
        assert!(!miscounted.clean && miscounted.to_text().contains("r: 1 too few"));
    }

    /// What is said of an open loop that got 202, and then what `spoil` makes of it.
    fn said(mode: &Mode, spoil: fn(&mut Row)) -> String {
        let mut row = Row::of("s", CASE, "9/s", Load::Open(9), &[round(202, 5, 1, 1)]);
        spoil(&mut row);
        let report = report(mode, vec![row], vec![]);
        assert_eq!(report.clean, report.findings.is_empty());
        assert!(report.findings.iter().all(|finding| report.to_text().contains(finding)));
        report.findings.join("\n")
    }

    #[test]
    fn an_open_loop_on_a_server_that_is_gone_or_refuses_all_is_not_clean() {
        let (curve, overload) = (Mode::Curve(vec![9]), Mode::Overload(vec![2.0]));
        for mode in [&curve, &overload] {
            assert_eq!(said(mode, |_| {}), "");
            let subject = "s, tap, 1 room(s), 64 connections, 9/s";
            let nothing = said(mode, |row| (row.due, row.from_send) = (1, None));
            assert_eq!(nothing, format!("{subject}: not one request was answered 202"));
            assert_eq!(said(mode, |row| (row.due, row.from_send) = (0, None)), "", "nothing was due");
            assert!(said(mode, |row| row.refused = [(404, 1)].into()).contains("other than 429 and 503"));
            assert!(said(mode, |row| row.refused = [(503, 9), (504, 1)].into()).contains("other than"));
            assert!(said(mode, |row| row.unanswered = 1).contains("requests have no answer"));
            assert!(said(mode, |row| row.odd = 1).contains("don't say what was sent"));
        }
        for spoil in [|row: &mut Row| row.broken = 1, |row: &mut Row| row.connect_errors = 1] {
            assert!(said(&curve, spoil).contains("connections were lost"));
            assert_eq!(said(&overload, spoil), "", "it may get rid of what is too much");
        }
    }

    #[test]
    fn a_server_that_failed_is_named() {
        let failures = vec![Failure { server: "x".to_owned(), why: "gone".to_owned() }];
        let rows = vec![Row::of("s", CASE, "closed", Load::Closed, &[round(202, 5, 1, 1)])];
        let report = Report::new(&Mode::Compare, conditions(), rows, vec![], failures);
        assert!(!report.clean && report.to_text().contains("x failed: gone"));
    }

    #[test]
    fn programs_find_the_figures_by_name() {
        let rows = vec![Row::of("s", CASE, "closed", Load::Closed, &[round(202, 1_000, 20, 10)])];
        let json = serde_json::to_value(report(&Mode::Compare, rows, vec![])).unwrap();
        let row = &json["rows"][0];
        assert_eq!((&json["scenario"], &json["mode"]), (&"ingest".into(), &"compare".into()));
        assert_eq!((&row["body"], &row["connections"]), (&"tap".into(), &64.into()));
        assert_eq!((&row["cpu_s_per_million"], &row["rounds"][0]["answers"]), (&30.0.into(), &1_000.into()));
    }
}
