//! What the desk asks of this tier.

use super::{FIRE, Rig};
use crate::{config::tests::config, http::desk, observed::ROOMS_MAX};
use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

async fn look(rig: &Rig, room: &str) -> (StatusCode, Value) {
    let request = Request::get(format!("/v1/rooms/{room}/posts")).body(Body::empty()).unwrap();
    let answer = desk::router(&rig.shared).oneshot(request).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn posts_of_a_room_are_told_while_somebody_observes_it() {
    let rig = Rig::open(config()).await;
    rig.post("final", FIRE).await;
    let first = look(&rig, "final").await;
    assert_eq!(first, (StatusCode::OK, json!({"room": "final", "accepted": 0, "refused": 0})));
    for body in [FIRE, FIRE, "{}"] {
        rig.post("final", body).await;
    }
    rig.post("another", FIRE).await;
    let (_, seen) = look(&rig, "final").await;
    assert_eq!(seen, json!({"room": "final", "accepted": 2, "refused": 1}));
    rig.stop().await.unwrap();
}

#[tokio::test]
async fn a_name_that_is_none_and_more_rooms_than_can_be_observed_are_refused() {
    let rig = Rig::open(config()).await;
    assert_eq!(look(&rig, "no%20name").await.0, StatusCode::BAD_REQUEST);
    for number in 0..ROOMS_MAX {
        assert_eq!(look(&rig, &format!("room-{number}")).await.0, StatusCode::OK);
    }
    let (status, problem) = look(&rig, "one-more").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(problem["detail"].as_str().unwrap().contains("64 rooms are observed"), "{problem}");
    rig.stop().await.unwrap();
}
