//! More posts than the machine can take.

use super::{GOODPUT, MEMORY_KIB, ROUNDS, check_most, round};
use crate::{
    chaos::turn,
    harness::process::{Plan, Uproar, loadgen},
};
use serde_json::Value;
use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// The capacity, four multiples of it, and the capacity again.
const LOADS: usize = 6;
/// All may wait at a time: it is the connections that bound what is under way.
const CONNECTIONS: u64 = 200;

/// Rounds at multiples of what a closed loop gets through. Whatever is accepted was counted: the load generator audits.
async fn measure(uproar: &Uproar, dir: &Path) -> Vec<Value> {
    let report = dir.join("report.json");
    let mut command = Command::new(loadgen());
    command.args([
        "ingest",
        "--target",
        &format!("http://{}", uproar.http),
        "--pid",
        &uproar.pid().to_string(),
    ]);
    command.args([
        "--overload",
        "1,2,5,0.5",
        "--connections",
        &CONNECTIONS.to_string(),
        "--warm-up",
        "200ms",
        "--audit",
    ]);
    let length = round(Duration::from_millis(700));
    command.args(["--duration", &format!("{}ms", length.as_millis())]);
    command.arg("--report").arg(&report).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    report["rows"].as_array().unwrap().clone()
}

/// One load, as it was measured.
#[derive(Clone, Copy)]
struct Row<'a>(&'a Value);

impl Row<'_> {
    fn number(&self, path: &str) -> f64 {
        self.0.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path} in {}", self.0))
    }

    fn goodput(&self) -> f64 {
        self.number("/accepted_per_s")
    }

    /// What is accepted for a second of the server's CPU time.
    fn goodput_of_cpu(&self) -> f64 {
        1e6 / self.number("/cpu_s_per_million")
    }
}

/// The loads under which there is more to do than can be done. With less there is less to do at a time, and each post
/// costs more.
const BUSY: [&str; 3] = ["capacity", "2x", "5x"];

/// What is not as it should be in a round. What else the machine does changes from one round to the next, so a load is held
/// against the others of its round.
fn faults(rows: &[Value]) -> Vec<String> {
    let busy = BUSY.map(|load| row(rows, load));
    let peak = busy.iter().map(Row::goodput).fold(0.0, f64::max);
    let peak_of_cpu = busy.iter().map(Row::goodput_of_cpu).fold(0.0, f64::max);
    let mut faults = Vec::new();
    for (load, this) in BUSY.into_iter().zip(&busy).skip(1) {
        let (share, of_cpu) = (this.goodput() / peak, this.goodput_of_cpu() / peak_of_cpu);
        println!("{load}: {share:.2} of the peak, {of_cpu:.2} of it for the CPU time");
        // CPU time that others had is not held against it, but it may not stand idle either.
        if share < GOODPUT && (of_cpu < GOODPUT || share < GOODPUT / 2.0) {
            faults.push(format!("{load}: {share:.2} of the peak, {of_cpu:.2} of it for the CPU time"));
        }
        // The same connections wait in a closed loop. Posts that wait in a queue without bounds would take a round's length.
        for (what, path, most) in [("p50", "/from_send/p50_us", 2.0), ("p99", "/from_send/p99_us", 10.0)] {
            let times = this.number(path) / busy[0].number(path);
            if times > most {
                faults.push(format!("{load}: {what} is {times:.1} times that of a closed loop"));
            }
        }
    }
    let after = row(rows, "0.5x");
    if after.number("/not_sent") > 0.0 {
        faults.push(format!("after the overload half of the capacity is too much: {}", after.0));
    }
    faults
}

fn row<'a>(rows: &'a [Value], load: &str) -> Row<'a> {
    Row(rows.iter().find(|row| row["load"] == load).unwrap())
}

/// What no noise excuses.
fn check_answers(rows: &[Value]) {
    assert_eq!(rows.len(), LOADS, "{rows:?}");
    for row in rows {
        for what in ["/broken", "/unanswered", "/odd", "/connect_errors"] {
            assert_eq!(Row(row).number(what), 0.0, "{what} of {row}");
        }
        assert_eq!(row["refused"], serde_json::json!({}), "{row}");
        // On average each connection got through once. With fewer posts a row would show nothing.
        let length_s = Row(row).number("/rounds/0/length_ms") / 1e3;
        let accepted = Row(row).goodput() * length_s;
        assert!(accepted >= CONNECTIONS as f64, "only {accepted:.0} posts were accepted: {row}");
    }
    let memory = |row: &Value| row["rss_after_kib"].as_u64().unwrap();
    let (before_kib, most_kib) = (memory(&rows[0]), rows.iter().map(memory).max().unwrap());
    assert!(most_kib <= before_kib + MEMORY_KIB, "memory grew from {before_kib} to {most_kib} KiB");
}

/// Short windows, so that the audit doesn't wait for the last ones.
async fn start(dir: &Path) -> Uproar {
    Plan::new("all", dir).set("aggregator.interval_ms=500").start().await
}

#[tokio::test]
async fn posts_beyond_what_the_machine_can_do_wait_outside_and_are_neither_refused_nor_lost() {
    let _turn = turn().await;
    let dir = tempfile::tempdir().unwrap();
    let uproar = start(dir.path()).await;
    check_answers(&measure(&uproar, dir.path()).await);
}

#[tokio::test]
#[ignore = "a benchmark: docs/testing.md has the command"]
async fn posts_inside_are_served_as_before_while_others_wait_outside() {
    let _turn = turn().await;
    let dir = tempfile::tempdir().unwrap();
    let uproar = start(dir.path()).await;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let rows = measure(&uproar, dir.path()).await;
        check_answers(&rows);
        rounds.push(faults(&rows));
    }
    check_most(&rounds);
}
