//! Chaos on real processes under load: kill -9, sleep, loss of a broker. Then every reaction is accounted for.
//!
//! Which process dies, and when, comes from a seed that is printed; what the kernel and the brokers make of it does not.
//! The random pauses are the chaos itself. Everything else waits on conditions. docs/testing.md has the long form.

#![expect(clippy::print_stdout, reason = "a test says its seed and its figures")]

mod accounts;
mod audit;
mod brokers;
mod embedded;
mod open_loop;
mod outage;
mod posters;
mod takeover;
mod tiers;
mod watcher;
mod zombie;

use std::{
    env, process,
    time::{Duration, SystemTime},
};
use tokio::sync::{Mutex, MutexGuard};

/// Random choices from a seed (SplitMix64).
pub struct Chaos {
    state: u64,
}

impl Chaos {
    /// Takes the seed from `UPROAR_SEED`, or a new one, and prints it.
    pub fn new(test: &str) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let seed =
            number_from_env("UPROAR_SEED").unwrap_or(now.as_micros() as u64 ^ u64::from(process::id()));
        println!("{test}: UPROAR_SEED={seed}");
        Self { state: seed }
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Lets the load go on until some random moment.
    pub async fn pause(&mut self, from_ms: u64, to_ms: u64) {
        tokio::time::sleep(Duration::from_millis(from_ms + self.below(to_ms - from_ms))).await;
    }
}

/// One chaos at a time: they load a small machine enough.
pub async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// How often something dies: `UPROAR_CHAOS_ROUNDS`, or a few times in the ordinary run.
fn rounds(few: u64) -> u64 {
    number_from_env("UPROAR_CHAOS_ROUNDS").unwrap_or(few)
}

pub fn number_from_env(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}
