//! Which log, and how it is kept. The defaults stand in `config/default.toml`.

use crate::kafka;
use serde::Deserialize;
use std::{collections::BTreeMap, ops::RangeInclusive, path::PathBuf};

/// Handovers that may wait at the most: more would bound nothing, and a channel takes no number beyond 2^61.
const MAX_QUEUED: usize = 1_000_000;

/// How long windows may be kept: a minute to ten years. A shorter time would take windows that are just shown.
const HISTORY_MS: RangeInclusive<u64> = 60_000..=315_360_000_000;

/// Section `log`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The adapter.
    pub kind: LogKind,
    /// Partitions of all topics. They must not change while the topics hold anything.
    pub partitions: u32,
    /// How long `windows`, the history, is kept. 0: not at all.
    pub history_retention_ms: u64,
    /// Options of the embedded log.
    pub embedded: EmbeddedConfig,
    /// Options of Kafka.
    pub kafka: KafkaConfig,
}

/// The adapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogKind {
    /// A durable log inside this process.
    Embedded,
    /// Apache Kafka.
    Kafka,
}

/// Section `log.embedded`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddedConfig {
    /// Folder of the log's files.
    pub dir: PathBuf,
    /// Reactions that are rolled up and older than this are deleted.
    pub retention_ms: u64,
    /// SQLite's cache of aggregates.
    pub cache_mib: u64,
    /// How many calls of `send` may wait for the disk; the appends of more are refused.
    pub max_queued: usize,
}

/// Section `log.kafka`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Bootstrap servers: `host:port`, separated by commas.
    pub brokers: String,
    /// Topic of batches.
    pub reactions_topic: String,
    /// Topic of aggregates.
    pub aggregates_topic: String,
    /// Topic of the viewers that each fanout process has.
    pub occupancy_topic: String,
    /// Topic of windows.
    pub windows_topic: String,
    /// Topic of operators' orders.
    pub control_topic: String,
    /// Create the topics where they are missing.
    pub create_topics: bool,
    /// Replicas of a created topic.
    pub replication: u16,
    /// `min.insync.replicas` of a created topic.
    pub min_insync: u16,
    /// How long a created topic `reactions` keeps its records.
    pub retention_ms: u64,
    /// Consumer group of the aggregators.
    pub group: String,
    /// Stable name of this aggregator within the group; empty: the host's name.
    pub instance_id: String,
    /// A member that is silent for so long loses its partitions.
    pub session_timeout_ms: u32,
    /// A transaction that is left open is aborted by the coordinator after this.
    pub transaction_timeout_ms: u32,
    /// A record that could not be delivered for so long is given up; its outcome is unknown.
    pub delivery_timeout_ms: u32,
    /// How long the client library waits for more records before it sends a request.
    pub linger_ms: u32,
    /// Requests don't append their batches sooner than this after the last ones, even if nobody else is expected.
    pub min_commit_pause_ms: u32,
    /// Compression of records: none, lz4, zstd, snappy, gzip.
    pub compression: String,
    /// Memory for records that wait to be sent.
    pub max_queued_mib: u32,
    /// Handed to librdkafka as they are (TLS, SASL, anything it knows), for all clients.
    pub options: BTreeMap<String, String>,
}

impl Config {
    /// Adds every violation as `(key, what would be right)`; keys are relative to this section.
    pub fn validate(&self, refuse: &mut dyn FnMut(&str, String)) {
        if !(1..=4_096).contains(&self.partitions) {
            refuse("partitions", format!("must be 1 to 4096, is {}", self.partitions));
        }
        let history_ms = self.history_retention_ms;
        if history_ms != 0 && !HISTORY_MS.contains(&history_ms) {
            let (least, most) = (HISTORY_MS.start(), HISTORY_MS.end());
            refuse("history_retention_ms", format!("must be 0, or {least} to {most}, is {history_ms}"));
        }
        match self.kind {
            LogKind::Embedded => self.embedded.validate(refuse),
            LogKind::Kafka => self.kafka.validate(refuse),
        }
    }
}

impl EmbeddedConfig {
    fn validate(&self, refuse: &mut dyn FnMut(&str, String)) {
        if self.retention_ms < 1_000 {
            refuse("embedded.retention_ms", format!("must be at least 1000, is {}", self.retention_ms));
        }
        if !(1..=65_536).contains(&self.cache_mib) {
            refuse("embedded.cache_mib", format!("must be 1 to 65536, is {}", self.cache_mib));
        }
        if !(1..=MAX_QUEUED).contains(&self.max_queued) {
            refuse("embedded.max_queued", format!("must be 1 to {MAX_QUEUED}, is {}", self.max_queued));
        }
        if self.dir.as_os_str().is_empty() {
            refuse("embedded.dir", "must not be empty; \".\" is the current folder".into());
        }
    }
}

impl KafkaConfig {
    fn validate_topics(&self, refuse: &mut dyn FnMut(&str, String)) {
        let topics = [
            ("kafka.reactions_topic", &self.reactions_topic),
            ("kafka.aggregates_topic", &self.aggregates_topic),
            ("kafka.occupancy_topic", &self.occupancy_topic),
            ("kafka.windows_topic", &self.windows_topic),
            ("kafka.control_topic", &self.control_topic),
        ];
        for (at, (key, topic)) in topics.into_iter().enumerate() {
            if topic.trim().is_empty() {
                refuse(key, "must not be empty".into());
            } else if let Some((other, _)) = topics[..at].iter().find(|(_, other)| *other == topic) {
                refuse(key, format!("must differ from {other}"));
            }
        }
    }

    fn validate(&self, refuse: &mut dyn FnMut(&str, String)) {
        for (key, value) in [("kafka.brokers", &self.brokers), ("kafka.group", &self.group)] {
            if value.trim().is_empty() {
                refuse(key, "must not be empty".into());
            }
        }
        self.validate_topics(refuse);
        if self.replication == 0 {
            refuse("kafka.replication", "must be at least 1".into());
        }
        if self.min_insync == 0 || self.min_insync > self.replication {
            let text =
                format!("must be 1 to kafka.replication ({}), is {}", self.replication, self.min_insync);
            refuse("kafka.min_insync", text);
        }
        if self.min_insync == 1 && self.replication > 1 {
            let text = format!(
                "must be at least 2 with kafka.replication {}: an acknowledged record would be lost with the one broker that \
                 has it",
                self.replication
            );
            refuse("kafka.min_insync", text);
        }
        let known = ["none", "lz4", "zstd", "snappy", "gzip"];
        if !known.contains(&self.compression.as_str()) {
            refuse(
                "kafka.compression",
                format!("must be one of {}, is {:?}", known.join(", "), self.compression),
            );
        }
        for (key, value, least) in [
            ("kafka.session_timeout_ms", self.session_timeout_ms, 1_000),
            ("kafka.transaction_timeout_ms", self.transaction_timeout_ms, 1_000),
            ("kafka.delivery_timeout_ms", self.delivery_timeout_ms, 1_000),
            ("kafka.max_queued_mib", self.max_queued_mib, 1),
        ] {
            if value < least {
                refuse(key, format!("must be at least {least}, is {value}"));
            }
        }
        let (transaction_ms, session_ms) = (self.transaction_timeout_ms, self.session_timeout_ms);
        if transaction_ms > session_ms {
            let text = format!(
                "must be at most kafka.session_timeout_ms ({session_ms}), is {transaction_ms}: whoever takes the partitions of \
                 a dead aggregator over would wait for the transaction that it left open"
            );
            refuse("kafka.transaction_timeout_ms", text);
        }
        for (key, value) in &self.options {
            if let Some(problem) = kafka::refused(key, value) {
                refuse(&format!("kafka.options.{key}"), problem);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut KafkaConfig)) -> Vec<String> {
        let mut config = crate::kafka::tests::config("127.0.0.1:9092");
        change(&mut config);
        let mut all = Vec::new();
        config.validate(&mut |key, text| all.push(format!("{key} {text}")));
        all
    }

    #[test]
    fn the_topic_of_viewers_is_none_of_the_others() {
        for topic in ["reactions", "aggregates"] {
            let all = refused(|config| config.occupancy_topic = topic.into());
            assert_eq!(all.len(), 1, "{all:?}");
            assert!(all[0].starts_with("kafka.occupancy_topic must differ"), "{all:?}");
        }
        let all = refused(|config| config.occupancy_topic = " ".into());
        assert_eq!(all, ["kafka.occupancy_topic must not be empty"]);
    }

    #[test]
    fn an_acknowledged_record_is_on_two_of_several_brokers() {
        assert!(refused(|config| (config.replication, config.min_insync) = (1, 1)).is_empty());
        let all = refused(|config| (config.replication, config.min_insync) = (3, 1));
        assert!(all.len() == 1 && all[0].contains("kafka.min_insync must be at least 2"), "{all:?}");
    }

    #[test]
    fn a_transaction_may_not_outlive_the_session_of_who_left_it_open() {
        assert!(refused(|config| config.transaction_timeout_ms = config.session_timeout_ms).is_empty());
        let all = refused(|config| config.transaction_timeout_ms = config.session_timeout_ms + 1);
        assert_eq!(all.len(), 1);
        assert!(
            all[0]
                .starts_with("kafka.transaction_timeout_ms must be at most kafka.session_timeout_ms (10000)")
                && all[0].contains("would wait"),
            "{all:?}"
        );
    }

    #[test]
    fn every_option_that_no_client_could_be_made_with_is_named_and_no_value_that_may_be_secret() {
        let options = [("acks", "1"), ("sasl.pasword", "secret"), ("debug", "some"), ("client.rack", "a")];
        let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let all = refused(|config| config.options = options.into());
        let text = all.join("\n");
        assert_eq!(all.len(), 3, "{text}");
        assert!(text.contains("kafka.options.acks may not be set: an acknowledged record"), "{text}");
        assert!(text.contains("kafka.options.sasl.pasword is refused by librdkafka: No such"), "{text}");
        assert!(text.contains("kafka.options.debug is refused") && !text.contains("secret"), "{text}");
    }
}
