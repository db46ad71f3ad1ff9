//! The metrics of this crate.

use crate::CommitError;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use std::time::Instant;

/// Counter: records of `aggregates` that could not be read and were passed over.
pub const ALIEN_RECORDS: &str = "uproar_log_alien_records_total";
/// Counter: offsets of `reactions` that were deleted before they were counted (again after a takeover, as far as nothing was
/// committed since). Alert on any.
pub const UNCOUNTED: &str = "uproar_log_uncounted_offsets_total";
/// Histogram: seconds from the start of a commit to its end, by outcome.
pub const COMMIT_SECONDS: &str = "uproar_log_commit_seconds";
/// Counter: commits, by outcome (`ok`, `retry`, `revoked`, `reopen`).
pub const COMMITS: &str = "uproar_log_commits_total";
/// Gauge: partitions that this process owns.
pub const PARTITIONS_OWNED: &str = "uproar_log_partitions_owned";
/// Histogram: seconds that a synced write of reactions took, embedded log only.
pub const WRITE_SECONDS: &str = "uproar_log_write_seconds";

/// Registers help texts, and starts the counters at zero.
pub fn describe() {
    describe_follower();
    describe_counter!(UNCOUNTED, "Offsets of reactions that were deleted before they were counted");
    describe_histogram!(COMMIT_SECONDS, Unit::Seconds, "From the start of a commit to its end");
    describe_counter!(COMMITS, "Commits by outcome");
    describe_gauge!(PARTITIONS_OWNED, "Partitions that this process owns");
    describe_histogram!(WRITE_SECONDS, Unit::Seconds, "A synced write of reactions, embedded log only");
    counter!(UNCOUNTED).absolute(0);
    gauge!(PARTITIONS_OWNED).set(0.0);
    for outcome in ["ok", "retry", "revoked", "reopen"] {
        counter!(COMMITS, "outcome" => outcome).absolute(0);
    }
}

/// The same for a process that only follows aggregates.
pub fn describe_follower() {
    describe_counter!(ALIEN_RECORDS, "Records of aggregates that could not be read and were passed over");
    counter!(ALIEN_RECORDS).absolute(0);
}

/// Records how a commit ended.
pub(crate) fn commit_ended(started: Instant, outcome: &Result<(), CommitError>) {
    let name = match outcome {
        Ok(()) => "ok",
        Err(CommitError::Retry(_)) => "retry",
        Err(CommitError::Revoked(_)) => "revoked",
        Err(CommitError::Reopen(_)) => "reopen",
    };
    counter!(COMMITS, "outcome" => name).increment(1);
    histogram!(COMMIT_SECONDS, "outcome" => name).record(started.elapsed().as_secs_f64());
}
