//! Whether the process can do its work: a set of named conditions that all must hold.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// All conditions of a process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Option<String>>>>);

/// One condition; not held until [`Condition::hold`].
#[derive(Debug, Clone)]
pub struct Condition {
    name: &'static str,
    all: Readiness,
}

impl Readiness {
    /// Adds a condition that does not hold yet.
    pub fn condition(&self, name: &'static str) -> Condition {
        self.lock().insert(name, Some("starting".into()));
        Condition { name, all: self.clone() }
    }

    /// The conditions that don't hold, with the reason; empty: ready.
    pub fn missing(&self) -> Vec<(&'static str, String)> {
        self.lock().iter().filter_map(|(name, why)| Some((*name, why.clone()?))).collect()
    }

    /// Whether all conditions hold.
    pub fn is_ready(&self) -> bool {
        self.lock().values().all(Option::is_none)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Condition {
    /// The condition holds.
    pub fn hold(&self) {
        self.all.lock().insert(self.name, None);
    }

    /// The condition does not hold, and why.
    pub fn fail(&self, why: impl Into<String>) {
        self.all.lock().insert(self.name, Some(why.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_while_every_condition_holds() {
        let readiness = Readiness::default();
        assert!(readiness.missing().is_empty());
        let (log, edge) = (readiness.condition("log"), readiness.condition("edge"));
        edge.hold();
        assert_eq!(readiness.missing(), [("log", "starting".to_owned())]);
        log.hold();
        assert!(readiness.missing().is_empty() && readiness.is_ready());
        log.fail("brokers away");
        assert_eq!(readiness.missing(), [("log", "brokers away".to_owned())]);
        assert!(!readiness.is_ready());
    }
}
