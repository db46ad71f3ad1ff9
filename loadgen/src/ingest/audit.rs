//! Whether the rooms' totals are what was accepted.

use super::{plan::Plan, requests::Ledger, servers::Server};
use crate::{
    audit::{Expected, Verdict, Witness, judge},
    payload::{Payload, sum},
    progress::note,
    snapshot::Snapshots,
};
use serde::Serialize;
use std::time::Duration;
use tokio::time::Instant;
use wire::{Frame, RoomName};

/// Time between two looks at rooms that have not come to rest.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// A window may be seen so long after its end.
const MARGIN: Duration = Duration::from_millis(500);
/// Findings that are listed.
const FINDINGS_MAX: usize = 10;

/// The audit of one server.
#[derive(Debug, Serialize)]
pub(crate) struct Audit {
    pub(crate) server: String,
    /// Rooms in which something was accepted, or may have been.
    pub(crate) rooms: usize,
    /// Reactions that were accepted, and those that may or may not have been counted.
    pub(crate) accepted: u64,
    pub(crate) unknown: u64,
    /// Sum of the rooms' totals, where all of them could be read.
    pub(crate) counted: Option<u64>,
    pub(crate) clean: bool,
    /// What is wrong, in words, of the first few rooms.
    pub(crate) findings: Vec<String>,
}

/// Compares each room's snapshot with what was accepted, by reaction, when the last window with reactions has closed.
/// `None` for a server without snapshots.
pub(crate) async fn audit(plan: &Plan, server: &Server, rooms: &[RoomName]) -> Option<Audit> {
    let live = server.live.as_ref()?;
    note(&format!("{}: audit of {} rooms", server.name, rooms.len()));
    let all = &plan.bodies.all;
    let expected: Vec<_> = rooms
        .iter()
        .enumerate()
        .map(|(index, room)| (room, expected(&server.ledger, index, all)))
        .filter(|(_, expected)| may_hold_something(expected))
        .collect();
    let mut audit = Audit {
        server: server.name.clone(),
        rooms: expected.len(),
        accepted: expected.iter().map(|(_, expected)| expected.accepted).sum(),
        unknown: expected.iter().flat_map(|(_, expected)| expected.unknown_counts.values()).sum(),
        counted: Some(0),
        clean: false,
        findings: Vec::new(),
    };
    let mut look = Look { snapshots: Snapshots::at(live), from: Instant::now(), patience: plan.settle };
    for (room, expected) in &expected {
        match look.at_rest(room).await {
            Ok(frame) => audit.take(room, &judge(expected, &[], Ok(&Witness::snapshot(frame)))),
            Err(error) => {
                audit.findings.push(format!("{error:#}"));
                audit.counted = None;
                break;
            }
        }
    }
    if server.odd > 0 {
        audit.findings.push(format!("{} answers of 202 don't say what was sent", server.odd));
    }
    if audit.accepted == 0 {
        audit.findings.push("nothing was accepted".to_owned());
    }
    audit.clean = audit.findings.is_empty();
    Some(audit)
}

impl Audit {
    fn take(&mut self, room: &RoomName, verdict: &Verdict) {
        self.counted = self.counted.map(|sum| sum + verdict.counted.unwrap_or(0));
        let left = FINDINGS_MAX.saturating_sub(self.findings.len());
        self.findings.extend(verdict.findings.iter().take(left).map(|finding| format!("{room}: {finding}")));
    }
}

/// What was accepted for a room, over all cases. Rooms are new in each run.
fn expected(ledger: &Ledger, room: usize, payloads: &[Payload]) -> Expected {
    let sums = |posts: &[u64]| sum(payloads, &posts[room * payloads.len()..]);
    let accepted_counts = sums(&ledger.accepted);
    Expected {
        baseline: None,
        accepted: accepted_counts.values().sum(),
        accepted_counts,
        unknown_counts: sums(&ledger.unknown),
        odd_answers: 0,
    }
}

/// Of other rooms all requests were refused.
fn may_hold_something(expected: &Expected) -> bool {
    expected.accepted > 0 || expected.unknown_counts.values().any(|unknown| *unknown > 0)
}

/// Looks at rooms one after the other.
struct Look<'a> {
    snapshots: Snapshots<'a>,
    /// When the last reaction was accepted, or later.
    from: Instant,
    patience: Duration,
}

impl Look<'_> {
    /// The room when its last window with reactions has closed: a frame with a count of 0 follows it, which may not be one
    /// of an earlier pause. Or what there is when the time is up.
    async fn at_rest(&mut self, room: &RoomName) -> anyhow::Result<Option<Frame>> {
        loop {
            let frame = self.snapshots.of(room).await?;
            let at_rest = frame.as_ref().is_some_and(|frame| {
                let two_windows = 2 * Duration::from_millis(frame.window.len_ms());
                frame.count == 0 && self.from.elapsed() > two_windows + MARGIN
            });
            if at_rest || self.from.elapsed() >= self.patience {
                return Ok(frame);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::payloads;
    use wire::Counts;

    /// A tap of `a`, one of `b`, and a batch with five of each.
    fn bodies() -> Vec<Payload> {
        let reactions = ["a", "b"].map(|reaction| reaction.parse().unwrap());
        [payloads(&reactions, 1, None), payloads(&reactions, 5, Some(2))[..1].to_vec()].concat()
    }

    fn counts(a: u64, b: u64) -> Counts {
        [("a".parse().unwrap(), a), ("b".parse().unwrap(), b)].into()
    }

    fn room() -> RoomName {
        "r".parse().unwrap()
    }

    fn nothing_yet() -> Audit {
        Audit {
            server: "s".to_owned(),
            rooms: 1,
            accepted: 0,
            unknown: 0,
            counted: Some(0),
            clean: false,
            findings: Vec::new(),
        }
    }

    /// What is judged of a room that counted `total` where `expected` was accepted or may have been.
    fn judged(expected: &Expected, total: Counts) -> Verdict {
        let frame = Frame {
            v: wire::FORMAT_VERSION,
            room: room(),
            seq: 2,
            since: 0,
            window: wire::Window { start: 2_000, end: 4_000 },
            count: 0,
            counts: Counts::new(),
            others: 0,
            slots: vec![0],
            total: total.values().sum(),
            totals: total,
            others_total: 0,
            viewers: None,
            state: Default::default(),
        };
        judge(expected, &[], Ok(&Witness::snapshot(Some(frame))))
    }

    #[test]
    fn a_room_is_to_hold_what_its_own_requests_add_up_to() {
        // Of each of two rooms: taps of a, taps of b, batches.
        let ledger = Ledger { accepted: vec![1, 2, 3, 10, 0, 1], unknown: vec![0, 0, 0, 0, 4, 2] };
        let [first, second] = [0, 1].map(|room| expected(&ledger, room, &bodies()));
        assert_eq!((first.accepted, &first.accepted_counts), (33, &counts(16, 17)));
        assert_eq!(first.unknown_counts, counts(0, 0));
        assert_eq!((second.accepted, &second.accepted_counts), (20, &counts(15, 5)));
        assert_eq!(second.unknown_counts, counts(10, 14));
    }

    #[test]
    fn a_room_in_which_all_is_in_doubt_is_looked_at_and_one_that_only_refused_is_not() {
        let ledger = Ledger { accepted: vec![0; 6], unknown: vec![0, 0, 0, 0, 4, 0] };
        let looked_at = [0, 1].map(|room| may_hold_something(&expected(&ledger, room, &bodies())));
        assert_eq!(looked_at, [false, true]);
    }

    #[test]
    fn what_rooms_counted_is_added_up_and_what_is_wrong_is_said_of_its_room() {
        let ledger = Ledger { accepted: vec![3, 4, 0], unknown: vec![0, 2, 0] };
        let expected = expected(&ledger, 0, &bodies());
        let mut audit = nothing_yet();
        audit.take(&room(), &judged(&expected, counts(3, 4)));
        audit.take(&room(), &judged(&expected, counts(3, 6)));
        assert_eq!(
            (audit.counted, audit.findings.len()),
            (Some(16), 0),
            "two taps of b may have been counted"
        );
        audit.take(&room(), &judged(&expected, counts(3, 7)));
        assert_eq!(audit.counted, Some(26));
        assert_eq!(audit.findings[0], "r: reactions: snapshot counted 10, 1 too many");
    }

    #[test]
    fn a_sum_that_misses_a_room_is_none() {
        let expected = expected(&Ledger::new(1, 3), 0, &bodies());
        let mut audit = Audit { counted: None, ..nothing_yet() };
        audit.take(&room(), &judged(&expected, counts(1, 1)));
        assert_eq!(audit.counted, None);
    }

    #[test]
    fn findings_are_listed_up_to_a_limit() {
        let expected = expected(&Ledger { accepted: vec![1, 0, 0], unknown: vec![0; 3] }, 0, &bodies());
        let mut audit = nothing_yet();
        for _ in 0..2 * FINDINGS_MAX {
            audit.take(&room(), &judged(&expected, counts(0, 0)));
        }
        assert_eq!(audit.findings.len(), FINDINGS_MAX);
    }
}
