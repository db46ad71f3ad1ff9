//! The tier in a world where everything goes wrong, and one number, the seed, decides what and when. docs/testing.md says how
//! to run and replay it.
//!
//! - `world`: one run. `steps`: what can happen in it. `rng`: in which order.
//! - `instance`: a process of the tier, polled by hand. `log`: the log as it sees it.
//! - `silence`: that no room is forgotten before its time, whatever clocks say.
//! - `check`: what must hold at the end. `bugs`: that it would be noticed if it didn't.

mod bugs;
mod check;
mod instance;
mod log;
mod rng;
mod silence;
mod steps;
mod tests;
mod world;

pub(crate) use check::audit;

use bugs::Bug;
use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, PoisonError},
};
use steps::Step;
use world::World;

/// A run in which something was wrong.
struct Failure {
    seed: u64,
    steps: Vec<Step>,
    findings: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, steps, findings } = self;
        for (number, step) in steps.iter().enumerate() {
            writeln!(f, "{number:4} {step:?}")?;
        }
        for finding in findings {
            writeln!(f, "wrong: {finding}")?;
        }
        write!(f, "replay: UPROAR_SEED={seed} cargo test -p uproar-aggregator simulation -- --nocapture")
    }
}

/// Runs one seed. Gives a fingerprint of all that it left in the log.
fn run(seed: u64, bug: Option<Bug>) -> Result<u64, Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let steps = Arc::new(Mutex::new(Vec::new()));
    let caught = panic::catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let mut world = World::new(seed, bug, Arc::clone(&steps)).await;
            let result = match world.live().await {
                Ok(()) => check::end(&mut world).await,
                Err(why) => Err(why),
            };
            let findings = result.unwrap_or_else(|why| vec![why]);
            let mut fingerprint = DefaultHasher::new();
            world.memory.aggregates().hash(&mut fingerprint);
            world.memory.windows().hash(&mut fingerprint);
            (findings, fingerprint.finish())
        })
    }));
    let (findings, fingerprint) = caught.unwrap_or_else(|_| (vec!["a panic, see above".into()], 0));
    let steps = std::mem::take(&mut *steps.lock().unwrap_or_else(PoisonError::into_inner));
    if findings.is_empty() { Ok(fingerprint) } else { Err(Failure { seed, steps, findings }) }
}
