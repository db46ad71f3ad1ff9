//! The metrics of this crate. Rooms are never labels: there may be a hundred thousand.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

/// Counter: reactions answered with 202; those of a request and its repeats once.
pub const ACCEPTED: &str = "uproar_ingest_accepted_total";
/// Counter: batches, by outcome (`committed`, `not_written`, `unknown`). A record holds one a room.
pub const BATCHES: &str = "uproar_ingest_batches_total";
/// Counter: reactions in batches that were committed.
pub const COMMITTED: &str = "uproar_ingest_committed_total";
/// Histogram: seconds from the first reaction of a record to the record's end, however it ended.
pub const COMMIT_SECONDS: &str = "uproar_ingest_commit_seconds";
/// Counter: reactions answered with 202 before they were durable (`ack = "received"`), and lost or perhaps lost since.
pub const IN_DOUBT: &str = "uproar_ingest_in_doubt_total";
/// Gauge: requests whose idempotency keys are remembered.
pub const IDEMPOTENCY_KEYS: &str = "uproar_ingest_idempotency_keys";
/// Gauge: rooms with reactions that wait for a record.
pub const OPEN_ROOMS: &str = "uproar_ingest_open_rooms";
/// Counter: requests that were not answered with 202, by cause: for what they are (`body`, `body_broken`, `body_slow`, `body_too_long`,
/// `content_encoding`, `content_type`, `count`, `idempotency_key`, `idempotency_off`, `idempotency_reused`, `method`, `no_reaction`,
/// `not_in_catalogue`, `origin`, `over_burst`, `reaction`, `room_closed`, `room_name`, `room_unknown`, `route_unknown`, `too_many_reactions`), for the
/// limits of a client (`idempotency_share`, `too_fast`, `too_fast_together`) or a room (`room_too_diverse`, `room_too_many`), or for the server's sake (`draining`,
/// `idempotency_full`, `not_written`, `stalled`, `starting`, `timed_out`, `too_many_rooms`, `too_many_waiting`, `unknown`).
pub const REFUSED: &str = "uproar_ingest_refused_total";
/// Counter: requests that were repeats of others by their idempotency key, and not counted again.
pub const REPEATED: &str = "uproar_ingest_repeated_requests_total";
/// Counter: requests that ingest answered, by status: posts of reactions, other methods on their path
/// (405), and requests to paths that the listener doesn't have (404). Not in it: preflights, what fanout answers, requests that the HTTP
/// library refuses (400, 408, 431), and posts whose client left before the answer.
pub const REQUESTS: &str = "uproar_ingest_requests_total";
/// Counter: requests of clients without buckets of their own, which share a limit because `ingest.max_tracked_clients` are known.
pub const UNTRACKED: &str = "uproar_ingest_untracked_total";
/// Gauge: requests that wait for their reactions to be durable.
pub const WAITING: &str = "uproar_ingest_waiting_requests";

/// Every status that a request may be answered with.
pub(crate) const STATUSES: [&str; 12] =
    ["202", "400", "403", "404", "405", "408", "413", "415", "422", "429", "503", "504"];
/// Every cause of a refusal, sorted.
pub(crate) const CAUSES: [&str; 35] = [
    "body",
    "body_broken",
    "body_slow",
    "body_too_long",
    "content_encoding",
    "content_type",
    "count",
    "draining",
    "idempotency_full",
    "idempotency_key",
    "idempotency_off",
    "idempotency_reused",
    "idempotency_share",
    "method",
    "no_reaction",
    "not_in_catalogue",
    "not_written",
    "origin",
    "over_burst",
    "reaction",
    "room_closed",
    "room_name",
    "room_too_diverse",
    "room_too_many",
    "room_unknown",
    "route_unknown",
    "stalled",
    "starting",
    "timed_out",
    "too_fast",
    "too_fast_together",
    "too_many_reactions",
    "too_many_rooms",
    "too_many_waiting",
    "unknown",
];

/// The place of a cause among [`CAUSES`].
pub(crate) fn cause_index(cause: &str) -> Option<usize> {
    CAUSES.binary_search(&cause).ok()
}

/// Registers help texts, and starts the counters at zero.
pub fn describe() {
    describe_counter!(ACCEPTED, "Reactions answered with 202");
    describe_counter!(BATCHES, "Batches by outcome");
    describe_counter!(COMMITTED, "Reactions in batches that were committed");
    describe_histogram!(COMMIT_SECONDS, Unit::Seconds, "From a record's first reaction to the record's end");
    describe_counter!(
        IN_DOUBT,
        "Reactions answered with 202 before they were durable, and perhaps lost since"
    );
    describe_gauge!(IDEMPOTENCY_KEYS, "Requests whose idempotency keys are remembered");
    describe_gauge!(OPEN_ROOMS, "Rooms with reactions that wait for a record");
    describe_counter!(REFUSED, "Requests not answered with 202, by cause");
    describe_counter!(REPEATED, "Repeats by idempotency key, not counted again");
    describe_counter!(REQUESTS, "Requests that ingest answered, by status");
    describe_counter!(UNTRACKED, "Requests of clients that share a limit beyond the bound");
    describe_gauge!(WAITING, "Requests that wait for their reactions to be durable");
    counter!(ACCEPTED).absolute(0);
    counter!(COMMITTED).absolute(0);
    counter!(IN_DOUBT).absolute(0);
    counter!(REPEATED).absolute(0);
    counter!(UNTRACKED).absolute(0);
    for outcome in ["committed", "not_written", "unknown"] {
        counter!(BATCHES, "outcome" => outcome).absolute(0);
    }
    for status in STATUSES {
        counter!(REQUESTS, "status" => status).absolute(0);
    }
    for cause in CAUSES {
        counter!(REFUSED, "cause" => cause).absolute(0);
    }
    gauge!(IDEMPOTENCY_KEYS).set(0.0);
    gauge!(OPEN_ROOMS).set(0.0);
    gauge!(WAITING).set(0.0);
}

/// Handles to what is counted for each request, batch or tick, so that the recorder isn't searched each time.
pub(crate) struct Meters {
    pub(crate) accepted: Counter,
    pub(crate) requests_accepted: Counter,
    pub(crate) batches_committed: Counter,
    pub(crate) batches_not_written: Counter,
    pub(crate) batches_unknown: Counter,
    pub(crate) committed: Counter,
    pub(crate) in_doubt: Counter,
    pub(crate) commit_seconds: Histogram,
    pub(crate) idempotency_keys: Gauge,
    pub(crate) open_rooms: Gauge,
    pub(crate) waiting: Gauge,
    /// By status, as [`STATUSES`].
    requests: [Counter; STATUSES.len()],
    /// By cause, as [`CAUSES`].
    refused: [Counter; CAUSES.len()],
}

impl Meters {
    /// Handles of the recorder that is installed now.
    pub(crate) fn new() -> Self {
        Self {
            accepted: counter!(ACCEPTED),
            requests_accepted: counter!(REQUESTS, "status" => "202"),
            batches_committed: counter!(BATCHES, "outcome" => "committed"),
            batches_not_written: counter!(BATCHES, "outcome" => "not_written"),
            batches_unknown: counter!(BATCHES, "outcome" => "unknown"),
            committed: counter!(COMMITTED),
            in_doubt: counter!(IN_DOUBT),
            commit_seconds: histogram!(COMMIT_SECONDS),
            idempotency_keys: gauge!(IDEMPOTENCY_KEYS),
            open_rooms: gauge!(OPEN_ROOMS),
            waiting: gauge!(WAITING),
            requests: STATUSES.map(|status| counter!(REQUESTS, "status" => status)),
            refused: CAUSES.map(|cause| counter!(REFUSED, "cause" => cause)),
        }
    }

    /// Counts a request that is answered with `status` for `cause`.
    pub(crate) fn refuse(&self, status: &str, cause: &str) {
        if let Some(index) = STATUSES.iter().position(|known| *known == status) {
            self.requests[index].increment(1);
        }
        if let Some(index) = cause_index(cause) {
            self.refused[index].increment(1);
        }
    }
}
