//! What operators order reaches viewers.

use super::{
    harness::{Stage, aggregate, config},
    live::Client,
};
use crate::fanout::Shared;
use std::sync::Arc;
use wire::control::{CatalogueEntry, RoomOrder, RoomState};

/// Takes over an order of a room, as if it had been read. `None` forgets its orders.
fn order(shared: &Arc<Shared>, room: &str, version: u64, change: Option<&dyn Fn(&mut RoomOrder)>) {
    let mut order = RoomOrder::new(room.parse().unwrap(), "produce", 1_763_000_000_000);
    let room = order.room.clone();
    let order = change.map(|change| {
        change(&mut order);
        order
    });
    shared.orders.apply([(room, version, order)]);
}

fn close(order: &mut RoomOrder) {
    order.state = RoomState::Closed;
}

#[tokio::test]
async fn viewers_of_a_quiet_room_see_that_it_is_closed_and_opened_again() {
    let stage = Stage::start(config()).await;
    stage.show(&aggregate("final", 7)).await;
    let mut viewer = Client::connect(&stage, "final").await;
    viewer.hello().await;
    let first = viewer.frame().await;
    assert_eq!((first.seq, first.state), (7, RoomState::Open));
    order(&stage.shared, "final", 1, Some(&close));
    let closed = viewer.frame().await;
    assert_eq!(closed, wire::Frame { state: RoomState::Closed, ..first.clone() });
    stage.show(&aggregate("final", 8)).await;
    let next = viewer.frame().await;
    assert_eq!((next.seq, next.state), (8, RoomState::Closed));
    order(&stage.shared, "final", 2, Some(&|_| {}));
    assert_eq!(viewer.frame().await.state, RoomState::Open);
    order(&stage.shared, "final", 3, Some(&close));
    assert_eq!(viewer.frame().await.state, RoomState::Closed);
    order(&stage.shared, "final", 4, None);
    assert_eq!(viewer.frame().await.state, RoomState::Open, "its orders are forgotten");
}

#[tokio::test]
async fn a_room_without_reactions_shows_its_state_and_then_its_reactions() {
    let stage = Stage::start(config()).await;
    let mut waits = Client::connect(&stage, "final").await;
    waits.hello().await;
    order(&stage.shared, "final", 1, Some(&close));
    let empty = waits.frame().await;
    assert_eq!((empty.seq, empty.since, empty.total, empty.state), (0, 0, 0, RoomState::Closed));
    let mut late = Client::connect(&stage, "final").await;
    late.hello().await;
    assert_eq!(late.frame().await, empty);
    order(&stage.shared, "final", 2, None);
    assert_eq!(waits.frame().await.state, RoomState::Open);
    stage.show(&aggregate("final", 1)).await;
    assert_eq!(waits.frame().await.total, 3);
}

#[tokio::test]
async fn a_room_whose_reactions_are_forgotten_keeps_its_state() {
    let stage = Stage::start(config()).await;
    order(&stage.shared, "final", 1, Some(&close));
    stage.show(&aggregate("final", 7)).await;
    let mut viewer = Client::connect(&stage, "final").await;
    viewer.hello().await;
    let before = viewer.frame().await;
    stage.log.tombstone("final").await;
    let empty = viewer.frame().await;
    assert_eq!((empty.since, empty.seq, empty.total), (before.since + 1, 0, 0));
    assert_eq!(empty.state, RoomState::Closed);
}

#[tokio::test]
async fn a_greeting_has_what_is_ordered_of_its_rooms() {
    let stage = Stage::start(config()).await;
    let entry = CatalogueEntry {
        reaction: "👏".parse().unwrap(),
        name: Some("Applause".into()),
        image: Some("https://cdn.example/clap.png".into()),
    };
    let entries = vec![entry];
    let slow = |order: &mut RoomOrder| {
        (order.post_ms, order.catalogue) = (Some(5_000), Some(entries.clone()));
    };
    order(&stage.shared, "final", 1, Some(&slow));
    order(&stage.shared, "plain", 1, Some(&|_| {}));
    let hello = Client::connect(&stage, "final").await.hello().await;
    assert_eq!((hello.post_ms, hello.catalogue), (5_000, vec!["👏".to_owned()]));
    let own = &hello.settings["final"];
    assert_eq!((own.post_ms, &own.catalogue), (Some(5_000), &Some(entries.clone())));
    let plain = Client::connect(&stage, "plain").await.hello().await;
    assert_eq!((plain.post_ms, plain.settings.len()), (1_000, 0));
}
