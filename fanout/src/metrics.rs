//! The metrics of this crate.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};

/// Gauge: connected viewers, by protocol (`websocket`).
pub const VIEWERS: &str = "uproar_fanout_viewers";
/// Gauge: rooms that have a frame.
pub const ROOMS: &str = "uproar_fanout_rooms";
/// Counter: frames published: the aggregates that were newer than what their room showed.
pub const PUBLISHED: &str = "uproar_fanout_frames_published_total";
/// Counter: frames that a viewer took, by protocol.
pub const DELIVERIES: &str = "uproar_fanout_deliveries_total";
/// Counter: frames that were passed over because a newer one came before the receiver was ready, by protocol
/// (`websocket`, `broker`).
pub const SKIPPED: &str = "uproar_fanout_frames_skipped_total";
/// Histogram: seconds from the end of a frame's window to its publication.
pub const FRAME_AGE_SECONDS: &str = "uproar_fanout_frame_age_seconds";
/// Counter: aggregates that were not newer than what their room shows (a log that was read again).
pub const STALE: &str = "uproar_fanout_stale_aggregates_total";
/// Counter: aggregates that could not be read and were passed over.
pub const ALIEN: &str = "uproar_fanout_alien_aggregates_total";
/// Counter: how often the follower broke and had to be opened again.
pub const REOPENS: &str = "uproar_fanout_follower_reopens_total";
/// Counter: refused requests, by cause (`starting`, `draining`, `viewers`, `rooms`, `room_name`, `not_websocket`).
pub const REFUSED: &str = "uproar_fanout_refused_total";
/// Counter: closed viewers, by cause: `gone` (it said goodbye), `broken` (its connection broke, or it sent what is
/// malformed or too large), `spoke` (it sent data), `silent` (no answer to a ping), `stalled` (did not take a frame),
/// `drained` (the process stops).
pub const CLOSES: &str = "uproar_fanout_closes_total";
/// Counter: messages handed to the MQTT broker.
pub const BROKER_MESSAGES: &str = "uproar_fanout_broker_messages_total";

/// The causes of [`REFUSED`].
pub(crate) const REFUSED_CAUSES: [&str; 6] =
    ["starting", "draining", "viewers", "rooms", "room_name", "not_websocket"];
/// The causes of [`CLOSES`].
pub(crate) const CLOSE_CAUSES: [&str; 6] = ["gone", "broken", "spoke", "silent", "stalled", "drained"];

/// Counts a refusal.
pub(crate) fn refused(cause: &'static str) {
    debug_assert!(REFUSED_CAUSES.contains(&cause), "{cause}");
    counter!(REFUSED, "cause" => cause).increment(1);
}

/// Registers help texts, and starts the counters at zero.
pub fn describe() {
    describe_gauge!(VIEWERS, "Connected viewers by protocol");
    describe_gauge!(ROOMS, "Rooms that have a frame");
    describe_counter!(PUBLISHED, "Frames published");
    describe_counter!(DELIVERIES, "Frames that a viewer took, by protocol");
    describe_counter!(SKIPPED, "Frames passed over because a newer one came first, by protocol");
    describe_histogram!(
        FRAME_AGE_SECONDS,
        Unit::Seconds,
        "From the end of a frame's window to its publication"
    );
    describe_counter!(STALE, "Aggregates that were not newer than what their room shows");
    describe_counter!(ALIEN, "Aggregates that could not be read and were passed over");
    describe_counter!(REOPENS, "How often the follower broke and had to be opened again");
    describe_counter!(REFUSED, "Refused requests by cause");
    describe_counter!(CLOSES, "Closed viewers by cause");
    describe_counter!(BROKER_MESSAGES, "Messages handed to the MQTT broker");
    for name in [PUBLISHED, STALE, ALIEN, REOPENS, BROKER_MESSAGES] {
        counter!(name).absolute(0);
    }
    gauge!(ROOMS).set(0.0);
    gauge!(VIEWERS, "protocol" => "websocket").set(0.0);
    counter!(DELIVERIES, "protocol" => "websocket").absolute(0);
    for protocol in ["websocket", "broker"] {
        counter!(SKIPPED, "protocol" => protocol).absolute(0);
    }
    for cause in REFUSED_CAUSES {
        counter!(REFUSED, "cause" => cause).absolute(0);
    }
    for cause in CLOSE_CAUSES {
        counter!(CLOSES, "cause" => cause).absolute(0);
    }
}
