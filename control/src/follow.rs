//! Feeds [`Orders`] from the log.
//!
//! The process is not ready before the orders were read to their end once: it would take reactions for a closed room. After that
//! it stays ready when they can't be read for a while, because the last orders are better than no service.

use crate::{
    Orders,
    metrics::{ALIEN, FOLLOWING},
};
use eventlog::{ControlEvent, ControlReader, ControlRecord, EventLog, OpenError};
use metrics::{counter, gauge};
use service::{Backoff, CancellationToken, Condition};
use std::{collections::HashSet, sync::Arc, time::Duration};
use wire::{
    RoomName,
    control::{RoomOrder, room_of_key},
};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// From the log to the orders.
pub struct Follower {
    /// Whose `control` is followed.
    pub log: Arc<dyn EventLog>,
    /// The orders that it keeps up to date.
    pub orders: Arc<Orders>,
    /// Holds from the first time that all orders were read.
    pub condition: Condition,
}

impl Follower {
    /// Follows until `shutdown`.
    ///
    /// # Errors
    ///
    /// The log can't be opened until somebody changes something.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), OpenError> {
        match shutdown.run_until_cancelled(self.follow()).await {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn follow(&self) -> OpenError {
        let (mut backoff, mut has_read) = (Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), false);
        loop {
            let why = match self.log.control().await {
                Ok(mut reader) => self.read(reader.as_mut(), &mut backoff, &mut has_read).await,
                Err(OpenError::Unavailable(why)) => why,
                Err(error) => return error,
            };
            gauge!(FOLLOWING).set(0.0);
            if !has_read {
                self.condition.fail(format!("the orders are not read yet: {why}"));
            }
            tracing::warn!(why, "orders can't be read; the last that were read stay in force");
            tokio::time::sleep(backoff.next_pause()).await;
        }
    }

    /// Reads until the reader breaks, and says why it did.
    async fn read(
        &self,
        reader: &mut dyn ControlReader,
        backoff: &mut Backoff,
        has_read: &mut bool,
    ) -> String {
        // Until all was read, the rooms that the log holds.
        let mut found = Some(HashSet::new());
        loop {
            match reader.next().await {
                Ok(ControlEvent::Records(records)) => self.take(records, found.as_mut()),
                Ok(ControlEvent::CaughtUp) => {
                    if let Some(found) = found.take() {
                        self.orders.retain(&found);
                    }
                    backoff.reset();
                    *has_read = true;
                    self.orders.set_read();
                    gauge!(FOLLOWING).set(1.0);
                    self.condition.hold();
                    tracing::info!(rooms = self.orders.rooms().len(), "following the orders");
                }
                Err(error) => return error.to_string(),
            }
        }
    }

    fn take(&self, records: Vec<ControlRecord>, mut found: Option<&mut HashSet<RoomName>>) {
        let orders: Vec<_> = records.into_iter().filter_map(order).collect();
        for (room, _, order) in &orders {
            if let Some(found) = &mut found {
                match order {
                    Some(_) => drop(found.insert(room.clone())),
                    None => drop(found.remove(room)),
                }
            }
        }
        self.orders.apply(orders);
    }
}

/// The order in a record. What can't be read is passed over: it must not stop the others.
fn order(record: ControlRecord) -> Option<(RoomName, u64, Option<RoomOrder>)> {
    let ControlRecord { key, version, value } = record;
    let room = room_of_key(&key)?;
    let Some(value) = value else { return Some((room, version, None)) };
    match RoomOrder::decode(&room, &value) {
        Ok(order) => Some((room, version, Some(order))),
        Err(error) => {
            counter!(ALIEN).increment(1);
            tracing::warn!(key, version, %error, "alien order was passed over");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventlog::{ControlPut, Expected, MemoryLog};
    use service::Readiness;
    use wire::control::{RoomState, room_key};

    async fn put(log: &MemoryLog, key: &str, value: Option<Vec<u8>>) {
        let put = ControlPut { key: key.into(), value: value.map(Into::into), expected: Expected::Any };
        log.put_control(put).await.unwrap();
    }

    async fn close(log: &MemoryLog, room: &str) {
        let room: RoomName = room.parse().unwrap();
        let order = RoomOrder { state: RoomState::Closed, ..RoomOrder::new(room.clone(), "produce", 1) };
        put(log, &room_key(&room), Some(order.encode())).await;
    }

    async fn until(what: &str, orders: &Orders, mut is_so: impl FnMut() -> bool) {
        let mut changes = orders.changes();
        let wait = async {
            while !is_so() {
                let _ = tokio::time::timeout(Duration::from_millis(20), changes.changed()).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap_or_else(|_| panic!("{what}"));
    }

    #[tokio::test]
    async fn orders_are_read_before_the_process_is_ready_and_followed_after_that() {
        let (log, orders, readiness) = (MemoryLog::new(1), Arc::<Orders>::default(), Readiness::default());
        close(&log, "a").await;
        put(&log, "token/x", Some(b"later".to_vec())).await;
        put(&log, "room/broken", Some(b"{".to_vec())).await;
        let condition = readiness.condition("orders");
        let follower =
            Follower { log: Arc::<MemoryLog>::clone(&log), orders: Arc::clone(&orders), condition };
        assert!(!readiness.is_ready());
        let stop = CancellationToken::new();
        let checks = async {
            until("ready", &orders, || readiness.is_ready()).await;
            assert!(orders.room("a").is_some_and(|room| room.is_closed()));
            close(&log, "b").await;
            until("b", &orders, || orders.is_declared("b")).await;
            put(&log, "room/a", None).await;
            until("a to be forgotten", &orders, || !orders.is_declared("a")).await;
            // What is deleted while the log is away is missing when it is read again.
            log.fail_opens(2);
            log.break_control();
            put(&log, "room/b", None).await;
            until("b to be forgotten", &orders, || !orders.is_declared("b")).await;
            assert!(readiness.is_ready());
            stop.cancel();
        };
        let (ended, ()) = tokio::join!(follower.run(stop.clone()), checks);
        ended.unwrap();
    }
}
