//! Limits of a listener. The defaults stand in `config/default.toml`.

use crate::config::check_range;
use serde::Deserialize;
use std::thread::available_parallelism;

/// Section `http`: all public listeners.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Threads that serve connections; 0: as many as there are cores.
    pub threads: usize,
    /// A thread gets so many connections before the next one gets any.
    pub thread_fill_connections: usize,
    /// Connections at a time; more are answered 503 and closed. Those that became WebSockets don't count.
    pub max_connections: usize,
    /// The head of a request has to arrive within this, and the first one soon after the connection.
    pub header_timeout_ms: u64,
    /// A connection on which nothing moves for so long is closed, unless we owe it an answer, or the next part of one.
    pub idle_timeout_ms: u64,
    /// Longest head of a request.
    pub max_header_bytes: u32,
    /// HTTP/2: requests under way on a connection at a time.
    pub max_streams_per_connection: u32,
    /// Open files that connections leave to the rest of the process. No key: operators always find a few.
    #[serde(skip, default = "reserved_files")]
    pub reserved_files: u64,
}

fn reserved_files() -> u64 {
    crate::files::RESERVED
}

impl Config {
    /// For listeners that only operators reach, and for tests.
    pub fn private() -> Self {
        Self {
            threads: 1,
            thread_fill_connections: 1,
            max_connections: 1_000,
            header_timeout_ms: 10_000,
            idle_timeout_ms: 75_000,
            max_header_bytes: 16_384,
            max_streams_per_connection: 100,
            reserved_files: reserved_files() / 2,
        }
    }

    /// Adds every violation as `(key, what would be right)`; keys are relative to this section.
    pub fn validate(&self, refuse: &mut dyn FnMut(&str, String)) {
        for (key, value, least, most) in [
            ("threads", self.threads as u64, 0, 1_024),
            ("thread_fill_connections", self.thread_fill_connections as u64, 1, 100_000),
            ("max_connections", self.max_connections as u64, 1, 10_000_000),
            ("header_timeout_ms", self.header_timeout_ms, 1_000, 600_000),
            ("idle_timeout_ms", self.idle_timeout_ms, 1_000, 3_600_000),
            // hyper reads heads into a buffer of at least 8 KiB.
            ("max_header_bytes", self.max_header_bytes.into(), 8_192, 1 << 20),
            ("max_streams_per_connection", self.max_streams_per_connection.into(), 1, 100_000),
        ] {
            check_range(key, value, (least, most), refuse);
        }
    }

    pub(super) fn threads(&self) -> usize {
        match self.threads {
            0 => available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_bounds_that_are_said() {
        type Change = fn(&mut Config);
        let cases: [(Change, &str); 8] = [
            (|c| c.threads = 1_025, "threads must be 0 to 1024, is 1025"),
            (|c| c.thread_fill_connections = 0, "thread_fill_connections must be 1 to 100000, is 0"),
            (|c| c.max_connections = 0, "max_connections must be 1 to 10000000, is 0"),
            (|c| c.header_timeout_ms = 999, "header_timeout_ms must be 1000 to 600000, is 999"),
            (|c| c.idle_timeout_ms = 999, "idle_timeout_ms must be 1000 to 3600000, is 999"),
            (|c| c.max_header_bytes = 8_191, "max_header_bytes must be 8192 to 1048576, is 8191"),
            (|c| c.max_streams_per_connection = 0, "max_streams_per_connection must be 1 to 100000, is 0"),
            (|c| (c.threads, c.max_header_bytes) = (0, 1 << 20), ""),
        ];
        for (change, expected) in cases {
            let (mut config, mut refused) = (Config::private(), Vec::new());
            change(&mut config);
            config.validate(&mut |key, problem| refused.push(format!("{key} {problem}")));
            assert_eq!(refused.join("; "), expected);
        }
    }

    #[test]
    fn there_are_as_many_threads_as_are_wanted_or_as_there_are_cores() {
        let threads = |threads| Config { threads, ..Config::private() }.threads();
        assert_eq!(threads(3), 3);
        assert_eq!(threads(0), available_parallelism().unwrap().get());
    }
}
