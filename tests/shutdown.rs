//! How a process stops.

use crate::{
    api::raw::Connection,
    end_to_end::until_total,
    harness::{http, process::Plan, viewers::WsViewer, wait::until},
};
use nix::sys::signal::Signal;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Posts from several connections until told to stop.
async fn crowd(address: String, accepted: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let mut posters = JoinSet::new();
    for _ in 0..8 {
        let (address, accepted, stop) = (address.clone(), Arc::clone(&accepted), Arc::clone(&stop));
        posters.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                if http::react(&address, "r", r#"{"reaction":"🔥","count":3}"#).await == 202 {
                    accepted.fetch_add(3, Ordering::Relaxed);
                }
            }
        });
    }
    posters.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_loses_no_accepted_reaction() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::new("all", dir.path()).set("aggregator.interval_ms=200");
    let mut uproar = plan.start().await;
    let address = uproar.http.clone();
    let (accepted, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let stopping = async {
        until("some reactions", async || (accepted.load(Ordering::Relaxed) > 300).then_some(())).await;
        // Blocks this thread; the posters run on the others.
        uproar.stop();
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(crowd(address, Arc::clone(&accepted), Arc::clone(&stop)), stopping);
    let uproar = plan.start().await;
    until_total(&uproar.http, "r", accepted.load(Ordering::Relaxed)).await;
}

#[tokio::test]
async fn viewers_are_told_to_come_back_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let mut uproar = Plan::new("all", dir.path()).start().await;
    let viewer = WsViewer::watch(&uproar.http, "r").await;
    uproar.signal(Signal::SIGTERM);
    assert_eq!(viewer.close_code().await, Some(1012));
    assert!(uproar.ended().success(), "{}", uproar.log());
}

#[tokio::test]
async fn an_interrupt_is_a_stop_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut uproar = Plan::new("all", dir.path()).start().await;
    uproar.signal(Signal::SIGINT);
    assert!(uproar.ended().success(), "{}", uproar.log());
}

#[tokio::test]
async fn a_second_signal_leaves_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let slow = ["fanout.drain_viewers_per_s=1", "fanout.drain_ms=25000"];
    let mut uproar = slow.into_iter().fold(Plan::new("all", dir.path()), Plan::set).start().await;
    let mut viewers = Vec::new();
    for _ in 0..20 {
        viewers.push(WsViewer::watch(&uproar.http, "r").await);
    }
    uproar.signal(Signal::SIGTERM);
    uproar.until_log("sending the viewers away").await;
    uproar.signal(Signal::SIGTERM);
    assert_eq!(uproar.ended().code(), Some(130), "{}", uproar.log());
}

/// A post on a connection of its own.
fn post() -> String {
    let body = r#"{"reaction":"🔥"}"#;
    let length = body.len();
    format!(
        "POST /v1/rooms/r/reactions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn with_a_delay_a_stop_serves_on_unready() {
    let dir = tempfile::tempdir().unwrap();
    let mut uproar = Plan::new("all", dir.path()).set("service.stop_delay_ms=2000").start().await;
    let began = Instant::now();
    uproar.signal(Signal::SIGTERM);
    let unready = async || {
        let (public, admin) =
            (http::get(&uproar.http, "/readyz").await?, http::get(&uproar.admin, "/readyz").await?);
        (public.status == 503 && admin.body.contains("stop: ")).then_some(())
    };
    until("the process to be unready", unready).await;
    // New connections are taken.
    assert_eq!(http::react(&uproar.http, "r", r#"{"reaction":"🔥"}"#).await, 202);
    assert_eq!(http::get(&uproar.http, "/healthz").await.unwrap().status, 200);
    assert!(uproar.ended().success(), "{}", uproar.log());
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_second_signal_leaves_at_once_during_the_delay_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut uproar = Plan::new("all", dir.path()).set("service.stop_delay_ms=600000").start().await;
    uproar.signal(Signal::SIGTERM);
    uproar.until_log("stopping; a second signal").await;
    uproar.signal(Signal::SIGTERM);
    assert_eq!(uproar.ended().code(), Some(130), "{}", uproar.log());
}

#[tokio::test]
async fn clients_that_wait_to_be_accepted_are_answered_by_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::new("all", dir.path()).set("aggregator.interval_ms=200");
    let mut uproar = plan.start().await;
    uproar.signal(Signal::SIGSTOP);
    // The kernel takes the connections, and the requests.
    let mut clients: Vec<_> = (0..200).map(|_| Connection::open(&uproar.http)).collect();
    for client in &mut clients {
        client.send(post());
    }
    uproar.signal(Signal::SIGTERM);
    uproar.signal(Signal::SIGCONT);
    let statuses: Vec<_> = clients.iter_mut().map(|client| client.answer().status).collect();
    // What comes when ingest has begun to drain is not counted, and told so.
    assert!(statuses.iter().all(|status| [202, 503].contains(status)), "{statuses:?}");
    assert!(uproar.ended().success(), "{}", uproar.log());
    let accepted = statuses.iter().filter(|status| **status == 202).count();
    let uproar = plan.start().await;
    if accepted > 0 {
        until_total(&uproar.http, "r", accepted as u64).await;
    }
}
