//! What a worker knows of a connection: whether it works, and when it last moved.
//!
//! Written by the connection's own thread with each read, write and request, so it has to cost next to nothing: times are
//! the worker's ticks, and all is relaxed. Nothing is decided here but when to cut.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU8, AtomicU32,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
    },
    task::Waker,
};

/// The worker's clock: ticks since its start.
pub(super) type Ticks = Arc<AtomicU32>;

/// How long a connection may do what, in ticks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For the head of a request.
    pub(super) head: u32,
    /// Without anything that moves.
    pub(super) idle: u32,
    /// The same, since it was asked to leave.
    pub(super) leave: u32,
    /// A request that waits has its peer checked once in this time.
    pub(super) check: u32,
}

/// How a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// When the request under way is answered.
    Gracefully = 1,
    /// At once.
    Now = 2,
}

/// One connection.
pub(super) struct Activity {
    now: Ticks,
    /// The last byte in either direction.
    moved_at: AtomicU32,
    /// When the head began that is being read; the first one begins with the connection.
    head_at: AtomicU32,
    in_head: AtomicBool,
    /// Requests that are being answered.
    busy: AtomicU32,
    /// Those of them of whose answer all was given away that there is: the peer is waited for, and not we.
    given: AtomicU32,
    /// Requests whose answer has begun and has nothing to give now: streams.
    resting: AtomicU32,
    /// Frames come at any time there: a read isn't the start of a head.
    http2: AtomicBool,
    leave: AtomicU8,
    /// The connection is to check whether its peer has reset it.
    peer_check: AtomicBool,
    /// The task that polls the connection: always the same one.
    waker: OnceLock<Waker>,
}

impl Activity {
    pub(super) fn new(now: Ticks) -> Self {
        let tick = now.load(Relaxed);
        Self {
            now,
            moved_at: AtomicU32::new(tick),
            head_at: AtomicU32::new(tick),
            in_head: AtomicBool::new(true),
            busy: AtomicU32::new(0),
            given: AtomicU32::new(0),
            resting: AtomicU32::new(0),
            http2: AtomicBool::new(false),
            leave: AtomicU8::new(0),
            peer_check: AtomicBool::new(false),
            waker: OnceLock::new(),
        }
    }

    /// Bytes came.
    pub(super) fn read(&self) {
        let now = self.now.load(Relaxed);
        self.moved_at.store(now, Relaxed);
        if !self.in_head.load(Relaxed) && self.busy.load(Relaxed) == 0 && !self.http2.load(Relaxed) {
            self.head_at.store(now, Relaxed);
            self.in_head.store(true, Relaxed);
        }
    }

    /// Bytes went.
    pub(super) fn wrote(&self) {
        self.moved_at.store(self.now.load(Relaxed), Relaxed);
    }

    /// The head of a request is complete. The guard lives while it is being answered.
    pub(super) fn request(self: &Arc<Self>, http2: bool) -> Busy {
        self.in_head.store(false, Relaxed);
        self.http2.store(http2, Relaxed);
        self.busy.fetch_add(1, Relaxed);
        Busy { activity: Arc::clone(self), given: false, resting: false }
    }

    /// Why the connection has to end by now, if it has to.
    pub(super) fn overdue(&self, patience: Patience) -> Option<(Leave, &'static str)> {
        let since = |at: &AtomicU32| self.now.load(Relaxed).wrapping_sub(at.load(Relaxed));
        if self.busy.load(Relaxed) > self.given.load(Relaxed) {
            return None;
        }
        let in_head = self.in_head.load(Relaxed);
        if in_head && since(&self.head_at) > patience.head {
            return Some((Leave::Now, "head"));
        }
        // One that was asked to leave and is still there has a peer that takes nothing, or a head that has begun.
        let asked = self.leave.load(Relaxed) != 0;
        let rest = if asked && !in_head { patience.leave } else { patience.idle };
        let how = if asked { Leave::Now } else { Leave::Gracefully };
        (since(&self.moved_at) > rest).then_some((how, "idle"))
    }

    /// Asks the connection to end. Whether it was asked for the first time.
    pub(super) fn ask_to_leave(&self, how: Leave) -> bool {
        if self.leave.load(Relaxed) == 0 {
            // From now on its peer has time.
            self.wrote();
        }
        let before = self.leave.fetch_max(how as u8, Relaxed);
        if before < how as u8 {
            self.wake();
        }
        before == 0
    }

    /// Asks the connection to check its peer, if a request has waited for another `patience.check`. While an answer is
    /// waited for nothing is read, so nothing else would notice a peer that is gone.
    pub(super) fn check_peer_of_waiting(&self, patience: Patience) {
        let waited = self.now.load(Relaxed).wrapping_sub(self.moved_at.load(Relaxed));
        let waits = self.busy.load(Relaxed) > self.given.load(Relaxed);
        if waits && waited > 0 && waited.is_multiple_of(patience.check.max(1)) {
            self.peer_check.store(true, Relaxed);
            self.wake();
        }
    }

    /// Whether the peer is to be checked now. Says so once for each time that it was asked.
    pub(super) fn take_peer_check(&self) -> bool {
        self.peer_check.load(Relaxed) && self.peer_check.swap(false, Relaxed)
    }

    /// Whether every answer under way is a stream that rests: its head was answered already.
    pub(super) fn only_streams_rest(&self) -> bool {
        let busy = self.busy.load(Relaxed);
        busy > 0 && busy == self.resting.load(Relaxed)
    }

    fn wake(&self) {
        // Either this finds the waker, or `register` comes later, and its caller sees what was asked.
        fence(SeqCst);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// The worker's time.
    pub(super) fn tick(&self) -> u32 {
        self.now.load(Relaxed)
    }

    /// Sets the task that is woken when something is asked of the connection. The first one stays.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.get_or_init(|| waker.clone());
        fence(SeqCst);
    }

    /// Whether the connection was asked to end.
    pub(super) fn leave(&self) -> Option<Leave> {
        match self.leave.load(Relaxed) {
            0 => None,
            1 => Some(Leave::Gracefully),
            _ => Some(Leave::Now),
        }
    }
}

/// A request is being answered.
pub(super) struct Busy {
    activity: Arc<Activity>,
    given: bool,
    resting: bool,
}

impl Busy {
    /// Whether all that there is of the answer was given away, so that it is the peer who is waited for.
    pub(super) fn gave(&mut self, all: bool) {
        if all && !self.given {
            self.activity.given.fetch_add(1, Relaxed);
            self.activity.wrote();
        } else if !all && self.given {
            self.activity.given.fetch_sub(1, Relaxed);
        }
        self.given = all;
    }

    /// Whether the answer has begun and has no next part yet.
    pub(super) fn rest(&mut self, rests: bool) {
        if rests && !self.resting {
            self.activity.resting.fetch_add(1, Relaxed);
        } else if !rests && self.resting {
            self.activity.resting.fetch_sub(1, Relaxed);
        }
        self.resting = rests;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.gave(false);
        self.rest(false);
        self.activity.busy.fetch_sub(1, Relaxed);
        self.activity.wrote();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { head: 10, idle: 75, leave: 8, check: 4 };

    fn rig() -> (Ticks, Arc<Activity>) {
        let now = Ticks::default();
        (Arc::clone(&now), Arc::new(Activity::new(now)))
    }

    #[test]
    fn a_connection_has_to_speak_soon_and_to_finish_its_heads() {
        let (now, connection) = rig();
        now.store(10, Relaxed);
        assert_eq!(connection.tick(), 10);
        assert_eq!(connection.overdue(PATIENCE), None);
        connection.read();
        now.store(11, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), Some((Leave::Now, "head")));

        drop(connection.request(false));
        now.store(40, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), None, "idle between requests");
        connection.read();
        now.store(50, Relaxed);
        connection.read();
        assert_eq!(connection.overdue(PATIENCE), None);
        now.store(51, Relaxed);
        connection.read();
        assert_eq!(
            connection.overdue(PATIENCE),
            Some((Leave::Now, "head")),
            "a byte now and then is not enough"
        );
    }

    #[test]
    fn one_that_works_is_left_alone_and_one_that_rests_too_long_leaves() {
        let (now, connection) = rig();
        let busy = connection.request(false);
        now.store(1_000, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), None);
        drop(busy);
        now.store(1_075, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), None);
        now.store(1_076, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), Some((Leave::Gracefully, "idle")));
        assert!(connection.ask_to_leave(Leave::Gracefully));
        assert_eq!(connection.overdue(PATIENCE), None, "it was asked just now");
        now.store(1_085, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), Some((Leave::Now, "idle")), "it was asked and did not go");
    }

    #[test]
    fn a_stream_may_rest_but_its_peer_has_to_take_what_there_is() {
        let (now, connection) = rig();
        let mut busy = connection.request(false);
        now.store(100, Relaxed);
        busy.gave(true);
        now.store(175, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), None);
        now.store(176, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), Some((Leave::Gracefully, "idle")), "nothing is taken");
        connection.wrote();
        busy.gave(false);
        connection.read();
        now.store(1_000, Relaxed);
        assert_eq!(
            connection.overdue(PATIENCE),
            None,
            "there is nothing to take, and what came waits for its turn"
        );
        busy.gave(true);
        drop(busy);
        now.store(1_075, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), None);
        now.store(1_076, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), Some((Leave::Gracefully, "idle")), "it ended");
    }

    #[test]
    fn one_of_two_streams_that_has_nothing_to_give_is_enough_to_rest() {
        let (now, connection) = rig();
        let (mut first, second) = (connection.request(true), connection.request(true));
        first.gave(true);
        now.store(100, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), None);
        drop(second);
        now.store(176, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), Some((Leave::Gracefully, "idle")));
    }

    #[test]
    fn one_that_was_asked_to_leave_has_little_time_to_take_what_there_is_and_ours_to_give_it() {
        let (now, connection) = rig();
        let mut busy = connection.request(false);
        connection.ask_to_leave(Leave::Gracefully);
        now.store(100, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), None);
        busy.gave(true);
        now.store(108, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), None);
        connection.wrote();
        now.store(116, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), None, "it takes it slowly");
        now.store(117, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), Some((Leave::Now, "idle")));
    }

    #[test]
    fn one_that_was_asked_to_leave_may_still_finish_a_head() {
        let (now, connection) = rig();
        connection.ask_to_leave(Leave::Gracefully);
        now.store(10, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), None);
        now.store(11, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), Some((Leave::Now, "head")));
    }

    #[test]
    fn frames_of_http2_are_not_heads() {
        let (now, connection) = rig();
        drop(connection.request(true));
        connection.read();
        now.store(70, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), None);
        connection.read();
        now.store(140, Relaxed);
        assert_eq!(connection.overdue(PATIENCE), None, "a ping is a sign of life");
    }

    #[test]
    fn only_a_request_that_waits_for_long_has_its_peer_checked_and_then_once_a_while() {
        let (now, connection) = rig();
        let checks = || {
            connection.check_peer_of_waiting(PATIENCE);
            connection.take_peer_check()
        };
        now.store(4, Relaxed);
        assert!(!checks(), "it rests");
        let mut busy = connection.request(false);
        connection.read();
        assert!(!checks(), "it began just now");
        let checked: Vec<_> = (5..=17)
            .filter(|tick| {
                now.store(*tick, Relaxed);
                checks()
            })
            .collect();
        assert_eq!(checked, [8, 12, 16]);
        busy.gave(true);
        now.store(24, Relaxed);
        assert!(!checks(), "the peer is waited for, which has a deadline");
    }

    #[test]
    fn only_streams_rest_while_no_other_request_waits() {
        let (_, connection) = rig();
        assert!(!connection.only_streams_rest());
        let mut stream = connection.request(false);
        assert!(!connection.only_streams_rest(), "it has no head yet");
        stream.rest(true);
        stream.rest(true);
        assert!(connection.only_streams_rest());
        let post = connection.request(false);
        assert!(!connection.only_streams_rest());
        drop(post);
        assert!(connection.only_streams_rest());
        drop(stream);
        assert!(!connection.only_streams_rest());
        assert_eq!(connection.resting.load(Relaxed), 0);
    }

    #[test]
    fn leaving_at_once_goes_over_leaving_gracefully() {
        let (_, connection) = rig();
        assert_eq!(connection.leave(), None);
        assert!(connection.ask_to_leave(Leave::Gracefully));
        assert_eq!(connection.leave(), Some(Leave::Gracefully));
        assert!(!connection.ask_to_leave(Leave::Now), "not the first time");
        assert!(!connection.ask_to_leave(Leave::Gracefully));
        assert_eq!(connection.leave(), Some(Leave::Now));
    }
}
