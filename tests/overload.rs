//! Too much of everything, on the real binary: more posts than it can take, and clients that hold connections without using
//! them. Who is accepted is served as before, who is refused hears so at once, and nothing grows.
//!
//! The gate checks what no noise excuses: wrong answers, lost reactions, memory that grows, and that enough was accepted to
//! prove anything. Goodput and times depend on what else the machine does, so they are benchmarks: ignored tests, which
//! docs/testing.md has the command for. A benchmark compares the rounds of one run with each other.

#![expect(clippy::print_stdout, reason = "a test says its figures")]

mod cpu;
mod full;
mod log;
mod posters;
mod slow;

use crate::{chaos::number_from_env, harness::process::Uproar};
use std::time::Duration;

/// What the process may hold more at the end of an overload than at its beginning.
const MEMORY_KIB: u64 = 8 << 10;

/// Asks for the long form.
const LONG: &str = "UPROAR_OVERLOAD_S";

/// How often a benchmark measures. Noise spoils single rounds, a regression spoils most of them.
const ROUNDS: usize = 5;

/// Goodput under overload, by the best of its round.
const GOODPUT: f64 = 0.9;

/// How long a round takes: `UPROAR_OVERLOAD_S`, or as short as figures allow.
fn round(short: Duration) -> Duration {
    number_from_env(LONG).map_or(short, Duration::from_secs)
}

fn is_long() -> bool {
    number_from_env(LONG).is_some()
}

/// Memory must be flat.
fn check_memory(uproar: &Uproar, before_kib: u64) {
    let after_kib = uproar.resident_kib();
    println!("memory: {before_kib} KiB before, {after_kib} KiB after");
    assert!(after_kib <= before_kib + MEMORY_KIB, "memory grew from {before_kib} to {after_kib} KiB");
}

/// Fails when most rounds of a benchmark have faults.
fn check_most(rounds: &[Vec<String>]) {
    let faulty: Vec<_> = rounds.iter().filter(|faults| !faults.is_empty()).collect();
    println!("{} of {} rounds have faults: {faulty:?}", faulty.len(), rounds.len());
    assert!(!rounds.is_empty() && faulty.len() <= rounds.len() / 2, "{faulty:?}");
}
