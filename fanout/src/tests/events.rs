//! Viewers on server-sent events.

use super::{
    counted::value,
    harness::{PATIENCE, Stage, aggregate, config, large_aggregate, recorded},
};
use crate::Config;
use std::{collections::BTreeSet, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, timeout},
};
use wire::{Aggregate, Frame, Hello};

/// How a viewer asks, and so who serves it. Either way the body comes as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// As a browser does: a shard of the edge.
    Edge,
    /// In HTTP/1.0: the HTTP library.
    Library,
}

pub(super) const WAYS: [Way; 2] = [Way::Edge, Way::Library];

/// A viewer.
pub(super) struct Viewer {
    stream: TcpStream,
    came: Vec<u8>,
}

/// One event, or comment: its lines.
type Event = Vec<String>;

impl Viewer {
    async fn connect(stage: &Stage, room: &str, way: Way) -> Self {
        Self::over(TcpStream::connect(stage.address).await.unwrap(), room, way).await
    }

    /// A viewer that saw an event before, with its greeting.
    async fn back(stage: &Stage, way: Way, last_event_id: &str) -> Self {
        let stream = TcpStream::connect(stage.address).await.unwrap();
        let headers = format!("Last-Event-ID: {last_event_id}\r\n");
        let mut viewer = Self::over_with(stream, "final", way, &headers).await;
        viewer.head().await;
        viewer.retry_ms().await;
        viewer
    }

    /// What a stream begins with: how long to wait before connecting again, and the greeting.
    async fn start(&mut self) -> (u64, Hello) {
        let event = self.event().await;
        let [retry] = &event[..] else { panic!("no retry: {event:?}") };
        let retry_ms = retry.strip_prefix("retry: ").unwrap().parse().unwrap();
        let event = self.event().await;
        let [kind, data] = &event[..] else { panic!("no greeting: {event:?}") };
        assert_eq!(kind, "event: hello");
        (retry_ms, serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap())
    }

    async fn retry_ms(&mut self) -> u64 {
        self.start().await.0
    }

    async fn connect_small(address: SocketAddr, room: &str, way: Way) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1).unwrap();
        Self::over(socket.connect(address).await.unwrap(), room, way).await
    }

    async fn over(stream: TcpStream, room: &str, way: Way) -> Self {
        Self::over_with(stream, room, way, "").await
    }

    async fn over_with(mut stream: TcpStream, room: &str, way: Way, headers: &str) -> Self {
        let version = if way == Way::Edge { "1.1" } else { "1.0" };
        let request = format!(
            "GET /v1/rooms/{room}/events HTTP/{version}\r\nHost: x\r\nAccept: text/event-stream\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        Self { stream, came: Vec::new() }
    }

    /// What comes before an empty line; `None` at the end.
    async fn try_part(&mut self, end: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = self.came.windows(end.len()).position(|bytes| bytes == end) {
                let part = self.came.drain(..at + end.len()).collect::<Vec<_>>();
                return Some(String::from_utf8(part[..at].to_vec()).unwrap());
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.came)).await.expect("nothing came");
            if read.unwrap() == 0 {
                assert!(self.came.is_empty(), "half an event");
                return None;
            }
        }
    }

    async fn head(&mut self) -> String {
        self.try_part(b"\r\n\r\n").await.unwrap().to_lowercase()
    }

    async fn try_event(&mut self) -> Option<Event> {
        self.try_part(b"\n\n").await.map(|event| event.lines().map(str::to_owned).collect())
    }

    async fn event(&mut self) -> Event {
        self.try_event().await.expect("the stream ended")
    }

    /// The next frame; its identifier must be right.
    pub(super) async fn frame(&mut self) -> Frame {
        let event = self.event().await;
        let [id, data] = &event[..] else { panic!("no frame: {event:?}") };
        let frame = Frame::decode(data.strip_prefix("data: ").unwrap().as_bytes()).unwrap();
        assert_eq!(*id, format!("id: {}-{}", frame.since, frame.seq));
        frame
    }

    /// A viewer that has its greeting.
    pub(super) async fn watching(stage: &Stage, room: &str, way: Way) -> Self {
        let mut viewer = Self::connect(stage, room, way).await;
        let head = viewer.head().await;
        assert_eq!(head.contains("connection: close"), way == Way::Edge, "who serves it: {head}");
        viewer.retry_ms().await;
        viewer
    }
}

#[tokio::test]
async fn a_viewer_is_told_when_to_retry_and_gets_the_snapshot_and_each_frame_in_order() {
    for way in WAYS {
        println!("{way:?}");
        let stage = Stage::start(config()).await;
        stage.show(&aggregate("final", 1)).await;
        let mut viewer = Viewer::connect(&stage, "final", way).await;
        let head = viewer.head().await;
        for line in [
            "content-type: text/event-stream",
            "cache-control: no-store",
            "access-control-allow-origin: *",
            "x-accel-buffering: no",
        ] {
            assert!(head.contains(line), "{head}");
        }
        let hello = viewer.start().await.1;
        assert_eq!((hello.rooms, hello.post_ms), (vec!["final".parse().unwrap()], 1_000));
        assert_eq!(hello.catalogue, ["🔥", "❤️"]);
        assert_eq!(viewer.frame().await, Frame::of(&aggregate("final", 1), 10));
        for seq in 2..=20 {
            stage.show(&aggregate("final", seq)).await;
            assert_eq!(viewer.frame().await.seq, seq);
        }
        drop(viewer);
        stage.until_viewers(0).await;
    }
}

#[tokio::test]
async fn viewers_are_told_different_times_so_that_they_do_not_come_back_together() {
    for way in WAYS {
        println!("{way:?}");
        let stage = Stage::start(config()).await;
        let (mut viewers, mut times) = (Vec::new(), BTreeSet::new());
        for _ in 0..20 {
            let mut viewer = Viewer::connect(&stage, "final", way).await;
            viewer.head().await;
            times.insert(viewer.retry_ms().await);
            viewers.push(viewer);
        }
        assert!(times.iter().all(|ms| (1_000..=5_000).contains(ms)), "{times:?}");
        assert!(times.len() > 10, "{times:?}");
        stage.reload(|config| config.reconnect_jitter_ms = 0);
        let mut viewer = Viewer::connect(&stage, "final", way).await;
        viewer.head().await;
        assert_eq!(viewer.retry_ms().await, 0);
    }
}

#[tokio::test]
async fn a_viewer_that_comes_back_does_not_get_the_event_again_that_it_has() {
    for way in WAYS {
        println!("{way:?}");
        let stage = Stage::start(config()).await;
        for seq in [1, 2] {
            stage.show(&aggregate("final", seq)).await;
        }
        let since = aggregate("final", 2).since;
        let mut has_newest = [
            Viewer::back(&stage, way, &format!("{since}-2")).await,
            // The shards know the room now.
            Viewer::back(&stage, way, &format!("{since}-2")).await,
            Viewer::back(&stage, way, &format!("{since}-2")).await,
        ];
        for id in [format!("{since}-1"), format!("{}-2", since - 1), "2".into(), String::new()] {
            assert_eq!(Viewer::back(&stage, way, &id).await.frame().await.seq, 2, "{id}");
        }
        for seq in [3, 4] {
            stage.show(&aggregate("final", seq)).await;
            for viewer in &mut has_newest {
                assert_eq!(viewer.frame().await.seq, seq);
            }
        }
    }
}

#[tokio::test]
async fn a_quiet_stream_has_comments_and_sees_the_next_life_of_its_room() {
    for way in WAYS {
        println!("{way:?}");
        let stage = Stage::start(Config { ping_interval_ms: 20, ..config() }).await;
        let mut viewer = Viewer::watching(&stage, "final", way).await;
        assert_eq!(viewer.event().await, [":"]);
        stage.show(&aggregate("final", 7)).await;
        let mut event = viewer.event().await;
        while event == [":"] {
            event = viewer.event().await;
        }
        assert!(event[0].ends_with("-7"), "{event:?}");
        stage.log.tombstone("final").await;
        stage.until(|stage| stage.shown("final") == 0).await;
        assert_eq!(viewer.event().await, [":"], "a forgotten room says nothing");
    }
}

/// Shows frames to a viewer that reads, and says how many of them wait for one that doesn't.
async fn waiting(stage: &Stage, way: Way, frames: impl Iterator<Item = Aggregate>) -> usize {
    let mut stuck = Viewer::connect_small(stage.address, "final", way).await;
    let mut quick = Viewer::watching(stage, "final", way).await;
    let mut newest = 0;
    for frame in frames {
        stage.show(&frame).await;
        assert_eq!(quick.frame().await.seq, frame.seq, "another viewer gets every frame");
        newest = frame.seq;
    }
    stuck.head().await;
    stuck.retry_ms().await;
    let (mut seen, mut last) = (0, 0);
    while last < newest {
        let seq = stuck.frame().await.seq;
        assert!(seq > last, "in order");
        (seen, last) = (seen + 1, seq);
    }
    seen
}

#[tokio::test]
async fn a_viewer_that_never_reads_finds_the_newest_frame_and_delays_nobody() {
    for way in WAYS {
        println!("{way:?}");
        let stage = Stage::start(Config { top_n: 1_000, ..config() }).await;
        let seen = waiting(&stage, way, (1..=150).map(|seq| large_aggregate("final", seq))).await;
        // What was in the kernel, one in HTTP's buffers, and the newest.
        assert!(seen <= 5, "{seen} frames waited for it");
    }
}

#[tokio::test]
async fn small_frames_do_not_queue_in_http_either() {
    for way in WAYS {
        println!("{way:?}");
        let stage = Stage::start(config()).await;
        let seen = waiting(&stage, way, (1..=600).map(|seq| aggregate("final", seq))).await;
        println!("{seen} frames waited for it");
        // What the kernel may keep unsent, what the client's kernel takes, one in HTTP's buffers, and the newest.
        assert!(seen <= 10, "{seen} frames waited for it");
    }
}

#[tokio::test]
async fn a_viewer_that_takes_nothing_for_the_write_timeout_is_dropped() {
    for way in WAYS {
        println!("{way:?}");
        let stage = Stage::start(Config { top_n: 1_000, write_timeout_ms: 500, ..config() }).await;
        let _stuck = Viewer::connect_small(stage.address, "final", way).await;
        stage.until_viewers(1).await;
        let start = Instant::now();
        stage.show(&large_aggregate("final", 1)).await;
        stage.until_viewers(0).await;
        assert!(start.elapsed().as_secs() < 15, "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn bounds_refuse_with_503_and_places_come_back() {
    for way in WAYS {
        println!("{way:?}");
        let stage = Stage::start(Config { max_viewers: 1, ..config() }).await;
        let first = Viewer::watching(&stage, "final", way).await;
        let mut second = Viewer::connect(&stage, "final", way).await;
        let head = second.head().await;
        assert!(head.contains(" 503 ") && head.contains("retry-after: 1"), "{head}");
        drop(first);
        stage.until_viewers(0).await;
        Viewer::watching(&stage, "final", way).await;
    }
}

#[tokio::test]
async fn on_shutdown_streams_end_at_their_turns_and_get_frames_until_then() {
    for way in WAYS {
        println!("{way:?}");
        let mut stage = Stage::start(Config { drain_viewers_per_s: 4, ..config() }).await;
        let mut viewers = JoinSet::new();
        for _ in 0..3 {
            let mut viewer = Viewer::watching(&stage, "final", way).await;
            viewers.spawn(async move {
                let mut frames = 0;
                while viewer.try_event().await.is_some() {
                    frames += 1;
                }
                frames
            });
        }
        let start = Instant::now();
        stage.shutdown.cancel();
        stage.until_viewers(2).await;
        stage.show(&aggregate("final", 1)).await;
        let mut frames = viewers.join_all().await;
        frames.sort_unstable();
        assert_eq!(frames, [0, 1, 1], "who is still there gets frames");
        stage.ended().await.unwrap();
        assert!(start.elapsed().as_millis() >= 500, "the third leaves after two pauses");
        stage.served().await;
    }
}

#[tokio::test]
async fn viewers_that_take_nothing_do_not_hold_up_a_stop() {
    for way in WAYS {
        println!("{way:?}");
        const FRAMES: u64 = 200;
        let mut stage = Stage::start(Config { top_n: 1_000, drain_ms: 300_000, ..config() }).await;
        let _stuck = [
            Viewer::connect_small(stage.address, "small", way).await,
            Viewer::connect_small(stage.address, "large", way).await,
        ];
        stage.until_viewers(2).await;
        let (mut small, mut large) =
            (Viewer::watching(&stage, "small", way).await, Viewer::watching(&stage, "large", way).await);
        for seq in 1..=FRAMES {
            stage.show(&aggregate("small", seq)).await;
            small.frame().await;
        }
        stage.show(&large_aggregate("large", 1)).await;
        large.frame().await;
        stage.shutdown.cancel();
        stage.ended().await.unwrap();
        stage.served().await;
    }
}

#[tokio::test]
async fn closed_viewers_are_counted_by_cause() {
    for way in WAYS {
        println!("{way:?}");
        let (handle, _recording) = recorded();
        let mut stage = Stage::start(config()).await;
        let leaver = Viewer::watching(&stage, "final", way).await;
        let mut last = Viewer::watching(&stage, "final", way).await;
        drop(leaver);
        stage.until_viewers(1).await;
        stage.shutdown.cancel();
        assert_eq!(last.try_event().await, None);
        stage.ended().await.unwrap();
        assert_eq!(value(&handle, "uproar_fanout_closes_total{cause=\"gone\"}"), 1.0);
        assert_eq!(value(&handle, "uproar_fanout_closes_total{cause=\"drained\"}"), 1.0);
    }
}
