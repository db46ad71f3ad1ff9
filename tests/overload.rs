//! Too much of everything, on the real binary: more posts than it can take, and clients that hold connections without using
//! them. Who is accepted is served as before, who is refused hears so at once, and nothing grows.
//!
//! The machine may be small and has other work, and posters share it with the server. So nothing is compared with a time on a clock:
//! rounds of one run are compared with each other, and what is compared is measured again, a few times, before it
//! counts as wrong: a limit so loose that noise can't break it would not find a fault either. What noise can't excuse (a
//! wrong answer, a lost reaction) is checked in each of them.

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

/// How often is measured before a figure counts as wrong.
const TRIES: usize = 3;

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
