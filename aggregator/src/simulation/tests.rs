//! The runs.

use super::{Bug, run};
use std::{env, thread};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 10_000;
/// Within so many each planted bug must be found.
const SEEDS_FOR_A_BUG: u64 = 5_000;
const THREADS: u64 = 2;

fn number_from_env(name: &str) -> Option<u64> {
    env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name} must be a number, is {value}")))
}

#[test]
fn whatever_happens_every_reaction_counts_once() {
    if let Some(seed) = number_from_env("UPROAR_SEED") {
        run(seed, None).unwrap_or_else(|failure| panic!("\n{failure}"));
        return;
    }
    let seeds = number_from_env("UPROAR_SEEDS").unwrap_or(SEEDS);
    thread::scope(|scope| {
        for first in 0..THREADS {
            scope.spawn(move || {
                for seed in (first..seeds).step_by(THREADS as usize) {
                    run(seed, None).unwrap_or_else(|failure| panic!("\n{failure}"));
                }
            });
        }
    });
}

#[test]
fn a_seed_decides_everything() {
    for seed in 0..100 {
        let fingerprints = [(); 3].map(|()| run(seed, None).ok());
        assert_eq!(fingerprints[0], fingerprints[1], "seed {seed}");
        assert_eq!(fingerprints[0], fingerprints[2], "seed {seed}");
    }
}

#[test]
fn every_planted_bug_is_found() {
    for bug in Bug::ALL {
        let found = (0..SEEDS_FOR_A_BUG).find(|seed| run(*seed, Some(bug)).is_err());
        assert!(found.is_some(), "{bug:?} was not found");
        println!("{bug:?}: seed {found:?}");
    }
}
