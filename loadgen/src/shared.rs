//! A value that tasks share and touch briefly.

use std::sync::{Arc, Mutex, PoisonError};

/// A value behind a lock that is never held across an await. The runtime has one thread, so that nobody ever waits.
#[derive(Debug, Default)]
pub(crate) struct Shared<T>(Arc<Mutex<T>>);

impl<T> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    /// Lets `touch` read or change the value.
    pub(crate) fn with<R>(&self, touch: impl FnOnce(&mut T) -> R) -> R {
        // A panic elsewhere must not hide the figures that were gathered until then.
        touch(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
