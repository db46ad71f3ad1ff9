//! Who could still post. When every connection has a request that waits, nobody else comes before the answers go out, so to
//! wait for more would be for nothing: few connections, such as those of a proxy, are not held to one post a commit interval.
//!
//! Known only where each connection has one request at a time: on the short way (`service::http::Way`).

use crate::shared::Shared;
use service::http::Way;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

/// The connections that are open.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    short: AtomicUsize,
    long: AtomicUsize,
}

/// One connection; leaves when dropped. It may have been the one that the others waited for.
pub(crate) struct Present(Arc<Shared>, Way);

impl Shared {
    /// Whether all wait who could post. Those whose record is with the log will be answered, and can post again.
    fn everyone_waits(&self) -> bool {
        let none_with_the_log = self.batches.is_filled() && self.batches.in_flight() == 0;
        none_with_the_log && self.crowd.is_complete(self.gate.inside())
    }

    /// A request waits, or a connection is gone: if everyone waits now, that is all that comes.
    pub(crate) fn look_who_waits(self: &Arc<Self>) {
        if self.everyone_waits() {
            self.hand_over();
        }
    }
}

impl Present {
    pub(crate) fn enter(shared: &Arc<Shared>, way: Way) -> Self {
        shared.crowd.on(way).fetch_add(1, SeqCst);
        Self(Arc::clone(shared), way)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.crowd.on(self.1).fetch_sub(1, SeqCst);
        self.0.look_who_waits();
    }
}

impl Crowd {
    /// How many connections there are.
    #[cfg(test)]
    pub(crate) fn present(&self) -> usize {
        self.short.load(SeqCst) + self.long.load(SeqCst)
    }

    /// Whether the `waiting` requests are all that there can be.
    fn is_complete(&self, waiting: usize) -> bool {
        let short = self.short.load(SeqCst);
        waiting >= short && short > 0 && self.long.load(SeqCst) == 0
    }

    fn on(&self, way: Way) -> &AtomicUsize {
        match way {
            Way::Short => &self.short,
            Way::Long => &self.long,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Ack, request::Ask};
    use std::time::Instant;

    fn shared() -> Arc<Shared> {
        Arc::new(Shared::new(Arc::new(crate::config::tests::config())))
    }

    fn is_complete(shared: &Shared, waiting: usize) -> bool {
        shared.crowd.is_complete(waiting)
    }

    #[test]
    fn it_is_complete_when_as_many_wait_as_there_are_connections() {
        let shared = shared();
        assert!(!is_complete(&shared, 1), "nobody knows who could come");
        let (_first, second) = (Present::enter(&shared, Way::Short), Present::enter(&shared, Way::Short));
        assert!(!is_complete(&shared, 1));
        assert!(is_complete(&shared, 2));
        drop(second);
        assert!(is_complete(&shared, 1));
    }

    #[test]
    fn with_a_connection_that_may_have_many_requests_it_is_never_complete() {
        let shared = shared();
        let _short = Present::enter(&shared, Way::Short);
        let long = Present::enter(&shared, Way::Long);
        assert!(!is_complete(&shared, 9));
        drop(long);
        assert!(is_complete(&shared, 1));
    }

    #[test]
    fn one_that_leaves_may_have_been_the_one_that_the_others_waited_for() {
        let shared = shared();
        shared.batches.open(1);
        shared.gate.open();
        let live = shared.live();
        let (_waits, leaves) = (Present::enter(&shared, Way::Short), Present::enter(&shared, Way::Short));
        let _ticket = shared.gate.enter(9).unwrap();
        let ask = Ask { reactions: smallvec::smallvec![("x".parse().unwrap(), 1)], count: 1 };
        shared.batches.add(&"r".parse().unwrap(), &ask, Ack::Durable, &live.config, Instant::now()).unwrap();
        shared.look_who_waits();
        assert!(shared.handover.passed_at().is_none());
        drop(leaves);
        assert!(shared.handover.passed_at().is_some());
    }
}
