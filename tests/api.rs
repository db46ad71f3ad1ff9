//! HTTP as strangers speak it, to the real binary: tools that others wrote, and bytes on a socket.
//!
//! `tests/api/tools install` brings schemathesis and h2spec.

mod cors;
mod document;
mod fuzz;
mod h2spec;
mod half_close;
mod http1;
mod http2;
pub mod raw;

use crate::harness::{
    http,
    process::{Plan, Uproar},
    skip,
};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The room of the document's examples.
const ROOM: &str = "ind-pak-final";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api").join(name)
}

/// The folder of tools that have to be installed. Without them the test is skipped.
fn tools() -> Option<PathBuf> {
    let output = Command::new(file("tools")).arg("where").output().expect("bash is there");
    if output.status.success() {
        return Some(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()));
    }
    skip(String::from_utf8_lossy(&output.stderr).trim());
    None
}

fn plan(dir: &tempfile::TempDir) -> Plan {
    Plan::new("all", dir.path()).set("aggregator.interval_ms=200").set("aggregator.grace_ms=20")
}

/// A process whose [`ROOM`] has a frame.
async fn with_a_frame(dir: &tempfile::TempDir) -> Uproar {
    let uproar = plan(dir).start().await;
    assert_eq!(http::react(&uproar.http, ROOM, r#"{"reaction":"🔥","count":3}"#).await, 202);
    crate::end_to_end::until_total(&uproar.http, ROOM, 3).await;
    uproar
}
