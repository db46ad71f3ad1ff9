//! What a viewer is told first, before any frame.

use crate::Config;
use control::{Orders, Rooms};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;
use wire::{FORMAT_VERSION, Hello, HelloEncoder, RoomName, RoomSettings};

/// Greets viewers with what is in force when they come.
#[derive(Debug)]
pub(crate) struct Hellos {
    config: watch::Receiver<Arc<Config>>,
    catalogue: watch::Receiver<Arc<Vec<String>>>,
    orders: Arc<Orders>,
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
        orders: Arc<Orders>,
    ) -> Self {
        let made = Made::new(Arc::clone(&config.borrow()), Arc::clone(&catalogue.borrow()));
        Self { config, catalogue, orders, made: Mutex::new(made) }
    }

    /// The greeting of a viewer of `rooms`, as JSON.
    pub(crate) fn encode(&self, rooms: &[RoomName]) -> Vec<u8> {
        if let Some(orders) = self.orders.any() {
            let own = |room: &RoomName| Some((room.clone(), settings(&orders, room)?));
            let settings: BTreeMap<_, _> = rooms.iter().filter_map(own).collect();
            if !settings.is_empty() {
                return self.hello(rooms, settings).encode();
            }
        }
        let (config, catalogue) = (self.config.borrow(), self.catalogue.borrow());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&made.config, &config) || !Arc::ptr_eq(&made.catalogue, &catalogue) {
            *made = Made::new(Arc::clone(&config), Arc::clone(&catalogue));
        }
        made.encoder.encode(rooms)
    }

    /// The greeting of a viewer of `rooms` of which some have `settings` of their own.
    fn hello(&self, rooms: &[RoomName], settings: BTreeMap<RoomName, RoomSettings>) -> Hello {
        let config = self.config.borrow();
        let mut hello = Hello {
            hello: FORMAT_VERSION,
            rooms: rooms.to_vec(),
            reconnect_jitter_ms: config.reconnect_jitter_ms,
            post_ms: config.post_ms,
            catalogue: self.catalogue.borrow().to_vec(),
            settings,
        };
        if let ([_], Some(own)) = (rooms, hello.settings.values().next()) {
            hello.post_ms = own.post_ms.unwrap_or(hello.post_ms);
            if let Some(entries) = &own.catalogue {
                hello.catalogue = entries.iter().map(|entry| entry.reaction.to_string()).collect();
            }
        }
        hello
    }
}

/// What clients of a room have to know of its orders; `None` where that is as everywhere.
fn settings(orders: &Rooms, room: &RoomName) -> Option<RoomSettings> {
    let order = &orders.get(room)?.order;
    let settings = RoomSettings { post_ms: order.post_ms, catalogue: order.catalogue.clone() };
    (settings != RoomSettings::default()).then_some(settings)
}
