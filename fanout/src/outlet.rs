//! An outlet: a broker, ours or another's, that is handed what the rooms show.
//!
//! Newest or nothing: at most one frame of each room waits, however slow the taker is or however long it is away.

use crate::{
    frames::Encoded,
    metrics::{SKIPPED, UNCLEARED},
    newest::Newest,
    registry::{Registry, Shown},
};
use metrics::counter;
use service::CancellationToken;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use wire::RoomName;

/// Where so many rooms wait, no forgotten one is added. Rooms that show something are bounded by what there is to see;
/// those that were forgotten while the taker was away are not.
const MOST_FORGOTTEN: usize = 100_000;

/// The follower's end. Dropped, it lets the taker's end run dry.
#[derive(Debug)]
pub(crate) struct Outlet(Arc<Pending>);

/// The end of the taker; there is one.
#[derive(Debug)]
pub(crate) struct Pending {
    /// In metrics.
    name: &'static str,
    waiting: Mutex<Newest>,
    changed: Notify,
    closed: CancellationToken,
}

/// Both ends of an outlet.
pub(crate) fn outlet(name: &'static str) -> (Outlet, Arc<Pending>) {
    let (changed, closed) = (Notify::new(), CancellationToken::new());
    let pending = Arc::new(Pending { name, waiting: Mutex::default(), changed, closed });
    (Outlet(Arc::clone(&pending)), pending)
}

impl Outlet {
    /// Puts what the room shows now; `None`: nothing. Never waits: it takes the place of what still waits of this room.
    pub(crate) fn publish(&self, room: &RoomName, frame: Option<Arc<Encoded>>) {
        self.0.put(room, frame);
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Pending {
    /// Takes what has waited longest; waits while nothing does. `None` when closed and empty. May be dropped: nothing
    /// is lost then.
    pub(crate) async fn take(&self) -> Option<(RoomName, Shown)> {
        loop {
            // Looked at first: nothing is put after it is closed.
            let is_closed = self.is_closed();
            let taken = self.lock().take();
            if taken.is_some() || is_closed {
                return taken;
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = self.closed() => {}
            }
        }
    }

    /// Puts what the room shows now, unless it waits already. The registry is asked under the lock: the follower shows a
    /// frame there before it puts it here, so that an older one never comes after a newer.
    pub(crate) fn renew(&self, room: &RoomName, registry: &Registry) {
        let mut waiting = self.lock();
        if !waiting.contains(room) {
            waiting.put(room, registry.snapshot(room));
        }
    }

    /// No more will be put.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Waits until no more will be put.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// How many rooms wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn put(&self, room: &RoomName, frame: Option<Arc<Encoded>>) {
        let mut waiting = self.lock();
        if frame.is_none() && waiting.len() >= MOST_FORGOTTEN && !waiting.contains(room) {
            counter!(UNCLEARED, "protocol" => self.name).increment(1);
            return;
        }
        if waiting.put(room, frame) {
            counter!(SKIPPED, "protocol" => self.name).increment(1);
        }
        drop(waiting);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{metrics::Meters, tests::harness::aggregate};

    fn frame(room: &str, seq: u64) -> Arc<Encoded> {
        Arc::new(Encoded::of(&aggregate(room, seq), 10))
    }

    async fn take(pending: &Pending) -> Option<(String, Option<String>)> {
        pending.take().await.map(|(room, shown)| (room.to_string(), shown.map(|frame| frame.etag())))
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_a_frame_and_by_the_end() {
        let (outlet, pending) = outlet("broker");
        let taker = async { (take(&pending).await.map(|(room, _)| room), take(&pending).await) };
        let putter = async {
            tokio::task::yield_now().await;
            outlet.publish(&"a".parse().unwrap(), Some(frame("a", 1)));
            tokio::task::yield_now().await;
            drop(outlet);
        };
        assert_eq!(tokio::join!(taker, putter).0, (Some("a".into()), None));
    }

    #[tokio::test]
    async fn what_waits_at_the_end_is_still_taken() {
        let (outlet, pending) = outlet("broker");
        outlet.publish(&"a".parse().unwrap(), Some(frame("a", 1)));
        drop(outlet);
        assert!(take(&pending).await.is_some());
        assert_eq!(take(&pending).await, None);
    }

    #[tokio::test]
    async fn a_room_is_renewed_with_what_it_shows_unless_it_waits_already() {
        let (outlet, pending) = outlet("bridge");
        let registry = Registry::new(Arc::new(Meters::new()));
        for room in ["shown", "waits"] {
            registry.publish(&frame(room, 2));
        }
        outlet.publish(&"waits".parse().unwrap(), Some(frame("waits", 2)));
        for room in ["shown", "waits", "forgotten"] {
            pending.renew(&room.parse().unwrap(), &registry);
        }
        let etag = || Some(frame("any", 2).etag());
        assert_eq!(take(&pending).await, Some(("waits".into(), etag())));
        assert_eq!(take(&pending).await, Some(("shown".into(), etag())));
        assert_eq!(take(&pending).await, Some(("forgotten".into(), None)));
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn forgotten_rooms_that_wait_have_a_bound_and_frames_are_not_kept_out_by_it() {
        let (outlet, pending) = outlet("bridge");
        for n in 0..=MOST_FORGOTTEN {
            outlet.publish(&format!("r{n}").parse().unwrap(), None);
        }
        assert_eq!(pending.len(), MOST_FORGOTTEN);
        outlet.publish(&"a".parse().unwrap(), Some(frame("a", 1)));
        assert_eq!(pending.len(), MOST_FORGOTTEN + 1);
        outlet.publish(&"a".parse().unwrap(), None);
        assert!(pending.lock().contains(&"a".parse().unwrap()), "it takes the place of its frame");
    }
}
