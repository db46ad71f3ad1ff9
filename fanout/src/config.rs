//! How frames go out. The defaults stand in `config/default.toml`.

use axum::http::HeaderValue;
use serde::Deserialize;
use std::net::SocketAddr;

/// Section `fanout`. Changes apply to the next frame or viewer, save those of `listen`, `cors_origins` and `broker`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the caller serves [`crate::Fanout::router`]: `host:port`.
    pub listen: String,
    /// Reactions in a frame's counts, and in its totals.
    pub top_n: usize,
    /// Viewers at once; more are refused.
    pub max_viewers: usize,
    /// Rooms that have viewers; the first viewer of one more is refused.
    pub max_rooms_watched: usize,
    /// How long caches may keep a snapshot.
    pub snapshot_max_age_s: u32,
    /// Origins whose pages may read snapshots; `*`: all; empty: none but the own.
    pub cors_origins: Vec<String>,
    /// Viewers are told to wait a random time up to this before they connect again.
    pub reconnect_jitter_ms: u64,
    /// A viewer that was not heard for so long is asked whether it is there.
    pub ping_interval_ms: u64,
    /// A viewer that gives no answer for so long is closed.
    pub pong_timeout_ms: u64,
    /// A viewer that does not take a frame for so long is dropped.
    pub write_timeout_ms: u64,
    /// Viewers that are sent away in a second when the process stops.
    pub drain_viewers_per_s: u32,
    /// All viewers are sent away within this, faster than at that pace if need be.
    pub drain_ms: u64,
    /// The MQTT broker for trusted clients.
    pub broker: BrokerConfig,
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
        let port = self.listen.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none() {
            refuse("listen", format!("must be host:port, is {:?}", self.listen));
        }
        for (key, value, least, most) in [
            ("top_n", self.top_n as u64, 1, 1_000),
            ("max_viewers", self.max_viewers as u64, 1, 10_000_000),
            ("max_rooms_watched", self.max_rooms_watched as u64, 1, 10_000_000),
            ("snapshot_max_age_s", u64::from(self.snapshot_max_age_s), 0, 3_600),
            ("reconnect_jitter_ms", self.reconnect_jitter_ms, 0, 600_000),
            ("ping_interval_ms", self.ping_interval_ms, 10, 3_600_000),
            ("pong_timeout_ms", self.pong_timeout_ms, 10, 3_600_000),
            ("write_timeout_ms", self.write_timeout_ms, 10, 600_000),
            ("drain_viewers_per_s", u64::from(self.drain_viewers_per_s), 1, 1_000_000),
            ("drain_ms", self.drain_ms, 0, 3_600_000),
        ] {
            check_range(key, value, (least, most), refuse);
        }
        for origin in &self.cors_origins {
            if origin != "*" && !is_origin(origin) {
                let text =
                    format!("must hold \"*\" or origins such as \"https://example.com\", holds {origin:?}");
                refuse("cors_origins", text);
            }
        }
        self.broker.validate(refuse);
    }
}

impl BrokerConfig {
    fn validate(&self, refuse: &mut dyn FnMut(&str, String)) {
        if self.listen.parse::<SocketAddr>().is_err() {
            refuse("broker.listen", format!("must be an IP address and a port, is {:?}", self.listen));
        }
        check_range("broker.max_connections", self.max_connections as u64, (1, 100_000), refuse);
    }
}

fn check_range(key: &str, value: u64, (least, most): (u64, u64), refuse: &mut dyn FnMut(&str, String)) {
    if !(least..=most).contains(&value) {
        refuse(key, format!("must be {least} to {most}, is {value}"));
    }
}

/// A scheme and an authority and nothing after them, as browsers send it.
fn is_origin(text: &str) -> bool {
    let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    authority.is_some_and(|authority| !authority.is_empty() && !authority.contains(['/', ' ']))
        && HeaderValue::from_str(text).is_ok()
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
        assert_eq!(violations(|c| c.cors_origins = vec!["https://a.example:8443".into()]), [""; 0]);
    }

    #[test]
    fn every_violation_is_named_at_once() {
        let found = violations(|c| {
            c.listen = "8081".into();
            c.top_n = 0;
            c.drain_viewers_per_s = 0;
            c.cors_origins = vec!["*".into(), "example.com".into(), "https://a.example/".into()];
            c.broker.listen = "localhost:1883".into();
            c.broker.max_connections = 0;
        });
        let keys: Vec<_> = found.iter().filter_map(|line| line.split(' ').next()).collect();
        let expected = ["listen", "top_n", "drain_viewers_per_s", "cors_origins", "cors_origins"];
        assert_eq!(keys, [&expected[..], &["broker.listen", "broker.max_connections"]].concat());
        assert_eq!(found[1], "top_n must be 1 to 1000, is 0");
    }

    #[test]
    fn unknown_keys_are_errors() {
        let error = toml::from_str::<super::BrokerConfig>("enabled = true\nport = 1").unwrap_err();
        assert!(error.to_string().contains("unknown field `port`"), "{error}");
    }
}
