//! What a run is to do, checked.

use crate::{payload::Payload, target::HttpTarget};
use clap::ValueEnum;
use serde::Serialize;
use std::{ops::Range, path::PathBuf, sync::Arc, time::Duration};

/// A server that the run starts by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The yardstick: an axum handler that answers 202 and does nothing
    Bare,
    /// All of Uproar on an embedded log: 202 when durable
    Uproar,
    /// The same with ingest.ack=received: 202 at once
    UproarReceived,
    /// `uproar ingest` on Kafka (--kafka): 202 when in all in-sync replicas
    UproarKafka,
}

impl Kind {
    /// Its name in `--servers` and in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Uproar => "uproar",
            Self::UproarReceived => "uproar-received",
            Self::UproarKafka => "uproar-kafka",
        }
    }
}

/// A server to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Candidate {
    Start(Kind),
    /// It runs already.
    Running {
        url: HttpTarget,
        /// Its process, where that is on this machine.
        pid: Option<u32>,
    },
}

impl Candidate {
    /// Its name in the table.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Start(kind) => kind.name().to_owned(),
            Self::Running { url, .. } => url.to_string(),
        }
    }
}

/// What is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Body {
    /// One reaction, in the short form
    Tap,
    /// Several reactions with their counts
    Batch,
}

impl Body {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::Batch => "batch",
        }
    }
}

/// One combination of what is posted, to how many rooms, over how many connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Case {
    pub(crate) body: Body,
    pub(crate) rooms: u32,
    pub(crate) connections: u32,
}

impl Case {
    pub(crate) fn to_text(self) -> String {
        format!("{}, {} room(s), {} connections", self.body.name(), self.rooms, self.connections)
    }
}

/// How a round is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Each connection sends the next request when the answer came.
    Closed,
    /// Requests are due at this rate a second, whatever the server does.
    Open(u32),
}

/// What the run is for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mode {
    /// Closed loop, servers beside each other.
    Compare,
    /// Open loop at these rates.
    Curve(Vec<u32>),
    /// Open loop at these multiples of what a closed loop gets through.
    Overload(Vec<f64>),
}

/// A whole run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) cases: Vec<Case>,
    pub(crate) mode: Mode,
    pub(crate) bodies: Bodies,
    pub(crate) rounds: u32,
    pub(crate) duration: Duration,
    pub(crate) warm_up: Duration,
    /// How late a request of an open loop may be sent at most.
    pub(crate) late: Duration,
    /// How long to wait for answers at the end of a round.
    pub(crate) timeout: Duration,
    /// Requests under way on a connection.
    pub(crate) pipeline: usize,
    /// Threads that post.
    pub(crate) posters: usize,
    pub(crate) audit: bool,
    /// How long the audit waits for the last windows.
    pub(crate) settle: Duration,
    /// Where the audit looks, for a server that has no snapshots itself.
    pub(crate) live_url: Option<HttpTarget>,
    pub(crate) kafka: Option<String>,
    pub(crate) uproar: PathBuf,
    /// `section.key=value` for Uproar.
    pub(crate) set: Vec<String>,
    pub(crate) report: Option<PathBuf>,
}

impl Plan {
    /// The most rooms of any case.
    pub(crate) fn rooms(&self) -> u32 {
        self.cases.iter().map(|case| case.rooms).max().unwrap_or(1)
    }
}

/// Everything that is posted in a run; a [`Body`] is a part of it.
#[derive(Debug, Clone)]
pub(crate) struct Bodies {
    pub(crate) all: Arc<[Payload]>,
    taps: usize,
}

impl Bodies {
    pub(crate) fn new(taps: Vec<Payload>, batch: Payload) -> Self {
        Self { taps: taps.len(), all: taps.into_iter().chain([batch]).collect() }
    }

    /// Indexes into all.
    pub(crate) fn of(&self, body: Body) -> Range<usize> {
        match body {
            Body::Tap => 0..self.taps,
            Body::Batch => self.taps..self.all.len(),
        }
    }
}

/// Every combination; the connections change fastest.
pub(crate) fn cases(bodies: &[Body], rooms: &[u32], connections: &[u32]) -> Vec<Case> {
    let mut cases = Vec::new();
    for body in bodies {
        for rooms in rooms {
            cases.extend(connections.iter().map(|n| Case { body: *body, rooms: *rooms, connections: *n }));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::payloads;

    #[test]
    fn cases_are_every_combination_once() {
        let all = cases(&[Body::Tap, Body::Batch], &[1, 10_000], &[64, 1_000, 4_000]);
        assert_eq!(all.len(), 12);
        assert_eq!(all[0], Case { body: Body::Tap, rooms: 1, connections: 64 });
        assert_eq!(all[1].connections, 1_000);
        assert_eq!(all[11], Case { body: Body::Batch, rooms: 10_000, connections: 4_000 });
        assert!(all.iter().enumerate().all(|(index, case)| !all[..index].contains(case)));
    }

    #[test]
    fn taps_and_the_batch_share_one_list() {
        let reactions = ["a", "b"].map(|r| r.parse().unwrap());
        let batch = payloads(&reactions, 13, Some(2)).remove(0);
        let bodies = Bodies::new(payloads(&reactions, 1, None), batch);
        assert_eq!((bodies.of(Body::Tap), bodies.of(Body::Batch)), (0..2, 2..3));
        assert_eq!(bodies.all[2].count, 26);
    }
}
