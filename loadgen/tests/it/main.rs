//! The program, run as people run it, against a server that can be told to misbehave.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

mod edge;
mod fake;
mod ingest;

use fake::{Fake, Knobs, ROOM};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};
use tokio::process::{Child, Command};

/// 300 requests, watched by four viewers.
const SHORT: &str = "--rate 300 --duration 1s --viewers 4 --connections 8 --settle 20s";
/// The same where the audit fails: it waits all of the time to settle.
const SHORT_AND_WRONG: &str = "--rate 300 --duration 1s --viewers 4 --connections 8 --settle 1s";

/// What a run left behind.
struct Run {
    code: Option<i32>,
    text: String,
    report: Value,
}

struct Running {
    child: Child,
    report: PathBuf,
    _folder: tempfile::TempDir,
}

fn start(fake: &Fake, args: &str) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["crowd", "--room", ROOM, "--report", report.to_str().unwrap()])
        .args(["--url", &format!("http://{}", fake.http), "--mqtt", &fake.mqtt.to_string()])
        .args(args.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    Running { child, report, _folder: folder }
}

impl Running {
    fn interrupt(&self) {
        let pid = self.child.id().expect("still running");
        kill(Pid::from_raw(pid as i32), Signal::SIGINT).unwrap();
    }

    async fn end(self) -> Run {
        Run::of(self.child.wait_with_output().await.unwrap(), &self.report)
    }
}

impl Run {
    fn of(output: Output, report: &Path) -> Self {
        let report = std::fs::read(report).ok();
        Self {
            code: output.status.code(),
            text: String::from_utf8([output.stdout, output.stderr].concat()).unwrap(),
            report: report.map_or(Value::Null, |json| serde_json::from_slice(&json).unwrap()),
        }
    }
}

/// A run with a report that is interrupted when it has told of `line`, to its end.
async fn run_interrupted_at(line: &str, args: &str) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(args.split_whitespace()).arg("--report").arg(&report).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut said = String::new();
    let mut stderr = tokio::io::BufReader::new(child.stderr.take().unwrap());
    while !said.contains(line) {
        let read = tokio::io::AsyncBufReadExt::read_line(&mut stderr, &mut said).await.unwrap();
        assert!(read > 0, "{said}");
    }
    kill(Pid::from_raw(child.id().unwrap() as i32), Signal::SIGINT).unwrap();
    tokio::io::AsyncReadExt::read_to_string(&mut stderr, &mut said).await.unwrap();
    let mut run = Run::of(child.wait_with_output().await.unwrap(), &report);
    run.text.push_str(&said);
    run
}

/// A run with a report, to its end.
async fn run(args: &str) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(args.split_whitespace()).arg("--report").arg(&report);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    Run::of(output, &report)
}

async fn crowd(fake: &Fake, args: &str) -> Run {
    start(fake, args).end().await
}

/// A short run against a server that is not right.
async fn wrong_with(knobs: Knobs) -> Run {
    let run = crowd(&Fake::start(knobs).await, SHORT_AND_WRONG).await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    run
}

/// A short run against a server that is right, though not perfect.
async fn clean_with(knobs: Knobs) -> Run {
    let run = crowd(&Fake::start(knobs).await, SHORT).await;
    assert_eq!(run.code, Some(0), "{}", run.text);
    run
}

async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect(what);
}

#[tokio::test]
async fn a_server_that_counts_right_is_clean() {
    let run = clean_with(Knobs::default()).await;
    let clean = "AUDIT clean: accepted 300 == counted 300, seen by 4 of 4 viewers";
    assert!(run.text.contains(clean), "{}", run.text);
    let posts = &run.report["posts"];
    assert_eq!(
        (&posts["planned"], &posts["sent"], &posts["not_sent"]),
        (&300.into(), &300.into(), &0.into())
    );
    assert_eq!(posts["by_status"]["202"], 300);
    // The first tenth is the warm-up.
    assert_eq!(posts["latency_from_schedule"]["samples"], 270);
    for viewers in run.report["viewers"].as_array().unwrap() {
        assert_eq!((&viewers["asked"], &viewers["connected"]), (&2.into(), &2.into()));
        assert_eq!((&viewers["broken"], &viewers["reconnects"]), (&0.into(), &0.into()));
        assert!(viewers["delay"]["samples"].as_u64() > Some(10), "{viewers}");
        assert!(viewers["delay"]["max_us"].as_u64() < Some(2_000_000), "{viewers}");
    }
}

#[tokio::test]
async fn every_form_of_the_body_is_audited() {
    let fake = Fake::start(Knobs::default()).await;
    let run = crowd(&fake, &format!("{SHORT} --batch 3 --count 5")).await;
    assert!(run.text.contains("AUDIT clean: accepted 4500 == counted 4500"), "{}", run.text);
    let run = crowd(&fake, &format!("{SHORT} --count 7 --reactions a,b,b")).await;
    assert!(run.text.contains("AUDIT clean: accepted 2100 == counted 2100"), "{}", run.text);
    assert_eq!(run.report["audit"]["baseline"], 4_500, "the second run starts from the first one's total");
}

#[tokio::test]
async fn a_lost_reaction_fails_the_audit() {
    let run = wrong_with(Knobs { lose_every: 300, ..Knobs::default() }).await;
    assert!(run.text.contains("AUDIT NOT CLEAN: accepted 300 vs counted 299"), "{}", run.text);
    assert!(run.text.contains("counted 299, 1 too few"), "{}", run.text);
    assert_eq!(run.report["audit"]["viewers_right"], 0);
}

#[tokio::test]
async fn a_reaction_counted_twice_fails_the_audit() {
    let run = wrong_with(Knobs { double_every: 300, ..Knobs::default() }).await;
    assert!(run.text.contains("counted 301, 1 too many"), "{}", run.text);
}

#[tokio::test]
async fn a_reaction_counted_as_another_fails_the_audit_though_the_total_is_right() {
    let run = wrong_with(Knobs { swap_every: 300, ..Knobs::default() }).await;
    assert_eq!(run.report["audit"]["counted"], 300);
    assert!(run.text.contains("counted 74, 1 too few"), "{}", run.text);
}

#[tokio::test]
async fn an_answer_that_claims_more_than_was_sent_fails_the_audit() {
    let run = wrong_with(Knobs { lie_every: 300, ..Knobs::default() }).await;
    assert!(run.text.contains("1 answers of 202 don't say what was sent"), "{}", run.text);
}

#[tokio::test]
async fn somebody_elses_reactions_fail_the_audit() {
    let fake = Fake::start(Knobs::default()).await;
    let running = start(&fake, SHORT_AND_WRONG);
    wait_until("posts arrive", || fake.posts() > 10).await;
    fake.react("alien", 3);
    let run = running.end().await;
    assert_eq!(run.code, Some(1));
    assert!(run.text.contains("counted 303, 3 too many"), "{}", run.text);
}

#[tokio::test]
async fn viewers_that_are_left_behind_fail_the_audit() {
    let run = wrong_with(Knobs { freeze_ws_above: Some(100), ..Knobs::default() }).await;
    assert!(run.text.contains("seen by 2 of 4 viewers"), "{}", run.text);
    assert!(run.text.contains("reactions: websocket 0"), "{}", run.text);
    assert_eq!(run.report["audit"]["snapshot_right"], true);
}

#[tokio::test]
async fn a_total_that_goes_back_fails_the_audit_though_the_end_is_right() {
    let run = wrong_with(Knobs { go_back_every: 4, ..Knobs::default() }).await;
    assert_eq!(run.report["audit"]["counted"], 300);
    assert!(run.text.contains("frames that break a promise"), "{}", run.text);
    assert!(run.text.contains("went back"), "{}", run.text);
}

#[tokio::test]
async fn refusals_are_counted_by_status_and_expected_not_to_count() {
    let run = clean_with(Knobs { refuse_every: 3, ..Knobs::default() }).await;
    assert!(run.text.contains("AUDIT clean: accepted 200 == counted 200"), "{}", run.text);
    assert_eq!(run.report["posts"]["by_status"]["503"], 100);
    assert!(run.text.contains("first error: 503: {\"title\":\"try later\"}"), "{}", run.text);
}

#[tokio::test]
async fn outcomes_that_are_unknown_may_count_or_not() {
    let run = clean_with(Knobs { doubt_every: 30, cut_every: 49, ..Knobs::default() }).await;
    // 10 of 504, half of them counted, and 6 cut connections, all of them counted.
    let clean = "AUDIT clean: accepted 284 (+ 16 unknown) ~ counted 295, seen by 4 of 4 viewers";
    assert!(run.text.contains(clean), "{}", run.text);
    assert_eq!((&run.report["posts"]["broken"], &run.report["audit"]["unknown"]), (&6.into(), &16.into()));
}

#[tokio::test]
async fn a_request_without_an_answer_is_unknown_and_costs_its_connection() {
    let fake = Fake::start(Knobs { stall_every: 100, ..Knobs::default() }).await;
    let run = crowd(&fake, &format!("{SHORT} --timeout 1s")).await;
    assert_eq!(run.code, Some(0), "{}", run.text);
    assert_eq!(run.report["posts"]["timeouts"], 3);
    assert_eq!(
        (&run.report["audit"]["accepted"], &run.report["audit"]["counted"]),
        (&297.into(), &297.into())
    );
}

#[tokio::test]
async fn a_slow_server_slows_neither_the_schedule_nor_hides_behind_it() {
    let fake = Fake::start(Knobs { delay: Duration::from_millis(50), ..Knobs::default() }).await;
    // One connection manages 20 of 100 requests a second.
    let run = crowd(&fake, &format!("{SHORT} --rate 100 --connections 1 --timeout 500ms")).await;
    assert_eq!(run.code, Some(0), "{}", run.text);
    let posts = &run.report["posts"];
    let number = |name: &str| posts[name].as_u64().unwrap();
    assert_eq!(number("sent") + number("not_sent"), 100);
    assert!(number("not_sent") > 50, "{posts}");
    let p99_us = |name: &str| posts[name]["p99_us"].as_u64().unwrap();
    assert!(p99_us("latency_from_schedule") > 400_000, "{posts}");
    assert!(p99_us("latency_from_send") < 300_000, "{posts}");
}

#[tokio::test]
async fn connections_are_kept_open() {
    let fake = Fake::start(Knobs::default()).await;
    let run = crowd(&fake, SHORT).await;
    assert_eq!(run.code, Some(0), "{}", run.text);
    // 8 to post, 2 WebSockets, one to see that the server is there, and a handful for snapshots.
    assert!(fake.connections() < 30, "{} connections for 300 requests", fake.connections());
}

#[tokio::test]
async fn the_run_survives_a_restart_of_the_server() {
    let mut fake = Fake::start(Knobs::default()).await;
    let args = "--rate 300 --duration 3s --viewers 4 --connections 8 --settle 20s";
    let running = start(&fake, args);
    wait_until("posts arrive", || fake.posts() > 100).await;
    fake.restart(Duration::from_millis(300)).await;
    let run = running.end().await;
    assert_eq!(run.code, Some(0), "{}", run.text);
    for viewers in run.report["viewers"].as_array().unwrap() {
        assert_eq!((&viewers["connected"], &viewers["reconnects"]), (&2.into(), &2.into()), "{viewers}");
    }
    let posts = &run.report["posts"];
    assert_eq!(posts["sent"].as_u64().unwrap() + posts["not_sent"].as_u64().unwrap(), 900);
    assert!(posts["connect_errors"].as_u64() > Some(0), "{posts}");
}

#[tokio::test]
async fn without_a_snapshot_in_the_end_the_audit_says_why_and_makes_up_no_figure_of_it() {
    let mut fake = Fake::start(Knobs::default()).await;
    let running = start(&fake, "--rate 100 --duration 1s --viewers 2 --timeout 500ms --settle 500ms");
    wait_until("posts arrive", || fake.posts() > 20).await;
    fake.die().await;
    let run = running.end().await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert!(run.text.contains("AUDIT NOT CLEAN"), "{}", run.text);
    let why = format!("no snapshot: cannot connect to http://{}", fake.http);
    assert!(run.text.contains(&why), "{}", run.text);
    assert!(!run.text.contains("snapshot counted"), "{}", run.text);
    assert_eq!(run.report["audit"]["snapshot_right"], false);
}

#[tokio::test]
async fn an_interrupt_ends_the_posting_and_goes_on_to_the_audit() {
    let fake = Fake::start(Knobs::default()).await;
    let running = start(&fake, "--rate 300 --duration 10m --viewers 4 --settle 20s");
    wait_until("posts arrive", || fake.posts() > 50).await;
    running.interrupt();
    let run = running.end().await;
    assert_eq!(run.code, Some(130), "{}", run.text);
    assert!(run.text.contains("INTERRUPTED"), "{}", run.text);
    assert_eq!((&run.report["interrupted"], &run.report["audit"]["clean"]), (&true.into(), &true.into()));
    let sent = run.report["posts"]["sent"].as_u64().unwrap();
    assert!((50..10_000).contains(&sent), "{sent}");
    assert_eq!(run.report["audit"]["counted"], sent);
}

#[tokio::test]
async fn an_interrupt_does_not_hide_a_loss() {
    let fake = Fake::start(Knobs { lose_every: 10, ..Knobs::default() }).await;
    let running = start(&fake, "--rate 300 --duration 10m --viewers 4 --settle 1s");
    wait_until("posts arrive", || fake.posts() > 50).await;
    running.interrupt();
    let run = running.end().await;
    assert_eq!((run.code, &run.report["interrupted"]), (Some(1), &true.into()), "{}", run.text);
}

#[tokio::test]
async fn a_report_says_what_made_it_and_when() {
    let fake = Fake::start(Knobs::default()).await;
    let run = crowd(&fake, SHORT).await;
    let report = &run.report;
    assert_eq!((&report["schema"], &report["interrupted"]), (&1.into(), &false.into()));
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    let command = report["command"].as_str().unwrap();
    assert!(command.contains(" crowd ") && command.contains("--rate 300"), "{command}");
    assert!(report["finished_unix_ms"].as_u64() > Some(1_700_000_000_000), "{report}");
    let commit = report["commit"].as_str().unwrap();
    assert!(commit == "unknown" || commit.len() >= 7, "{commit}");
    let line = format!("loadgen {} ({commit}), ", env!("CARGO_PKG_VERSION"));
    assert!(run.text.contains(&line) && run.text.contains(command), "{}", run.text);
    assert!(!run.text.contains("INTERRUPTED"), "{}", run.text);
}

#[tokio::test]
async fn an_interrupt_before_the_posting_leaves_at_once() {
    let fake = Fake::start(Knobs::default()).await;
    // Who connects there is never answered.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let running = start(&fake, &format!("{SHORT} --mqtt {}", silent.local_addr().unwrap()));
    wait_until("viewers connect", || fake.connections() > 2).await;
    running.interrupt();
    let run = running.end().await;
    assert_eq!((run.code, &run.report), (Some(130), &Value::Null), "{}", run.text);
    assert!(run.text.contains("left before anything was posted"), "{}", run.text);
    assert_eq!(fake.posts(), 0);
}

#[tokio::test]
async fn a_second_interrupt_leaves_at_once() {
    let fake = Fake::start(Knobs { lose_every: 10, ..Knobs::default() }).await;
    let mut running = start(&fake, "--rate 300 --duration 10m --viewers 4 --settle 10m");
    wait_until("posts arrive", || fake.posts() > 50).await;
    running.interrupt();
    let mut said = String::new();
    let mut stderr = tokio::io::BufReader::new(running.child.stderr.take().unwrap());
    while !said.contains("posting ends here") {
        let read = tokio::io::AsyncBufReadExt::read_line(&mut stderr, &mut said).await.unwrap();
        assert!(read > 0, "{said}");
    }
    running.interrupt();
    let run = running.end().await;
    assert_eq!((run.code, run.report), (Some(130), Value::Null));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_without_a_report() {
    let fake = Fake::start(Knobs::default()).await;
    let run = crowd(&fake, "--url http://127.0.0.1:1").await;
    assert_eq!((run.code, &run.report), (Some(2), &Value::Null), "{}", run.text);
    assert!(run.text.contains("cannot connect to http://127.0.0.1:1"), "{}", run.text);
}

#[tokio::test]
async fn viewers_that_cannot_subscribe_are_an_error_that_says_why() {
    let fake = Fake::start(Knobs { refuse_subscriptions: true, ..Knobs::default() }).await;
    let run = crowd(&fake, SHORT).await;
    assert_eq!(run.code, Some(2), "{}", run.text);
    assert!(run.text.contains("none of 2 mqtt viewers can connect"), "{}", run.text);
    assert!(run.text.contains("the subscription was refused"), "{}", run.text);
    assert_eq!(fake.posts(), 0);
}

#[tokio::test]
async fn wrong_usage_is_said_and_has_its_own_code() {
    let fake = Fake::start(Knobs::default()).await;
    for args in ["--rate none", "--duration 1s --warm-up 2s"] {
        let run = crowd(&fake, args).await;
        assert_eq!(run.code, Some(2), "{}", run.text);
        assert!(run.text.contains("error: "), "{}", run.text);
    }
    assert_eq!(crowd(&fake, "--help").await.code, Some(0));
}

#[tokio::test]
async fn more_viewers_than_files_are_refused_and_the_soft_limit_is_raised() {
    let fake = Fake::start(Knobs::default()).await;
    let limited = async |limit: &str| {
        let program = env!("CARGO_BIN_EXE_loadgen");
        let args = format!("crowd --room {ROOM} --url http://{} --mqtt {}", fake.http, fake.mqtt);
        let line = format!("{limit}; exec {program} {args} {SHORT} --viewers 100");
        Run::of(Command::new("sh").args(["-c", &line]).output().await.unwrap(), Path::new("/no/report"))
    };
    let run = limited("ulimit -n 150").await;
    assert_eq!(run.code, Some(2), "{}", run.text);
    assert!(run.text.contains("108 viewers and connections don't fit into one process"), "{}", run.text);
    assert_eq!(fake.connections(), 0);
    let run = limited("ulimit -S -n 64").await;
    assert!(run.code == Some(0) && run.text.contains("seen by 100 of 100 viewers"), "{}", run.text);
}

#[tokio::test]
async fn a_room_that_has_been_used_before_is_compared_with_what_it_had() {
    let fake = Fake::start(Knobs::default()).await;
    fake.react("🔥", 1_000);
    fake.wait_for_total(1_000).await;
    let run = crowd(&fake, SHORT).await;
    assert_eq!(run.code, Some(0), "{}", run.text);
    assert_eq!(
        (&run.report["audit"]["baseline"], &run.report["audit"]["counted"]),
        (&1_000.into(), &300.into())
    );
}

#[tokio::test]
async fn a_report_that_nobody_reads_is_saved_all_the_same_and_said_not_to_be_shown() {
    let fake = Fake::start(Knobs::default()).await;
    let mut running = start(&fake, SHORT);
    drop(running.child.stdout.take());
    let run = running.end().await;
    assert_eq!(run.code, Some(2), "{}", run.text);
    assert!(run.text.contains("error: cannot show the report: Broken pipe"), "{}", run.text);
    assert_eq!(run.report["audit"]["clean"], true, "{}", run.text);
}
