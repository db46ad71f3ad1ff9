//! The topics: created where they are missing, and checked for what the promises need of them.

use super::{
    client::{Clients, Isolation, LogContext, Reader, Role, left_until},
    errors::{open_code, open_error},
    topic_settings::{Topic, TopicPlan, occupancy_topic, plans},
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

/// Makes sure that all topics are there and fit. Blocks.
pub(super) fn prepare(
    clients: &Clients,
    partitions: u32,
    history_ms: u64,
    runtime: &Handle,
) -> Result<(), OpenError> {
    let config = &clients.config;
    let deadline = Instant::now() + IN_ALL;
    let reader = clients.reader(Role::Admin, Isolation::Committed)?;
    let admin: AdminClient<LogContext> =
        clients.create(&clients.base_config(Role::Admin), LogContext::new(Role::Admin))?;
    let plans = plans(config, partitions, history_ms);
    let sizes = plans.iter().map(|plan| {
        let topic = &plan.name;
        size(&reader, topic, &format!("asking {} for topic {topic}", config.brokers))
    });
    let sizes: Vec<_> = sizes.collect::<Result<_, _>>()?;
    refuse_partitions(&plans, &sizes)?;
    for (plan, _) in plans.iter().zip(sizes).filter(|(_, size)| size.is_none()) {
        create(&admin, config, plan, runtime)?;
    }
    let found = plans.iter().map(|plan| await_topic(&reader, &plan.name, deadline));
    let found: Vec<_> = found.collect::<Result<_, _>>()?;
    // Another process may have created them meanwhile.
    let sizes: Vec<_> = found.iter().map(|found| Some(found.partitions)).collect();
    refuse_partitions(&plans, &sizes)?;
    let replicas: Vec<_> = found.iter().map(|found| found.replicas).collect();
    check_settings(&admin, config, &plans, &replicas, runtime, deadline)
}

/// Makes sure that topic `occupancy` is there. No promise rests on its settings. Blocks.
pub(super) fn prepare_occupancy(clients: &Clients, runtime: &Handle) -> Result<(), OpenError> {
    let config = &clients.config;
    let topic = &config.occupancy_topic;
    let reader = clients.reader(Role::Admin, Isolation::Committed)?;
    if size(&reader, topic, &format!("asking {} for topic {topic}", config.brokers))?.is_none() {
        let admin: AdminClient<LogContext> =
            clients.create(&clients.base_config(Role::Admin), LogContext::new(Role::Admin))?;
        create(&admin, config, &occupancy_topic(config), runtime)?;
        await_topic(&reader, topic, Instant::now() + IN_ALL)?;
    }
    Ok(())
}

/// A topic that is there.
struct Found {
    partitions: u32,
    /// Of the partition that has the fewest.
    replicas: usize,
}

/// Refuses existing topics that don't have as many partitions as planned. `None`: the topic does not exist.
fn refuse_partitions(plans: &[TopicPlan], sizes: &[Option<u32>]) -> Result<(), OpenError> {
    let each = || plans.iter().zip(sizes);
    if each().all(|(plan, size)| size.is_none_or(|size| size == plan.partitions)) {
        return Ok(());
    }
    let told = each().map(|(plan, size)| {
        let TopicPlan { name, partitions: needs, .. } = plan;
        match size {
            Some(is) => format!("topic {name} has {is} partitions and needs {needs}"),
            None => format!("topic {name} does not exist"),
        }
    });
    Err(OpenError::Invalid(format!(
        "{}: a room's partition follows from the number, and partition p of one topic is rolled up into partition p of the \
         next. Set log.partitions to the number of new topics; for topics in use `uproar \
         repartition` carries totals into new ones (docs/operations.md, Partitions)",
        told.collect::<Vec<_>>().join(", ")
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
fn await_topic(reader: &Reader, topic: &str, deadline: Instant) -> Result<Found, OpenError> {
    loop {
        let metadata = reader.fetch_metadata(Some(topic), left_until(deadline).min(FIRST_ANSWER));
        if let Ok(metadata) = metadata
            && let Some(found) = metadata.topics().first()
            && found.error().is_none()
            && !found.partitions().is_empty()
            && found.partitions().iter().all(|partition| partition.leader() >= 0)
        {
            let replicas = found.partitions().iter().map(|partition| partition.replicas().len()).min();
            return Ok(Found {
                partitions: found.partitions().len() as u32,
                replicas: replicas.unwrap_or_default(),
            });
        }
        if Instant::now() >= deadline {
            return Err(OpenError::Unavailable(format!("not all partitions of topic {topic} have a leader")));
        }
        thread::sleep(PAUSE);
    }
}

fn create(
    admin: &AdminClient<LogContext>,
    config: &KafkaConfig,
    plan: &TopicPlan,
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

/// Refuses topics that break a promise by their settings, or by how many `replicas` they have.
fn check_settings(
    admin: &AdminClient<LogContext>,
    config: &KafkaConfig,
    plans: &[TopicPlan],
    replicas: &[usize],
    runtime: &Handle,
    deadline: Instant,
) -> Result<(), OpenError> {
    let topics: Vec<_> = plans.iter().map(|plan| ResourceSpecifier::Topic(&plan.name)).collect();
    let options = AdminOptions::new().request_timeout(Some(FIRST_ANSWER));
    let doing = "asking for the settings of the topics";
    loop {
        let described = runtime.block_on(admin.describe_configs(&topics, &options));
        let described = described.map_err(|error| match error {
            KafkaError::AdminOp(code) => open_code(doing, code),
            error => open_error(doing, &error),
        })?;
        let described: Vec<_> = described.into_iter().flatten().collect();
        let of = |plan: &TopicPlan| described.iter().find(|resource| is_of(resource, &plan.name));
        if let Some(resources) = plans.iter().map(of).collect::<Option<Vec<_>>>() {
            for ((plan, resource), &replicas) in plans.iter().zip(resources).zip(replicas) {
                let setting = |key: &str| setting(resource, key);
                Topic { name: &plan.name, replicas, setting: &setting }.check(config, plan.required)?;
            }
            return Ok(());
        }
        // A broker may not have heard of a new topic yet.
        if Instant::now() >= deadline {
            let text = format!("{doing}: no answer for one of them (is DescribeConfigs allowed?)");
            return Err(OpenError::Unavailable(text));
        }
        thread::sleep(PAUSE);
    }
}

fn is_of(resource: &ConfigResource, topic: &str) -> bool {
    matches!(&resource.specifier, OwnedResourceSpecifier::Topic(name) if name == topic)
        && !resource.entries.is_empty()
}

fn setting(resource: &ConfigResource, key: &str) -> Option<String> {
    resource.get(key).and_then(|entry| entry.value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::tests::config;

    #[test]
    fn topics_with_another_number_of_partitions_are_refused_with_all_numbers() {
        let plans = plans(&config("x"), 8, 0);
        let check = |sizes: [Option<u32>; 2]| refuse_partitions(&plans, &[sizes[0], sizes[1], Some(1)]);
        for fits in [[None, None], [Some(8), None], [Some(8), Some(8)]] {
            assert!(check(fits).is_ok(), "{fits:?}");
        }
        let error = check([Some(8), Some(12)]).unwrap_err();
        assert!(matches!(error, OpenError::Invalid(_)));
        let text = error.to_string();
        assert!(text.contains("topic reactions has 8 partitions and needs 8"), "{text}");
        assert!(text.contains("topic aggregates has 12 partitions and needs 8"), "{text}");
        assert!(text.contains("log.partitions"), "{text}");
        assert!(check([Some(12); 2]).is_err(), "both alike, but not what the rooms were placed by");
        assert!(check([None, Some(12)]).unwrap_err().to_string().contains("reactions does not exist"));
    }
}
