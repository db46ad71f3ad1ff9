//! Follows `aggregates`: each becomes a frame, which is published.
//!
//! What a log holds when it is opened is not news: only the newest aggregate of each room is published, once all is
//! read. When the log had to be opened again, rooms that it no longer holds are forgotten then.

use crate::{
    edge::Edge,
    fanout::Shared,
    frames::{Encoded, FrameOptions},
    metrics::{ALIEN, REOPENS},
    outlet::Outlet,
    registry::Published,
};
use bytes::Bytes;
use eventlog::{EventLog, FollowEvent, FollowedRecord, Follower, OpenError};
use metrics::counter;
use service::{Clock, Condition, SystemClock};
use std::{collections::HashMap, sync::Arc, time::Duration};
use wire::RoomName;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// From the log to the registry and the outlets.
pub(crate) struct Follow {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) edge: Arc<Edge>,
    pub(crate) outlets: Vec<Outlet>,
    pub(crate) condition: Condition,
}

impl Follow {
    /// Follows until dropped. Returns only where the log can't be opened until somebody changes something.
    pub(crate) async fn run(&self) -> OpenError {
        let mut pause = FIRST_PAUSE;
        loop {
            let why = match self.log.follower().await {
                Ok(mut follower) => self.read(follower.as_mut(), &mut pause).await,
                Err(OpenError::Unavailable(why)) => why,
                Err(error) => return error,
            };
            self.condition.fail(format!("not following the log: {why}"));
            counter!(REOPENS).increment(1);
            tracing::warn!(why, pause_ms = pause.as_millis(), "opening the log again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Reads until the follower breaks, and says why it did.
    async fn read(&self, follower: &mut dyn Follower, pause: &mut Duration) -> String {
        let mut found: Option<HashMap<RoomName, Option<Bytes>>> = Some(HashMap::new());
        loop {
            match follower.next().await {
                Ok(FollowEvent::Records(records)) => match &mut found {
                    Some(found) => {
                        found.extend(records.into_iter().map(|record| (record.room, record.value)));
                    }
                    None => self.show_all(records, true).await,
                },
                Ok(FollowEvent::CaughtUp) => {
                    self.catch_up(found.take().unwrap_or_default()).await;
                    *pause = FIRST_PAUSE;
                }
                Err(error) => return error.to_string(),
            }
        }
    }

    async fn catch_up(&self, found: HashMap<RoomName, Option<Bytes>>) {
        let rooms = found.len();
        for room in self.shared.registry.rooms_shown() {
            if !found.contains_key(&room) {
                self.forget(&room);
            }
        }
        let records = found.into_iter().map(|(room, value)| FollowedRecord { room, value });
        self.show_all(records, false).await;
        self.shared.set_caught_up();
        self.condition.hold();
        tracing::info!(rooms, "following the log");
    }

    async fn show_all(&self, records: impl IntoIterator<Item = FollowedRecord>, live: bool) {
        let options = self.shared.frame_options();
        for FollowedRecord { room, value } in records {
            match value {
                Some(record) => self.show(&room, record, options.clone(), live),
                None => self.forget(&room),
            }
            // Thousands of rooms may come at once; viewers' tasks run on the same threads.
            tokio::task::consume_budget().await;
        }
    }

    fn show(&self, room: &RoomName, record: Bytes, options: FrameOptions, live: bool) {
        let Some(frame) = frame(room, record, options) else { return };
        let meters = &self.shared.meters;
        let published = self.shared.registry.publish(&frame);
        if published == Published::Stale {
            meters.stale.increment(1);
            return;
        }
        meters.published.increment(1);
        if live {
            let age_ms = SystemClock.now_ms().saturating_sub(frame.window_end_ms());
            meters.frame_age.record(Duration::from_millis(age_ms));
        }
        // A shard is not woken for what none of its viewers sees.
        if published == Published::Watched {
            self.edge.publish(room, Some(&frame));
        }
        for outlet in &self.outlets {
            outlet.publish(room, Some(Arc::clone(&frame)));
        }
    }

    fn forget(&self, room: &RoomName) {
        if self.shared.registry.forget(room) {
            self.edge.publish(room, None);
        }
        // Another's broker may hold a message from before this process was started.
        for outlet in &self.outlets {
            outlet.publish(room, None);
        }
    }
}

/// The frame of a record that may be anybody's. What can't be read is passed over: it must not stop the others.
fn frame(room: &RoomName, record: Bytes, options: FrameOptions) -> Option<Arc<Encoded>> {
    match Encoded::new(room, record, options) {
        Ok(frame) => Some(Arc::new(frame)),
        Err(error) => {
            counter!(ALIEN).increment(1);
            tracing::warn!(%room, %error, "alien aggregate was passed over");
            None
        }
    }
}
