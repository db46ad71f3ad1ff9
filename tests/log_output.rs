//! Log lines never hold anything up: standard output and standard error that nobody reads.

use crate::harness::{
    http,
    process::{Plan, Uproar},
    viewers::WsViewer,
    wait::{PATIENCE, until},
};
use nix::sys::signal::Signal;
use std::{
    fs::File,
    io::{ErrorKind, PipeReader, PipeWriter, Write},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    process::Stdio,
    time::{Duration, Instant},
};

/// Linux, asm-generic/fcntl.h.
const O_NONBLOCK: i32 = 0o4000;

/// A pipe that is full. Nobody reads the other end, which stays open.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    // Opened again, so that only this description does not block.
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let mut filler = File::options().write(true).custom_flags(O_NONBLOCK).open(path).unwrap();
    for size in [4_096, 1] {
        loop {
            match filler.write(&vec![b'x'; size]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    (reader, writer)
}

/// Everything goes on: posts, snapshots, the admin listener, a reload.
async fn works(uproar: &Uproar) {
    for _ in 0..3 {
        uproar.signal(Signal::SIGHUP);
        for _ in 0..10 {
            assert_eq!(http::react(&uproar.http, "r", r#"{"reaction":"🔥"}"#).await, 202);
        }
        let snapshot = http::get(&uproar.http, "/v1/rooms/r").await.unwrap().status;
        assert!([200, 404].contains(&snapshot), "{snapshot}");
        assert_eq!(http::get(&uproar.admin, "/healthz").await.unwrap().status, 200);
        // A room name that is none: a warning or a refusal at any tier.
        assert_eq!(http::get(&uproar.http, "/v1/rooms/a%20b").await.unwrap().status, 400);
    }
}

async fn a_stalled_stream_stops_nothing(stalled: &str, level: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (_reader, writer) = full_pipe();
    let pipe = || Stdio::from(writer.try_clone().unwrap());
    let (out, error) = match stalled {
        "out" => (pipe(), Stdio::null()),
        "error" => (Stdio::null(), pipe()),
        _ => (pipe(), pipe()),
    };
    let level = format!("log_output.level={level}");
    let mut uproar = Plan::new("all", dir.path()).set(level).spawn_onto(out, error);
    uproar.until_ready().await;
    tokio::time::timeout(PATIENCE, works(&uproar)).await.expect("posts and snapshots go on");
    let began = Instant::now();
    uproar.signal(Signal::SIGTERM);
    assert_eq!(uproar.ended().code(), Some(0));
    // The deadline of a stop is 30 s by default.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_standard_error_that_nobody_reads_stops_nothing() {
    a_stalled_stream_stops_nothing("error", "info").await;
}

#[tokio::test]
async fn a_standard_error_that_nobody_reads_stops_nothing_at_debug_level() {
    a_stalled_stream_stops_nothing("error", "debug").await;
}

#[tokio::test]
async fn a_standard_output_that_nobody_reads_stops_nothing() {
    a_stalled_stream_stops_nothing("out", "info").await;
}

#[tokio::test]
async fn one_pipe_for_both_that_nobody_reads_stops_nothing() {
    a_stalled_stream_stops_nothing("both", "debug").await;
}

#[tokio::test]
async fn a_second_signal_leaves_at_once_also_where_nobody_reads() {
    let dir = tempfile::tempdir().unwrap();
    let (_reader, writer) = full_pipe();
    let slow = ["fanout.drain_viewers_per_s=1", "fanout.drain_ms=25000"];
    let plan = slow.into_iter().fold(Plan::new("all", dir.path()), Plan::set);
    let pipe = || Stdio::from(writer.try_clone().unwrap());
    let mut uproar = plan.spawn_onto(pipe(), pipe());
    uproar.until_ready().await;
    let mut viewers = Vec::new();
    for _ in 0..20 {
        viewers.push(WsViewer::watch(&uproar.http, "r").await);
    }
    uproar.signal(Signal::SIGTERM);
    let draining = async || {
        let answer = http::get(&uproar.admin, "/readyz").await?;
        (answer.status == 503).then_some(())
    };
    until("the process to drain", draining).await;
    let began = Instant::now();
    uproar.signal(Signal::SIGTERM);
    assert_eq!(uproar.ended().code(), Some(130));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_process_that_fails_ends_also_where_nobody_reads_why() {
    let dir = tempfile::tempdir().unwrap();
    let first = Plan::new("all", dir.path()).start().await;
    let other = tempfile::tempdir().unwrap();
    let (_reader, writer) = full_pipe();
    let pipe = || Stdio::from(writer.try_clone().unwrap());
    let plan = Plan::new("all", other.path()).set(format!("ingest.listen={}", first.http));
    assert_eq!(plan.spawn_onto(pipe(), pipe()).ended().code(), Some(1));
    let bad = Plan::new("all", other.path()).set("x.y=1");
    assert_eq!(bad.spawn_onto(pipe(), pipe()).ended().code(), Some(2));
}

#[tokio::test]
async fn lines_that_are_lost_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut uproar = Plan::new("all", dir.path()).spawn_onto(Stdio::null(), full.into());
    uproar.until_ready().await;
    uproar.signal(Signal::SIGHUP);
    let lost = async || (uproar.metric("uproar_log_lines_lost_total").await > 0.0).then_some(());
    until("lines to be lost", lost).await;
    uproar.stop();
}

#[tokio::test]
async fn the_last_line_is_written_before_the_process_ends() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let mut uproar = Plan::new("all", dir.path()).set("log_output.level=debug").start().await;
        uproar.until_log("\ntry:\n").await;
        assert_eq!(uproar.metric("uproar_log_lines_lost_total").await, 0.0);
        uproar.stop();
        let log = uproar.log();
        assert!(log.lines().any(|line| line.contains(r#""message":"stopped""#)), "{log}");
        std::fs::remove_file(dir.path().join("all.log")).unwrap();
    }
}
