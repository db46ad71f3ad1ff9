//! The whole configuration: each crate's section, and what must hold between them.

use crate::cli::Role;
use eventlog::LogKind;
use serde::Deserialize;
use service::{
    config::{ConfigErrors, Sources, within},
    telemetry::LogOutput,
};

/// Every key with its default; the reference for operators.
pub(crate) const DEFAULTS: &str = include_str!("../config/default.toml");

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) service: ServiceConfig,
    pub(crate) http: service::http::Config,
    pub(crate) log_output: LogOutput,
    pub(crate) log: eventlog::Config,
    pub(crate) ingest: ingest::Config,
    pub(crate) aggregator: aggregator::Config,
    pub(crate) fanout: fanout::Config,
}

/// Section `service`: the process itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceConfig {
    /// Where `/metrics`, `/healthz` and `/readyz` are.
    pub(crate) admin_listen: String,
    /// How long a stop may take before the rest is cut off.
    pub(crate) stop_deadline_ms: u64,
}

/// Reads the layers and checks everything that `role` needs.
pub(crate) fn load(role: Role, sources: &Sources) -> Result<Config, ConfigErrors> {
    service::config::load(DEFAULTS, sources, |config: &Config, refuse| config.validate(role, refuse))
}

impl Config {
    fn validate(&self, role: Role, refuse: &mut dyn FnMut(&str, String)) {
        if self.service.admin_listen.parse::<std::net::SocketAddr>().is_err() {
            let text =
                format!("must be ADDRESS:PORT such as 127.0.0.1:9090, is {:?}", self.service.admin_listen);
            refuse("service.admin_listen", text);
        }
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
        self.http.validate(&mut within("http", refuse));
        self.log_output.validate(&mut within("log_output", refuse));
        self.log.validate(&mut within("log", refuse));
        self.ingest.validate(&mut within("ingest", refuse));
        self.aggregator.validate(&mut within("aggregator", refuse));
        self.fanout.validate(&mut within("fanout", refuse));
    }
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
            "http.max_connections=0",
            "log_output.level=loud",
            "service.admin_listen=localhost",
            "service.stop_deadline_ms=999",
            "x.y=1",
        ];
        let errors = with(Role::All, &sets).unwrap_err().to_string();
        for set in sets {
            let key = set.split_once('=').map_or(set, |(key, _)| key.trim_end_matches(".y"));
            assert!(errors.lines().any(|line| line.starts_with(&format!("{key} "))), "{key}: {errors}");
        }
    }
}
