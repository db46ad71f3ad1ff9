//! What the settings of the two topics have to be: those of new ones, and which of existing ones are refused.

use crate::{KafkaConfig, OpenError};

const MIN_INSYNC: &str = "min.insync.replicas";
const UNCLEAN: &str = "unclean.leader.election.enable";

/// A topic to be created.
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) partitions: u32,
    pub(super) settings: Vec<(&'static str, String)>,
}

pub(super) fn reactions_topic(config: &KafkaConfig, partitions: u32) -> Plan {
    let settings = vec![
        ("cleanup.policy", "delete".into()),
        ("message.timestamp.type", "LogAppendTime".into()),
        (MIN_INSYNC, config.min_insync.to_string()),
        (UNCLEAN, "false".into()),
        ("retention.ms", config.retention_ms.to_string()),
        // Only whole segments are deleted.
        ("segment.ms", (config.retention_ms / 4).max(60_000).to_string()),
    ];
    Plan { name: config.reactions_topic.clone(), partitions, settings }
}

pub(super) fn aggregates_topic(config: &KafkaConfig, partitions: u32) -> Plan {
    let settings = vec![
        ("cleanup.policy", "compact".into()),
        // Brokers refuse a record that its sender stamped more than an hour ahead: no window would come out.
        ("message.timestamp.type", "LogAppendTime".into()),
        (MIN_INSYNC, config.min_insync.to_string()),
        (UNCLEAN, "false".into()),
        // A new owner reads the whole topic. Only closed segments are compacted, so they are closed soon. A follower
        // that is a minute late still sees each window.
        ("segment.ms", "600000".into()),
        ("segment.bytes", "67108864".into()),
        ("min.cleanable.dirty.ratio", "0.2".into()),
        ("min.compaction.lag.ms", "60000".into()),
    ];
    Plan { name: config.aggregates_topic.clone(), partitions, settings }
}

/// A topic that exists.
pub(super) struct Topic<'a> {
    pub(super) name: &'a str,
    /// Of the partition that has the fewest.
    pub(super) replicas: usize,
    /// `None`: the brokers do not tell.
    pub(super) setting: &'a dyn Fn(&str) -> Option<String>,
}

impl Topic<'_> {
    /// # Errors
    ///
    /// The setting is not what it has to be. The text says why, and the command that mends it.
    fn require(&self, key: &str, needs: &str, why: &str) -> Result<(), OpenError> {
        let is = (self.setting)(key).unwrap_or_default();
        if is == needs { Ok(()) } else { Err(self.refusal(key, &is, needs, why)) }
    }

    fn refusal(&self, key: &str, is: &str, needs: &str, why: &str) -> OpenError {
        let name = self.name;
        OpenError::Invalid(format!(
            "topic {name} has {key}={is}, but {why}: set it to {needs} (kafka-configs --alter --entity-type topics \
             --entity-name {name} --add-config {key}={needs})"
        ))
    }

    /// Refuses a topic whose acknowledged records can be lost with one broker.
    fn require_safe(&self, config: &KafkaConfig) -> Result<(), OpenError> {
        let (name, replicas, least) = (self.name, self.replicas, usize::from(config.min_insync));
        if replicas < least {
            return Err(OpenError::Invalid(format!(
                "topic {name} has {replicas} replica(s), but log.kafka.min_insync is {least}: a record can't be on that many \
                 brokers. Add replicas (kafka-reassign-partitions), or create the topic again with \
                 log.kafka.replication={}",
                config.replication
            )));
        }
        let needs = if replicas > 1 { least.max(2) } else { least };
        match (self.setting)(MIN_INSYNC).map(|is| is.parse::<usize>()) {
            Some(Ok(is)) if is < needs => {
                let why = "an acknowledged record could be on fewer brokers than log.kafka.min_insync";
                return Err(self.refusal(MIN_INSYNC, &is.to_string(), &needs.to_string(), why));
            }
            Some(Ok(is)) if is > replicas => {
                let why = format!("it has {replicas} replica(s), so that no record could be written");
                return Err(self.refusal(MIN_INSYNC, &is.to_string(), &needs.to_string(), &why));
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => tracing::warn!(
                topic = name,
                setting = MIN_INSYNC,
                "the brokers do not tell this setting: make sure that acknowledged records survive the loss of a broker"
            ),
        }
        match (self.setting)(UNCLEAN) {
            Some(is) if is == "true" => {
                let why = "a broker that lacks acknowledged records could become a leader";
                Err(self.refusal(UNCLEAN, &is, "false", why))
            }
            _ => Ok(()),
        }
    }
}

/// Refuses topics that break a promise.
pub(super) fn refuse_settings(
    config: &KafkaConfig,
    reactions: &Topic<'_>,
    aggregates: &Topic<'_>,
) -> Result<(), OpenError> {
    let (stamps, cleanup) = ("message.timestamp.type", "cleanup.policy");
    reactions.require(stamps, "LogAppendTime", "windows are cut by the log's own clock")?;
    reactions.require(cleanup, "delete", "compaction would drop reactions of a room")?;
    aggregates.require(cleanup, "compact", "totals would be lost with old records")?;
    reactions.require_safe(config)?;
    aggregates.require_safe(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::tests::config;

    /// Checks topics that are as they would be created, with `changes` (topic, setting, value).
    fn check(config: &KafkaConfig, replicas: usize, changes: &[(&str, &str, &str)]) -> Result<(), OpenError> {
        let plans = [reactions_topic(config, 1), aggregates_topic(config, 1)];
        let setting = |plan: &Plan, key: &str| {
            let changed = changes.iter().find(|(topic, changed, _)| *topic == plan.name && *changed == key);
            let created = plan.settings.iter().find(|(created, _)| *created == key);
            changed.map(|(.., value)| (*value).to_owned()).or(created.map(|(_, value)| value.clone()))
        };
        let (reactions, aggregates) =
            (|key: &str| setting(&plans[0], key), |key: &str| setting(&plans[1], key));
        refuse_settings(
            config,
            &Topic { name: &plans[0].name, replicas, setting: &reactions },
            &Topic { name: &plans[1].name, replicas, setting: &aggregates },
        )
    }

    #[test]
    fn created_topics_are_accepted_with_many_brokers_and_with_one() {
        let mut config = config("x");
        assert!(check(&config, 3, &[]).is_ok());
        (config.replication, config.min_insync) = (1, 1);
        assert!(check(&config, 1, &[]).is_ok());
    }

    #[test]
    fn topics_that_break_a_promise_are_refused_with_what_to_do() {
        for (topic, key, value, needs) in [
            ("reactions", "message.timestamp.type", "CreateTime", "LogAppendTime"),
            ("reactions", "cleanup.policy", "compact", "delete"),
            ("aggregates", "cleanup.policy", "delete", "compact"),
            ("reactions", MIN_INSYNC, "1", "2"),
            ("aggregates", MIN_INSYNC, "1", "2"),
            ("aggregates", MIN_INSYNC, "4", "2"),
            ("reactions", UNCLEAN, "true", "false"),
            ("aggregates", UNCLEAN, "true", "false"),
        ] {
            let error = check(&config("x"), 3, &[(topic, key, value)]).unwrap_err();
            assert!(matches!(error, OpenError::Invalid(_)));
            let remedy = format!("--entity-name {topic} --add-config {key}={needs}");
            assert!(error.to_string().contains(&remedy), "{error}");
        }
    }

    #[test]
    fn replicas_that_can_be_lost_at_once_are_refused() {
        let mut config = config("x");
        let error = check(&config, 1, &[("reactions", MIN_INSYNC, "1")]).unwrap_err();
        assert!(error.to_string().contains("has 1 replica(s), but log.kafka.min_insync is 2"), "{error}");
        config.min_insync = 1;
        let error = check(&config, 3, &[]).unwrap_err();
        assert!(error.to_string().contains("--add-config min.insync.replicas=2"), "{error}");
        assert!(
            check(&config, 3, &[("reactions", MIN_INSYNC, "2"), ("aggregates", MIN_INSYNC, "3")]).is_ok()
        );
    }

    #[test]
    fn a_setting_that_the_brokers_do_not_tell_is_not_refused() {
        let (config, silent) = (config("x"), |_: &str| None);
        let topic = Topic { name: "t", replicas: 3, setting: &silent };
        assert!(topic.require_safe(&config).is_ok());
    }

    #[test]
    fn created_topics_are_stamped_by_the_brokers() {
        let config = config("x");
        for plan in [reactions_topic(&config, 3), aggregates_topic(&config, 3)] {
            let stamped = ("message.timestamp.type", "LogAppendTime".to_owned());
            assert!(plan.settings.contains(&stamped), "{}", plan.name);
        }
    }
}
