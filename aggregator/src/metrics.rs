//! The metrics of this crate.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};

/// Counter: windows that were committed.
pub const WINDOWS: &str = "uproar_aggregator_windows_total";
/// Counter: reactions that were counted (again after a takeover, as far as they were not committed).
pub const REACTIONS: &str = "uproar_aggregator_reactions_total";
/// Counter: reactions with a timestamp before their window.
pub const LATE: &str = "uproar_aggregator_late_reactions_total";
/// Counter: reactions with a timestamp from the future.
pub const SKEWED: &str = "uproar_aggregator_skewed_reactions_total";
/// Counter: reactions counted among the `others` of their room, by which limit of distinct ones was reached: the `room`'s or
/// the `partition`'s.
pub const OTHERS: &str = "uproar_aggregator_others_reactions_total";
/// Counter: what was passed over, by cause: batches (`alien`, `overflow`) and records (`replayed`).
pub const SKIPPED: &str = "uproar_aggregator_skipped_records_total";
/// Counter: rooms that were forgotten (again after a takeover, as far as that was not committed), by cause: `silent` for the TTL,
/// or the ones silent the longest of `too_many`.
pub const FORGOTTEN: &str = "uproar_aggregator_forgotten_rooms_total";
/// Gauge: distinct reactions that rooms known to this process count by name.
pub const DISTINCT: &str = "uproar_aggregator_distinct_reactions";
/// Gauge: rooms known to this process.
pub const ROOMS: &str = "uproar_aggregator_rooms";
/// Gauge: windows that wait for a commit.
pub const PENDING: &str = "uproar_aggregator_pending_windows";
/// Histogram: seconds from a window's end until it is committed.
pub const DELAY_SECONDS: &str = "uproar_aggregator_window_delay_seconds";

/// Registers help texts, and starts the counters at zero.
pub fn describe() {
    describe_counter!(WINDOWS, "Windows that were committed");
    describe_counter!(REACTIONS, "Reactions that were counted");
    describe_counter!(LATE, "Reactions with a timestamp before their window");
    describe_counter!(SKEWED, "Reactions with a timestamp from the future");
    describe_counter!(OTHERS, "Reactions counted among the others, by the limit that was reached");
    describe_counter!(SKIPPED, "Batches and records passed over, by cause");
    describe_counter!(FORGOTTEN, "Rooms that were forgotten, by cause");
    describe_gauge!(DISTINCT, "Distinct reactions that rooms count by name");
    describe_gauge!(ROOMS, "Rooms known to this process");
    describe_gauge!(PENDING, "Windows that wait for a commit");
    describe_histogram!(DELAY_SECONDS, Unit::Seconds, "From a window's end until it is committed");
    for name in [WINDOWS, REACTIONS, LATE, SKEWED] {
        counter!(name).absolute(0);
    }
    for cause in ["alien", "overflow", "replayed"] {
        counter!(SKIPPED, "cause" => cause).absolute(0);
    }
    for limit in ["room", "partition"] {
        counter!(OTHERS, "limit" => limit).absolute(0);
    }
    for cause in ["silent", "too_many"] {
        counter!(FORGOTTEN, "cause" => cause).absolute(0);
    }
    gauge!(DISTINCT).set(0.0);
    gauge!(ROOMS).set(0.0);
    gauge!(PENDING).set(0.0);
}
