//! More connections than there is place for.

use super::posters::{Connection, post};
use crate::harness::{process::Plan, wait::until};
use std::{fs, process::Command};
use tokio::net::TcpStream;

const MAX_CONNECTIONS: usize = 40;
const OUTSIDE: usize = 100;

#[tokio::test]
async fn the_connection_that_is_one_too_many_is_told_so_and_closed_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let uproar =
        Plan::new("all", dir.path()).set(format!("http.max_connections={MAX_CONNECTIONS}")).start().await;
    let request = post(&uproar.http, "final");
    let mut inside = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut connection = Connection::open(&uproar.http).await;
        connection.send(&request).await;
        assert_eq!(connection.answer().await.unwrap().status, 202);
        inside.push(connection);
    }
    for nth in 0..OUTSIDE {
        let mut outside = Connection::open(&uproar.http).await;
        // It is told before it has said anything, and if it speaks nonetheless.
        if nth % 2 == 0 {
            outside.send(&request).await;
        }
        let answer = outside.answer().await.unwrap();
        assert!(answer.status == 503 && answer.has("retry-after"), "{answer:?}");
        assert!(outside.answer().await.is_none(), "closed");
    }
    for connection in &mut inside {
        connection.send(&request).await;
        assert_eq!(connection.answer().await.unwrap().status, 202);
    }
    // And the one that asks, which has a listener of its own.
    assert_eq!(uproar.metric("uproar_http_connections").await, MAX_CONNECTIONS as f64 + 1.0);
    assert_eq!(uproar.metric("uproar_http_connections_refused_total").await, OUTSIDE as f64);

    drop(inside.pop());
    until("a place to be free", async || {
        let mut connection = Connection::open(&uproar.http).await;
        connection.send(&request).await;
        (connection.answer().await?.status == 202).then_some(())
    })
    .await;
}

/// Open files that the process is left with.
const FILES: usize = 200;

#[tokio::test]
async fn a_crowd_that_takes_all_files_leaves_some_to_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let uproar = Plan::new("all", dir.path()).start().await;
    let pid = uproar.pid().to_string();
    let limit = format!("--nofile={FILES}:{FILES}");
    assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
    let mut crowd = Vec::new();
    for nth in 0..2 * FILES {
        // Viewers of MQTT, and others.
        let address = if nth % 2 == 0 { &uproar.http } else { &uproar.mqtt };
        crowd.push(TcpStream::connect(address).await.unwrap());
    }
    // Operators find a few that the public is not given.
    let refused = async |name: &str| uproar.metric(name).await > 0.0;
    until("both to refuse some", async || {
        let files = "uproar_fanout_refused_total{cause=\"files\"}";
        (refused("uproar_http_connections_refused_total").await && refused(files).await).then_some(())
    })
    .await;
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert!((FILES / 2..FILES - 32).contains(&open), "{open} of {FILES}");

    drop(crowd);
    until("a place to be free", async || {
        let mut connection = Connection::open(&uproar.http).await;
        connection.send(post(&uproar.http, "final")).await;
        (connection.answer().await?.status == 202).then_some(())
    })
    .await;
}
