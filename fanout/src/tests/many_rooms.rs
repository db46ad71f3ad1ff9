//! What many rooms cost, in the shards' own CPU. A measurement, run by hand:
//!
//!     cargo test --release -p uproar-fanout many_rooms -- --ignored --nocapture

use super::{
    harness::{Stage, aggregate, config},
    raw::Raw,
};
use crate::{frames::Encoded, mqtt::Version, registry::Published};
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

const CONNECTIONS: usize = 600;
const ROOMS_PER_CONNECTION: usize = 50;
const ROOMS: usize = 10_000;
const ROUNDS: u64 = 10;

/// User and system time of the shards' threads, in ticks of 10 ms.
fn edge_cpu_ms() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok());
    let of_edge = stats.filter(|stat| stat.contains("(edge-"));
    let ticks = of_edge.map(|stat| {
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    });
    ticks.sum::<u64>() * 10
}

async fn watch(
    stage: &Stage,
    rooms: impl Fn(usize) -> Vec<String>,
    received: &Arc<AtomicUsize>,
) -> JoinSet<()> {
    let mut viewers = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let mut viewer = Raw::connected(stage, Version::V311).await;
        for room in rooms(connection) {
            assert_eq!(viewer.subscribe(&format!("reactions/{room}"), 0).await, 0);
        }
        let received = Arc::clone(received);
        viewers.spawn(async move {
            while viewer.try_packet().await.is_some() {
                received.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    viewers
}

/// Shows a frame in each of `rooms`, `rounds` times, and waits each time until `deliveries` were received.
async fn cost(stage: &Stage, rooms: usize, rounds: u64, deliveries: usize, received: &AtomicUsize) -> u64 {
    let before_ms = edge_cpu_ms();
    received.store(0, Ordering::Relaxed);
    for seq in 1..=rounds {
        for room in 0..rooms {
            let frame = Arc::new(Encoded::of(&aggregate(&format!("room-{room}"), seq), 10));
            assert_ne!(stage.registry().publish(&frame), Published::Stale);
            stage.routes.edge.publish(&frame.room, Some(&frame));
        }
        stage.until(|_| received.load(Ordering::Relaxed) >= deliveries * seq as usize).await;
    }
    edge_cpu_ms() - before_ms
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn many_rooms_cost_no_more_than_their_frames() {
    let mut config = config();
    (config.max_viewers, config.max_rooms_watched) = (2 * CONNECTIONS, 2 * ROOMS);
    config.max_rooms_per_viewer = ROOMS_PER_CONNECTION;
    // A connection gets 50 frames at once: none is to be passed over.
    (config.send_buffer_bytes, config.unsent_bytes) = (1 << 20, 1 << 20);
    let received = Arc::new(AtomicUsize::new(0));
    let deliveries = CONNECTIONS * ROOMS_PER_CONNECTION;

    let stage = Stage::start(config.clone()).await;
    let room_of = |connection, n| format!("room-{}", (connection * ROOMS_PER_CONNECTION + n) % ROOMS);
    let rooms = |connection| (0..ROOMS_PER_CONNECTION).map(|n| room_of(connection, n)).collect();
    let viewers = watch(&stage, rooms, &received).await;
    let many_ms = cost(&stage, ROOMS, ROUNDS, deliveries, &received).await;
    drop((viewers, stage));

    let stage = Stage::start(config.clone()).await;
    let viewers = watch(&stage, |_| vec!["room-0".into()], &received).await;
    let rounds = ROUNDS * ROOMS_PER_CONNECTION as u64;
    let one_ms = cost(&stage, 1, rounds, CONNECTIONS, &received).await;
    drop((viewers, stage));

    let stage = Stage::start(config).await;
    let empty_ms = cost(&stage, ROOMS, ROUNDS, 0, &received).await;
    tokio::time::sleep(Duration::from_millis(500)).await;

    let per_delivery = |ms: u64| ms as f64 * 1e3 / (deliveries as f64 * ROUNDS as f64);
    println!(
        "{ROOMS} rooms with 3 viewers each: {:.2} us of the shards' CPU a delivery",
        per_delivery(many_ms)
    );
    println!("1 room with {CONNECTIONS} viewers:      {:.2} us", per_delivery(one_ms));
    let frames = (ROOMS as u64 * ROUNDS) as f64;
    println!("{ROOMS} rooms without viewers:    {:.2} us a frame", empty_ms as f64 * 1e3 / frames);
}
