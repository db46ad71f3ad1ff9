//! The lossy channel of the log in memory.

use crate::{BoxFuture, FeedError, LossyChannel};
use bytes::Bytes;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::broadcast::{self, error::RecvError};

/// Records that a slow receiver may be behind; it loses older ones.
const QUEUE: usize = 1_024;

/// What all open channels share.
pub(super) struct Occupancy {
    /// `None` breaks the channels that are open.
    records: broadcast::Sender<Option<Bytes>>,
    loses: AtomicBool,
}

impl Default for Occupancy {
    fn default() -> Self {
        Self { records: broadcast::Sender::new(QUEUE), loses: AtomicBool::new(false) }
    }
}

impl Occupancy {
    pub(super) fn lose(&self, loses: bool) {
        self.loses.store(loses, Ordering::SeqCst);
    }

    pub(super) fn break_all(&self) {
        let _ = self.records.send(None);
    }

    pub(super) fn send(&self, record: Bytes) {
        if !self.loses.load(Ordering::SeqCst) {
            // It fails where nobody has the channel open.
            let _ = self.records.send(Some(record));
        }
    }
}

pub(super) fn open(shared: &Arc<Occupancy>) -> Box<dyn LossyChannel> {
    let records = shared.records.subscribe();
    Box::new(MemoryChannel { shared: Arc::clone(shared), records })
}

struct MemoryChannel {
    shared: Arc<Occupancy>,
    records: broadcast::Receiver<Option<Bytes>>,
}

impl LossyChannel for MemoryChannel {
    fn send(&self, record: Bytes) -> bool {
        self.shared.send(record);
        true
    }

    fn receive(&mut self) -> BoxFuture<'_, Result<Bytes, FeedError>> {
        Box::pin(async {
            loop {
                match self.records.recv().await {
                    Ok(Some(record)) => return Ok(record),
                    Err(RecvError::Lagged(_)) => {}
                    Ok(None) | Err(RecvError::Closed) => {
                        return Err(FeedError::Reopen("the channel was broken".into()));
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::{EventLog as _, LossyChannel, MemoryLog};
    use std::sync::Arc;

    async fn open(log: &Arc<MemoryLog>) -> Box<dyn LossyChannel> {
        log.occupancy().await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn every_open_channel_gets_what_is_sent_from_its_opening_on() {
        let log = MemoryLog::new(1);
        let mut first = open(&log).await;
        assert!(first.send("a".into()));
        let mut second = open(&log).await;
        assert!(second.send("b".into()));
        assert_eq!([first.receive().await.unwrap(), first.receive().await.unwrap()], ["a", "b"]);
        assert_eq!(second.receive().await.unwrap(), "b");
    }

    #[tokio::test]
    async fn records_are_lost_and_channels_break_on_demand() {
        let log = MemoryLog::new(1);
        let mut channel = open(&log).await;
        log.lose_occupancy(true);
        assert!(channel.send("lost".into()));
        log.lose_occupancy(false);
        log.send_occupancy("kept");
        assert_eq!(channel.receive().await.unwrap(), "kept");
        log.break_occupancy();
        assert!(channel.receive().await.is_err());
    }
}
