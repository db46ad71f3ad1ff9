//! The metrics of this crate.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

/// Gauge: connected viewers, by protocol (`websocket`, `mqtt`, `mqtt_websocket`, `sse`). Those of `mqtt` count from their
/// connection on, before their CONNECT.
pub const VIEWERS: &str = "uproar_fanout_viewers";
/// Gauge: rooms that have a frame.
pub const ROOMS: &str = "uproar_fanout_rooms";
/// Counter: frames published: the aggregates that were newer than what their room showed.
pub const PUBLISHED: &str = "uproar_fanout_frames_published_total";
/// Counter: frames of which a viewer's socket took at least the first byte, by protocol.
pub const DELIVERIES: &str = "uproar_fanout_deliveries_total";
/// Counter: bytes handed to the sockets of viewers, by protocol. Those of SSE are counted before HTTP's chunks.
pub const SENT_BYTES: &str = "uproar_fanout_sent_bytes_total";
/// Counter: frames that were passed over because a newer one came before the receiver was ready, by protocol; also
/// `broker`, the one for trusted clients, and `bridge`, the one that runs elsewhere.
pub const SKIPPED: &str = "uproar_fanout_frames_skipped_total";
/// Histogram: seconds from the end of a frame's window to its publication.
pub const FRAME_AGE_SECONDS: &str = "uproar_fanout_frame_age_seconds";
/// Histogram: seconds from the first to the last socket of a room in a shard that was offered a frame.
pub const BROADCAST_SECONDS: &str = "uproar_fanout_broadcast_seconds";
/// Counter: aggregates that were not newer than what their room shows (a log that was read again).
pub const STALE: &str = "uproar_fanout_stale_aggregates_total";
/// Counter: aggregates that could not be read and were passed over.
pub const ALIEN: &str = "uproar_fanout_alien_aggregates_total";
/// Counter: how often the follower broke and had to be opened again.
pub const REOPENS: &str = "uproar_fanout_follower_reopens_total";
/// Counter: refused viewers and requests, by cause: `starting`, `draining`, `viewers` (as many as may be), `address` (as
/// many from one address), `rooms` (as many without a frame are watched), `room_name`, `not_websocket`, `busy` (a shard has too many
/// newcomers), `handover` (the socket could not be taken over from HTTP; mostly it broke), `files` (too few file descriptors are
/// left), `system` (the system accepts or watches no socket, for another reason), `version` (an MQTT level that is not spoken), `will`, `auth` (an
/// authentication method), `filter` (a topic filter that is not served), `subscriptions` (as many as a viewer may have).
pub const REFUSED: &str = "uproar_fanout_refused_total";
/// Counter: closed viewers, by cause: `gone` (it said goodbye, or its connection broke), `malformed` (what it sent is
/// not as the protocol says), `too_large` (it sent too much at once, or accepts no packet as long as its answer),
/// `spoke` (it tried to publish, or sent data), `refused` (see the refusals), `silent` (no CONNECT, no end of a packet that it began, no
/// answer to a ping, or beyond its keep alive), `stalled` (did not take what was due: it reads nothing, or its network is gone; on
/// server-sent events over HTTP/2 or HTTP/1.0 it is `gone` then), `flooding` (it sent more than viewers may), `fault` (a
/// bug: reading what it sent panicked; alert on it), `drained` (the process stops), `cut` (it came too late to be told that the process
/// stops).
pub const CLOSES: &str = "uproar_fanout_closes_total";
/// Counter: messages handed to the MQTT broker for trusted clients.
pub const BROKER_MESSAGES: &str = "uproar_fanout_broker_messages_total";
/// Counter: forgotten rooms whose retained message stays, because too many rooms waited for the broker, by protocol
/// (`broker`, `bridge`).
pub const UNCLEARED: &str = "uproar_fanout_uncleared_rooms_total";
/// Counter: messages handed to the broker that runs elsewhere: in QoS 0 to the connection, in QoS 1 acknowledged.
pub const BRIDGE_MESSAGES: &str = "uproar_fanout_bridge_messages_total";
/// Gauge: 1 while the bridge is connected to its broker; only where it is enabled. Alert on 0.
pub const BRIDGE_CONNECTED: &str = "uproar_fanout_bridge_connected";
/// Counter: connections of the bridge that failed, by cause: `unreachable` (no connection, or no answer), `tls` (the
/// handshake, or the certificate), `refused` (the broker said no: credentials, rights, client id), `lost` (closed, or
/// not as the protocol says), `stalled` (the broker took nothing, or acknowledged nothing), `fault` (a bug).
pub const BRIDGE_FAILURES: &str = "uproar_fanout_bridge_failures_total";

/// Counter: records by which fanout processes tell each other of their viewers, by outcome: `sent` or `not_sent` (as many waited as
/// may), and of those that came `received` (of another process, and counted), `malformed`, or `too_many_nodes` (of more processes than
/// are kept). Only on Kafka.
pub const OCCUPANCY_RECORDS: &str = "uproar_fanout_occupancy_records_total";
/// Counter: rooms with viewers that were left out because there are too many: of what this process tells (`own`, again with every
/// report) or of what it was told (`others`, again with every record). Their `viewers` are too low. Only on Kafka.
pub const OCCUPANCY_LEFT_OUT: &str = "uproar_fanout_occupancy_rooms_left_out_total";
/// Gauge: 1 while this process sees its own records of viewers come back; at 0 its frames tell of its own viewers only. There only
/// where it exchanges such records: on Kafka, with `fanout.occupancy`.
pub const OCCUPANCY_CONNECTED: &str = "uproar_fanout_occupancy_connected";

/// The outcomes of [`OCCUPANCY_RECORDS`].
pub(crate) const OCCUPANCY_OUTCOMES: [&str; 5] =
    ["sent", "not_sent", "received", "malformed", "too_many_nodes"];
/// The causes of [`BRIDGE_FAILURES`].
pub(crate) const BRIDGE_CAUSES: [&str; 6] = ["unreachable", "tls", "refused", "lost", "stalled", "fault"];
/// The causes of [`REFUSED`].
pub(crate) const REFUSED_CAUSES: [&str; 16] = [
    "starting",
    "draining",
    "viewers",
    "address",
    "rooms",
    "room_name",
    "not_websocket",
    "busy",
    "handover",
    "files",
    "system",
    "version",
    "will",
    "auth",
    "filter",
    "subscriptions",
];
/// The causes of [`CLOSES`].
pub(crate) const CLOSE_CAUSES: [&str; 11] = [
    "gone",
    "malformed",
    "too_large",
    "spoke",
    "refused",
    "silent",
    "stalled",
    "flooding",
    "fault",
    "drained",
    "cut",
];

/// What a viewer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    WebSocket,
    Mqtt,
    MqttWebSocket,
    Sse,
}

impl Protocol {
    pub(crate) const ALL: [Self; 4] = [Self::WebSocket, Self::Mqtt, Self::MqttWebSocket, Self::Sse];

    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Mqtt => "mqtt",
            Self::MqttWebSocket => "mqtt_websocket",
            Self::Sse => "sse",
        }
    }
}

/// The metrics of the hot path, looked up once.
pub(crate) struct Meters {
    pub(crate) rooms: Gauge,
    pub(crate) published: Counter,
    pub(crate) stale: Counter,
    pub(crate) frame_age: Histogram,
    pub(crate) broadcast: Histogram,
    protocols: [OfProtocol; 4],
    closes: [Counter; CLOSE_CAUSES.len()],
}

/// Those that are told apart by protocol.
pub(crate) struct OfProtocol {
    pub(crate) viewers: Gauge,
    pub(crate) deliveries: Counter,
    pub(crate) skipped: Counter,
    pub(crate) sent_bytes: Counter,
}

impl Meters {
    pub(crate) fn new() -> Self {
        Self {
            rooms: gauge!(ROOMS),
            published: counter!(PUBLISHED),
            stale: counter!(STALE),
            frame_age: histogram!(FRAME_AGE_SECONDS),
            broadcast: histogram!(BROADCAST_SECONDS),
            protocols: Protocol::ALL.map(|protocol| OfProtocol {
                viewers: gauge!(VIEWERS, "protocol" => protocol.name()),
                deliveries: counter!(DELIVERIES, "protocol" => protocol.name()),
                skipped: counter!(SKIPPED, "protocol" => protocol.name()),
                sent_bytes: counter!(SENT_BYTES, "protocol" => protocol.name()),
            }),
            closes: CLOSE_CAUSES.map(|cause| counter!(CLOSES, "cause" => cause)),
        }
    }

    pub(crate) fn of(&self, protocol: Protocol) -> &OfProtocol {
        &self.protocols[protocol as usize]
    }

    /// Counts a closed viewer.
    pub(crate) fn closed(&self, cause: &'static str) {
        let index = CLOSE_CAUSES.iter().position(|known| *known == cause);
        debug_assert!(index.is_some(), "{cause}");
        if let Some(index) = index {
            self.closes[index].increment(1);
        }
    }
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters")
    }
}

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
    describe_counter!(DELIVERIES, "Frames of which a viewer's socket took the first byte, by protocol");
    describe_counter!(SENT_BYTES, Unit::Bytes, "Bytes handed to the sockets of viewers, by protocol");
    describe_counter!(SKIPPED, "Frames passed over because a newer one came first, by protocol");
    describe_histogram!(
        FRAME_AGE_SECONDS,
        Unit::Seconds,
        "From the end of a frame's window to its publication"
    );
    describe_histogram!(
        BROADCAST_SECONDS,
        Unit::Seconds,
        "From the first to the last socket of a room in a shard that was offered a frame"
    );
    describe_counter!(STALE, "Aggregates that were not newer than what their room shows");
    describe_counter!(ALIEN, "Aggregates that could not be read and were passed over");
    describe_counter!(REOPENS, "How often the follower broke and had to be opened again");
    describe_counter!(REFUSED, "Refused viewers and requests by cause");
    describe_counter!(CLOSES, "Closed viewers by cause");
    describe_outlets();
    for name in [PUBLISHED, STALE, ALIEN, REOPENS] {
        counter!(name).absolute(0);
    }
    gauge!(ROOMS).set(0.0);
    for protocol in Protocol::ALL {
        gauge!(VIEWERS, "protocol" => protocol.name()).set(0.0);
        for name in [DELIVERIES, SKIPPED, SENT_BYTES] {
            counter!(name, "protocol" => protocol.name()).absolute(0);
        }
    }
    for cause in REFUSED_CAUSES {
        counter!(REFUSED, "cause" => cause).absolute(0);
    }
    for cause in CLOSE_CAUSES {
        counter!(CLOSES, "cause" => cause).absolute(0);
    }
}

/// Registers the metrics of the exchange with other processes, where there may be others.
pub fn describe_occupancy() {
    describe_counter!(OCCUPANCY_RECORDS, "Records by which processes tell each other of viewers, by outcome");
    describe_counter!(OCCUPANCY_LEFT_OUT, "Rooms with viewers that were left out because there are too many");
    describe_gauge!(OCCUPANCY_CONNECTED, "1 while own records of viewers come back");
    for outcome in OCCUPANCY_OUTCOMES {
        counter!(OCCUPANCY_RECORDS, "outcome" => outcome).absolute(0);
    }
    for of in ["own", "others"] {
        counter!(OCCUPANCY_LEFT_OUT, "of" => of).absolute(0);
    }
}

fn describe_outlets() {
    describe_counter!(BROKER_MESSAGES, "Messages handed to the MQTT broker");
    describe_counter!(UNCLEARED, "Forgotten rooms whose retained message stays, by protocol");
    counter!(BROKER_MESSAGES).absolute(0);
    for name in [SKIPPED, UNCLEARED] {
        counter!(name, "protocol" => "broker").absolute(0);
    }
}

/// Registers the metrics of the bridge, where it is enabled: an alarm on `BRIDGE_CONNECTED` is only right there.
pub fn describe_bridge() {
    describe_counter!(BRIDGE_MESSAGES, "Messages handed to the broker that runs elsewhere");
    describe_gauge!(BRIDGE_CONNECTED, "1 while the bridge is connected");
    describe_counter!(BRIDGE_FAILURES, "Connections of the bridge that failed, by cause");
    counter!(BRIDGE_MESSAGES).absolute(0);
    for name in [SKIPPED, UNCLEARED] {
        counter!(name, "protocol" => "bridge").absolute(0);
    }
    gauge!(BRIDGE_CONNECTED).set(0.0);
    for cause in BRIDGE_CAUSES {
        counter!(BRIDGE_FAILURES, "cause" => cause).absolute(0);
    }
}
