//! `control` of the log in memory.

use super::{Shared, parts::wait_for};
use crate::{
    BoxFuture, ControlEvent, ControlPut, ControlReader, ControlRecord, FeedError, OpenError, PutError,
    control::check_expected,
};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// The records of `control`.
#[derive(Debug, Default)]
pub(super) struct Control {
    newest: BTreeMap<String, ControlRecord>,
    history: Vec<ControlRecord>,
    /// While it is set, writes fail with it.
    pub(super) fault: Option<PutError>,
    /// Readers of an earlier generation are broken.
    pub(super) generation: u64,
}

impl Control {
    /// # Errors
    ///
    /// The key holds something else, or a test has the write fail.
    pub(super) fn put(&mut self, put: ControlPut) -> Result<u64, PutError> {
        let ControlPut { key, value, expected } = put;
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        check_expected(expected, self.newest.get(&key).map(|record| record.version))?;
        let version = self.history.len() as u64 + 1;
        let record = ControlRecord { key: key.clone(), version, value };
        self.history.push(record.clone());
        match record.value {
            Some(_) => self.newest.insert(key, record),
            None => self.newest.remove(&key),
        };
        Ok(version)
    }
}

pub(super) fn reader(shared: &Arc<Shared>) -> Result<Box<dyn ControlReader>, OpenError> {
    let mut state = shared.look();
    state.check_open()?;
    Ok(Box::new(MemoryReader {
        shared: Arc::clone(shared),
        changed: shared.changed.subscribe(),
        generation: state.control.generation,
        first: Some(state.control.newest.values().cloned().collect()),
        next: state.control.history.len(),
    }))
}

struct MemoryReader {
    shared: Arc<Shared>,
    changed: watch::Receiver<()>,
    generation: u64,
    /// What there was at the start, until [`ControlEvent::CaughtUp`] was given.
    first: Option<Vec<ControlRecord>>,
    /// Index in the history.
    next: usize,
}

impl ControlReader for MemoryReader {
    fn next(&mut self) -> BoxFuture<'_, Result<ControlEvent, FeedError>> {
        let Self { shared, changed, generation, first, next } = self;
        Box::pin(wait_for(shared, changed, move |state| {
            if state.control.generation != *generation {
                return Some(Err(FeedError::Reopen("the test says so".into())));
            }
            if let Some(records) = first {
                if records.is_empty() {
                    *first = None;
                    return Some(Ok(ControlEvent::CaughtUp));
                }
                return Some(Ok(ControlEvent::Records(std::mem::take(records))));
            }
            let records = state.control.history[*next..].to_vec();
            *next += records.len();
            (!records.is_empty()).then_some(Ok(ControlEvent::Records(records)))
        }))
    }
}
