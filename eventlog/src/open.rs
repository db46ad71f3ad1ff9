//! Picks the adapter that the config names.

use crate::{Config, EventLog, LogKind, OpenError, embedded::EmbeddedLog, kafka::KafkaLog};
use std::sync::Arc;

/// Opens the log: creates what is missing (file, topics) and checks what is there. Does not retry.
pub async fn open(config: &Config) -> Result<Arc<dyn EventLog>, OpenError> {
    match config.kind {
        LogKind::Embedded => Ok(Arc::new(
            EmbeddedLog::open(&config.embedded, config.partitions, config.history_retention_ms).await?,
        )),
        LogKind::Kafka => Ok(Arc::new(KafkaLog::open(config).await?)),
    }
}
