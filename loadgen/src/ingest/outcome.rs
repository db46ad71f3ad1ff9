//! What became of the requests of a round. Pure.

use super::requests::Ledger;
use crate::spread::Spread;
use std::{collections::BTreeMap, time::Duration};

/// Counts and times of a thread, or of several together.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Answers of 202 that came while it was measured.
    pub(crate) accepted: u64,
    /// The others that came meanwhile, by status.
    pub(crate) refused: BTreeMap<u16, u64>,
    /// The others of the whole round, its warm-up and its end included.
    pub(crate) refused_ever: BTreeMap<u16, u64>,
    /// Times of the 202 from when the requests were due (open loop), and from when they were sent.
    pub(crate) from_schedule: Spread,
    pub(crate) from_send: Spread,
    /// Times of the others from when their requests were sent.
    pub(crate) refused_from_send: Spread,
    /// Requests of an open loop that were due, and those that could not be sent in time.
    pub(crate) due: u64,
    pub(crate) not_sent: u64,
    /// Requests whose connection broke before the answer.
    pub(crate) broken: u64,
    /// Requests without an answer when the round had ended.
    pub(crate) unanswered: u64,
    /// Answers of 202 that don't say what was sent.
    pub(crate) odd: u64,
    /// Connections that could not be opened again.
    pub(crate) connect_errors: u64,
    /// The first thing that went wrong, in words.
    pub(crate) trouble: Option<String>,
    /// CPU time of the posting threads while it was measured, where it is known.
    pub(crate) poster_user: Duration,
    pub(crate) poster_system: Duration,
    pub(crate) ledger: Ledger,
}

/// How a request was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    pub(crate) what: usize,
    pub(crate) status: u16,
    /// The answer came while it was measured.
    pub(crate) measured: bool,
    /// The request is one of those whose times count.
    pub(crate) timed: bool,
    pub(crate) from_schedule: Option<Duration>,
    pub(crate) from_send: Duration,
}

impl Outcome {
    pub(crate) fn new(ledger: Ledger) -> Self {
        Self { ledger, ..Self::default() }
    }

    pub(crate) fn record(&mut self, answered: &Answered) {
        let Answered { what, status, measured, timed, from_schedule, from_send } = *answered;
        if status == 202 {
            self.ledger.accepted[what] += 1;
            self.accepted += u64::from(measured);
            if timed {
                self.from_send.record(from_send);
                from_schedule.into_iter().for_each(|time| self.from_schedule.record(time));
            }
            return;
        }
        // Uproar says by 504 that it can't tell, and a gateway that lost its server can't either.
        if matches!(status, 502 | 504) {
            self.ledger.unknown[what] += 1;
        }
        *self.refused_ever.entry(status).or_default() += 1;
        if measured {
            *self.refused.entry(status).or_default() += 1;
        }
        if timed {
            self.refused_from_send.record(from_send);
        }
    }

    /// Keeps the first trouble.
    pub(crate) fn note(&mut self, why: impl FnOnce() -> String) {
        self.trouble.get_or_insert_with(why);
    }

    /// All answers that came while it was measured.
    pub(crate) fn answers(&self) -> u64 {
        self.accepted + self.refused.values().sum::<u64>()
    }

    /// Whether every request was accepted.
    pub(crate) fn is_clean(&self) -> bool {
        let failed = self.broken + self.unanswered + self.odd + self.connect_errors;
        self.refused_ever.is_empty() && failed == 0
    }

    /// Adds another thread, or another round.
    pub(crate) fn add(&mut self, other: &Self) {
        let maps = [(&mut self.refused, &other.refused), (&mut self.refused_ever, &other.refused_ever)];
        for (to, from) in maps {
            from.iter().for_each(|(status, count)| *to.entry(*status).or_default() += count);
        }
        self.from_schedule.add(&other.from_schedule);
        self.from_send.add(&other.from_send);
        self.refused_from_send.add(&other.refused_from_send);
        self.accepted += other.accepted;
        self.due += other.due;
        self.not_sent += other.not_sent;
        self.broken += other.broken;
        self.unanswered += other.unanswered;
        self.odd += other.odd;
        self.connect_errors += other.connect_errors;
        self.poster_user += other.poster_user;
        self.poster_system += other.poster_system;
        if let Some(why) = &other.trouble {
            self.note(|| why.clone());
        }
        self.ledger.add(&other.ledger);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, measured: bool, timed: bool) -> Answered {
        let from_send = Duration::from_millis(2);
        Answered { what: 0, status, measured, timed, from_schedule: Some(from_send * 2), from_send }
    }

    #[test]
    fn the_warm_up_counts_for_the_audit_only() {
        let mut outcome = Outcome::new(Ledger::new(1, 1));
        outcome.record(&answered(202, false, false));
        outcome.record(&answered(202, true, true));
        assert_eq!((outcome.accepted, outcome.ledger.accepted[0]), (1, 2));
        assert_eq!(outcome.from_send.quantiles().unwrap().samples, 1);
        assert!(outcome.from_schedule.quantiles().unwrap().max_us.abs_diff(4_000) <= 4);
        assert!(outcome.is_clean());
    }

    #[test]
    fn a_refusal_is_not_counted_and_an_unknown_fate_may_be() {
        let mut outcome = Outcome::new(Ledger::new(1, 1));
        outcome.record(&answered(503, true, true));
        outcome.record(&answered(504, false, true));
        assert_eq!((outcome.answers(), outcome.accepted), (1, 0));
        assert_eq!(outcome.refused_ever, [(503, 1), (504, 1)].into());
        assert_eq!((outcome.ledger.accepted[0], outcome.ledger.unknown[0]), (0, 1));
        assert_eq!(outcome.from_send.quantiles(), None);
        assert_eq!(outcome.refused_from_send.quantiles().unwrap().samples, 2);
        assert!(!outcome.is_clean());
    }

    #[test]
    fn threads_add_up() {
        let mut sum = Outcome::new(Ledger::new(1, 1));
        let mut part = Outcome::new(Ledger::new(1, 1));
        part.record(&answered(202, true, true));
        part.record(&answered(429, true, true));
        part.not_sent = 3;
        part.note(|| "first".to_owned());
        part.note(|| "second".to_owned());
        sum.add(&part);
        sum.add(&part);
        assert_eq!((sum.accepted, sum.answers(), sum.not_sent), (2, 4, 6));
        assert_eq!((sum.refused[&429], sum.ledger.accepted[0]), (2, 2));
        assert_eq!(sum.from_send.quantiles().unwrap().samples, 2);
        assert_eq!(sum.trouble.as_deref(), Some("first"));
    }
}
