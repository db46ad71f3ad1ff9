//! What became of the requests. Pure.

use crate::{
    payload::{Payload, sum},
    spread::Spread,
};
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use wire::Counts;

/// How a request ended.
#[derive(Debug)]
pub(crate) enum Outcome<'a> {
    /// With a status and a body.
    Answer(u16, &'a [u8]),
    /// No answer in time.
    Timeout,
    /// The connection broke after the request was sent, or while it was.
    Broken(&'a str),
}

/// How long a request took. `None` during the warm-up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    /// From when it was due: what a user would have felt.
    pub(crate) from_schedule: Duration,
    /// From when it was sent: the server's and the network's part.
    pub(crate) from_send: Duration,
}

/// Counts and times of all requests.
#[derive(Debug)]
pub(crate) struct Tally {
    payloads: Arc<[Payload]>,
    /// Requests of each payload that were answered 202, and whose outcome is unknown.
    accepted_by_payload: Vec<u64>,
    unknown_by_payload: Vec<u64>,
    /// Requests that were sent.
    pub(crate) sent: u64,
    /// Answers by status.
    pub(crate) by_status: BTreeMap<u16, u64>,
    /// Requests without an answer in time.
    pub(crate) timeouts: u64,
    /// Requests whose connection broke.
    pub(crate) broken: u64,
    /// Sum of `accepted` over the answers.
    pub(crate) accepted: u64,
    /// Connections that could not be opened.
    pub(crate) connect_errors: u64,
    /// Answers of 202 that don't say what was sent.
    pub(crate) odd_answers: u64,
    /// The first thing that went wrong, in words.
    pub(crate) first_error: Option<String>,
    /// Times of the 202, from when they were due.
    pub(crate) from_schedule: Spread,
    /// Times of the 202, from when they were sent.
    pub(crate) from_send: Spread,
}

#[derive(Deserialize)]
struct Accepted {
    accepted: u64,
}

impl Tally {
    pub(crate) fn new(payloads: Arc<[Payload]>) -> Self {
        Self {
            accepted_by_payload: vec![0; payloads.len()],
            unknown_by_payload: vec![0; payloads.len()],
            payloads,
            sent: 0,
            by_status: BTreeMap::new(),
            timeouts: 0,
            broken: 0,
            accepted: 0,
            connect_errors: 0,
            odd_answers: 0,
            first_error: None,
            from_schedule: Spread::default(),
            from_send: Spread::default(),
        }
    }

    /// Notes how a request with payload `index` ended.
    pub(crate) fn record(&mut self, index: usize, outcome: &Outcome<'_>, took: Option<Took>) {
        self.sent += 1;
        match *outcome {
            Outcome::Answer(status, body) => {
                *self.by_status.entry(status).or_default() += 1;
                match status {
                    202 => self.accept(index, body, took),
                    // A gateway that lost its server knows as little as we do.
                    502 | 504 => self.unknown_by_payload[index] += 1,
                    _ => self.note(|| format!("{status}: {}", String::from_utf8_lossy(body))),
                }
            }
            Outcome::Timeout => {
                self.timeouts += 1;
                self.unknown_by_payload[index] += 1;
                self.note(|| "a request had no answer in time".to_owned());
            }
            Outcome::Broken(why) => {
                self.broken += 1;
                self.unknown_by_payload[index] += 1;
                self.note(|| format!("a connection broke: {why}"));
            }
        }
    }

    /// Notes that a connection could not be opened.
    pub(crate) fn connect_error(&mut self, why: &str) {
        self.connect_errors += 1;
        self.note(|| why.to_owned());
    }

    fn accept(&mut self, index: usize, body: &[u8], took: Option<Took>) {
        let sent = self.payloads[index].count;
        self.accepted_by_payload[index] += 1;
        match serde_json::from_slice::<Accepted>(body) {
            Ok(Accepted { accepted }) if accepted == sent => self.accepted += accepted,
            read => {
                self.odd_answers += 1;
                // 202 means kept, whatever the body says; without a figure, what was sent is the best guess.
                self.accepted += read.map_or(sent, |body| body.accepted);
                self.note(|| format!("202 for {sent} reactions says {}", String::from_utf8_lossy(body)));
            }
        }
        if let Some(took) = took {
            self.from_schedule.record(took.from_schedule);
            self.from_send.record(took.from_send);
        }
    }

    fn note(&mut self, error: impl FnOnce() -> String) {
        self.first_error.get_or_insert_with(error);
    }

    /// Reactions that were accepted, by reaction.
    pub(crate) fn accepted_counts(&self) -> Counts {
        sum(&self.payloads, &self.accepted_by_payload)
    }

    /// Reactions that may or may not have been counted, by reaction.
    pub(crate) fn unknown_counts(&self) -> Counts {
        sum(&self.payloads, &self.unknown_by_payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::payloads;

    const OK: &[u8] = br#"{"accepted":7}"#;
    const TOOK: Option<Took> =
        Some(Took { from_schedule: Duration::from_millis(9), from_send: Duration::from_millis(5) });

    fn tally() -> Tally {
        Tally::new(payloads(&["a", "b"].map(|r| r.parse().unwrap()), 7, None).into())
    }

    fn counts(of: &[(&str, u64)]) -> Counts {
        of.iter().map(|(r, n)| (r.parse().unwrap(), *n)).collect()
    }

    #[test]
    fn accepted_is_what_the_answers_say() {
        let mut tally = tally();
        for index in [0, 0, 1] {
            tally.record(index, &Outcome::Answer(202, OK), TOOK);
        }
        assert_eq!((tally.sent, tally.accepted, tally.odd_answers), (3, 21, 0));
        assert_eq!(tally.accepted_counts(), counts(&[("a", 14), ("b", 7)]));
        assert_eq!(tally.unknown_counts(), counts(&[("a", 0), ("b", 0)]));
    }

    #[test]
    fn timeouts_broken_connections_and_gateway_errors_are_unknown() {
        let mut tally = tally();
        tally.record(0, &Outcome::Timeout, None);
        tally.record(0, &Outcome::Broken("reset"), None);
        tally.record(1, &Outcome::Answer(504, b""), None);
        tally.record(1, &Outcome::Answer(502, b""), None);
        assert_eq!(tally.unknown_counts(), counts(&[("a", 14), ("b", 14)]));
        assert_eq!((tally.timeouts, tally.broken, tally.accepted), (1, 1, 0));
    }

    #[test]
    fn connections_that_can_not_be_opened_are_counted_and_are_no_requests() {
        let mut tally = tally();
        tally.connect_error("refused");
        tally.connect_error("unreachable");
        assert_eq!((tally.connect_errors, tally.sent), (2, 0));
        assert_eq!(tally.first_error.as_deref(), Some("refused"));
    }

    #[test]
    fn refusals_are_counted_by_status_and_add_nothing() {
        let mut tally = tally();
        tally.record(0, &Outcome::Answer(503, b"full"), TOOK);
        tally.record(0, &Outcome::Answer(429, b""), TOOK);
        assert_eq!(tally.by_status, [(429, 1), (503, 1)].into());
        assert_eq!(tally.unknown_counts(), counts(&[("a", 0), ("b", 0)]));
        assert_eq!(tally.first_error.as_deref(), Some("503: full"));
        assert_eq!(tally.from_schedule.quantiles(), None, "a quick refusal must not flatter the latency");
    }

    #[test]
    fn an_answer_that_does_not_say_what_was_sent_is_odd() {
        let mut tally = tally();
        tally.record(0, &Outcome::Answer(202, br#"{"accepted":6}"#), TOOK);
        tally.record(0, &Outcome::Answer(202, b"fine"), TOOK);
        assert_eq!((tally.odd_answers, tally.accepted), (2, 13));
    }

    #[test]
    fn the_warm_up_is_counted_but_not_timed() {
        let mut tally = tally();
        tally.record(0, &Outcome::Answer(202, OK), None);
        assert_eq!((tally.accepted, tally.from_send.quantiles()), (7, None));
        tally.record(0, &Outcome::Answer(202, OK), TOOK);
        assert_eq!(tally.from_schedule.quantiles().unwrap().samples, 1);
        assert!(tally.from_send.quantiles().unwrap().max_us.abs_diff(5_000) < 10);
    }
}
