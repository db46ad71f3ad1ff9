//! What a viewer is told first, before any frame.

use crate::Config;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use wire::{HelloEncoder, RoomName};

/// Greets viewers with what is in force when they come.
#[derive(Debug)]
pub(crate) struct Hellos {
    config: watch::Receiver<Arc<Config>>,
    catalogue: watch::Receiver<Arc<Vec<String>>>,
    made: Mutex<Made>,
}

/// What is the same for all viewers, and of which it was made.
#[derive(Debug)]
struct Made {
    config: Arc<Config>,
    catalogue: Arc<Vec<String>>,
    encoder: HelloEncoder,
}

impl Made {
    fn new(config: Arc<Config>, catalogue: Arc<Vec<String>>) -> Self {
        let encoder = HelloEncoder::new(config.reconnect_jitter_ms, config.post_ms, &catalogue);
        Self { config, catalogue, encoder }
    }
}

impl Hellos {
    pub(crate) fn new(
        config: watch::Receiver<Arc<Config>>,
        catalogue: watch::Receiver<Arc<Vec<String>>>,
    ) -> Self {
        let made = Made::new(Arc::clone(&config.borrow()), Arc::clone(&catalogue.borrow()));
        Self { config, catalogue, made: Mutex::new(made) }
    }

    /// The greeting of a viewer of `rooms`, as JSON.
    pub(crate) fn encode(&self, rooms: &[RoomName]) -> Vec<u8> {
        let (config, catalogue) = (self.config.borrow(), self.catalogue.borrow());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&made.config, &config) || !Arc::ptr_eq(&made.catalogue, &catalogue) {
            *made = Made::new(Arc::clone(&config), Arc::clone(&catalogue));
        }
        made.encoder.encode(rooms)
    }
}
