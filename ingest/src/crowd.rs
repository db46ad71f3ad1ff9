//! Who could still post. When every connection has a request that waits, nobody else comes before the answers go out, so to
//! wait for more would be for nothing: few connections, such as those of a proxy, are not held to one post a commit interval.
//!
//! Known only where each connection has one request at a time: on the short way (`service::http::Way`).

use service::http::Way;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};
use tokio::sync::Notify;

/// The connections that are open.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    short: AtomicUsize,
    long: AtomicUsize,
    complete: Notify,
}

/// One connection; leaves when dropped.
pub(crate) struct Present(Arc<Crowd>, Way);

impl Crowd {
    /// A connection has come.
    pub(crate) fn enter(self: &Arc<Self>, way: Way) -> Present {
        self.on(way).fetch_add(1, Relaxed);
        Present(Arc::clone(self), way)
    }

    /// How many connections there are.
    #[cfg(test)]
    pub(crate) fn present(&self) -> usize {
        self.short.load(Relaxed) + self.long.load(Relaxed)
    }

    /// `waiting` requests wait. If these are all that there can be, [`Crowd::complete`] resolves.
    pub(crate) fn wait(&self, waiting: usize) {
        let short = self.short.load(Relaxed);
        if waiting >= short && short > 0 && self.long.load(Relaxed) == 0 {
            self.complete.notify_one();
        }
    }

    /// Resolves when everyone waits who could, or did a moment ago.
    pub(crate) async fn complete(&self) {
        self.complete.notified().await;
    }

    fn on(&self, way: Way) -> &AtomicUsize {
        match way {
            Way::Short => &self.short,
            Way::Long => &self.long,
        }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.on(self.1).fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn is_complete(crowd: &Crowd, waiting: usize) -> bool {
        crowd.wait(waiting);
        crowd.complete().now_or_never().is_some()
    }

    #[test]
    fn it_is_complete_when_as_many_wait_as_there_are_connections() {
        let crowd = Arc::new(Crowd::default());
        assert!(!is_complete(&crowd, 1), "nobody knows who could come");
        let (_first, second) = (crowd.enter(Way::Short), crowd.enter(Way::Short));
        assert!(!is_complete(&crowd, 1));
        assert!(is_complete(&crowd, 2));
        drop(second);
        assert!(is_complete(&crowd, 1));
    }

    #[test]
    fn with_a_connection_that_may_have_many_requests_it_is_never_complete() {
        let crowd = Arc::new(Crowd::default());
        let _short = crowd.enter(Way::Short);
        let long = crowd.enter(Way::Long);
        assert!(!is_complete(&crowd, 9));
        drop(long);
        assert!(is_complete(&crowd, 1));
    }
}
