//! A connection that its request may keep: who answers on the short way may have the socket once the answer is written, and
//! goes on with it without HTTP. For answers that never end, and that somebody else writes better.

use bytes::Bytes;
use std::{
    fmt,
    net::TcpStream,
    sync::{Arc, Mutex, PoisonError},
};

/// Among the extensions of a request whose socket can be had.
#[derive(Clone, Debug, Default)]
pub struct Offer(Arc<Mutex<Option<Taker>>>);

/// Who takes the socket, and what was read of it behind the request. Dropped where the answer can't be written.
pub(super) struct Taker(Box<dyn FnOnce(TcpStream, Bytes) + Send + Sync>);

impl Offer {
    /// Has `take` get the socket once the answer is written. The answer has no body then: what follows its head is up to
    /// `take`, to the end of the connection (RFC 9112, section 6.3).
    pub fn accept(&self, take: impl FnOnce(TcpStream, Bytes) + Send + Sync + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Taker(Box::new(take)));
    }

    pub(super) fn taker(&self) -> Option<Taker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Taker {
    pub(super) fn take(self, stream: TcpStream, read: Bytes) {
        (self.0)(stream, read);
    }
}

impl fmt::Debug for Taker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Taker")
    }
}
