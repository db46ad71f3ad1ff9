//! How many viewers a room has: in one process over every protocol, and in several processes on real Kafka.

use crate::{
    harness::{
        http, kafka,
        process::{Plan, Uproar},
        viewers::{MqttViewer, WsViewer},
        wait::{PATIENCE, until},
    },
    kafka_tiers::{self, Tiers},
};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    time::timeout,
};

/// From a change of viewers to frames that tell it. A killed process counts for up to 7.5 s, and then the next frame tells the sum.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// A viewer on server-sent events.
struct EventsViewer(Lines<BufReader<TcpStream>>);

impl EventsViewer {
    async fn watch(address: &str, room: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /v1/rooms/{room}/events HTTP/1.1\r\nhost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self(BufReader::new(stream).lines())
    }

    async fn until_viewers(&mut self, viewers: u64) {
        let told = format!("\"viewers\":{viewers}}}");
        let look =
            async { while !self.0.next_line().await.unwrap().expect("the stream ended").ends_with(&told) {} };
        timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{told} never came"));
    }
}

/// What the newest frame of the room tells, after one more reaction that makes a new one.
async fn told(posts: &Uproar, viewers: &Uproar) -> Option<u64> {
    http::react(&posts.http, "final", r#"{"reaction":"🔥"}"#).await;
    http::get(&viewers.http, "/v1/rooms/final").await?.json()["viewers"].as_u64()
}

#[tokio::test]
async fn viewers_of_one_process_are_told_over_every_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::new("all", dir.path()).set("aggregator.interval_ms=200").set("aggregator.grace_ms=20");
    let uproar = plan.start().await;
    let mut websockets = Vec::new();
    for _ in 0..3 {
        websockets.push(WsViewer::watch(&uproar.http, "final").await);
    }
    let mut mqtt = MqttViewer::watch(&uproar.mqtt, "final").await;
    let mut events = EventsViewer::watch(&uproar.http, "final").await;
    let post = async {
        loop {
            http::react(&uproar.http, "final", r#"{"reaction":"🔥"}"#).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let look = async {
        let (first, rest) = websockets.split_first_mut().unwrap();
        tokio::join!(first.until_viewers(5), mqtt.until_viewers(5), events.until_viewers(5));
        drop((mqtt, events));
        rest[0].until_viewers(3).await;
    };
    tokio::select! {
        () = look => {}
        () = post => {}
    }
    let rooms = http::get(&uproar.http, "/v1/rooms").await.unwrap().json();
    assert_eq!(rooms["rooms"][0]["viewers"], 3);
}

#[tokio::test]
async fn frames_tell_no_viewers_where_occupancy_is_off() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::new("all", dir.path()).set("aggregator.interval_ms=200").set("fanout.occupancy=false");
    let uproar = plan.start().await;
    let mut viewer = WsViewer::watch(&uproar.http, "final").await;
    assert_eq!(http::react(&uproar.http, "final", r#"{"reaction":"🔥"}"#).await, 202);
    assert!(viewer.until_total(1).await.get("viewers").is_none());
}

/// So many viewers, which take all that comes and are gone when this is dropped.
async fn crowd(uproar: &Uproar, viewers: usize) -> tokio::task::JoinSet<()> {
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..viewers {
        let mut viewer = WsViewer::watch(&uproar.http, "final").await;
        crowd.spawn(async move {
            // Ends with an error where the process is killed.
            while viewer.try_frame().await.is_some() {}
        });
    }
    crowd
}

/// Waits until each of the processes tells the right number, within 2%.
async fn until_told(posts: &Uproar, fanouts: &[&Uproar], viewers: u64) {
    let start = Instant::now();
    for fanout in fanouts {
        until(&format!("{viewers} viewers at {}", fanout.http), async || {
            let told = told(posts, fanout).await?;
            (told.abs_diff(viewers) * 50 <= viewers).then_some(())
        })
        .await;
    }
    assert!(start.elapsed() <= TOLD_WITHIN, "{viewers} viewers were told after {:?}", start.elapsed());
}

#[tokio::test]
async fn processes_on_kafka_tell_the_viewers_of_all() {
    let Some(cluster) = kafka::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Tiers { ingest, aggregator, fanout, name } = kafka_tiers::tiers(cluster, dir.path());
    let another = |called: &str| kafka_tiers::plan(cluster, dir.path(), &name, "fanout").named(called);
    let (posts, _aggregator) = (ingest.start().await, aggregator.start().await);
    let (mut first, second) = (fanout.start().await, another("second").start().await);
    let (_first_crowd, mut second_crowd) = (crowd(&first, 60).await, crowd(&second, 40).await);
    until_told(&posts, &[&first, &second], 100).await;

    let mut third = another("third").start().await;
    let _third_crowd = crowd(&third, 50).await;
    until_told(&posts, &[&first, &second, &third], 150).await;

    first.kill();
    until_told(&posts, &[&second, &third], 90).await;

    second_crowd.shutdown().await;
    until_told(&posts, &[&second, &third], 50).await;

    third.stop();
    until_told(&posts, &[&second], 0).await;
    assert_eq!(second.metric("uproar_fanout_occupancy_connected").await, 1.0);
    assert!(cluster.topics(&["--list"]).contains(&format!("{name}-occupancy")));
}
