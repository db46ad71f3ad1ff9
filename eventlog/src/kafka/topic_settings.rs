//! The topics: the settings of new ones, and which existing ones are refused.

use crate::{KafkaConfig, OpenError};

const MIN_INSYNC: &str = "min.insync.replicas";
const UNCLEAN: &str = "unclean.leader.election.enable";
const STAMPS: &str = "message.timestamp.type";
const CLEANUP: &str = "cleanup.policy";

/// A topic that this product uses: how it is created, and what an existing one has to be like.
pub(super) struct TopicPlan {
    pub(super) name: String,
    pub(super) partitions: u32,
    /// Settings of a new topic.
    pub(super) settings: Vec<(&'static str, String)>,
    /// Settings without which a promise breaks: an existing topic is refused where they differ.
    pub(super) required: &'static [Requirement],
}

/// A setting that an existing topic must have.
pub(super) struct Requirement {
    key: &'static str,
    value: &'static str,
    /// What would happen otherwise.
    why: &'static str,
}

/// The topics, in the order in which they are created.
///
/// `history_ms`: how long windows are kept; 0: there is no topic of them.
pub(super) fn plans(config: &KafkaConfig, partitions: u32, history_ms: u64) -> Vec<TopicPlan> {
    let mut plans = vec![reactions_topic(config, partitions), aggregates_topic(config, partitions)];
    if history_ms > 0 {
        plans.push(windows_topic(config, partitions, history_ms));
    }
    plans.push(control_topic(config));
    plans
}

fn reactions_topic(config: &KafkaConfig, partitions: u32) -> TopicPlan {
    let settings = vec![
        (CLEANUP, "delete".into()),
        (STAMPS, "LogAppendTime".into()),
        (MIN_INSYNC, config.min_insync.to_string()),
        (UNCLEAN, "false".into()),
        ("retention.ms", config.retention_ms.to_string()),
        // Only whole segments are deleted.
        ("segment.ms", (config.retention_ms / 4).max(60_000).to_string()),
    ];
    let required = &[
        Requirement { key: STAMPS, value: "LogAppendTime", why: "windows are cut by the log's own clock" },
        Requirement { key: CLEANUP, value: "delete", why: "compaction would drop reactions of a room" },
    ];
    TopicPlan { name: config.reactions_topic.clone(), partitions, settings, required }
}

fn aggregates_topic(config: &KafkaConfig, partitions: u32) -> TopicPlan {
    let settings = vec![
        (CLEANUP, "compact".into()),
        // Brokers refuse a record that its sender stamped more than an hour ahead: no window would come out.
        (STAMPS, "LogAppendTime".into()),
        (MIN_INSYNC, config.min_insync.to_string()),
        (UNCLEAN, "false".into()),
        // A new owner reads the whole topic. Only closed segments are compacted, so they are closed soon. A follower
        // that is a minute late still sees each window.
        ("segment.ms", "600000".into()),
        ("segment.bytes", "67108864".into()),
        ("min.cleanable.dirty.ratio", "0.2".into()),
        ("min.compaction.lag.ms", "60000".into()),
    ];
    let required =
        &[Requirement { key: CLEANUP, value: "compact", why: "totals would be lost with old records" }];
    TopicPlan { name: config.aggregates_topic.clone(), partitions, settings, required }
}

/// What it holds counts for ten seconds only, so it is deleted soon.
pub(super) fn occupancy_topic(config: &KafkaConfig) -> TopicPlan {
    let settings = vec![
        (CLEANUP, "delete".into()),
        // As for `aggregates`.
        (STAMPS, "LogAppendTime".into()),
        ("retention.ms", "600000".into()),
        // Only whole segments are deleted.
        ("segment.ms", "600000".into()),
    ];
    TopicPlan { name: config.occupancy_topic.clone(), partitions: 1, settings, required: &[] }
}

fn windows_topic(config: &KafkaConfig, partitions: u32, history_ms: u64) -> TopicPlan {
    let settings = vec![
        (CLEANUP, "delete".into()),
        // A window ages from when it was committed, whatever clocks said before.
        (STAMPS, "LogAppendTime".into()),
        (MIN_INSYNC, config.min_insync.to_string()),
        (UNCLEAN, "false".into()),
        ("retention.ms", history_ms.to_string()),
        // Only whole segments are deleted.
        ("segment.ms", (history_ms / 8).clamp(60_000, 86_400_000).to_string()),
    ];
    let required =
        &[Requirement { key: CLEANUP, value: "delete", why: "compaction would drop windows of a room" }];
    TopicPlan { name: config.windows_topic.clone(), partitions, settings, required }
}

/// Of one partition: what was ordered later is read later, whatever room it is of.
fn control_topic(config: &KafkaConfig) -> TopicPlan {
    let settings = vec![
        (CLEANUP, "compact".into()),
        (STAMPS, "LogAppendTime".into()),
        (MIN_INSYNC, config.min_insync.to_string()),
        (UNCLEAN, "false".into()),
        // Every process reads the whole topic when it starts. Only closed segments are compacted, so they are closed daily.
        ("segment.ms", "86400000".into()),
    ];
    let required =
        &[Requirement { key: CLEANUP, value: "compact", why: "orders would be lost with old records" }];
    TopicPlan { name: config.control_topic.clone(), partitions: 1, settings, required }
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
    /// A setting breaks a promise, or an acknowledged record could be lost with one broker. The text says why, and the
    /// command that mends it.
    pub(super) fn check(&self, config: &KafkaConfig, required: &[Requirement]) -> Result<(), OpenError> {
        for Requirement { key, value, why } in required {
            let is = (self.setting)(key).unwrap_or_default();
            if is != *value {
                return Err(self.refusal(key, &is, value, why));
            }
        }
        self.require_safe(config)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::tests::config;

    const HISTORY_MS: u64 = 7 * 86_400_000;

    /// Checks topics that are as they would be created, with `changes` (topic, setting, value).
    fn check(config: &KafkaConfig, replicas: usize, changes: &[(&str, &str, &str)]) -> Result<(), OpenError> {
        for plan in plans(config, 1, HISTORY_MS) {
            let setting = |key: &str| {
                let changed =
                    changes.iter().find(|(topic, changed, _)| *topic == plan.name && *changed == key);
                let created = plan.settings.iter().find(|(created, _)| *created == key);
                changed.map(|(.., value)| (*value).to_owned()).or(created.map(|(_, value)| value.clone()))
            };
            Topic { name: &plan.name, replicas, setting: &setting }.check(config, plan.required)?;
        }
        Ok(())
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
            ("windows", "cleanup.policy", "compact", "delete"),
            ("windows", MIN_INSYNC, "1", "2"),
            ("reactions", MIN_INSYNC, "1", "2"),
            ("aggregates", MIN_INSYNC, "1", "2"),
            ("aggregates", MIN_INSYNC, "4", "2"),
            ("reactions", UNCLEAN, "true", "false"),
            ("aggregates", UNCLEAN, "true", "false"),
            ("control", "cleanup.policy", "delete", "compact"),
            ("control", MIN_INSYNC, "1", "2"),
            ("control", UNCLEAN, "true", "false"),
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
        let two = ["reactions", "aggregates", "windows", "control"].map(|topic| (topic, MIN_INSYNC, "2"));
        assert!(check(&config, 3, &two).is_ok());
    }

    #[test]
    fn a_setting_that_the_brokers_do_not_tell_is_not_refused() {
        let (config, silent) = (config("x"), |_: &str| None);
        let topic = Topic { name: "t", replicas: 3, setting: &silent };
        assert!(topic.require_safe(&config).is_ok());
    }

    #[test]
    fn the_topic_of_viewers_has_one_partition_and_is_soon_deleted() {
        let TopicPlan { name, partitions, settings, .. } = occupancy_topic(&config("x"));
        assert_eq!((&*name, partitions), ("occupancy", 1));
        for setting in [("cleanup.policy", "delete"), ("retention.ms", "600000")] {
            assert!(settings.iter().any(|(key, value)| (*key, &**value) == setting), "{settings:?}");
        }
    }

    #[test]
    fn created_topics_are_stamped_by_the_brokers() {
        let config = config("x");
        for plan in plans(&config, 3, HISTORY_MS) {
            let stamped = (STAMPS, "LogAppendTime".to_owned());
            assert!(plan.settings.contains(&stamped), "{}", plan.name);
        }
    }

    #[test]
    fn windows_have_a_topic_only_where_history_is_kept() {
        let names = |history_ms| {
            let plans = plans(&config("x"), 1, history_ms).into_iter();
            plans.map(|plan| plan.name).collect::<Vec<_>>()
        };
        assert_eq!(names(0), ["reactions", "aggregates", "control"]);
        assert_eq!(names(HISTORY_MS), ["reactions", "aggregates", "windows", "control"]);
        let windows = windows_topic(&config("x"), 1, HISTORY_MS);
        assert!(windows.settings.contains(&("retention.ms", HISTORY_MS.to_string())));
    }
}
