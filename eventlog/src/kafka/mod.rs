//! The adapter for Apache Kafka.
//!
//! - `client`: options and log lines of librdkafka's clients; `errors`: what their errors mean; `thread`: where their
//!   blocking calls run.
//! - `topics`: makes and checks the topics, by `topic_settings`. `writer`: appends. `follower`: reads `aggregates`.
//!   `window_follower`: reads `windows`.
//! - `occupancy`: the lossy channel between fanout processes.
//! - `control`: what operators order.
//! - `history`: reads both topics once, for auditors. `topic_reader`: reads partitions up to known ends.
//! - The member of the group: `feed` polls on a thread of its own, `member` answers rebalances, `load` reads the state that
//!   a new owner starts from, `state` decides where that is, `ownership` is what the reading and the writing half share,
//!   `commit` has the thread that writes, `transaction` is one window.

mod client;
mod commit;
mod control;
mod errors;
mod feed;
mod follower;
mod history;
mod load;
mod member;
#[cfg(test)]
mod mock_tests;
mod occupancy;
mod ownership;
mod state;
mod thread;
mod topic_reader;
mod topic_settings;
mod topics;
mod transaction;
mod window_follower;
mod writer;

pub(crate) use self::{client::refused, history::KafkaHistory};

use self::{client::Clients, ownership::Ownership};
use crate::{
    BoxFuture, Config, ControlPut, ControlReader, EventLog, Feed, Follower, LossyChannel, OpenError,
    PutError, Writer,
    windows::{WindowFollower, WindowOffsets},
};
use std::sync::{Arc, atomic::AtomicU64};

/// Apache Kafka.
pub(crate) struct KafkaLog {
    clients: Arc<Clients>,
    partitions: u32,
    /// The last epoch that was given out, over all feeds: a cut of an earlier feed is refused by a later one.
    epochs: Arc<AtomicU64>,
    /// One write of orders at a time: two of one process would fence each other.
    control_turn: tokio::sync::Mutex<()>,
}

impl KafkaLog {
    /// Makes sure that the topics are there and fit.
    pub(crate) async fn open(config: &Config) -> Result<Self, OpenError> {
        let Config { partitions, history_retention_ms: history_ms, .. } = *config;
        let clients = Arc::new(Clients { config: config.kafka.clone(), keeps_windows: history_ms > 0 });
        let (preparing, runtime) = (Arc::clone(&clients), tokio::runtime::Handle::current());
        let prepare = move || topics::prepare(&preparing, partitions, history_ms, &runtime);
        thread::ask("kafka-open", topics::DEADLINE, prepare)
            .await
            .ok_or_else(|| OpenError::Unavailable("the brokers did not answer in time".into()))??;
        Ok(Self { clients, partitions, epochs: Arc::default(), control_turn: tokio::sync::Mutex::default() })
    }
}

impl EventLog for KafkaLog {
    fn writer(&self) -> BoxFuture<'_, Result<Arc<dyn Writer>, OpenError>> {
        Box::pin(async {
            let writer = writer::KafkaWriter::open(Arc::clone(&self.clients), self.partitions)?;
            Ok(Arc::new(writer) as Arc<dyn Writer>)
        })
    }

    fn feed(&self) -> BoxFuture<'_, Result<Feed, OpenError>> {
        Box::pin(async {
            let ownership = Arc::new(Ownership::default());
            let committer = commit::open(Arc::clone(&self.clients), Arc::clone(&ownership)).await?;
            let (clients, epochs) = (Arc::clone(&self.clients), Arc::clone(&self.epochs));
            let events = feed::open(clients, self.partitions, ownership, epochs).await?;
            Ok(Feed { events: Box::new(events), committer: Arc::new(committer) })
        })
    }

    fn follower(&self) -> BoxFuture<'_, Result<Box<dyn Follower>, OpenError>> {
        Box::pin(async {
            let follower = follower::open(Arc::clone(&self.clients), self.partitions)?;
            Ok(Box::new(follower) as Box<dyn Follower>)
        })
    }

    fn occupancy(&self) -> BoxFuture<'_, Result<Option<Box<dyn LossyChannel>>, OpenError>> {
        Box::pin(async {
            let channel = occupancy::open(Arc::clone(&self.clients)).await?;
            Ok(Some(Box::new(channel) as Box<dyn LossyChannel>))
        })
    }

    fn keeps_windows(&self) -> bool {
        self.clients.keeps_windows
    }

    fn window_follower(
        &self,
        from: WindowOffsets,
    ) -> BoxFuture<'_, Result<Option<Box<dyn WindowFollower>>, OpenError>> {
        Box::pin(async {
            if !self.clients.keeps_windows {
                return Ok(None);
            }
            let follower = window_follower::open(Arc::clone(&self.clients), self.partitions, from)?;
            Ok(Some(Box::new(follower) as Box<dyn WindowFollower>))
        })
    }

    fn control(&self) -> BoxFuture<'_, Result<Box<dyn ControlReader>, OpenError>> {
        Box::pin(async {
            let reader = control::open(Arc::clone(&self.clients))?;
            Ok(Box::new(reader) as Box<dyn ControlReader>)
        })
    }

    fn put_control(&self, put: ControlPut) -> BoxFuture<'_, Result<u64, PutError>> {
        Box::pin(async {
            let _turn = self.control_turn.lock().await;
            control::put(Arc::clone(&self.clients), put).await
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{EmbeddedConfig, KafkaConfig, LogKind};

    pub(crate) fn config(brokers: &str) -> KafkaConfig {
        KafkaConfig {
            brokers: brokers.into(),
            reactions_topic: "reactions".into(),
            aggregates_topic: "aggregates".into(),
            occupancy_topic: "occupancy".into(),
            windows_topic: "windows".into(),
            control_topic: "control".into(),
            create_topics: true,
            replication: 3,
            min_insync: 2,
            retention_ms: 3_600_000,
            group: "uproar".into(),
            instance_id: "test".into(),
            session_timeout_ms: 10_000,
            transaction_timeout_ms: 5_000,
            delivery_timeout_ms: 10_000,
            linger_ms: 0,
            min_commit_pause_ms: 5,
            compression: "lz4".into(),
            max_queued_mib: 64,
            options: Default::default(),
        }
    }

    #[tokio::test]
    async fn brokers_that_are_away_are_unavailable() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = Config {
            kind: LogKind::Kafka,
            partitions: 1,
            history_retention_ms: 0,
            embedded: EmbeddedConfig { dir: ".".into(), retention_ms: 1_000, cache_mib: 1, max_queued: 1 },
            kafka: config(&format!("127.0.0.1:{port}")),
        };
        let Err(error) = KafkaLog::open(&config).await else { panic!("there is nobody") };
        assert!(matches!(error, OpenError::Unavailable(_)), "{error}");
        assert!(error.to_string().contains("Connection refused"), "it says why: {error}");
    }
}
