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
use control::Room;
use eventlog::{EventLog, FollowEvent, FollowedRecord, Follower, OpenError};
use metrics::counter;
use service::{Backoff, Clock, Condition, SystemClock};
use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use wire::{RoomName, control::RoomState};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// From the log to the registry and the outlets.
pub(crate) struct Follow {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) edge: Arc<Edge>,
    pub(crate) outlets: Vec<Outlet>,
    pub(crate) condition: Condition,
    /// The rooms that had orders when these were shown last.
    pub(crate) ordered: Mutex<HashSet<RoomName>>,
}

impl Follow {
    /// Follows until dropped. Returns only where the log can't be opened until somebody changes something.
    ///
    /// Orders are shown by the same task, so that no frame is published between a look at the orders and its publication.
    pub(crate) async fn run(&self) -> OpenError {
        let mut orders = self.shared.orders.changes();
        let mut following = pin!(self.follow());
        loop {
            tokio::select! {
                error = &mut following => return error,
                // The sender lives in the orders.
                _ = orders.changed() => self.show_orders(),
            }
        }
    }

    async fn follow(&self) -> OpenError {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let why = match self.log.follower().await {
                Ok(mut follower) => self.read(follower.as_mut(), &mut backoff).await,
                Err(OpenError::Unavailable(why)) => why,
                Err(error) => return error,
            };
            self.condition.fail(format!("not following the log: {why}"));
            counter!(REOPENS).increment(1);
            let pause = backoff.next_pause();
            tracing::warn!(why, pause_ms = pause.as_millis(), "opening the log again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads until the follower breaks, and says why it did.
    async fn read(&self, follower: &mut dyn Follower, backoff: &mut Backoff) -> String {
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
                    backoff.reset();
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
        self.show_orders();
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
        let state = self.shared.orders.state_of(room);
        let Some(frame) = frame(room, record, options).map(|frame| Arc::new(frame.with_state(state))) else {
            return;
        };
        if self.publish(room, &frame) == Published::Stale {
            self.shared.meters.stale.increment(1);
        } else if live {
            let age_ms = SystemClock.now_ms().saturating_sub(frame.window_end_ms());
            self.shared.meters.frame_age.record(Duration::from_millis(age_ms));
        }
    }

    fn publish(&self, room: &RoomName, frame: &Arc<Encoded>) -> Published {
        let published = self.shared.registry.publish(frame);
        if published == Published::Stale {
            return published;
        }
        self.shared.meters.published.increment(1);
        // A shard is not woken for what none of its viewers sees.
        if published == Published::Watched {
            self.edge.publish(room, Some(frame));
        }
        for outlet in &self.outlets {
            outlet.publish(room, Some(Arc::clone(frame)));
        }
        published
    }

    /// Has every room show the state that was ordered, also where no frame is to come. A room with orders always has a frame.
    fn show_orders(&self) {
        if !self.shared.is_caught_up() {
            return;
        }
        let orders = self.shared.orders.rooms();
        for (name, room) in orders.iter() {
            match self.shared.registry.snapshot(name) {
                None => self.show_nothing(name, 0, room),
                Some(frame) => self.show_state(&frame, room.order.state),
            }
        }
        let mut ordered = self.ordered.lock().unwrap_or_else(PoisonError::into_inner);
        for name in ordered.iter().filter(|name| !orders.contains_key(*name)) {
            if let Some(frame) = self.shared.registry.snapshot(name) {
                self.show_state(&frame, RoomState::Open);
                // One that is watched stays, so that its viewers hear that it is open.
                if !frame.has_reactions() && !self.shared.registry.is_watched(name) {
                    self.forget(name);
                }
            }
        }
        *ordered = orders.keys().cloned().collect();
    }

    fn show_state(&self, frame: &Encoded, state: RoomState) {
        if frame.state() != state {
            self.publish(&frame.room, &Arc::new(frame.again_with_state(state)));
        }
    }

    fn show_nothing(&self, name: &RoomName, since: u64, room: &Room) {
        let frame = Encoded::without_reactions(name, since, room.order.at, self.shared.frame_options());
        self.publish(name, &Arc::new(frame.with_state(room.order.state)));
    }

    fn forget(&self, room: &RoomName) {
        if let Some(ordered) = self.shared.orders.room(room) {
            // Its viewers go on to see its state, as a life that begins after the one that is forgotten.
            if let Some(frame) = self.shared.registry.snapshot(room).filter(|frame| frame.has_reactions()) {
                self.show_nothing(room, frame.place().0 + 1, &ordered);
            }
            return;
        }
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
fn frame(room: &RoomName, record: Bytes, options: FrameOptions) -> Option<Encoded> {
    match Encoded::new(room, record, options) {
        Ok(frame) => Some(frame),
        Err(error) => {
            counter!(ALIEN).increment(1);
            tracing::warn!(%room, %error, "alien aggregate was passed over");
            None
        }
    }
}
