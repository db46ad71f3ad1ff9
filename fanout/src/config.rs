//! How frames go out. The defaults stand in `config/default.toml`.

use crate::BridgeConfig;
use serde::Deserialize;
use service::{
    config::{check_listen, check_range, within},
    cors::Origins,
};
use std::net::SocketAddr;

/// Section `fanout`. Changes apply to the next frame or viewer, save those that need a restart (`src/reload.rs`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the caller serves [`crate::Fanout::router`]: `host:port`.
    pub listen: String,
    /// Reactions in a frame's counts, and in its totals.
    pub top_n: usize,
    /// Threads that serve viewers; 0: as many as there are cores.
    pub shards: usize,
    /// Viewers at once; more are refused.
    pub max_viewers: usize,
    /// Viewers at once from one address; more are refused. 0: no limit.
    pub max_viewers_per_address: usize,
    /// Rooms that one viewer watches; more are refused.
    pub max_rooms_per_viewer: usize,
    /// Rooms that have viewers and show nothing; the first viewer of one more is refused. Rooms that ingest's section names, and
    /// those with a frame, don't count.
    pub max_rooms_watched: usize,
    /// How long caches may keep a snapshot.
    pub snapshot_max_age_s: u32,
    /// Origins whose pages may read snapshots; `*`: all; empty: none but the own.
    pub cors_origins: Origins,
    /// Whether `GET /v1/rooms` lists the busiest rooms.
    pub list_rooms: bool,
    /// Whether frames, snapshots and the list of rooms tell how many viewers a room has.
    pub occupancy: bool,
    /// Whether the caller serves the pages and scripts for browsers.
    pub web: bool,
    /// Origins whose pages may show ours in a frame; `*`: all; empty: none but the own.
    pub frame_ancestors: Origins,
    /// Viewers are told to wait a random time up to this before they connect again.
    pub reconnect_jitter_ms: u64,
    /// How often clients should post: they are told, nothing holds them to it.
    pub post_ms: u64,
    /// A viewer that was not heard for so long is asked whether it is there. A change applies to all viewers.
    pub ping_interval_ms: u64,
    /// A viewer that gives no answer for so long is closed.
    pub pong_timeout_ms: u64,
    /// A viewer that does not take a frame for so long is dropped.
    pub write_timeout_ms: u64,
    /// The kernel's buffer for what is sent to a viewer; the kernel doubles it.
    pub send_buffer_bytes: usize,
    /// What of that may wait to be sent for the first time; beyond it a viewer skips frames.
    pub unsent_bytes: u32,
    /// Viewers that are sent away in a second when the process stops.
    pub drain_viewers_per_s: u32,
    /// All viewers are sent away within this, faster than at that pace if need be.
    pub drain_ms: u64,
    /// MQTT for viewers.
    pub mqtt: MqttConfig,
    /// The MQTT broker for trusted clients.
    pub broker: BrokerConfig,
    /// The way to an MQTT broker that runs elsewhere.
    pub bridge: BridgeConfig,
}

/// Section `fanout.mqtt`. All but `enabled` and `listen` applies to whatever viewers send from a change on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttConfig {
    /// Whether viewers may connect over TCP. Over WebSocket they always may.
    pub enabled: bool,
    /// Where they connect: an IP address and a port.
    pub listen: String,
    /// A viewer that has not sent its CONNECT within this is closed.
    pub connect_timeout_ms: u64,
    /// Longest keep alive. Clients of MQTT 5 that wish for more, or for none, are told.
    pub max_keep_alive_s: u16,
    /// Longest packet that a viewer may send.
    pub max_packet_bytes: usize,
    /// Whether `reactions/+`, all rooms, may be subscribed.
    pub wildcards: bool,
}

/// Section `fanout.broker`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// Where it listens: an IP address and a port.
    pub listen: String,
    /// Connected clients; more are refused.
    pub max_connections: usize,
}

impl Config {
    /// Adds every violation as `(key, what would be right)`; keys are relative to this section.
    pub fn validate(&self, refuse: &mut dyn FnMut(&str, String)) {
        check_listen("listen", &self.listen, refuse);
        for (key, value, least, most) in [
            ("top_n", self.top_n as u64, 1, 1_000),
            ("shards", self.shards as u64, 0, 1_024),
            ("max_viewers", self.max_viewers as u64, 1, 10_000_000),
            ("max_viewers_per_address", self.max_viewers_per_address as u64, 0, 10_000_000),
            ("max_rooms_per_viewer", self.max_rooms_per_viewer as u64, 1, 10_000),
            ("max_rooms_watched", self.max_rooms_watched as u64, 1, 10_000_000),
            ("snapshot_max_age_s", u64::from(self.snapshot_max_age_s), 0, 3_600),
            ("reconnect_jitter_ms", self.reconnect_jitter_ms, 0, 600_000),
            ("post_ms", self.post_ms, 100, 600_000),
            ("ping_interval_ms", self.ping_interval_ms, 10, 3_600_000),
            ("pong_timeout_ms", self.pong_timeout_ms, 10, 3_600_000),
            ("write_timeout_ms", self.write_timeout_ms, 10, 600_000),
            ("send_buffer_bytes", self.send_buffer_bytes as u64, 2_304, 16 << 20),
            ("unsent_bytes", u64::from(self.unsent_bytes), 1, 16 << 20),
            ("drain_viewers_per_s", u64::from(self.drain_viewers_per_s), 1, 1_000_000),
            ("drain_ms", self.drain_ms, 0, 3_600_000),
        ] {
            check_range(key, value, (least, most), refuse);
        }
        self.cors_origins.validate("cors_origins", refuse);
        self.frame_ancestors.validate("frame_ancestors", refuse);
        self.mqtt.validate(refuse);
        self.broker.validate(refuse);
        self.bridge.validate(&mut within("bridge", refuse));
    }
}

impl MqttConfig {
    fn validate(&self, refuse: &mut dyn FnMut(&str, String)) {
        check_address("mqtt.listen", &self.listen, refuse);
        check_range("mqtt.connect_timeout_ms", self.connect_timeout_ms, (10, 600_000), refuse);
        check_range("mqtt.max_keep_alive_s", self.max_keep_alive_s.into(), (1, 65_535), refuse);
        check_range("mqtt.max_packet_bytes", self.max_packet_bytes as u64, (128, 1 << 20), refuse);
    }
}

impl BrokerConfig {
    fn validate(&self, refuse: &mut dyn FnMut(&str, String)) {
        check_address("broker.listen", &self.listen, refuse);
        check_range("broker.max_connections", self.max_connections as u64, (1, 100_000), refuse);
    }
}

fn check_address(key: &str, address: &str, refuse: &mut dyn FnMut(&str, String)) {
    if address.parse::<SocketAddr>().is_err() {
        refuse(key, format!("must be an IP address and a port, is {address:?}"));
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::harness::config;

    fn violations(change: impl FnOnce(&mut super::Config)) -> Vec<String> {
        let mut config = config();
        change(&mut config);
        let mut keys = Vec::new();
        config.validate(&mut |key, problem| keys.push(format!("{key} {problem}")));
        keys
    }

    #[test]
    fn a_good_config_has_nothing_to_refuse() {
        assert_eq!(violations(|_| {}), [""; 0]);
        assert_eq!(violations(|c| c.cors_origins = vec!["https://a.example:8443".into()].into()), [""; 0]);
    }

    #[test]
    fn every_violation_is_named_at_once() {
        let found = violations(|c| {
            c.listen = "8081".into();
            c.top_n = 0;
            c.drain_viewers_per_s = 0;
            c.cors_origins = vec!["*".into(), "example.com".into(), "https://a.example/".into()].into();
            c.mqtt.listen = "localhost:1883".into();
            c.mqtt.max_packet_bytes = 1;
            c.broker.listen = "localhost:1884".into();
            c.broker.max_connections = 0;
        });
        let keys: Vec<_> = found.iter().filter_map(|line| line.split(' ').next()).collect();
        let expected = ["listen", "top_n", "drain_viewers_per_s", "cors_origins", "cors_origins"];
        assert_eq!(
            keys,
            [
                &expected[..],
                &["mqtt.listen", "mqtt.max_packet_bytes"],
                &["broker.listen", "broker.max_connections"]
            ]
            .concat()
        );
        assert_eq!(found[1], "top_n must be 1 to 1000, is 0");
    }

    #[test]
    fn unknown_keys_are_errors() {
        let error = toml::from_str::<super::BrokerConfig>("enabled = true\nport = 1").unwrap_err();
        assert!(error.to_string().contains("unknown field `port`"), "{error}");
    }
}
