//! Crowds that wear servers out: viewers that never read, and viewers that come and go.

use super::plan;
use crate::harness::{
    http,
    process::{Plan, Uproar},
    wait::{PATIENCE, until},
};
use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// CONNECT of MQTT 3.1.1 with a keep alive of a minute, and SUBSCRIBE of `reactions/final`.
const JOIN: &[u8] =
    b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00\x82\x14\x00\x01\x00\x0freactions/final\x00";
/// CONNACK and SUBACK.
const JOINED: &[u8] = b"\x20\x02\x00\x00\x90\x03\x00\x01\x00";

/// An MQTT viewer of the room.
struct Viewer {
    stream: TcpStream,
    came: Vec<u8>,
}

impl Viewer {
    /// A small receive buffer is full soon.
    async fn join(address: &str, receive_buffer: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
        stream.write_all(JOIN).await.unwrap();
        let mut joined = vec![0; JOINED.len()];
        timeout(PATIENCE, stream.read_exact(&mut joined)).await.unwrap().unwrap();
        assert_eq!(joined, JOINED);
        Self { stream, came: Vec::new() }
    }

    /// The `seq` of the next frame.
    async fn seq(&mut self) -> u64 {
        loop {
            if let Some(seq) = self.take_seq() {
                return seq;
            }
            let read =
                timeout(PATIENCE, self.stream.read_buf(&mut self.came)).await.expect("a frame in time");
            assert!(read.unwrap() > 0, "the connection ended");
        }
    }

    /// Takes a frame that is whole. It has 128 bytes or more, so that its length takes two bytes or three.
    fn take_seq(&mut self) -> Option<u64> {
        let &[_, a, b, c, ..] = &self.came[..] else { return None };
        let low = usize::from(a & 0x7F) | usize::from(b & 0x7F) << 7;
        let (head, len) = if b & 0x80 == 0 { (3, low) } else { (4, low | usize::from(c & 0x7F) << 14) };
        let packet = self.came.get(head..head + len)?;
        // Not all of it: there are many.
        let (_, rest) = std::str::from_utf8(&packet[2..]).unwrap().split_once("\"seq\":")?;
        let seq = rest.split_once(',').unwrap().0.parse().unwrap();
        self.came.drain(..head + len);
        Some(seq)
    }
}

/// Bytes that the kernel keeps in the server's send queues for viewers.
fn queued_bytes(server: &str, viewers: &[Viewer]) -> u64 {
    let port = |address: &str| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
    let server: u16 = server.rsplit_once(':').unwrap().1.parse().unwrap();
    let viewers: HashSet<u16> =
        viewers.iter().map(|viewer| viewer.stream.local_addr().unwrap().port()).collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let queue = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, local, remote, _, queues, ..] = words[..] else { return None };
        let viewer = port(remote).filter(|viewer| viewers.contains(viewer))?;
        let is_ours = port(local) == Some(server);
        let bytes = u64::from_str_radix(queues.split_once(':')?.0, 16).ok()?;
        is_ours.then_some((viewer, bytes))
    };
    // A line may come twice where others change the table meanwhile.
    let queues: HashMap<u16, u64> = table.lines().filter_map(queue).collect();
    assert_eq!(queues.len(), viewers.len(), "some are gone");
    queues.values().sum()
}

/// Pages that TCP uses in all of this machine.
fn tcp_pages() -> String {
    let stat = std::fs::read_to_string("/proc/net/sockstat").unwrap();
    stat.lines().find(|line| line.starts_with("TCP:")).unwrap().to_owned()
}

/// So many reactions that a frame has 18 kB, of which half are totals.
fn large_post() -> String {
    let mut reactions = String::new();
    for n in 0..230 {
        let comma = if n > 0 { "," } else { "" };
        write!(reactions, "{comma}\"{n:0>32}\":1").unwrap();
    }
    format!("{{\"reactions\":{{{reactions}}}}}")
}

async fn start_for_large_frames(dir: &tempfile::TempDir) -> Uproar {
    let sets = [
        "ingest.max_body_bytes=65536",
        "ingest.max_distinct_per_request=256",
        "fanout.top_n=1000",
        "aggregator.interval_ms=100",
        "aggregator.max_distinct_per_room=1024",
        "fanout.write_timeout_ms=600000",
    ];
    sets.into_iter().fold(plan(dir), Plan::set).start().await
}

/// Reads on and on. Tells the newest frame that it has, and how many it missed.
async fn read_on(mut viewer: Viewer, newest: Arc<AtomicU64>, missed: Arc<AtomicU64>) {
    loop {
        let seq = viewer.seq().await;
        let before = newest.swap(seq, Ordering::Relaxed);
        missed.fetch_add(seq - before - 1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_viewers_that_never_read_cost_a_bounded_number_of_bytes() {
    const STUCK: u64 = 200;
    const FRAMES: u64 = 100;
    const SEND_BUFFER: u64 = 16_384;
    let dir = tempfile::tempdir().unwrap();
    let mut uproar = start_for_large_frames(&dir).await;
    let (mut readers, mut newest) = (JoinSet::new(), Vec::new());
    let missed = Arc::new(AtomicU64::new(0));
    for _ in 0..STUCK {
        newest.push(Arc::new(AtomicU64::new(0)));
        let healthy = Viewer::join(&uproar.mqtt, None).await;
        readers.spawn(read_on(healthy, Arc::clone(newest.last().unwrap()), Arc::clone(&missed)));
    }
    let (post, longest) = (large_post(), Cell::new(0));
    // Until all who read have a frame of this number, or a later one.
    let show = async |last: u64| {
        let mut shown = 0;
        while shown < last {
            assert_eq!(http::react(&uproar.http, "final", &post).await, 202);
            shown = until("a newer frame at all who read", async || {
                let answer =
                    http::get(&uproar.http, "/v1/rooms/final").await.filter(|it| it.status == 200)?;
                longest.set(longest.get().max(answer.body.len() as u64));
                let seq = answer.json()["seq"].as_u64().unwrap();
                let all = newest.iter().all(|newest| newest.load(Ordering::Relaxed) >= seq);
                (seq > shown && all).then_some(seq)
            })
            .await;
        }
        shown
    };
    let warm = show(FRAMES / 10).await;
    let warm_kib = uproar.resident_kib();
    let first = show(warm + FRAMES / 2).await;
    // What the other tiers and the log take, that are in this process too.
    let (before_kib, before_tcp) = (uproar.resident_kib(), tcp_pages());
    let usual_kib = 2 * before_kib.saturating_sub(warm_kib);
    let mut stuck = Vec::new();
    for _ in 0..STUCK {
        stuck.push(Viewer::join(&uproar.mqtt, Some(4_096)).await);
    }
    let shown = show(first + FRAMES).await;
    let frame_bytes = longest.get();
    assert!(frame_bytes > 15_000, "{frame_bytes}");
    let (after_kib, queued, after_tcp) =
        (uproar.resident_kib(), queued_bytes(&uproar.mqtt, &stuck), tcp_pages());
    let grown_kib = after_kib.saturating_sub(before_kib);
    let missed = missed.load(Ordering::Relaxed);
    println!(
        "{STUCK} stuck viewers, {FRAMES} frames of up to {frame_bytes} B: the process grew by {grown_kib} KiB ({usual_kib} without them), the kernel keeps \
         {queued} B to be sent; before: {before_tcp}, after: {after_tcp}; as many others missed {missed} frames in all"
    );
    // The kernel doubles what it is asked for. What it counts in are packets, which may be half empty.
    assert!(queued <= STUCK * 2 * SEND_BUFFER, "{queued} B are queued");
    // A frame of its own for each of them were 3.5 MiB.
    assert!(grown_kib <= usual_kib + 2_048, "the process grew by {grown_kib} KiB, {usual_kib} without them");

    for viewer in &mut stuck {
        let (mut last, mut seen) = (0, 0);
        while last < shown {
            let seq = viewer.seq().await;
            assert!(seq > last);
            (last, seen) = (seq, seen + 1);
        }
        assert!(seen <= 6, "{seen} of {FRAMES} frames waited");
    }
    drop((stuck, readers));
    uproar.stop();
}

/// So many viewers that join, get the room's frame and go, some with a word and some without.
async fn come_and_go(uproar: &Uproar, viewers: usize) {
    const AT_ONCE: usize = 50;
    let mut crowd = JoinSet::new();
    for n in 0..viewers {
        if crowd.len() == AT_ONCE {
            crowd.join_next().await.unwrap().unwrap();
        }
        let address = uproar.mqtt.clone();
        crowd.spawn(async move {
            let mut viewer = Viewer::join(&address, None).await;
            viewer.seq().await;
            if n % 2 == 0 {
                viewer.stream.write_all(b"\xe0\x00").await.unwrap();
            }
        });
    }
    crowd.join_all().await;
    until("all to be gone", async || {
        let metrics = http::get(&uproar.admin, "/metrics").await?.body;
        metrics.contains("uproar_fanout_viewers{protocol=\"mqtt\"} 0").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_thousand_short_lived_viewers_leave_no_memory_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut uproar = plan(&dir).start().await;
    super::react(&uproar).await;
    crate::end_to_end::until_total(&uproar.http, "final", 3).await;
    come_and_go(&uproar, 2_000).await;
    let before = uproar.resident_kib();
    come_and_go(&uproar, 8_000).await;
    let after = uproar.resident_kib();
    println!("8,000 short-lived viewers: {before} KiB before, {after} KiB after");
    // 700 B each were 5,600 KiB.
    assert!(after <= before + 1_500, "{before} KiB before, {after} KiB after");
    uproar.stop();
}
