//! Section `history`. The defaults stand in `config/default.toml`.

use serde::Deserialize;
use service::{
    config::{check_listen, check_range},
    cors::Origins,
};
use std::path::PathBuf;

/// How the history is served.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the caller serves [`crate::History::router`]: `host:port`.
    pub listen: String,
    /// Folder of the index, for a log that can't be searched.
    pub dir: PathBuf,
    /// Requests that are answered at a time; more are refused.
    pub max_queries: usize,
    /// Windows that one request may sum up; more are refused.
    pub max_windows: usize,
    /// Origins whose pages may read the history; `*`: all; empty: none but the own.
    pub cors_origins: Origins,
}

/// The section, with what the tier has to know of other sections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The section.
    pub config: Config,
    /// Length of a window: the shortest step.
    pub window_ms: u64,
    /// How long after its end a window stays open.
    pub grace_ms: u64,
    /// Partitions of the log.
    pub partitions: u32,
    /// How long windows are kept; 0: not at all.
    pub retention_ms: u64,
}

impl Config {
    /// Adds every violation as `(key, what would be right)`; keys are relative to this section.
    pub fn validate(&self, refuse: &mut dyn FnMut(&str, String)) {
        check_listen("listen", &self.listen, refuse);
        check_range("max_queries", self.max_queries as u64, (1, 64), refuse);
        check_range("max_windows", self.max_windows as u64, (1_000, 10_000_000), refuse);
        self.cors_origins.validate("cors_origins", refuse);
        if self.dir.as_os_str().is_empty() {
            refuse("dir", "must not be empty; \".\" is the current folder".into());
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn settings() -> Settings {
        let config = Config {
            listen: "127.0.0.1:0".into(),
            dir: "unused".into(),
            max_queries: 2,
            max_windows: 10_000,
            cors_origins: vec!["*".to_owned()].into(),
        };
        Settings { config, window_ms: 2_000, grace_ms: 50, partitions: 1, retention_ms: 604_800_000 }
    }

    #[test]
    fn every_violation_is_named_at_once() {
        let mut found = Vec::new();
        let mut validate = |config: &Config| config.validate(&mut |key, _| found.push(key.to_owned()));
        validate(&settings().config);
        validate(&Config {
            listen: "8082".into(),
            dir: "".into(),
            max_queries: 0,
            max_windows: 999,
            cors_origins: vec!["example.com".to_owned()].into(),
        });
        assert_eq!(found, ["listen", "max_queries", "max_windows", "cors_origins", "dir"]);
    }
}
