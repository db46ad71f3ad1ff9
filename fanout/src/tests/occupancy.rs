//! How many viewers a room has, as viewers are told.

use super::{
    events,
    harness::{Stage, aggregate, config},
    live::Client,
    raw::Raw,
    snapshot::{body, get},
};
use crate::{Config, mqtt::Version};
use wire::{Frame, RoomName};

fn counting() -> Config {
    Config { occupancy: true, ..config() }
}

fn final_room() -> RoomName {
    "final".parse().unwrap()
}

async fn until_counted(stage: &Stage, viewers: u64) {
    stage.until(|stage| stage.registry().viewers_of(&final_room()) == viewers).await;
}

async fn snapshot(stage: &Stage) -> Frame {
    Frame::decode(body(get(stage, "/v1/rooms/final", &[]).await).await.as_bytes()).unwrap()
}

#[tokio::test]
async fn viewers_of_every_protocol_are_counted_and_told() {
    let mut config = counting();
    config.mqtt.wildcards = true;
    let stage = Stage::start(config).await;
    let mut everything = Raw::connected(&stage, Version::V311).await;
    assert_eq!(everything.subscribe("reactions/+", 0).await, 0);
    let mut websocket = Client::connect(&stage, "final").await;
    websocket.hello().await;
    let mut mqtt = Raw::watching(&stage, Version::V5, "final").await;
    assert_eq!(mqtt.subscribe("reactions/final", 0).await, 0, "a second time");
    let mut edge = events::Viewer::watching(&stage, "final", events::WAYS[0]).await;
    let mut library = events::Viewer::watching(&stage, "final", events::WAYS[1]).await;
    until_counted(&stage, 4).await;

    stage.show(&aggregate("final", 1)).await;
    let told = [
        websocket.frame().await,
        mqtt.message().await.frame,
        edge.frame().await,
        library.frame().await,
        everything.message().await.frame,
        snapshot(&stage).await,
    ];
    for frame in &told {
        assert_eq!((frame.seq, frame.viewers), (1, Some(4)));
    }
    let rooms = body(get(&stage, "/v1/rooms", &[]).await).await;
    assert!(rooms.contains("\"viewers\":4"), "{rooms}");

    drop((edge, library));
    assert_eq!(mqtt.unsubscribe("reactions/final").await.len(), 1);
    until_counted(&stage, 1).await;
    assert_eq!(snapshot(&stage).await.viewers, Some(4), "a quiet room shows its last frame as it was");
    stage.show(&aggregate("final", 2)).await;
    assert_eq!(websocket.frame().await.viewers, Some(1));
    drop(websocket);
    until_counted(&stage, 0).await;
    stage.show(&aggregate("final", 3)).await;
    assert_eq!(snapshot(&stage).await.viewers, Some(0));
}

#[tokio::test]
async fn frames_tell_no_viewers_where_that_is_off_and_it_can_be_turned_while_running() {
    let stage = Stage::start(counting()).await;
    for (seq, on) in [(1, true), (2, false), (3, true)] {
        stage.reload(|config| config.occupancy = on);
        stage.show(&aggregate("final", seq)).await;
        assert_eq!(snapshot(&stage).await.viewers, on.then_some(0), "frame {seq}");
    }
}
