//! What the routes and the committer share.

use crate::{
    batches::Batches,
    bell::Bell,
    config::{Config, Live},
    crowd::Crowd,
    gate::Gate,
    halls::Halls,
    handover::Handover,
    limits::Ledger,
    metrics::Meters,
    observed::Observed,
    troubles::Troubles,
};
use arc_swap::{ArcSwap, Guard};
use control::Orders;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// What the routes and the committer share.
pub(crate) struct Shared {
    live: ArcSwap<Live>,
    /// What operators ordered.
    pub(crate) orders: Arc<Orders>,
    pub(crate) gate: Gate,
    pub(crate) batches: Batches,
    pub(crate) crowd: Crowd,
    pub(crate) halls: Halls,
    pub(crate) bell: Bell,
    pub(crate) handover: Handover,
    pub(crate) ledger: Ledger,
    pub(crate) meters: Meters,
    pub(crate) observed: Observed,
    troubles: Mutex<Troubles>,
}

impl Shared {
    pub(crate) fn new(config: Arc<Config>, orders: Arc<Orders>) -> Self {
        Self {
            live: ArcSwap::from_pointee(Live::of(config)),
            orders,
            gate: Gate::default(),
            batches: Batches::default(),
            crowd: Crowd::default(),
            halls: Halls::default(),
            bell: Bell::default(),
            handover: Handover::default(),
            ledger: Ledger::new(Instant::now().into_std()),
            meters: Meters::new(),
            observed: Observed::default(),
            troubles: Mutex::default(),
        }
    }

    /// The configuration as it is now.
    pub(crate) fn live(&self) -> Guard<Arc<Live>> {
        self.live.load()
    }

    /// What failed lately.
    pub(crate) fn troubles(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The configuration has changed.
    pub(crate) fn set_config(&self, config: Arc<Config>) {
        self.live.store(Arc::new(Live::of(config)));
    }
}
