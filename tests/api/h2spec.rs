//! h2spec: what RFC 7540 and 7541 demand of a server, tried one by one.

use super::{plan, tools};
use std::{path::Path, process::Command};

/// What fails, and may. docs/testing.md says why.
const KNOWN: [Known; 5] = [
    // The port speaks HTTP/1.1 too: what is no preface is a request of that, and gets its 400.
    Known { test: "Sends invalid connection preface", instead: "unexpected EOF" },
    // The request was answered before its faulty end came, which a server may do (RFC 9113, 8.1).
    Known {
        test: "Sends a HEADERS frame that contains a pseudo-header field as trailers",
        instead: ANSWERED,
    },
    Known { test: "Sends a second HEADERS frame without the END_STREAM flag", instead: ANSWERED },
    Known {
        test: "Sends a HEADERS frame with the \"content-length\" header field which does not equal the DATA frame payload length",
        instead: ANSWERED,
    },
    Known {
        test: "Sends a HEADERS frame with the \"content-length\" header field which does not equal the sum of the multiple DATA frames payload length",
        instead: ANSWERED,
    },
];

/// The last frame of our answer.
const ANSWERED: &str = "flags:0x01, stream_id:1)";
/// Some tests reset a stream and lose the race with the answer that is on its way: what is wrong is wrong in every run.
const RUNS_MAX: usize = 5;

struct Known {
    test: &'static str,
    /// What h2spec saw.
    instead: &'static str,
}

/// The failures in h2spec's summary: each test with what was seen instead.
fn failures(said: &str) -> Vec<(String, String)> {
    let summary = said.split_once("Failures:").map_or("", |(_, summary)| summary);
    let mut found: Vec<(String, String)> = Vec::new();
    for line in summary.lines().map(str::trim) {
        if let Some((_, test)) = line.strip_prefix("× ").and_then(|line| line.split_once(": ")) {
            found.push((test.to_owned(), String::new()));
        } else if let (Some(seen), Some((_, instead))) = (line.strip_prefix("Actual: "), found.last_mut()) {
            seen.clone_into(instead);
        }
    }
    found
}

impl Known {
    fn is(&self, (test, instead): &(String, String)) -> bool {
        test == self.test && instead.contains(self.instead)
    }
}

async fn run(tools: &Path, address: &str) -> Vec<(String, String)> {
    let (host, port) = address.rsplit_once(':').unwrap();
    let mut command = Command::new(tools.join("h2spec"));
    command.args(["--strict", "--timeout", "10", "--host", host, "--port", port, "--path", "/openapi.json"]);
    let output = tokio::process::Command::from(command).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("146 tests, "), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let found = failures(&said);
    assert!(said.contains(&format!(" {} failed", found.len())), "{said}");
    found
}

#[tokio::test]
async fn h2spec_finds_only_what_is_known() {
    let Some(tools) = tools() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut uproar = plan(&dir).start().await;
    let mut unknown: Option<Vec<(String, String)>> = None;
    for _ in 0..RUNS_MAX {
        let found = run(&tools, &uproar.http).await;
        assert!(found.iter().any(|failure| KNOWN[0].is(failure)), "docs/testing.md has it wrong: {found:?}");
        let new = found.into_iter().filter(|failure| !KNOWN.iter().any(|known| known.is(failure)));
        let again = new.filter(|(test, _)| {
            unknown.as_ref().is_none_or(|unknown| unknown.iter().any(|(before, _)| before == test))
        });
        let left: Vec<_> = again.collect();
        if left.is_empty() {
            return uproar.stop();
        }
        unknown = Some(left);
    }
    panic!("in each of {RUNS_MAX} runs: {unknown:?}");
}
