//! The metrics of this crate.

use metrics::{counter, describe_counter, describe_gauge, gauge};

/// Gauge: connections of HTTP listeners, without those that the edge has taken over: WebSockets, and most server-sent events.
pub const HTTP_CONNECTIONS: &str = "uproar_http_connections";
/// Counter: connections that were closed for saying too little, by cause (`head`: no whole head of a request in time;
/// `idle`: nothing moved for too long).
pub const HTTP_CONNECTIONS_CUT: &str = "uproar_http_connections_cut_total";
/// Counter: connections that were answered 503 and closed, as there were too many.
pub const HTTP_CONNECTIONS_REFUSED: &str = "uproar_http_connections_refused_total";
/// Counter: log lines that were lost because standard error took none: its reader stopped, or its disk is full.
pub const LOG_LINES_LOST: &str = "uproar_log_lines_lost_total";

/// Registers help texts, and starts the counters at zero.
pub fn describe() {
    describe_gauge!(HTTP_CONNECTIONS, "Connections of HTTP listeners, without those of viewers at the edge");
    describe_counter!(HTTP_CONNECTIONS_CUT, "Connections closed for saying too little, by cause");
    describe_counter!(HTTP_CONNECTIONS_REFUSED, "Connections answered 503 and closed: too many");
    describe_counter!(LOG_LINES_LOST, "Log lines that were lost because standard error took none");
    gauge!(HTTP_CONNECTIONS).set(0.0);
    counter!(LOG_LINES_LOST).absolute(0);
    counter!(HTTP_CONNECTIONS_REFUSED).absolute(0);
    for cause in ["head", "idle"] {
        counter!(HTTP_CONNECTIONS_CUT, "cause" => cause).absolute(0);
    }
}
