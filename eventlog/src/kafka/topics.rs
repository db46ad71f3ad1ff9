//! The two topics: made where they are missing, and checked for what the promises need of them.

use super::{
    client::{Clients, Isolation, LogContext, Reader, Role, left_until},
    errors::{open_code, open_error},
};
use crate::{KafkaConfig, OpenError};
use rdkafka::{
    admin::{
        AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
        TopicReplication,
    },
    consumer::Consumer,
    error::{KafkaError, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};
use std::{
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::Handle;

/// How long the first answer of the brokers may take.
pub(super) const FIRST_ANSWER: Duration = Duration::from_secs(8);
/// How long all of it may take.
const IN_ALL: Duration = Duration::from_secs(25);
const PAUSE: Duration = Duration::from_millis(50);
/// How long a client is listened to after a request failed.
const HEAR: Duration = Duration::from_millis(100);
/// What the thread that does it gets.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// Makes sure that both topics are there and fit. Blocks.
pub(super) fn prepare(clients: &Clients, partitions: u32, runtime: &Handle) -> Result<(), OpenError> {
    let config = &clients.config;
    let deadline = Instant::now() + IN_ALL;
    let reader = clients.reader(Role::Admin, Isolation::Committed)?;
    let admin: AdminClient<LogContext> =
        clients.create(&clients.base_config(Role::Admin), LogContext::new(Role::Admin))?;
    let size = |topic: &str| size(&reader, topic, &format!("asking {} for topic {topic}", config.brokers));
    let reactions = size(&config.reactions_topic)?;
    let aggregates = size(&config.aggregates_topic)?;
    refuse_partitions(config, partitions, reactions, aggregates)?;
    if reactions.is_none() {
        create(&admin, config, &reactions_topic(config, partitions), runtime)?;
    }
    if aggregates.is_none() {
        create(&admin, config, &aggregates_topic(config, partitions), runtime)?;
    }
    // Another process may have made them meanwhile.
    let reactions = await_topic(&reader, &config.reactions_topic, deadline)?;
    let aggregates = await_topic(&reader, &config.aggregates_topic, deadline)?;
    refuse_partitions(config, partitions, Some(reactions), Some(aggregates))?;
    check_settings(&admin, config, runtime, deadline)
}

/// Refuses topics, as far as they are there, that don't have `partitions`.
fn refuse_partitions(
    config: &KafkaConfig,
    partitions: u32,
    reactions: Option<u32>,
    aggregates: Option<u32>,
) -> Result<(), OpenError> {
    if [reactions, aggregates].into_iter().flatten().all(|count| count == partitions) {
        return Ok(());
    }
    let told =
        |count: Option<u32>| count.map_or("does not exist".into(), |count| format!("has {count} partitions"));
    Err(OpenError::Invalid(format!(
        "topic {} {}, topic {} {}, and log.partitions is {partitions}: all must be the same, for a room's partition follows \
         from the number, and partition p of the one is rolled up into partition p of the other. Set log.partitions to \
         the number of new topics; that of topics in use can't change (docs/operations.md, Partitions)",
        config.reactions_topic,
        told(reactions),
        config.aggregates_topic,
        told(aggregates)
    )))
}

/// How many partitions `topic` has; `None` when there is no such topic. `doing` begins the text of an error.
pub(super) fn size(reader: &Reader, topic: &str, doing: &str) -> Result<Option<u32>, OpenError> {
    let metadata = reader.fetch_metadata(Some(topic), FIRST_ANSWER);
    let metadata = metadata.map_err(|error| match heard(reader) {
        Some(trouble) => open_error(&format!("{doing} ({trouble})"), &error),
        None => open_error(doing, &error),
    })?;
    let Some(found) = metadata.topics().first() else { return Ok(None) };
    match found.error() {
        None => Ok(Some(found.partitions().len() as u32)),
        Some(
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
        ) => Ok(None),
        Some(error) => Err(open_code(doing, error.into())),
    }
}

/// Why the brokers can't be talked to, such as a wrong password: the error of a request does not tell. The client does, to
/// who polls it.
fn heard(reader: &Reader) -> Option<String> {
    let until = Instant::now() + HEAR;
    while Instant::now() < until {
        drop(reader.poll(left_until(until)));
    }
    reader.context().trouble()
}

/// Waits until a topic that was made is known everywhere and each of its partitions has a leader.
fn await_topic(reader: &Reader, topic: &str, deadline: Instant) -> Result<u32, OpenError> {
    loop {
        let metadata = reader.fetch_metadata(Some(topic), left_until(deadline).min(FIRST_ANSWER));
        if let Ok(metadata) = metadata
            && let Some(found) = metadata.topics().first()
            && found.error().is_none()
            && !found.partitions().is_empty()
            && found.partitions().iter().all(|partition| partition.leader() >= 0)
        {
            return Ok(found.partitions().len() as u32);
        }
        if Instant::now() >= deadline {
            return Err(OpenError::Unavailable(format!("not all partitions of topic {topic} have a leader")));
        }
        thread::sleep(PAUSE);
    }
}

/// What is to be made.
struct Plan {
    name: String,
    partitions: u32,
    settings: Vec<(&'static str, String)>,
}

fn reactions_topic(config: &KafkaConfig, partitions: u32) -> Plan {
    let settings = vec![
        ("cleanup.policy", "delete".into()),
        ("message.timestamp.type", "LogAppendTime".into()),
        ("min.insync.replicas", config.min_insync.to_string()),
        ("retention.ms", config.retention_ms.to_string()),
        // Only whole segments are deleted.
        ("segment.ms", (config.retention_ms / 4).max(60_000).to_string()),
    ];
    Plan { name: config.reactions_topic.clone(), partitions, settings }
}

fn aggregates_topic(config: &KafkaConfig, partitions: u32) -> Plan {
    let settings = vec![
        ("cleanup.policy", "compact".into()),
        // By their own clock brokers refuse what an aggregator stamps whose clock is an hour ahead: no window would come out.
        ("message.timestamp.type", "LogAppendTime".into()),
        ("min.insync.replicas", config.min_insync.to_string()),
        // Whoever joins reads the whole topic: only closed segments are compacted, so that they are closed soon. A
        // follower that is a minute late still sees each window.
        ("segment.ms", "600000".into()),
        ("segment.bytes", "67108864".into()),
        ("min.cleanable.dirty.ratio", "0.2".into()),
        ("min.compaction.lag.ms", "60000".into()),
    ];
    Plan { name: config.aggregates_topic.clone(), partitions, settings }
}

fn create(
    admin: &AdminClient<LogContext>,
    config: &KafkaConfig,
    plan: &Plan,
    runtime: &Handle,
) -> Result<(), OpenError> {
    let name = &plan.name;
    if !config.create_topics {
        return Err(OpenError::Invalid(format!(
            "topic {name} does not exist, and log.kafka.create_topics is off: create it, or turn that on"
        )));
    }
    let replication = TopicReplication::Fixed(config.replication.into());
    let mut topic = NewTopic::new(name, plan.partitions as i32, replication);
    for (key, value) in &plan.settings {
        topic = topic.set(key, value);
    }
    let options =
        AdminOptions::new().operation_timeout(Some(FIRST_ANSWER)).request_timeout(Some(FIRST_ANSWER));
    let doing = format!("creating topic {name} with {} replicas", config.replication);
    let results = runtime.block_on(admin.create_topics([&topic], &options));
    match results.map_err(|error| open_error(&doing, &error))?.pop() {
        Some(Ok(_)) => {
            tracing::info!(topic = name, partitions = plan.partitions, "topic created");
            Ok(())
        }
        // By another process that starts at the same time.
        None | Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, code))) => Err(open_code(&doing, code)),
    }
}

/// What the settings of the topics must be, whoever made them.
fn check_settings(
    admin: &AdminClient<LogContext>,
    config: &KafkaConfig,
    runtime: &Handle,
    deadline: Instant,
) -> Result<(), OpenError> {
    let topics = [&*config.reactions_topic, &*config.aggregates_topic].map(ResourceSpecifier::Topic);
    let options = AdminOptions::new().request_timeout(Some(FIRST_ANSWER));
    let doing = "asking for the settings of the topics";
    loop {
        let described = runtime.block_on(admin.describe_configs(&topics, &options));
        let described = described.map_err(|error| match error {
            KafkaError::AdminOp(code) => open_code(doing, code),
            error => open_error(doing, &error),
        })?;
        let described: Vec<_> = described.into_iter().flatten().collect();
        let of = |topic: &str| described.iter().find(|resource| is_of(resource, topic));
        match (of(&config.reactions_topic), of(&config.aggregates_topic)) {
            (Some(reactions), Some(aggregates)) => {
                return refuse_settings(config, &|key| setting(reactions, key), &|key| {
                    setting(aggregates, key)
                });
            }
            // A broker that has not heard of a new topic yet.
            _ if Instant::now() < deadline => thread::sleep(PAUSE),
            _ => {
                let text = format!("{doing}: no answer for one of them (is DescribeConfigs allowed?)");
                return Err(OpenError::Unavailable(text));
            }
        }
    }
}

fn is_of(resource: &ConfigResource, topic: &str) -> bool {
    matches!(&resource.specifier, OwnedResourceSpecifier::Topic(name) if name == topic)
        && !resource.entries.is_empty()
}

fn setting(resource: &ConfigResource, key: &str) -> String {
    resource.get(key).and_then(|entry| entry.value.clone()).unwrap_or_default()
}

fn refuse_settings(
    config: &KafkaConfig,
    reactions: &dyn Fn(&str) -> String,
    aggregates: &dyn Fn(&str) -> String,
) -> Result<(), OpenError> {
    let refuse = |topic: &str, key: &str, is: &str, needs: &str, why: &str| {
        Err(OpenError::Invalid(format!(
            "topic {topic} has {key}={is}, but {why}: set it to {needs} (kafka-configs --alter --entity-type topics \
             --entity-name {topic} --add-config {key}={needs})"
        )))
    };
    let (key, is) = ("message.timestamp.type", reactions("message.timestamp.type"));
    if is != "LogAppendTime" {
        return refuse(
            &config.reactions_topic,
            key,
            &is,
            "LogAppendTime",
            "windows are cut by the log's own clock",
        );
    }
    let (key, is) = ("cleanup.policy", reactions("cleanup.policy"));
    if is != "delete" {
        return refuse(
            &config.reactions_topic,
            key,
            &is,
            "delete",
            "compaction would drop reactions of a room",
        );
    }
    let is = aggregates("cleanup.policy");
    if is != "compact" {
        return refuse(
            &config.aggregates_topic,
            key,
            &is,
            "compact",
            "totals would be lost with old records",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::tests::config;

    #[test]
    fn topics_that_break_a_promise_are_refused_with_what_to_do() {
        let check = |stamp: &'static str, reactions: &'static str, aggregates: &'static str| {
            let of_reactions = move |key: &str| match key {
                "cleanup.policy" => reactions.to_owned(),
                _ => stamp.to_owned(),
            };
            refuse_settings(&config("x"), &of_reactions, &|_| aggregates.to_owned())
        };
        assert!(check("LogAppendTime", "delete", "compact").is_ok());
        for (settings, remedy) in [
            (("CreateTime", "delete", "compact"), "--add-config message.timestamp.type=LogAppendTime"),
            (("LogAppendTime", "compact", "compact"), "--add-config cleanup.policy=delete"),
            (("LogAppendTime", "delete", "delete"), "--add-config cleanup.policy=compact"),
        ] {
            let error = check(settings.0, settings.1, settings.2).unwrap_err();
            assert!(matches!(error, OpenError::Invalid(_)));
            assert!(error.to_string().contains(remedy), "{error}");
        }
    }

    #[test]
    fn topics_with_another_number_of_partitions_are_refused_with_all_numbers() {
        let check = |reactions, aggregates| refuse_partitions(&config("x"), 8, reactions, aggregates);
        for fits in [(None, None), (Some(8), None), (Some(8), Some(8))] {
            assert!(check(fits.0, fits.1).is_ok(), "{fits:?}");
        }
        let error = check(Some(8), Some(12)).unwrap_err();
        assert!(matches!(error, OpenError::Invalid(_)));
        let text = error.to_string();
        assert!(
            text.contains("reactions has 8 partitions")
                && text.contains("aggregates has 12 partitions")
                && text.contains("log.partitions is 8"),
            "{text}"
        );
        assert!(check(Some(12), Some(12)).is_err(), "both alike, but not what the rooms were placed by");
        assert!(check(None, Some(12)).unwrap_err().to_string().contains("reactions does not exist"));
    }

    #[test]
    fn created_topics_are_stamped_by_the_brokers() {
        let config = config("x");
        for plan in [reactions_topic(&config, 3), aggregates_topic(&config, 3)] {
            let stamped = ("message.timestamp.type", "LogAppendTime".to_owned());
            assert!(plan.settings.contains(&stamped), "{}", plan.name);
        }
    }

    #[test]
    fn created_topics_would_be_accepted() {
        let config = config("x");
        let of = |plan: Plan| {
            move |key: &str| {
                plan.settings
                    .iter()
                    .find(|(name, _)| *name == key)
                    .map(|(_, value)| value.clone())
                    .unwrap_or_default()
            }
        };
        let (reactions, aggregates) = (of(reactions_topic(&config, 1)), of(aggregates_topic(&config, 1)));
        assert!(refuse_settings(&config, &reactions, &aggregates).is_ok());
    }
}
