//! How the clients of librdkafka are configured, and what becomes of their log lines.

use super::errors::open_error;
use crate::{KafkaConfig, OpenError};
use rdkafka::{
    ClientConfig, ClientContext, Statistics,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{BaseConsumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{DeliveryResult, ProducerContext, ThreadedProducer},
};
use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// What a client is for. It shows in the brokers' logs and in ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Admin,
    Writer,
    Feed,
    Loader,
    Committer,
    Follower,
    Occupancy,
}

/// What a consumer may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isolation {
    Committed,
    Uncommitted,
}

/// A consumer without a group's life: it reads what it is told to.
pub(super) type Reader = BaseConsumer<LogContext>;
/// A producer whose records carry what is to be done with their outcome.
pub(super) type Producer = ThreadedProducer<DeliveryContext>;
/// Runs once, with the outcome of one record.
pub(super) type OnDelivery = Box<dyn FnOnce(Result<(), Undelivered>) + Send + Sync>;

/// Why a record was not delivered.
#[derive(Debug)]
pub(super) enum Undelivered {
    /// The client library did not take it. No broker has seen it.
    NotTaken(KafkaError),
    /// Its last attempt failed so. An earlier attempt, whose answer was lost, may have written it.
    Failed(KafkaError),
}

/// Options that the promises rest on, or that have a key of their own. With why they are refused.
const REFUSED: &[(&str, &str)] = &[
    ("bootstrap.servers", "use log.kafka.brokers"),
    ("metadata.broker.list", "use log.kafka.brokers"),
    ("group.id", "use log.kafka.group"),
    ("session.timeout.ms", "use log.kafka.session_timeout_ms"),
    ("heartbeat.interval.ms", "it follows log.kafka.session_timeout_ms"),
    ("transaction.timeout.ms", "use log.kafka.transaction_timeout_ms"),
    ("message.timeout.ms", "use log.kafka.delivery_timeout_ms"),
    ("delivery.timeout.ms", "use log.kafka.delivery_timeout_ms"),
    ("linger.ms", "use log.kafka.linger_ms"),
    ("queue.buffering.max.ms", "use log.kafka.linger_ms"),
    ("compression.codec", "use log.kafka.compression"),
    ("compression.type", "use log.kafka.compression"),
    ("queue.buffering.max.kbytes", "use log.kafka.max_queued_mib"),
    ("transactional.id", "it is made of log.kafka.group and log.kafka.instance_id"),
    ("acks", "an acknowledged record must be on all in-sync replicas"),
    ("request.required.acks", "an acknowledged record must be on all in-sync replicas"),
    ("enable.idempotence", "a record must not be written twice"),
    ("max.in.flight", "a record must not be written twice"),
    ("max.in.flight.requests.per.connection", "a record must not be written twice"),
    ("isolation.level", "an aborted window must not be read"),
    ("enable.auto.commit", "offsets are committed with their windows only"),
    ("auto.commit.enable", "offsets are committed with their windows only"),
    ("enable.auto.offset.store", "offsets are committed with their windows only"),
    ("auto.offset.reset", "where reading begins is decided by what was committed"),
    ("enable.partition.eof", "windows are closed at the log's end"),
    ("group.protocol", "partitions are handed over by the classic protocol"),
    ("group.instance.id", "a member that leaves must be replaced at once"),
    ("partition.assignment.strategy", "partitions are handed over one by one"),
];

/// Why an option can't be handed to librdkafka.
pub(crate) fn refused(key: &str, value: &str) -> Option<String> {
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == key) {
        return Some(format!("may not be set: {why}"));
    }
    match ClientConfig::new().set(key, value).create_native_config() {
        Err(KafkaError::ClientConfig(_, text, ..)) => Some(format!("is refused by librdkafka: {text}")),
        _ => None,
    }
}

/// Makes clients.
pub(super) struct Clients {
    pub(super) config: KafkaConfig,
    /// Whether there is a topic of windows.
    pub(super) keeps_windows: bool,
}

impl Clients {
    /// A consumer that is told what to read.
    pub(super) fn reader(&self, role: Role, isolation: Isolation) -> Result<Reader, OpenError> {
        self.create(&self.consumer_config(role, isolation), LogContext::new(role))
    }

    /// The member of the group.
    pub(super) fn member<C: ConsumerContext>(&self, context: C) -> Result<BaseConsumer<C>, OpenError> {
        let mut config = self.consumer_config(Role::Feed, Isolation::Committed);
        config
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", self.config.session_timeout_ms.to_string())
            .set("heartbeat.interval.ms", self.heartbeat().as_millis().to_string());
        self.create(&config, context)
    }

    /// How often the member hears of its group.
    pub(super) fn heartbeat(&self) -> Duration {
        Duration::from_millis((self.config.session_timeout_ms / 3).clamp(300, 3_000).into())
    }

    /// The producer of `reactions`. It says once when it has given up a record because its time was up.
    pub(super) fn writer(&self, on_given_up: Box<dyn Fn() + Send + Sync>) -> Result<Producer, OpenError> {
        let mut config = self.producer_config(Role::Writer);
        config
            .set("message.timeout.ms", self.config.delivery_timeout_ms.to_string())
            .set("linger.ms", self.config.linger_ms.to_string())
            // With more, librdkafka writes records twice when a leader changes (its issue 4953): a request that fails makes
            // those behind it fail too, and for those it starts a new epoch, in which the broker can't tell repeats.
            .set("max.in.flight.requests.per.connection", "1");
        self.create(
            &config,
            DeliveryContext {
                role: Role::Writer,
                on_given_up: Some(OnGivenUp { call: on_given_up, called: AtomicBool::new(false) }),
            },
        )
    }

    /// The transactional producer of `aggregates`. It does not linger: a window is sent at once, as a whole.
    pub(super) fn committer(&self, transactional_id: &str) -> Result<Producer, OpenError> {
        let config = self.transactional_config(transactional_id);
        self.create(&config, DeliveryContext { role: Role::Committer, on_given_up: None })
    }

    /// The options of a transactional producer. The one that inits transactions with the same id later fences it.
    pub(super) fn transactional_config(&self, transactional_id: &str) -> ClientConfig {
        let timeout_ms = self.config.transaction_timeout_ms.to_string();
        let mut config = self.producer_config(Role::Committer);
        config
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", &timeout_ms)
            .set("message.timeout.ms", &timeout_ms)
            .set("linger.ms", "0")
            // A transaction that begins at the heels of the one before is refused until that is marked everywhere, which
            // takes some milliseconds. By default it asks again after 100 ms. The pause grows with each try.
            .set("retry.backoff.ms", "10");
        config
    }

    /// The producer of topic `occupancy`. A record may be lost, because the next one comes soon. So it
    /// is given up early, and one broker acknowledges it.
    pub(super) fn lossy_writer(&self) -> Result<Producer, OpenError> {
        let mut config = self.base_config(Role::Occupancy);
        config
            .set("acks", "1")
            .set("enable.idempotence", "false")
            // A repeat must not come after a newer record.
            .set("max.in.flight.requests.per.connection", "1")
            .set("message.timeout.ms", "5000")
            .set("linger.ms", "0")
            .set("compression.codec", &self.config.compression)
            .set("queue.buffering.max.messages", "1000")
            .set("queue.buffering.max.kbytes", "16384");
        self.create(&config, DeliveryContext { role: Role::Occupancy, on_given_up: None })
    }

    /// The reader of topic `occupancy`. Where records are gone that it would read next, it goes on at the end.
    pub(super) fn lossy_reader(&self) -> Result<Reader, OpenError> {
        let mut config = self.consumer_config(Role::Occupancy, Isolation::Uncommitted);
        config.set("auto.offset.reset", "latest");
        self.create(&config, LogContext::new(Role::Occupancy))
    }

    /// The settings of every client: ours, then those of the config.
    pub(super) fn base_config(&self, role: Role) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.config.brokers)
            .set("client.id", format!("uproar-{role}"))
            .set("socket.keepalive.enable", "true")
            // After an outage these pauses add up, with half a second of the library's own before it asks for a producer
            // id: the first record is to be written within 2 s. They grow to 10 s and 1 s by default.
            .set("reconnect.backoff.max.ms", "500")
            .set("retry.backoff.max.ms", "500")
            // Where packets are lost the kernel asks for a connection again after 1, 2, 3 and 4 s, then ever more seldom
            // (half a minute by default): a new try is sooner there once the network is back. TLS and SASL are part of it.
            .set("socket.connection.setup.timeout.ms", "5000");
        if role != Role::Committer {
            // A broker that hangs keeps its connections. Until a request to it is given up nobody asks the new leader: a
            // minute by default. The committer's follows the time of its transactions.
            config.set("socket.timeout.ms", "10000");
        }
        config
    }

    fn consumer_config(&self, role: Role, isolation: Isolation) -> ClientConfig {
        let mut config = self.base_config(role);
        config
            .set("group.id", &self.config.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            // The end of a partition is reported when a fetch comes back empty: after this time.
            .set("fetch.wait.max.ms", if role == Role::Loader { "20" } else { "100" })
            .set("queued.max.messages.kbytes", "16384")
            // A partition whose queue is full is not fetched for this time: a second by default, and the queue is empty
            // after some 50 ms.
            .set("fetch.queue.backoff.ms", "10")
            // The same after an error, such as a leader that moved: half a second by default.
            .set("fetch.error.backoff.ms", "50")
            .set(
                "isolation.level",
                match isolation {
                    Isolation::Committed => "read_committed",
                    Isolation::Uncommitted => "read_uncommitted",
                },
            );
        config
    }

    fn producer_config(&self, role: Role) -> ClientConfig {
        let mut config = self.base_config(role);
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("compression.codec", &self.config.compression)
            .set("queue.buffering.max.messages", "1000000")
            .set("queue.buffering.max.kbytes", (u64::from(self.config.max_queued_mib) * 1_024).to_string());
        config
    }

    /// The options of the config come last, over ours.
    pub(super) fn create<C, T>(&self, config: &ClientConfig, context: C) -> Result<T, OpenError>
    where
        C: ClientContext,
        T: FromClientConfigAndContext<C>,
    {
        let mut config = config.clone();
        config.extend(self.config.options.clone());
        config.create_with_context(context).map_err(|error| open_error("a client can't be made", &error))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admin => "admin",
            Self::Writer => "writer",
            Self::Feed => "feed",
            Self::Loader => "loader",
            Self::Committer => "committer",
            Self::Follower => "follower",
            Self::Occupancy => "occupancy",
        })
    }
}

/// Logs, and keeps the last that it was told.
pub(super) struct LogContext {
    role: Role,
    trouble: Mutex<Option<String>>,
}

impl LogContext {
    pub(super) fn new(role: Role) -> Self {
        Self { role, trouble: Mutex::default() }
    }

    /// The last reason for which a broker could not be talked to.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for LogContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_line(self.role, level, facility, text);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        log_error(self.role, &error, reason);
        // It only sums the others up.
        if error != KafkaError::Global(RDKafkaErrorCode::AllBrokersDown) {
            let reason = reason.replace('\n', " ");
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        }
    }
    fn stats(&self, _: Statistics) {}
}

impl ConsumerContext for LogContext {}

/// Logs, and hands out what became of records.
pub(super) struct DeliveryContext {
    role: Role,
    on_given_up: Option<OnGivenUp>,
}

struct OnGivenUp {
    call: Box<dyn Fn() + Send + Sync>,
    called: AtomicBool,
}

impl ClientContext for DeliveryContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_line(self.role, level, facility, text);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        log_error(self.role, &error, reason);
    }
    fn stats(&self, _: Statistics) {}
}

impl ProducerContext for DeliveryContext {
    type DeliveryOpaque = Box<OnDelivery>;

    fn delivery(&self, result: &DeliveryResult<'_>, done: Box<OnDelivery>) {
        match result {
            Ok(_) => done(Ok(())),
            Err((error, _)) => {
                let timed_out = error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageTimedOut);
                if let Some(given_up) = self.on_given_up.as_ref().filter(|_| timed_out)
                    && !given_up.called.swap(true, Ordering::Relaxed)
                {
                    (given_up.call)();
                }
                done(Err(Undelivered::Failed(error.clone())));
            }
        }
    }
}

/// One line of librdkafka. It recovers from all that it calls an error, so that nothing of it is more than a warning.
pub(super) fn log_line(role: Role, level: RDKafkaLogLevel, facility: &str, text: &str) {
    let text = text.replace('\n', " ");
    match level {
        // Options for consumers are given to producers too, and the other way round.
        _ if facility == "CONFWARN" => tracing::debug!(target: "librdkafka", %role, facility, text, "note"),
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", %role, facility, text, "note"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", %role, facility, text, "note");
        }
        _ => tracing::warn!(target: "librdkafka", %role, facility, text, "trouble"),
    }
}

/// An error of a client as a whole. The end of a partition is reported the same way, and is none.
pub(super) fn log_error(role: Role, error: &KafkaError, reason: &str) {
    let reason = reason.replace('\n', " ");
    match error {
        KafkaError::Global(RDKafkaErrorCode::PartitionEOF) => {}
        // Lines of the log say the same, and the last of these comes with every try to connect.
        KafkaError::Global(
            RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::AllBrokersDown,
        ) => {
            tracing::debug!(target: "librdkafka", %role, %error, reason, "trouble");
        }
        _ => tracing::warn!(target: "librdkafka", %role, %error, reason, "trouble"),
    }
}

/// What is left until `deadline`, and a little, so that a call that is made too late still fails by itself.
pub(super) fn left_until(deadline: std::time::Instant) -> Duration {
    deadline.saturating_duration_since(std::time::Instant::now()).max(Duration::from_millis(10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::tests::config;

    #[test]
    fn options_that_the_promises_rest_on_are_refused_with_the_reason() {
        let problem = refused("acks", "1").unwrap();
        assert!(problem.starts_with("may not be set") && problem.contains("in-sync"), "{problem}");
        let problem = refused("linger.ms", "5").unwrap();
        assert!(problem.contains("use log.kafka.linger_ms"), "{problem}");
        assert_eq!(refused("ssl.ca.location", "/etc/ssl/ca.pem"), None);
        // A replica that lags is no danger: loads end where the leader says (`topic_reader`).
        assert_eq!(refused("client.rack", "a"), None);
    }

    #[test]
    fn no_reader_sleeps_while_its_queue_is_full_or_after_an_error() {
        let clients = Clients { config: config("127.0.0.1:1"), keeps_windows: false };
        for role in [Role::Admin, Role::Feed, Role::Loader, Role::Follower] {
            let config = clients.consumer_config(role, Isolation::Committed);
            assert_eq!(config.get("fetch.queue.backoff.ms"), Some("10"), "{role}");
            assert_eq!(config.get("fetch.error.backoff.ms"), Some("50"), "{role}");
        }
    }

    #[test]
    fn every_refused_option_is_one_that_librdkafka_knows() {
        for (key, _) in REFUSED {
            let error = ClientConfig::new().set(*key, "\u{1}").create_native_config().err();
            let text = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(!text.contains("No such configuration property"), "{key}: {text}");
        }
    }

    #[test]
    fn an_unknown_option_is_invalid_by_its_name_and_its_value_is_not_told() {
        let mut config = config("127.0.0.1:1");
        config.options.insert("sasl.pasword".into(), "secret".into());
        let Err(error) = (Clients { config, keeps_windows: false }).writer(Box::new(|| {})) else {
            panic!("it was taken")
        };
        let text = error.to_string();
        assert!(matches!(error, OpenError::Invalid(_)), "{text}");
        assert!(text.contains("sasl.pasword") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn options_come_over_ours() {
        let mut config = config("127.0.0.1:1");
        config.options.insert("reconnect.backoff.max.ms".into(), "never".into());
        let Err(error) =
            (Clients { config, keeps_windows: false }).reader(Role::Follower, Isolation::Committed)
        else {
            panic!("the option was not applied")
        };
        assert!(error.to_string().contains("reconnect.backoff.max.ms"), "{error}");
    }
}
