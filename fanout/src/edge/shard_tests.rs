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
    frames::{Encoded, Form},
    metrics::Protocol,
    registry::{Limits, Published},
    tests::{
        counted::value,
        harness::{PATIENCE, aggregate, config, recorded},
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

/// What a viewer sends to have the reader panic, in tests only.
const PANIC: &[u8] = b"\x01a planted panic\x02";
/// CONNECT of MQTT 5 with a keep alive of a minute.
const CONNECT: &[u8] = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00";

pub(super) fn panic_if_planted(input: &[u8]) {
    assert!(!input.starts_with(PANIC), "planted");
}

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
    config: watch::Sender<Arc<Config>>,
    events: Events,
}

impl Rig {
    fn new(config: Config) -> Self {
        Self::with_events(config, 1_024)
    }

    fn with_events(config: Config, capacity: usize) -> Self {
        let (config, receiver) = watch::channel(Arc::new(config));
        let shared = Shared::new(
            receiver,
            watch::Sender::default().subscribe(),
            watch::Sender::default().subscribe(),
            Arc::default(),
        );
        shared.set_caught_up();
        let (shard, mailbox) = Shard::new(Arc::clone(&shared), None).unwrap();
        Self { shard, mailbox, shared, config, events: Events::with_capacity(capacity) }
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
            Protocol::Sse => Greeting::Events { room: watch(), start: b":\n\n".to_vec(), seen: None },
            Protocol::Mqtt | Protocol::MqttWebSocket => Greeting::Mqtt,
        };
        assert!(self.mailbox.admit(Newcomer { stream, seat, greeting, input: Bytes::new() }).is_none());
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

    /// Turns the loop until this many bytes came, and takes them.
    fn until_came(&mut self, theirs: &mut TcpStream, bytes: usize) {
        theirs.set_nonblocking(true).unwrap();
        let mut came = vec![0; bytes];
        self.until(|_| theirs.peek(&mut vec![0; bytes]).is_ok_and(|len| len == bytes));
        theirs.read_exact(&mut came).unwrap();
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

const WAYS: [Way; 13] = [
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
    ("half a packet", Protocol::Mqtt, |rig, theirs| {
        theirs.write_all(&[CONNECT, &[0x82, 100]].concat()).unwrap();
        rig.until(|rig| rig.any(Viewer::has_unfinished));
        rig.pass_until_leaving(70_000);
    }),
    ("keep alive", Protocol::Mqtt, |rig, theirs| {
        theirs.write_all(CONNECT).unwrap();
        rig.pass_until_leaving(100_000);
    }),
    ("no pong", Protocol::WebSocket, |rig, _| rig.pass_until_leaving(130_000)),
    ("a flood", Protocol::WebSocket, |_, theirs| theirs.write_all(&frame(0x8A, b"").repeat(3_000)).unwrap()),
    ("a panic", Protocol::Mqtt, |_, theirs| theirs.write_all(PANIC).unwrap()),
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

#[test]
fn a_panic_while_bytes_are_read_ends_their_sender_and_nobody_else() {
    let (handle, _recording) = recorded();
    let mut rig = Rig::new(config());
    let witness = rig.viewer(Protocol::WebSocket);
    let mut panics = rig.viewer(Protocol::WebSocket);
    panics.write_all(PANIC).unwrap();
    rig.until(|rig| rig.any(Viewer::is_leaving));
    rig.pass(1_500);
    let came = rest(panics);
    assert!(came.ends_with(b"\x03\xF3a fault of this node"), "{came:02x?}");
    assert_eq!(value(&handle, "uproar_fanout_closes_total{cause=\"fault\"}"), 1.0);
    let frame = rig.show(1);
    rig.turns_in(Duration::from_millis(50));
    drop(rig);
    assert!(rest(witness).ends_with(frame.form(Form::Text)), "the shard goes on");
}

#[test]
fn a_pong_is_waited_for_from_its_ping_on() {
    let mut rig = Rig::new(Config { ping_interval_ms: 60_000, pong_timeout_ms: 5_000, ..config() });
    let mut theirs = rig.viewer(Protocol::WebSocket);
    rig.pass(9_000);
    rig.config.send_modify(|config| Arc::make_mut(config).ping_interval_ms = 2_000);
    rig.pass(1_000);
    rig.until(|rig| rig.any(|viewer| viewer.is_pinged));
    rig.pass(3_500);
    assert!(rig.any(|viewer| viewer.is_pinged && !viewer.is_leaving()), "it has 5 s to answer");
    theirs.write_all(&frame(0x8A, b"")).unwrap();
    rig.until(|rig| rig.any(|viewer| !viewer.is_pinged));
    rig.pass(2_000);
    rig.until(|rig| rig.any(|viewer| viewer.is_pinged));
    rig.pass(7_000);
    assert_eq!(rig.viewers(), 0, "the second ping was not answered");
}

#[test]
fn viewers_whose_pongs_lie_in_the_kernel_after_a_stop_are_kept() {
    let mut rig = Rig::with_events(Config { ping_interval_ms: 1_000, pong_timeout_ms: 2_000, ..config() }, 1);
    let mut viewers = [(); 3].map(|()| rig.viewer(Protocol::WebSocket));
    rig.pass(1_000);
    rig.until(|rig| !rig.any(|viewer| !viewer.is_pinged));
    for theirs in &mut viewers {
        theirs.write_all(&frame(0x8A, b"")).unwrap();
    }
    // The whole process stood still.
    rig.shard.started -= Duration::from_secs(6);
    for _ in 0..10 {
        rig.turn();
        assert!(!rig.any(Viewer::is_leaving), "it was told that nothing was heard");
    }
}

#[test]
fn a_packet_has_to_end_in_time_and_a_slow_one_that_does_is_answered() {
    let mut config = config();
    config.mqtt.connect_timeout_ms = 5_000;
    for protocol in [Protocol::Mqtt, Protocol::MqttWebSocket] {
        let wrap =
            |bytes: &[u8]| if protocol == Protocol::Mqtt { bytes.to_vec() } else { frame(0x82, bytes) };
        let mut rig = Rig::new(config.clone());
        let mut theirs = rig.viewer(protocol);
        // Keep alive 0: for ever, in 3.1.1.
        theirs.write_all(&wrap(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00")).unwrap();
        let (first, second) = (b"\x82\x10\x00\x01\x00\x0brea", b"ctions/a\x00");
        for _ in 0..3 {
            theirs.write_all(&wrap(first)).unwrap();
            rig.until(|rig| rig.any(Viewer::has_unfinished));
            rig.pass(4_000);
            theirs.write_all(&wrap(second)).unwrap();
            rig.until(|rig| !rig.any(Viewer::has_unfinished));
            rig.pass(4_000);
        }
        assert!(rig.any(|viewer| !viewer.is_leaving()), "it takes 4 of 5 s each time");
        for byte in first.iter().chain(second.iter().take(5)) {
            theirs.write_all(&wrap(&[*byte])).unwrap();
            rig.until(|rig| rig.any(|viewer| viewer.has_unfinished() || viewer.is_leaving()));
            rig.pass(500);
            if rig.any(Viewer::is_leaving) {
                break;
            }
        }
        assert!(rig.viewers() == 0 || rig.any(Viewer::is_leaving), "single bytes keep nobody");
    }
}

#[test]
fn what_a_viewer_sends_has_a_budget_that_polite_ones_never_see() {
    let (handle, _recording) = recorded();
    let mut rig = Rig::new(Config { max_rooms_per_viewer: 16, max_rooms_watched: 100, ..config() });
    let mut polite = rig.viewer(Protocol::MqttWebSocket);
    polite.write_all(&frame(0x82, b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x05\x00\x00")).unwrap();
    for n in 0..16 {
        let filter = format!("reactions/{}{n:02}", "x".repeat(62));
        let packet = raw::subscribe(crate::mqtt::Version::V311, &[(&filter, 0)]);
        polite.write_all(&frame(0x82, &packet)).unwrap();
    }
    // CONNACK and SUBACK, each in a message.
    rig.until_came(&mut polite, 2 + 4 + 16 * (2 + 5));
    let mut floods = [Protocol::WebSocket, Protocol::Sse, Protocol::MqttWebSocket].map(|protocol| {
        let what = if protocol == Protocol::Sse { b"\n".to_vec() } else { frame(0x8A, b"") };
        (rig.viewer(protocol), what)
    });
    for _ in 0..100 {
        polite.write_all(&frame(0x82, &raw::PINGREQ)).unwrap();
        rig.until_came(&mut polite, 2 + 2);
        rig.pass(500);
    }
    assert_eq!(rig.viewers(), 4, "nobody was ended");
    for (theirs, what) in &mut floods {
        // More may come than is read: the rest is refused.
        let _ = theirs.write_all(&what.repeat(17_000 / what.len()));
    }
    rig.until(|_| value(&handle, "uproar_fanout_closes_total{cause=\"flooding\"}") == 3.0);
    rig.pass(1_500);
    assert_eq!(rig.viewers(), 1);
    assert!(rig.any(|viewer| !viewer.is_leaving() && viewer.subscriptions.len() == 16));
}

#[test]
fn a_viewer_costs_a_known_number_of_bytes() {
    println!("a viewer takes {} bytes", size_of::<Viewer>());
    assert!(size_of::<Viewer>() <= 208, "{} bytes", size_of::<Viewer>());
}

/// An edge that viewers may come to, and how many of them are there.
fn edge(config: Config) -> (Arc<Edge>, super::Ended, Arc<Shared>, Vec<TcpStream>) {
    let (sender, receiver) = watch::channel(Arc::new(config));
    drop(sender);
    let shared = Shared::new(
        receiver,
        watch::Sender::default().subscribe(),
        watch::Sender::default().subscribe(),
        Arc::default(),
    );
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
