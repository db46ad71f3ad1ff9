//! What the integration tests are written with.

pub mod http;
pub mod kafka;
pub mod probe;
pub mod process;
pub mod viewers;
pub mod wait;

use std::io::Write;

/// Says that a test is skipped, and why; a failure where `UPROAR_NO_SKIP=1`.
pub fn skip(why: &str) {
    assert!(std::env::var("UPROAR_NO_SKIP").as_deref() != Ok("1"), "UPROAR_NO_SKIP=1, but {why}");
    say_skipped(why);
}

/// Says that a test is skipped because of a right that not every machine of the gate gives.
pub fn say_skipped(why: &str) {
    // Not by a macro: the output of a test that passes is not shown.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
