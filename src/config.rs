//! The whole configuration: each crate's section, and what must hold between them.

use crate::cli::Role;
use eventlog::LogKind;
use serde::Deserialize;
use service::{
    config::{ConfigErrors, Sources, check_listen, check_path, check_range, within},
    telemetry::LogOutput,
};

/// Every key with its default; the reference for operators.
pub(crate) const DEFAULTS: &str = include_str!("../config/default.toml");

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) service: ServiceConfig,
    pub(crate) admin: control::admin::Config,
    pub(crate) http: service::http::Config,
    pub(crate) log_output: LogOutput,
    pub(crate) log: eventlog::Config,
    pub(crate) ingest: ingest::Config,
    pub(crate) aggregator: aggregator::Config,
    pub(crate) fanout: fanout::Config,
    pub(crate) history: history::Config,
}

/// Section `service`: the process itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceConfig {
    /// Where `/metrics`, `/healthz` and `/readyz` are.
    pub(crate) admin_listen: String,
    /// Host names with a dot by which they may be asked there.
    pub(crate) admin_hosts: Vec<String>,
    /// Between a stop signal and the stop: the process is not ready, and serves as before.
    pub(crate) stop_delay_ms: u64,
    /// How long the stop itself may take before the rest is cut off.
    pub(crate) stop_deadline_ms: u64,
}

/// Reads the layers and checks everything that `role` needs.
pub(crate) fn load(role: Role, sources: &Sources) -> Result<Config, ConfigErrors> {
    service::config::load(DEFAULTS, sources, |config: &Config, refuse| config.validate(role, refuse))
}

/// The values of the layers as an operator may see them.
pub(crate) fn shown(sources: &Sources) -> String {
    service::config::shown(DEFAULTS, sources)
}

impl Config {
    fn validate(&self, role: Role, refuse: &mut dyn FnMut(&str, String)) {
        check_listen("service.admin_listen", &self.service.admin_listen, refuse);
        check_range("service.stop_delay_ms", self.service.stop_delay_ms, (0, 600_000), refuse);
        if self.service.stop_deadline_ms < 1_000 {
            let text = format!("must be at least 1000, is {}", self.service.stop_deadline_ms);
            refuse("service.stop_deadline_ms", text);
        }
        if role != Role::All && self.log.kind == LogKind::Embedded {
            let text = format!(
                "must be \"kafka\" for `uproar {}`: the embedded log serves one process, which `uproar all` is",
                role.name()
            );
            refuse("log.kind", text);
        }
        self.admin.validate(&mut within("admin", refuse));
        self.http.validate(&mut within("http", refuse));
        self.log_output.validate(&mut within("log_output", refuse));
        self.log.validate(&mut within("log", refuse));
        self.ingest.validate(&mut within("ingest", refuse));
        self.aggregator.validate(&mut within("aggregator", refuse));
        self.fanout.validate(&mut within("fanout", refuse));
        self.history.validate(&mut within("history", refuse));
        self.check_listeners(role, refuse);
        self.check_paths(refuse);
        self.check_idempotency(role, refuse);
    }

    /// The listeners of one process can't share a port.
    fn check_listeners(&self, role: Role, refuse: &mut dyn FnMut(&str, String)) {
        let listeners = self.listeners(role);
        for (index, (key, address)) in listeners.iter().enumerate() {
            if let Some((other, _)) = listeners[..index].iter().find(|(_, other)| collide(other, address)) {
                refuse(
                    key,
                    format!("must be another address than {other}: both are {address:?} or a part of it"),
                );
            }
        }
    }

    /// Where a process of `role` listens.
    fn listeners(&self, role: Role) -> Vec<(&'static str, &str)> {
        let (fanout, watches) = (&self.fanout, matches!(role, Role::All | Role::Fanout));
        [
            (true, "service.admin_listen", &self.service.admin_listen),
            (matches!(role, Role::All | Role::Ingest), "ingest.listen", &self.ingest.listen),
            (role == Role::Fanout, "fanout.listen", &fanout.listen),
            (role == Role::History, "history.listen", &self.history.listen),
            (watches && fanout.mqtt.enabled, "fanout.mqtt.listen", &fanout.mqtt.listen),
            (watches && fanout.broker.enabled, "fanout.broker.listen", &fanout.broker.listen),
        ]
        .into_iter()
        .filter_map(|(is_there, key, address)| is_there.then_some((key, address.as_str())))
        .collect()
    }

    fn check_paths(&self, refuse: &mut dyn FnMut(&str, String)) {
        check_path("log.embedded.dir", &self.log.embedded.dir.to_string_lossy(), refuse);
        check_path("history.dir", &self.history.dir.to_string_lossy(), refuse);
        check_path("fanout.bridge.ca_file", &self.fanout.bridge.ca_file.to_string_lossy(), refuse);
        for (key, path) in self.log.kafka.options.iter().filter(|(key, _)| key.ends_with(".location")) {
            check_path(&format!("log.kafka.options.{key}"), path, refuse);
        }
    }

    /// A repeat that comes when its key is forgotten counts again. The first one must be decided by then.
    fn check_idempotency(&self, role: Role, refuse: &mut dyn FnMut(&str, String)) {
        let takes_posts = matches!(role, Role::All | Role::Ingest);
        let (ttl_ms, ingest) = (self.ingest.idempotency_ttl_ms, &self.ingest);
        let decided_ms = u64::from(self.log.kafka.delivery_timeout_ms).saturating_add(ingest.ack_timeout_ms);
        if takes_posts
            && self.log.kind == LogKind::Kafka
            && ingest.max_idempotency_keys > 0
            && ttl_ms < decided_ms
        {
            let text = format!(
                "must be at least log.kafka.delivery_timeout_ms + ingest.ack_timeout_ms ({decided_ms}), is {ttl_ms}: Kafka may \
                 still write a record whose key is forgotten, and its repeat would count again"
            );
            refuse("ingest.idempotency_ttl_ms", text);
        }
    }
}

/// Whether two listeners would take each other's port.
fn collide(left: &str, right: &str) -> bool {
    let (Some((left_host, left_port)), Some((right_host, right_port))) =
        (left.rsplit_once(':'), right.rsplit_once(':'))
    else {
        return false;
    };
    // The system chooses a port of its own for each that asks for 0.
    let port = left_port.parse::<u16>().ok().filter(|port| *port != 0);
    if port.is_none() || port != right_port.parse::<u16>().ok() {
        return false;
    }
    let is_every = |host: &str| matches!(host, "0.0.0.0" | "[::]");
    let address = |host: &str| {
        if host.eq_ignore_ascii_case("localhost") { "127.0.0.1".into() } else { host.to_lowercase() }
    };
    is_every(left_host) || is_every(right_host) || address(left_host) == address(right_host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(role: Role, sets: &[&str]) -> Result<Config, ConfigErrors> {
        let sets = sets.iter().map(|set| (*set).to_owned()).collect();
        load(role, &Sources { sets, ..Sources::default() })
    }

    #[test]
    fn the_defaults_are_right() {
        assert!(with(Role::All, &[]).is_ok());
    }

    #[test]
    fn a_single_tier_needs_kafka_and_says_so() {
        let errors = with(Role::Ingest, &[]).unwrap_err().to_string();
        assert!(errors.contains("log.kind must be \"kafka\" for `uproar ingest`"), "{errors}");
        assert!(with(Role::Ingest, &["log.kind=kafka"]).is_ok());
    }

    #[test]
    fn errors_of_all_sections_come_at_once() {
        let sets = [
            "aggregator.interval_ms=5",
            "log.partitions=0",
            "ingest.max_count=0",
            "fanout.top_n=0",
            "history.max_queries=0",
            "http.max_connections=0",
            "log_output.level=loud",
            "service.admin_listen=localhost",
            "service.stop_delay_ms=600001",
            "service.stop_deadline_ms=999",
            "admin.operate_token=short",
            "x.y=1",
        ];
        let errors = with(Role::All, &sets).unwrap_err().to_string();
        for set in sets {
            let key = set.split_once('=').map_or(set, |(key, _)| key.trim_end_matches(".y"));
            assert!(errors.lines().any(|line| line.starts_with(&format!("{key} "))), "{key}: {errors}");
        }
    }
    fn refused(role: Role, sets: &[&str]) -> String {
        with(role, sets).err().map(|errors| errors.to_string()).unwrap_or_default()
    }

    #[test]
    fn listeners_of_one_process_have_addresses_of_their_own() {
        for (role, sets, key) in [
            (
                Role::All,
                &["service.admin_listen=0.0.0.0:8080"][..],
                "ingest.listen must be another address than service.admin_listen",
            ),
            (Role::All, &["service.admin_listen=127.0.0.1:8080"], "ingest.listen must be another address"),
            (
                Role::All,
                &["fanout.mqtt.listen=127.0.0.1:8080"],
                "fanout.mqtt.listen must be another address than ingest.listen",
            ),
            (
                Role::All,
                &["fanout.broker.enabled=true", "fanout.broker.listen=127.0.0.1:1883"],
                "fanout.broker.listen must be another address than fanout.mqtt.listen",
            ),
            (
                Role::All,
                &["service.admin_listen=localhost:7000", "ingest.listen=127.0.0.1:7000"],
                "ingest.listen must be another address",
            ),
            (
                Role::Fanout,
                &["log.kind=kafka", "fanout.listen=[::]:1883"],
                "fanout.mqtt.listen must be another address",
            ),
        ] {
            let errors = refused(role, sets);
            assert!(errors.starts_with(key), "{sets:?}: {errors}");
        }
        for (role, sets) in [
            // Each is of another process, or off, or another address, or chosen by the system.
            (Role::All, &["fanout.listen=0.0.0.0:8080"][..]),
            (Role::Ingest, &["log.kind=kafka", "fanout.mqtt.listen=0.0.0.0:8080"]),
            (Role::All, &["fanout.mqtt.enabled=false", "fanout.mqtt.listen=0.0.0.0:8080"]),
            (Role::All, &["ingest.listen=127.0.0.2:9090"]),
            (
                Role::All,
                &[
                    "ingest.listen=127.0.0.1:0",
                    "service.admin_listen=127.0.0.1:0",
                    "fanout.mqtt.listen=127.0.0.1:0",
                ],
            ),
        ] {
            assert_eq!(refused(role, sets), "", "{sets:?}");
        }
    }

    #[test]
    fn a_path_that_a_shell_should_have_expanded_is_refused() {
        for set in [
            "log.embedded.dir=~/x",
            "history.dir=~/x",
            "fanout.bridge.ca_file=~/ca.pem",
            "log.kafka.options.ssl.ca.location=~/ca.pem",
        ] {
            let errors = refused(Role::All, &[set]);
            let key = set.split_once('=').unwrap().0;
            assert!(errors.contains(&format!("{key} must be a whole path")), "{set}: {errors}");
        }
    }

    #[test]
    fn a_key_is_remembered_until_kafka_has_given_its_record_up() {
        let short = ["log.kind=kafka", "ingest.idempotency_ttl_ms=34999"];
        let errors = refused(Role::Ingest, &short);
        assert!(errors.starts_with("ingest.idempotency_ttl_ms must be at least"), "{errors}");
        assert_eq!(refused(Role::Ingest, &["log.kind=kafka", "ingest.idempotency_ttl_ms=35000"]), "");
        assert_eq!(refused(Role::Fanout, &short), "");
        assert_eq!(refused(Role::All, &["ingest.idempotency_ttl_ms=34999"]), "");
        assert_eq!(refused(Role::Ingest, &[short[0], short[1], "ingest.max_idempotency_keys=0"]), "");
    }

    #[test]
    fn no_error_quotes_a_secret() {
        let secrets = [
            "fanout.bridge.password=[\"hunter2\"]",
            "fanout.bridge.username=hunter2",
            "log.kafka.options.sasl.password=hunter2",
            "log.kafka.options.sasl.pasword=hunter2",
            "log.kafka.options.ssl.key.password=hunter2",
            "fanout.bridge.passwrd=hunter2",
            "fanout.bridge=hunter2",
            "fanout.bridge.qos=9",
            "admin.view_token=hunter2",
            "admin.produce_token=[\"hunter2\"]",
            "admin.tokn=hunter2",
            "log.kind=kafka",
        ];
        for role in [Role::All, Role::Fanout] {
            let errors = refused(role, &secrets);
            assert!(!errors.is_empty() && !errors.contains("hunter2"), "{errors}");
        }
    }
}
