//! More connections than there is place for.

use super::posters::{Connection, post};
use crate::harness::{process::Plan, wait::until};

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
