//! The metrics of this crate.

use metrics::{Unit, counter, describe_counter, describe_histogram};

/// Counter: requests for the history that were refused, by cause.
pub const REFUSED: &str = "uproar_history_refused_total";
/// Histogram: seconds that reading and summing up the windows of a request takes.
pub const QUERY_SECONDS: &str = "uproar_history_query_seconds";
/// Counter: windows that were added to the index.
pub const INDEXED: &str = "uproar_history_indexed_windows_total";
/// Counter: records of `windows` that hold no window; they are passed over.
pub const SKIPPED: &str = "uproar_history_skipped_records_total";
/// Counter: how often the index was made again from the log.
pub const REBUILT: &str = "uproar_history_rebuilt_total";

/// Registers help texts, and starts the counters at zero.
pub fn describe() {
    describe_counter!(REFUSED, "Requests for the history that were refused, by cause");
    describe_histogram!(QUERY_SECONDS, Unit::Seconds, "Reading and summing up the windows of a request");
    describe_counter!(INDEXED, "Windows that were added to the index");
    describe_counter!(SKIPPED, "Records of windows that hold no window");
    describe_counter!(REBUILT, "How often the index was made again from the log");
    for name in [INDEXED, SKIPPED, REBUILT] {
        counter!(name).absolute(0);
    }
    for cause in ["busy", "failed", "starting", "too_many_windows"] {
        counter!(REFUSED, "cause" => cause).absolute(0);
    }
}
