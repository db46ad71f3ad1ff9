//! What rounds add up to. Pure.

use super::{
    measure::Round,
    outcome::Outcome,
    plan::{Case, Load},
};
use crate::spread::Quantiles;
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// One server under one load, over all its rounds. Field names are a contract: programs read them.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) server: String,
    #[serde(flatten)]
    pub(crate) case: Case,
    /// `closed`, a rate, or a multiple of the capacity.
    pub(crate) load: String,
    /// Of an open loop.
    pub(crate) rate_per_s: Option<u32>,
    pub(crate) rounds: Vec<RoundFigures>,
    /// Medians of the rounds.
    pub(crate) answers_per_s: f64,
    pub(crate) cpu_s_per_million: Option<f64>,
    pub(crate) cpu_user_s_per_million: Option<f64>,
    pub(crate) cpu_system_s_per_million: Option<f64>,
    /// CPU an answer, by that of the bare server in the same round.
    pub(crate) to_bare: Option<Ratio>,
    pub(crate) accepted_per_s: f64,
    pub(crate) not_sent_per_s: f64,
    /// Times of the 202, all rounds together.
    pub(crate) from_schedule: Option<Quantiles>,
    pub(crate) from_send: Option<Quantiles>,
    /// Times of the other answers.
    pub(crate) refused_from_send: Option<Quantiles>,
    /// Answers other than 202, the warm-ups included, and those a second while it was measured.
    pub(crate) refused: BTreeMap<u16, u64>,
    pub(crate) refused_per_s: BTreeMap<u16, f64>,
    /// Requests of an open loop that were due, and that could not be sent in time.
    pub(crate) due: u64,
    pub(crate) not_sent: u64,
    pub(crate) broken: u64,
    pub(crate) unanswered: u64,
    pub(crate) odd: u64,
    pub(crate) connect_errors: u64,
    pub(crate) trouble: Option<String>,
    pub(crate) rss_before_kib: Option<u64>,
    pub(crate) rss_after_kib: Option<u64>,
    /// What the load generator's threads paid for an answer.
    pub(crate) poster_user_us: f64,
    pub(crate) poster_system_us: f64,
    /// Every request was accepted.
    pub(crate) clean: bool,
}

/// One round.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct RoundFigures {
    pub(crate) length_ms: u64,
    pub(crate) answers: u64,
    pub(crate) answers_per_s: f64,
    pub(crate) cpu_user_ms: Option<u64>,
    pub(crate) cpu_system_ms: Option<u64>,
    pub(crate) cpu_s_per_million: Option<f64>,
}

/// The median of the rounds, and their extremes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl RoundFigures {
    pub(crate) fn of(round: &Round) -> Self {
        let answers = round.outcome.answers();
        Self {
            length_ms: u64::try_from(round.length.as_millis()).unwrap_or(u64::MAX),
            answers,
            answers_per_s: per_s(answers, round.length),
            cpu_user_ms: round.cpu.map(|cpu| cpu.user_ms),
            cpu_system_ms: round.cpu.map(|cpu| cpu.system_ms),
            cpu_s_per_million: round.cpu.and_then(|cpu| per_million(cpu.sum_ms(), answers)),
        }
    }
}

impl Row {
    /// Adds up `rounds`, of which there is at least one.
    pub(crate) fn of(server: &str, case: Case, label: &str, load: Load, rounds: &[Round]) -> Self {
        let mut sum = Outcome::default();
        rounds.iter().for_each(|round| sum.add(&round.outcome));
        let length: Duration = rounds.iter().map(|round| round.length).sum();
        let each: Vec<_> = rounds.iter().map(RoundFigures::of).collect();
        let cpu = |of: fn(&RoundFigures) -> Option<u64>| {
            median(each.iter().filter_map(|round| per_million(of(round)?, round.answers)))
        };
        let posts = sum.answers().max(1) as f64;
        Self {
            server: server.to_owned(),
            case,
            load: label.to_owned(),
            rate_per_s: match load {
                Load::Closed => None,
                Load::Open(rate) => Some(rate),
            },
            answers_per_s: median(each.iter().map(|round| round.answers_per_s)).unwrap_or(0.0),
            cpu_s_per_million: median(each.iter().filter_map(|round| round.cpu_s_per_million)),
            cpu_user_s_per_million: cpu(|round| round.cpu_user_ms),
            cpu_system_s_per_million: cpu(|round| round.cpu_system_ms),
            to_bare: None,
            accepted_per_s: per_s(sum.accepted, length),
            not_sent_per_s: per_s(sum.not_sent, length),
            from_schedule: sum.from_schedule.quantiles(),
            from_send: sum.from_send.quantiles(),
            refused_from_send: sum.refused_from_send.quantiles(),
            refused_per_s: sum.refused.iter().map(|(status, n)| (*status, per_s(*n, length))).collect(),
            clean: sum.is_clean(),
            refused: sum.refused_ever,
            due: sum.due,
            not_sent: sum.not_sent,
            broken: sum.broken,
            unanswered: sum.unanswered,
            odd: sum.odd,
            connect_errors: sum.connect_errors,
            trouble: sum.trouble,
            rss_before_kib: rounds.first().and_then(|round| round.rss_before_kib),
            rss_after_kib: rounds.iter().filter_map(|round| round.rss_after_kib).max(),
            poster_user_us: sum.poster_user.as_secs_f64() * 1e6 / posts,
            poster_system_us: sum.poster_system.as_secs_f64() * 1e6 / posts,
            rounds: each,
        }
    }

    /// Compares each round with that of the bare server.
    pub(crate) fn compare(&mut self, bare: &[RoundFigures]) {
        let pairs = self.rounds.iter().zip(bare);
        let ratios = pairs.filter_map(|(own, bare)| {
            bare.cpu_s_per_million.filter(|bare| *bare > 0.0).zip(own.cpu_s_per_million).map(|(b, o)| o / b)
        });
        self.to_bare = Ratio::of(ratios.collect());
    }
}

impl Ratio {
    fn of(ratios: Vec<f64>) -> Option<Self> {
        let least = ratios.iter().copied().reduce(f64::min)?;
        let most = ratios.iter().copied().reduce(f64::max)?;
        Some(Self { median: median(ratios)?, least, most })
    }
}

/// CPU seconds for a million answers.
fn per_million(cpu_ms: u64, answers: u64) -> Option<f64> {
    (answers > 0).then(|| cpu_ms as f64 * 1e3 / answers as f64)
}

fn per_s(count: u64, length: Duration) -> f64 {
    if length.is_zero() { 0.0 } else { count as f64 / length.as_secs_f64() }
}

/// The one in the middle; of an even number, the mean of the two.
fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        ingest::{outcome::Answered, plan::Body, requests::Ledger},
        proc::Cpu,
    };

    pub(in super::super) const CASE: Case = Case { body: Body::Tap, rooms: 1, connections: 64 };

    /// A round of two seconds: `answers` of `status`, 2 ms each.
    pub(in super::super) fn round(status: u16, answers: u64, user_ms: u64, system_ms: u64) -> Round {
        let mut outcome = Outcome::new(Ledger::new(1, 1));
        for _ in 0..answers {
            outcome.record(&Answered {
                what: 0,
                status,
                measured: true,
                timed: true,
                from_schedule: None,
                from_send: Duration::from_millis(2),
            });
        }
        outcome.poster_user = Duration::from_micros(3 * answers);
        Round {
            length: Duration::from_secs(2),
            cpu: Some(Cpu { user_ms, system_ms }),
            rss_before_kib: Some(4_096),
            rss_after_kib: Some(8_192),
            outcome,
        }
    }

    #[test]
    fn cpu_is_shared_out_over_the_answers_of_its_round() {
        let row = Row::of("s", CASE, "closed", Load::Closed, &[round(202, 1_000, 20, 10)]);
        assert_eq!((row.answers_per_s, row.cpu_s_per_million), (500.0, Some(30.0)));
        assert_eq!((row.cpu_user_s_per_million, row.cpu_system_s_per_million), (Some(20.0), Some(10.0)));
        assert!((row.poster_user_us - 3.0).abs() < 1e-9);
        assert_eq!(row.from_send.unwrap().samples, 1_000);
        assert!(row.clean);
    }

    #[test]
    fn figures_of_several_rounds_are_medians_and_times_are_pooled() {
        let rounds = [round(202, 1_000, 10, 0), round(202, 3_000, 60, 0), round(202, 2_000, 30, 0)];
        let row = Row::of("s", CASE, "closed", Load::Closed, &rounds);
        assert_eq!((row.answers_per_s, row.cpu_s_per_million), (1_000.0, Some(15.0)));
        assert_eq!((row.accepted_per_s, row.from_send.unwrap().samples), (1_000.0, 6_000));
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let bare = [round(202, 1_000, 10, 0), round(202, 1_000, 20, 0), round(202, 1_000, 10, 0)];
        let own = [round(202, 1_000, 15, 0), round(202, 1_000, 22, 0), round(202, 2_000, 24, 0)];
        let mut row = Row::of("s", CASE, "closed", Load::Closed, &own);
        row.compare(&Row::of("bare", CASE, "closed", Load::Closed, &bare).rounds);
        let Ratio { median, least, most } = row.to_bare.unwrap();
        assert!((median - 1.2).abs() < 1e-9 && (least - 1.1).abs() < 1e-9 && (most - 1.5).abs() < 1e-9);
    }

    #[test]
    fn refusals_are_answers_too_and_not_clean() {
        let row = Row::of("s", CASE, "2x", Load::Open(5), &[round(202, 30, 1, 0), round(503, 10, 1, 0)]);
        assert_eq!((row.accepted_per_s, row.refused_per_s[&503]), (7.5, 2.5));
        assert_eq!((row.refused[&503], row.clean), (10, false));
        assert_eq!(row.refused_from_send.unwrap().samples, 10);
    }

    #[test]
    fn a_process_that_cannot_be_seen_has_no_cpu_figures() {
        let mut unseen = round(202, 10, 0, 0);
        unseen.cpu = None;
        let mut row = Row::of("s", CASE, "closed", Load::Closed, &[unseen]);
        row.compare(&Row::of("bare", CASE, "closed", Load::Closed, &[round(202, 10, 1, 0)]).rounds);
        assert_eq!((row.cpu_s_per_million, row.to_bare), (None, None));
        let silent = Row::of("s", CASE, "closed", Load::Closed, &[round(202, 0, 1, 0)]);
        assert_eq!((silent.cpu_s_per_million, silent.from_send), (None, None));
    }
}
