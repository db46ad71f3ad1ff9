//! `loadgen edge`, run as people run it.

use super::{Run, run, run_interrupted_at, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rumqttc::{AsyncClient, MqttOptions, QoS};
use serde_json::Value;
use std::{net::TcpListener, process::Stdio, time::Duration};
use tokio::process::{Child, Command};

async fn edge(args: &str) -> Run {
    run(&format!("edge {args}")).await
}

/// A floor of one's own, and its port.
fn floor() -> (Child, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["floor", "--listen", &format!("127.0.0.1:{port}")])
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    (child, port)
}

#[tokio::test]
async fn the_floor_reaches_every_viewer_with_every_frame() {
    let run = edge("--servers floor --viewers 50 --frames 3 --interval 200ms").await;
    assert_eq!(run.code, Some(0), "{}", run.text);
    assert!(run.text.contains("EDGE clean: nothing missed"), "{}", run.text);
    let floor = &run.report["servers"][0];
    assert_eq!((&floor["server"], &floor["viewers"]), (&"floor".into(), &50.into()));
    assert_eq!((&floor["deliveries"], &floor["missed"], &floor["lost"]), (&150.into(), &0.into(), &0.into()));
    assert_eq!((&floor["frame_bytes"], &floor["spread"]["samples"]), (&300.into(), &3.into()));
    assert!(floor["connects_per_s"].as_f64() > Some(1.0), "{floor}");
    assert!(floor["last"]["max_us"].as_u64() >= floor["first"]["p50_us"].as_u64(), "{floor}");
}

#[tokio::test]
async fn several_processes_share_the_viewers_and_silent_ones_sit_beside_them() {
    let run = edge(
        "--servers floor --viewers 31 --silent 10 --server-processes 3 --client-processes 4 --frames 2 --interval 200ms",
    )
    .await;
    assert_eq!(run.code, Some(0), "{}", run.text);
    let floor = &run.report["servers"][0];
    assert_eq!(
        (&floor["processes"], &floor["viewers"], &floor["silent"]),
        (&3.into(), &31.into(), &10.into())
    );
    assert_eq!((&floor["deliveries"], &floor["missed"]), (&62.into(), &0.into()));
}

#[tokio::test]
async fn a_server_that_is_missing_is_named_and_the_others_are_measured() {
    let run =
        edge("--servers mosquitto,floor --mosquitto /no/such/file --viewers 5 --frames 1 --interval 100ms")
            .await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert_eq!(run.report["servers"][0]["server"], "floor");
    assert!(run.text.contains("/no/such/file is not installed"), "{}", run.text);
}

/// A run that watches a floor to which somebody else publishes ten frames a second; the newest is number `seq_max`.
async fn watch_while_others_feed(seq_max: u64, args: &str) -> Run {
    let (_floor, port) = floor();
    let publishing = async {
        let options = MqttOptions::new("feeder", "127.0.0.1", port);
        let (client, mut connection) = AsyncClient::new(options, 10);
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        for seq in 1.. {
            let payload = format!(r#"{{"seq":{},"from":"elsewhere"}}"#, seq_max.min(seq));
            client.publish("reactions/r", QoS::AtMostOnce, false, payload).await.unwrap();
            while tokio::select! { _ = ticks.tick() => false, _ = connection.poll() => true } {}
        }
    };
    let args = format!("--target mqtt://127.0.0.1:{port}/reactions/r --viewers 20 --interval 100ms {args}");
    tokio::select! { run = edge(&args) => run, () = publishing => unreachable!() }
}

#[tokio::test]
async fn a_server_that_runs_already_is_watched_while_others_feed_it() {
    let run = watch_while_others_feed(u64::MAX, "--frames 3").await;
    assert_eq!(run.code, Some(0), "{}", run.text);
    let watched = &run.report["servers"][0];
    assert_eq!((&watched["deliveries"], &watched["missed"]), (&60.into(), &0.into()));
    // Nobody says when these were published, or which process to look at.
    assert_eq!((&watched["first"], &watched["cpu_ms"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn frames_that_others_never_caused_are_not_missed_but_said() {
    // The first is the one of the warm-up, and comes again and again.
    let run = watch_while_others_feed(1, "--frames 3 --settle 200ms").await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert!(run.text.contains("only 0 of 3 frames came: does anybody post to the room?"), "{}", run.text);
    assert_eq!(run.report["servers"][0]["missed"], 0, "{}", run.text);
}

#[tokio::test]
async fn viewers_that_are_turned_away_are_counted_with_the_reason() {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = door.local_addr().unwrap().port();
    // Ends with the test's process.
    std::thread::spawn(move || door.incoming().for_each(drop));
    let args = format!("--target ws://127.0.0.1:{port}/v1/rooms/r/live --viewers 3 --connect-timeout 1s");
    let run = edge(&args).await;
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert!(run.text.contains("no viewer gets in: "), "{}", run.text);
}

#[tokio::test]
async fn a_configuration_that_uproar_refuses_is_said_before_anything_is_measured() {
    // Some program that takes no configuration at all.
    let uproar = env!("CARGO_BIN_EXE_loadgen");
    let run = edge(&format!("--servers floor,uproar --uproar {uproar} --set x --viewers 2 --frames 1")).await;
    assert_eq!((run.code, &run.report), (Some(2), &Value::Null), "{}", run.text);
    assert!(
        run.text.contains("would not start: error: unrecognized subcommand 'check-config'"),
        "{}",
        run.text
    );
}

/// The exit code of a run, started by `sh` after `before`, whose terminal is closed when its servers run.
#[cfg(target_os = "linux")]
async fn hung_up(before: &str, frames: u32) -> Option<i32> {
    let program = env!("CARGO_BIN_EXE_loadgen");
    let line = format!(
        "{before} exec {program} edge --servers floor --viewers 2 --frames {frames} --interval 100ms"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &line]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let pid = child.id().unwrap();
    let children = || std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    wait_until("the floor and two clients run", || children().split_whitespace().count() == 3).await;
    kill(Pid::from_raw(pid as i32), Signal::SIGHUP).unwrap();
    child.wait().await.unwrap().code()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_terminal_that_is_closed_ends_the_run_with_its_servers_unless_that_is_ignored() {
    assert_eq!(hung_up("", 100_000).await, Some(130));
    assert_eq!(hung_up("trap '' HUP;", 3).await, Some(0));
}

#[tokio::test]
async fn an_interrupt_leaves_a_report_that_names_what_was_not_measured() {
    let args = "edge --servers floor --viewers 2 --frames 100000 --interval 100ms";
    let run = run_interrupted_at("broadcasting", args).await;
    assert_eq!((run.code, &run.report["interrupted"]), (Some(130), &true.into()), "{}", run.text);
    assert!(run.text.contains("floor was not measured: the run was interrupted"), "{}", run.text);
    assert!(run.text.contains("INTERRUPTED"), "{}", run.text);
    assert_eq!(run.report["clean"], false, "{}", run.text);
}
