//! What operators order: closed rooms, and rooms with a catalogue of their own.

use super::*;
use wire::control::{CatalogueEntry, RoomOrder, RoomState};

impl Rig {
    /// Takes over an order of a room, as if it had been read.
    pub(super) fn order(&self, room: &str, version: u64, change: impl FnOnce(&mut RoomOrder)) {
        let mut order = RoomOrder::new(room.parse().unwrap(), "produce", 1);
        change(&mut order);
        self.shared.orders.apply([(order.room.clone(), version, Some(order))]);
    }
}

#[tokio::test]
async fn nothing_is_taken_before_the_orders_were_read() {
    let orders = Arc::<control::Orders>::default();
    let rig = Rig::start_with(MemoryLog::new(4), config(), Arc::clone(&orders));
    sleep(Duration::from_millis(50)).await;
    assert_eq!(rig.post("final", FIRE).await.status, 503);
    orders.set_read();
    until(|| rig.readiness.missing().is_empty()).await;
    assert_eq!((rig.post("final", FIRE).await.status, rig.total("final")), (StatusCode::ACCEPTED, 1));
    rig.stop().await.unwrap();
}

#[tokio::test]
async fn a_closed_room_refuses_posts_until_it_is_opened_again_and_others_go_on() {
    let rig = Rig::open(config()).await;
    assert_eq!(rig.post("final", FIRE).await.status, 202);
    rig.order("final", 1, |order| order.state = RoomState::Closed);
    let refused = rig.post("final", FIRE).await;
    assert_eq!(
        (refused.status, refused.header("content-type")),
        (StatusCode::FORBIDDEN, Some("application/problem+json"))
    );
    assert!(
        refused
            .body
            .starts_with(r#"{"type":"urn:uproar:problem:room-closed","status":403,"title":"room-closed","#),
        "{}",
        refused.body
    );
    assert_eq!(refused.header("retry-after"), None);
    assert_eq!(rig.post("semi", FIRE).await.status, 202);
    rig.order("final", 2, |_| {});
    assert_eq!(rig.post("final", FIRE).await.status, 202);
    assert_eq!((rig.total("final"), rig.total("semi")), (2, 1));
}

#[tokio::test]
async fn a_room_with_orders_is_declared() {
    let rig = Rig::open(Config { rooms: vec!["final".into()], ..config() }).await;
    assert_eq!(rig.post("semi", FIRE).await.status, 404);
    rig.order("semi", 1, |_| {});
    assert_eq!(rig.post("semi", FIRE).await.status, 202);
}

#[tokio::test]
async fn a_room_takes_the_reactions_of_its_own_catalogue() {
    let rig = Rig::open(config()).await;
    let only = CatalogueEntry { reaction: "👏".parse().unwrap(), name: None, image: None };
    rig.order("final", 1, |order| order.catalogue = Some(vec![only]));
    assert_eq!(rig.post("final", "{\"reaction\":\"👏🏽\"}").await.status, 202);
    assert_eq!(rig.post("final", FIRE).await.status, 422);
    assert_eq!(rig.post("semi", FIRE).await.status, 202);
}
