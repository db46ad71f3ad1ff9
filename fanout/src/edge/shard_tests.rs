//! A shard in the test's own thread: the turns of its loop are counted, and its clock can be set forward.

use super::{
    Edge, listener,
    mailbox::{Mailbox, Newcomer, Order},
    shard::Shard,
    speech::Greeting,
    viewer::Viewer,
};
use crate::{
    Config,
    fanout::Shared,
    frames::Encoded,
    metrics::Protocol,
    registry::{Limits, Published},
    tests::{
        harness::{PATIENCE, aggregate, config},
        raw,
    },
};
use bytes::Bytes;
use mio::Events;
use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// CONNECT of MQTT 5 with a keep alive of a minute.
const CONNECT: &[u8] = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00";

/// A client's WebSocket frame, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap();
    let head = if len < 126 {
        vec![first, 0x80 | len as u8]
    } else {
        [vec![first, 0xFE], len.to_be_bytes().to_vec()].concat()
    };
    [&head, &[0; 4][..], payload].concat()
}

struct Rig {
    shard: Shard,
    mailbox: Arc<Mailbox>,
    shared: Arc<Shared>,
    events: Events,
}

impl Rig {
    fn new(config: Config) -> Self {
        let receiver = watch::channel(Arc::new(config)).1;
        let shared = Shared::new(receiver, watch::Sender::default().subscribe(), watch::Sender::default().subscribe());
        shared.set_caught_up();
        let (shard, mailbox) = Shard::new(Arc::clone(&shared), None).unwrap();
        Self { shard, mailbox, shared, events: Events::with_capacity(1_024) }
    }

    /// The client's end of a viewer of the room `a`.
    fn viewer(&mut self, protocol: Protocol) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = listener.accept().unwrap().0;
        stream.set_nonblocking(true).unwrap();
        listener::tune(&stream, &self.shared.config()).unwrap();
        let limits = Limits::of(&self.shared.config());
        let seat = self.shared.registry.admit(protocol, [127, 0, 0, 1].into(), limits).unwrap();
        let watch = || self.shared.registry.watch(&"a".parse().unwrap(), limits).unwrap();
        let greeting = match protocol {
            Protocol::WebSocket => Greeting::Json { rooms: vec![watch()], hello: b"{}".to_vec() },
            Protocol::Sse => Greeting::Events { room: watch(), start: b":\n\n".to_vec() },
            Protocol::Mqtt | Protocol::MqttWebSocket => Greeting::Mqtt,
        };
        self.mailbox.admit(Newcomer { stream, seat, greeting, input: Bytes::new() }).unwrap();
        let viewers = self.viewers();
        self.until(|rig| rig.viewers() == viewers + 1);
        theirs
    }

    fn viewers(&self) -> usize {
        self.shard.hall.viewers.len()
    }

    fn any(&self, holds: impl Fn(&Viewer) -> bool) -> bool {
        self.shard.hall.viewers.iter().any(|(_, viewer)| holds(viewer))
    }

    fn turn(&mut self) {
        assert!(self.shard.turn(&mut self.events).unwrap(), "it was not told to stop");
    }

    /// Turns the loop until `holds`.
    fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            self.turn();
            assert!(start.elapsed() < PATIENCE, "it was waited for in vain");
        }
    }

    /// How often the loop turns within this time.
    fn turns_in(&mut self, time: Duration) -> usize {
        let (start, mut turns) = (Instant::now(), 0);
        while start.elapsed() < time {
            self.turn();
            turns += 1;
        }
        turns
    }

    /// Sets the shard's clock forward, in steps that a busy machine may take.
    fn pass(&mut self, time_ms: u64) {
        for _ in 0..time_ms.div_ceil(500) {
            self.shard.started -= Duration::from_millis(500);
            self.turn();
        }
    }

    /// The same until a viewer was told goodbye.
    fn pass_until_leaving(&mut self, time_ms: u64) {
        for _ in 0..time_ms / 500 {
            if !self.any(Viewer::is_leaving) {
                self.pass(500);
            }
        }
        assert!(self.any(Viewer::is_leaving), "nobody was told goodbye within {time_ms} ms");
    }

    fn show(&mut self, seq: u64) -> Arc<Encoded> {
        let frame = Arc::new(Encoded::of(&aggregate("a", seq), 10));
        assert_ne!(self.shared.registry.publish(&frame), Published::Stale);
        self.mailbox.put(|mail| {
            mail.frames.put(&frame.room, Some(Arc::clone(&frame)));
        });
        frame
    }
}

/// What comes until the end of the stream.
fn rest(mut theirs: TcpStream) -> Vec<u8> {
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut came = Vec::new();
    match theirs.read_to_end(&mut came) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => came,
    }
}

/// How a viewer is ended that does not close its own side: its protocol, and what happens.
type Way = (&'static str, Protocol, fn(&mut Rig, &mut TcpStream));

const WAYS: [Way; 10] = [
    ("a bad byte", Protocol::Mqtt, |_, theirs| theirs.write_all(b"\0").unwrap()),
    ("a will", Protocol::Mqtt, |_, theirs| {
        theirs.write_all(&raw::connect_with_will(crate::mqtt::Version::V5)).unwrap();
    }),
    ("a publish", Protocol::Mqtt, |_, theirs| {
        let publish = raw::publish(crate::mqtt::Version::V5, 0, "reactions/a", "{}");
        theirs.write_all(&[CONNECT, &publish].concat()).unwrap();
    }),
    ("a bad byte in a WebSocket", Protocol::MqttWebSocket, |_, theirs| {
        theirs.write_all(&frame(0x82, b"\0")).unwrap();
    }),
    ("a long text", Protocol::WebSocket, |_, theirs| theirs.write_all(&frame(0x81, &[b'x'; 200])).unwrap()),
    ("bytes on an event stream", Protocol::Sse, |_, theirs| theirs.write_all(b"GET").unwrap()),
    ("no CONNECT", Protocol::Mqtt, |rig, _| rig.pass_until_leaving(70_000)),
    ("keep alive", Protocol::Mqtt, |rig, theirs| {
        theirs.write_all(CONNECT).unwrap();
        rig.pass_until_leaving(100_000);
    }),
    ("no pong", Protocol::WebSocket, |rig, _| rig.pass_until_leaving(130_000)),
    ("a drain", Protocol::WebSocket, |rig, _| rig.mailbox.put(|mail| mail.order = Some(Order::Drain))),
];

#[test]
fn a_goodbye_that_is_not_answered_costs_a_few_turns_of_the_loop() {
    for (name, protocol, end) in WAYS {
        println!("{name}");
        let mut rig = Rig::new(config());
        let mut theirs = rig.viewer(protocol);
        end(&mut rig, &mut theirs);
        rig.until(|rig| rig.viewers() == 0 || rig.any(Viewer::is_leaving));
        let turns = rig.turns_in(Duration::from_millis(250));
        // One for each tick, one for the shutdown.
        assert!(turns < 20, "{name}: {turns} turns in a quarter of a second");
        rig.pass(1_500);
        assert_eq!(rig.viewers(), 0, "{name}");
    }
}

#[test]
fn a_viewer_that_takes_nothing_costs_a_few_turns_of_the_loop_until_it_is_dropped() {
    let mut rig = Rig::new(Config { write_timeout_ms: 20_000, send_buffer_bytes: 2_304, ..config() });
    let _theirs = rig.viewer(Protocol::WebSocket);
    for seq in 1.. {
        rig.show(seq);
        rig.turn();
        let is_blocked = |rig: &Rig| rig.any(|viewer| viewer.blocked_since_ms().is_some());
        // The client's kernel may take some more in a moment.
        if is_blocked(&rig) && rig.turns_in(Duration::from_millis(50)) > 0 && is_blocked(&rig) {
            break;
        }
        assert!(seq < 100_000, "its socket takes everything");
    }
    let turns = rig.turns_in(Duration::from_millis(250));
    assert!(turns < 20, "{turns} turns in a quarter of a second");
    rig.pass(30_000);
    assert_eq!(rig.viewers(), 0);
}

#[test]
fn a_viewer_that_sends_on_and_on_is_served_once_a_turn() {
    let mut config = config();
    config.mqtt.max_packet_bytes = 16 << 20;
    let mut rig = Rig::new(config);
    let mut theirs = rig.viewer(Protocol::WebSocket);
    theirs.set_nonblocking(true).unwrap();
    let pongs = frame(0x8A, b"").repeat(20_000);
    let mut sent = 0;
    for turn in 0..100 {
        if let Ok(bytes) = theirs.write(&pongs[sent % 6..]) {
            sent += bytes;
        }
        rig.turn();
        assert!(rig.shard.ready.len() <= 1, "turn {turn}: {} times", rig.shard.ready.len());
    }
    assert!(sent > 100_000, "{sent} bytes are no flood");
}

/// An edge that viewers may come to, and how many of them are there.
fn edge(config: Config) -> (Arc<Edge>, super::Ended, Arc<Shared>, Vec<TcpStream>) {
    let (sender, receiver) = watch::channel(Arc::new(config));
    drop(sender);
    let shared = Shared::new(receiver, watch::Sender::default().subscribe(), watch::Sender::default().subscribe());
    shared.set_caught_up();
    let (edge, ended) = Edge::start(&shared).unwrap();
    let viewers: Vec<_> = (0..60).map(|_| TcpStream::connect(edge.mqtt.unwrap()).unwrap()).collect();
    for mut viewer in &viewers {
        viewer.write_all(CONNECT).unwrap();
        let mut head = [0; 2];
        viewer.read_exact(&mut head).unwrap();
        viewer.read_exact(&mut vec![0; head[1].into()]).unwrap();
    }
    assert_eq!(*shared.registry.viewers().borrow(), 60);
    (edge, ended, shared, viewers)
}

fn was_told(viewer: TcpStream) {
    assert!(rest(viewer).ends_with(b"\xE0\x02\x9C\x00"), "it was told to go elsewhere");
}

#[tokio::test]
async fn a_drain_leaves_nobody_behind_that_does_not_answer_its_goodbye() {
    let config = Config { drain_ms: 4_000, drain_viewers_per_s: 1, ..config() };
    let (edge, _ended, shared, viewers) = edge(config.clone());
    let left = shared.drain.send_away(&shared.registry, &config, || edge.drain()).await;
    assert_eq!(left, 0);
    viewers.into_iter().for_each(was_told);
}

#[tokio::test]
async fn viewers_are_told_goodbye_also_where_there_is_no_time_for_a_drain() {
    let (edge, mut ended, shared, viewers) = edge(config());
    edge.stop();
    assert_eq!(ended.recv().await, None);
    assert_eq!(*shared.registry.viewers().borrow(), 0);
    viewers.into_iter().for_each(was_told);
}

#[tokio::test]
async fn shards_end_with_their_edge() {
    let (edge, mut ended, shared, viewers) = edge(config());
    let address = edge.mqtt.unwrap();
    drop(edge);
    let end = tokio::time::timeout(PATIENCE, ended.recv());
    assert_eq!(end.await.expect("its shards run on"), None);
    assert!(TcpStream::connect(address).is_err(), "nobody accepts any more");
    assert_eq!(*shared.registry.viewers().borrow(), 0);
    viewers.into_iter().for_each(was_told);
}
