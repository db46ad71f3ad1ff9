//! Limits and behaviour of this tier. The defaults stand in `config/default.toml`.

use crate::{
    catalogue::{self, Catalogue},
    client::ForwardedHeader,
    limits::{self, Limits},
};
use serde::Deserialize;
use service::{
    config::{check_listen, check_range},
    cors::Origins,
};
use std::{collections::HashSet, sync::Arc};
use wire::{RoomName, SkinTones};

/// Distinct reactions of a room in a record, at the most. Each takes up to 152 bytes: all of its own escaped, quotes, colon,
/// comma, and the longest number. Kafka takes 1 MB by default, headers and other rooms included.
pub(crate) const DISTINCT_MAX: usize = 6_000;

/// Section `ingest`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address of the HTTP listener.
    pub listen: String,
    /// When a request is answered.
    pub ack: Ack,
    /// How long reactions are combined before they become records.
    pub commit_interval_ms: u64,
    /// A request that waits for so long is answered 504.
    pub ack_timeout_ms: u64,
    /// The rooms of a partition that made no progress for so long refuse requests at once.
    pub stall_ms: u64,
    /// How long a shutdown waits for what was accepted.
    pub drain_ms: u64,
    /// Requests that may wait at a time; more are answered 503.
    pub max_waiting: usize,
    /// Longest body of a request.
    pub max_body_bytes: usize,
    /// Highest count of one reaction in a request.
    pub max_count: u64,
    /// What becomes of a higher count.
    pub count_over_max: CountOverMax,
    /// Distinct reactions in a request.
    pub max_distinct_per_request: usize,
    /// Distinct reactions of a room in a record.
    pub max_distinct_per_batch: usize,
    /// Rooms that may have reactions waiting for a record at a time.
    pub max_rooms: usize,
    /// Records of a partition under way at a time; the reactions behind them are combined.
    pub in_flight_per_partition: usize,
    /// The rooms that exist; empty: any.
    pub rooms: Vec<String>,
    /// The reactions that are allowed; empty: any.
    pub catalogue: Vec<String>,
    /// Whether an emoji counts as one reaction with all its skin tones.
    pub fold_skin_tones: bool,
    /// Web origins that may post; `*`: any.
    pub cors_origins: Origins,
    /// Addresses and networks of proxies that are believed about clients.
    pub trusted_proxies: Vec<String>,
    /// Which header of theirs tells a client's address.
    pub forwarded_header: ForwardedHeader,
    /// Which header of theirs tells who the client is; empty: none.
    pub subject_header: String,
    /// The part of an IPv6 address that tells clients apart.
    pub ipv6_prefix_bits: u32,
    /// Requests that a client may send in a second on average; 0: any number.
    pub rate_per_s: u64,
    /// Requests that a client may send at once.
    pub rate_burst: u64,
    /// Reactions that a client may send in a second on average; 0: any number.
    pub reactions_per_s: u64,
    /// Reactions that a client may send at once.
    pub reactions_burst: u64,
    /// Clients with limits of their own at a time; those beyond share.
    pub max_tracked_clients: usize,
    /// How long a request with an idempotency key is remembered.
    pub idempotency_ttl_ms: u64,
    /// Requests with idempotency keys that are remembered; 0: keys are refused.
    pub max_idempotency_keys: usize,
}

/// What becomes of a count above `max_count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CountOverMax {
    /// The request is refused.
    Refuse,
    /// It counts as `max_count`.
    Clamp,
}

/// When a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// When its reactions are durable.
    Durable,
    /// At once. A crash loses what was not committed yet.
    Received,
}

impl Config {
    /// Adds every violation as `(key, what would be right)`; keys are relative to this section.
    pub fn validate(&self, refuse: &mut dyn FnMut(&str, String)) {
        self.validate_ranges(refuse);
        self.validate_relations(refuse);
        self.validate_lists(refuse);
        limits::validate(self, refuse);
    }

    fn validate_ranges(&self, refuse: &mut dyn FnMut(&str, String)) {
        check_listen("listen", &self.listen, refuse);
        for (key, value, least, most) in [
            ("commit_interval_ms", self.commit_interval_ms, 1, 1_000),
            ("ack_timeout_ms", self.ack_timeout_ms, 10, 60_000),
            ("stall_ms", self.stall_ms, 10, 60_000),
            ("drain_ms", self.drain_ms, 10, 300_000),
            ("max_waiting", self.max_waiting as u64, 1, 10_000_000),
            ("max_body_bytes", self.max_body_bytes as u64, 64, 1 << 20),
            ("max_count", self.max_count, 1, 1_000_000),
            ("max_distinct_per_request", self.max_distinct_per_request as u64, 1, 256),
            ("max_distinct_per_batch", self.max_distinct_per_batch as u64, 1, DISTINCT_MAX as u64),
            ("max_rooms", self.max_rooms as u64, 1, 10_000_000),
            ("in_flight_per_partition", self.in_flight_per_partition as u64, 1, 64),
            ("ipv6_prefix_bits", u64::from(self.ipv6_prefix_bits), 16, 128),
            ("rate_per_s", self.rate_per_s, 0, 1_000_000),
            ("rate_burst", self.rate_burst, 1, 1_000_000),
            ("reactions_per_s", self.reactions_per_s, 0, 1_000_000),
            ("reactions_burst", self.reactions_burst, 1, 1_000_000_000),
            ("max_tracked_clients", self.max_tracked_clients as u64, 64, 10_000_000),
            ("idempotency_ttl_ms", self.idempotency_ttl_ms, 1_000, 86_400_000),
            ("max_idempotency_keys", self.max_idempotency_keys as u64, 0, 10_000_000),
        ] {
            check_range(key, value, (least, most), refuse);
        }
    }

    fn validate_relations(&self, refuse: &mut dyn FnMut(&str, String)) {
        if self.ack_timeout_ms <= self.commit_interval_ms {
            let interval = self.commit_interval_ms;
            refuse("ack_timeout_ms", format!("must be above commit_interval_ms ({interval})"));
        }
        if self.stall_ms <= self.commit_interval_ms || self.stall_ms > self.ack_timeout_ms {
            let (interval, timeout) = (self.commit_interval_ms, self.ack_timeout_ms);
            let text = format!(
                "must be above commit_interval_ms ({interval}) and at most ack_timeout_ms ({timeout}), is {}",
                self.stall_ms
            );
            refuse("stall_ms", text);
        }
        if self.max_distinct_per_batch < self.max_distinct_per_request {
            let request = self.max_distinct_per_request;
            refuse(
                "max_distinct_per_batch",
                format!("must be at least max_distinct_per_request ({request})"),
            );
        }
    }

    fn validate_lists(&self, refuse: &mut dyn FnMut(&str, String)) {
        for room in &self.rooms {
            if let Err(error) = RoomName::check(room) {
                refuse("rooms", format!("{room:?}: {error}"));
            }
        }
        for reaction in &self.catalogue {
            if let Err(error) = catalogue::check(reaction, self.skin_tones()) {
                refuse("catalogue", format!("{reaction:?}: {error}"));
            }
        }
        self.cors_origins.validate("cors_origins", refuse);
    }

    /// The warning of a tier in which strangers may make up rooms and reactions as fast as they can.
    pub(crate) fn warning(&self) -> Option<&'static str> {
        let is_unlimited = self.rate_per_s == 0 && self.reactions_per_s == 0;
        let is_open = self.rooms.is_empty() && self.catalogue.is_empty() && is_unlimited;
        is_open.then_some(
            "anybody may make up rooms and reactions, as many as they like: set ingest.rooms, ingest.catalogue, or \
             ingest.rate_per_s and ingest.reactions_per_s",
        )
    }

    /// The catalogue in the forms that frames show, each reaction once. Empty: every reaction is allowed.
    pub fn displayed_catalogue(&self) -> Vec<String> {
        Catalogue::new(self).list().iter().map(ToString::to_string).collect()
    }

    /// Whether skin tones are folded.
    pub fn skin_tones(&self) -> SkinTones {
        if self.fold_skin_tones { SkinTones::Fold } else { SkinTones::Keep }
    }
}

/// A configuration, and what is looked up in it for each request.
pub(crate) struct Live {
    pub(crate) config: Arc<Config>,
    rooms: HashSet<RoomName>,
    pub(crate) catalogue: Catalogue,
    pub(crate) limits: Limits,
}

impl Live {
    pub(crate) fn of(config: Arc<Config>) -> Self {
        let rooms = config.rooms.iter().filter_map(|name| name.parse().ok()).collect();
        let catalogue = Catalogue::new(&config);
        let limits = Limits::of(&config);
        Self { config, rooms, catalogue, limits }
    }

    /// Whether the room is declared, or none are.
    pub(crate) fn has_room(&self, room: &str) -> bool {
        self.config.rooms.is_empty() || self.rooms.contains(room)
    }

    /// Whether a web page of `origin` may post.
    pub(crate) fn trusts(&self, origin: &[u8]) -> bool {
        self.config.cors_origins.allows(origin)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The configuration of most tests: that of production.
    pub(crate) fn config() -> Config {
        Config {
            listen: "127.0.0.1:0".into(),
            ack: Ack::Durable,
            commit_interval_ms: 10,
            ack_timeout_ms: 5_000,
            stall_ms: 2_000,
            drain_ms: 10_000,
            max_waiting: 50_000,
            max_body_bytes: 4_096,
            max_count: 1_000,
            count_over_max: CountOverMax::Refuse,
            max_distinct_per_request: 32,
            max_distinct_per_batch: 1_024,
            max_rooms: 100_000,
            in_flight_per_partition: 4,
            rooms: vec![],
            catalogue: vec![],
            fold_skin_tones: true,
            cors_origins: vec!["*".into()].into(),
            trusted_proxies: vec![],
            forwarded_header: ForwardedHeader::XForwardedFor,
            subject_header: String::new(),
            ipv6_prefix_bits: 64,
            rate_per_s: 0,
            rate_burst: 20,
            reactions_per_s: 0,
            reactions_burst: 2_000,
            max_tracked_clients: 100_000,
            idempotency_ttl_ms: 30_000,
            max_idempotency_keys: 1_000_000,
        }
    }

    fn violations(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = config();
        change(&mut config);
        let mut found = vec![];
        config.validate(&mut |key, text| found.push(format!("{key}: {text}")));
        found
    }

    #[test]
    fn the_usual_values_are_valid() {
        assert_eq!(violations(|_| {}), Vec::<String>::new());
        assert_eq!(
            violations(
                |c| c.cors_origins = vec!["https://a.example".into(), "http://127.0.0.1:3000".into()].into()
            ),
            Vec::<String>::new()
        );
        // A bucket has to hold the largest request, if there is a limit.
        for (reactions_per_s, reactions_burst) in [(0, 1), (1, 1_000)] {
            let found =
                violations(|c| (c.reactions_per_s, c.reactions_burst) = (reactions_per_s, reactions_burst));
            assert_eq!(found, Vec::<String>::new());
        }
    }

    #[test]
    fn each_violation_names_its_key_and_what_would_be_right() {
        type Change = fn(&mut Config);
        let cases: [(Change, &str); 23] = [
            (|c| c.listen = "8080".into(), "listen: must be host:port"),
            (|c| c.listen = ":8080".into(), "listen: must be host:port"),
            (|c| c.commit_interval_ms = 0, "commit_interval_ms: must be 1 to 1000, is 0"),
            (|c| c.max_count = 0, "max_count: must be 1 to 1000000,"),
            (|c| c.max_waiting = 0, "max_waiting: must be 1"),
            (|c| c.ack_timeout_ms = 10, "ack_timeout_ms: must be above commit_interval_ms (10)"),
            (|c| c.stall_ms = 5_001, "stall_ms: must be above commit_interval_ms (10) and at most"),
            (|c| c.max_distinct_per_batch = 31, "at least max_distinct_per_request (32)"),
            (|c| c.max_distinct_per_batch = 6_001, "max_distinct_per_batch: must be 1 to 6000, is 6001"),
            (|c| c.rooms = vec!["a".into(), "a b".into()], "rooms: \"a b\": a room name may hold"),
            (|c| c.catalogue = vec![String::new()], "catalogue: \"\": a reaction needs"),
            (|c| c.catalogue = vec!["\u{200b}".into()], "that can be seen"),
            (
                |c| c.cors_origins = vec!["https://a.example/".into()].into(),
                "cors_origins: must be \"*\", \"null\" or",
            ),
            (
                |c| c.cors_origins = vec!["a.example".into()].into(),
                "cors_origins: must be \"*\", \"null\" or",
            ),
            (|c| c.in_flight_per_partition = 0, "in_flight_per_partition: must be 1 to 64"),
            (|c| c.trusted_proxies = vec!["lb.example".into()], "trusted_proxies: must be addresses or"),
            (|c| c.subject_header = "X-Subject".into(), "subject_header: needs trusted_proxies"),
            (|c| c.subject_header = "a b".into(), "subject_header: must be the name of a header"),
            (
                |c| (c.reactions_per_s, c.reactions_burst) = (1, 999),
                "must be at least max_count (1000), is 999",
            ),
            (|c| c.max_tracked_clients = 63, "max_tracked_clients: must be 64 to"),
            (|c| c.idempotency_ttl_ms = 5_000, "idempotency_ttl_ms: must be above ack_timeout_ms (5000)"),
            (|c| c.max_idempotency_keys = 63, "max_idempotency_keys: must be 0 or at least 64, is 63"),
            (|c| c.ipv6_prefix_bits = 129, "ipv6_prefix_bits: must be 16 to 128"),
        ];
        for (change, expected) in cases {
            let found = violations(change);
            assert!(found.iter().any(|text| text.contains(expected)), "{expected}: {found:?}");
        }
    }

    #[test]
    fn a_tier_that_is_open_to_everything_says_what_to_set() {
        let warned = |change: fn(&mut Config)| {
            let mut config = config();
            change(&mut config);
            config.warning()
        };
        assert!(warned(|_| {}).is_some_and(|text| text.contains("set ingest.rooms, ingest.catalogue, or")));
        let changes: [fn(&mut Config); 4] = [
            |c| c.rooms = vec!["final".into()],
            |c| c.catalogue = vec!["🔥".into()],
            |c| c.rate_per_s = 1,
            |c| c.reactions_per_s = 1,
        ];
        assert!(changes.into_iter().all(|change| warned(change).is_none()));
    }

    #[test]
    fn all_violations_come_at_once() {
        let found = violations(|c| {
            c.listen = String::new();
            c.max_rooms = 0;
            c.rooms = vec!["#".into(), "é".into()];
        });
        assert_eq!(found.len(), 4, "{found:?}");
    }

    #[test]
    fn unknown_keys_are_errors() {
        let error = toml::from_str::<Config>("lissten = \"x\"").unwrap_err().to_string();
        assert!(error.contains("unknown field `lissten`"), "{error}");
    }
}
