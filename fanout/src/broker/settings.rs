//! How rumqttd is configured.

use crate::BrokerConfig;
use rumqttd::{Config, ConnectionSettings, RouterConfig, ServerSettings};
use std::{collections::HashMap, net::SocketAddr};

/// Memory for the messages of one filter that someone subscribed: two segments. A client that lags by more skips.
const SEGMENT_BYTES: usize = 4 << 20;
const SEGMENTS: usize = 2;
/// Messages handed to a client at once. Also the most retained messages that a new subscription gets, so that it is
/// above the number of rooms that a client may want to see at once.
const MAX_OUTGOING: u64 = 10_000;
/// A client that does not send its CONNECT within this is dropped.
const CONNECT_TIMEOUT_MS: u16 = 5_000;
/// Largest message that a client may publish.
const MAX_PAYLOAD_BYTES: usize = 64 << 10;

/// Settings of a broker on `address`. `prometheus` stays unset: it would install a recorder for the whole process.
pub(super) fn settings(address: SocketAddr, config: &BrokerConfig) -> Config {
    let router = RouterConfig {
        // One more for our own link.
        max_connections: config.max_connections + 1,
        max_outgoing_packet_count: MAX_OUTGOING,
        max_segment_size: SEGMENT_BYTES,
        max_segment_count: SEGMENTS,
        ..RouterConfig::default()
    };
    let connections = ConnectionSettings {
        connection_timeout_ms: CONNECT_TIMEOUT_MS,
        max_payload_size: MAX_PAYLOAD_BYTES,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server = ServerSettings {
        name: "mqtt-listener".into(),
        listen: address,
        tls: None,
        next_connection_delay_ms: 1,
        connections,
    };
    Config { router, v4: Some(HashMap::from([("v4".to_owned(), server)])), ..Config::default() }
}
