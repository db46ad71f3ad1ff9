//! A tiny server that speaks the public interfaces, and can be told to misbehave.

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rumqttc::mqttbytes::v4::{ConnAck, ConnectReturnCode, Packet, Publish, SubAck, SubscribeReasonCode};
use serde_json::Value;
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};
use wire::{Counts, Frame, HelloEncoder, Window};

pub(crate) const ROOM: &str = "test";
const WINDOW: Duration = Duration::from_millis(50);

/// How the server misbehaves. "Every n" means each nth POST; 0 means never.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Knobs {
    /// Answered 202 and not counted.
    pub(crate) lose_every: u64,
    /// Answered 202 and counted twice.
    pub(crate) double_every: u64,
    /// Answered 202 and counted as another reaction.
    pub(crate) swap_every: u64,
    /// Answered 202 with a figure that is too high.
    pub(crate) lie_every: u64,
    /// Answered 503.
    pub(crate) refuse_every: u64,
    /// Answered 504; every other one was counted.
    pub(crate) doubt_every: u64,
    /// Counted, and the connection is closed without an answer.
    pub(crate) cut_every: u64,
    /// Never answered.
    pub(crate) stall_every: u64,
    /// Answered after this time.
    pub(crate) delay: Duration,
    /// WebSocket viewers get no frame with a total above this.
    pub(crate) freeze_ws_above: Option<u64>,
    /// Each nth frame with reactions says that there is nothing yet. 0 means never.
    pub(crate) go_back_every: u64,
    /// MQTT subscriptions are refused.
    pub(crate) refuse_subscriptions: bool,
}

#[derive(Default)]
struct State {
    knobs: Knobs,
    posts: u64,
    connections: u64,
    open: Counts,
    newest: Option<Frame>,
}

pub(crate) struct Fake {
    pub(crate) http: SocketAddr,
    pub(crate) mqtt: SocketAddr,
    state: Arc<Mutex<State>>,
    frames: watch::Sender<Option<Arc<Frame>>>,
    tasks: JoinSet<()>,
}

impl Fake {
    pub(crate) async fn start(knobs: Knobs) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (http, mqtt) = (TcpListener::bind(any).await.unwrap(), TcpListener::bind(any).await.unwrap());
        let mut fake = Self {
            http: http.local_addr().unwrap(),
            mqtt: mqtt.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State { knobs, ..State::default() })),
            frames: watch::Sender::new(None),
            tasks: JoinSet::new(),
        };
        fake.serve(http, mqtt);
        fake
    }

    fn serve(&mut self, http: TcpListener, mqtt: TcpListener) {
        self.tasks.spawn(roll_up(Arc::clone(&self.state), self.frames.clone()));
        let (state, frames) = (Arc::clone(&self.state), self.frames.subscribe());
        self.tasks.spawn(accept(http, move |stream| serve_http(stream, Arc::clone(&state), frames.clone())));
        let (state, frames) = (Arc::clone(&self.state), self.frames.subscribe());
        self.tasks.spawn(accept(mqtt, move |stream| serve_mqtt(stream, Arc::clone(&state), frames.clone())));
    }

    /// As kill -9 does: every connection is gone, and nobody listens.
    pub(crate) async fn die(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Dies, and is back after `away`. What was counted is kept.
    pub(crate) async fn restart(&mut self, away: Duration) {
        self.die().await;
        tokio::time::sleep(away).await;
        let listeners =
            (TcpListener::bind(self.http).await.unwrap(), TcpListener::bind(self.mqtt).await.unwrap());
        self.serve(listeners.0, listeners.1);
    }

    /// POSTs that arrived.
    pub(crate) fn posts(&self) -> u64 {
        lock(&self.state).posts
    }

    /// HTTP connections that were accepted.
    pub(crate) fn connections(&self) -> u64 {
        lock(&self.state).connections
    }

    /// Counts `count` of `reaction`, as if somebody else had sent it.
    pub(crate) fn react(&self, reaction: &str, count: u64) {
        *lock(&self.state).open.entry(reaction.parse().unwrap()).or_default() += count;
    }

    /// Waits until the room has come to rest with this total.
    pub(crate) async fn wait_for_total(&self, total: u64) {
        let rested =
            |frame: &Option<Arc<Frame>>| frame.as_ref().is_some_and(|f| f.total == total && f.count == 0);
        self.frames.subscribe().wait_for(rested).await.unwrap();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap()
}

async fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    // Dropped with this task: that closes all connections.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        connections.spawn(serve(stream));
    }
}

fn now_ms() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64
}

/// The aggregator: a frame for each window with reactions, and one with zero after them.
async fn roll_up(state: Arc<Mutex<State>>, frames: watch::Sender<Option<Arc<Frame>>>) {
    let mut windows = tokio::time::interval(WINDOW);
    let go_back_every = lock(&state).knobs.go_back_every;
    loop {
        windows.tick().await;
        let frame = {
            let mut state = lock(&state);
            let counts = std::mem::take(&mut state.open);
            if counts.is_empty() && state.newest.as_ref().is_none_or(|frame| frame.count == 0) {
                continue;
            }
            let mut frame = next(state.newest.as_ref(), counts);
            state.newest = Some(frame.clone());
            // Viewers may skip a frame: a single wrong one would not be seen for sure.
            if frame.count > 0 && frame.seq.is_multiple_of(go_back_every) {
                frame.total = 0;
            }
            frame
        };
        frames.send_replace(Some(Arc::new(frame)));
    }
}

fn next(last: Option<&Frame>, counts: Counts) -> Frame {
    let end = now_ms();
    let count = counts.values().sum();
    let mut totals = last.map(|frame| frame.totals.clone()).unwrap_or_default();
    for (reaction, n) in &counts {
        *totals.entry(reaction.clone()).or_default() += n;
    }
    let start = end - WINDOW.as_millis() as u64;
    Frame {
        v: wire::FORMAT_VERSION,
        room: ROOM.parse().unwrap(),
        seq: last.map_or(1, |frame| frame.seq + 1),
        since: last.map_or(start, |frame| frame.since),
        window: Window { start, end },
        count,
        counts,
        others: 0,
        slots: vec![count],
        total: totals.values().sum(),
        totals,
        others_total: 0,
        viewers: None,
        state: Default::default(),
    }
}

async fn serve_http(
    stream: TcpStream,
    state: Arc<Mutex<State>>,
    frames: watch::Receiver<Option<Arc<Frame>>>,
) {
    lock(&state).connections += 1;
    // The upgraded connection lives here, so that it ends with this task.
    let live = Arc::new(Mutex::new(JoinSet::new()));
    let service = service_fn(|mut request: Request<Incoming>| {
        let (state, frames, live) = (Arc::clone(&state), frames.clone(), Arc::clone(&live));
        async move {
            match (request.method(), request.uri().path()) {
                (&Method::POST, "/v1/rooms/test/reactions") => count(request, &state).await,
                (&Method::GET, "/v1/rooms/test") => Ok(snapshot(&state)),
                (&Method::GET, "/v1/rooms/test/live") => {
                    let key = request.headers()[header::SEC_WEBSOCKET_KEY].as_bytes();
                    let answer = Response::builder()
                        .status(101)
                        .header(header::CONNECTION, "upgrade")
                        .header(header::UPGRADE, "websocket")
                        .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key));
                    let upgrade = hyper::upgrade::on(&mut request);
                    let above = lock(&state).knobs.freeze_ws_above.unwrap_or(u64::MAX);
                    live.lock().unwrap().spawn(async move {
                        if let Ok(upgraded) = upgrade.await {
                            show_ws(TokioIo::new(upgraded), frames, above).await;
                        }
                    });
                    Ok(answer.body(Full::default()).unwrap())
                }
                _ => Ok(answer(400, "{\"title\":\"no such thing\"}")),
            }
        }
    });
    // An error is what a cut connection ends with.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    let mut live = std::mem::take(&mut *live.lock().unwrap());
    while live.join_next().await.is_some() {}
}

fn answer(status: u16, body: &str) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::from(body.to_owned())).unwrap()
}

fn snapshot(state: &Mutex<State>) -> Response<Full<Bytes>> {
    match &lock(state).newest {
        Some(frame) => Response::new(Full::from(frame.encode())),
        None => answer(404, "{\"title\":\"no such room\"}"),
    }
}

/// Takes a POST as the knobs say. An error closes the connection.
async fn count(
    request: Request<Incoming>,
    state: &Mutex<State>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    assert_eq!(request.headers()[header::CONTENT_TYPE], "application/json");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut counts = counts(&serde_json::from_slice(&body).unwrap());
    let sum: u64 = counts.values().sum();
    let (knobs, n) = {
        let mut state = lock(state);
        state.posts += 1;
        (state.knobs, state.posts)
    };
    let every = |each: u64| n.is_multiple_of(each);
    if every(knobs.refuse_every) {
        return Ok(answer(503, "{\"title\":\"try later\"}"));
    }
    if every(knobs.stall_every) {
        std::future::pending::<Infallible>().await;
    }
    if every(knobs.swap_every) {
        counts = [("💩".parse().unwrap(), sum)].into();
    }
    let doubtful = every(knobs.doubt_every);
    let lost = every(knobs.lose_every) || (doubtful && (n / knobs.doubt_every) % 2 == 0);
    let times = if every(knobs.double_every) { 2 } else { u64::from(!lost) };
    for (reaction, n) in counts.into_iter().filter(|_| times > 0) {
        *lock(state).open.entry(reaction).or_default() += n * times;
    }
    tokio::time::sleep(knobs.delay).await;
    if every(knobs.cut_every) {
        return Err(std::io::Error::other("cut"));
    }
    if doubtful {
        return Ok(answer(504, "{\"title\":\"who knows\"}"));
    }
    let said = sum + u64::from(every(knobs.lie_every));
    Ok(answer(202, &format!("{{\"accepted\":{said}}}")))
}

fn counts(body: &Value) -> Counts {
    let of = |reaction: &str, n: &Value| (reaction.parse().unwrap(), n.as_u64().unwrap());
    match body["reaction"].as_str() {
        Some(reaction) => [of(reaction, body.get("count").unwrap_or(&Value::from(1)))].into(),
        None => body["reactions"].as_object().unwrap().iter().map(|(reaction, n)| of(reaction, n)).collect(),
    }
}

async fn show_ws(
    io: TokioIo<hyper::upgrade::Upgraded>,
    mut frames: watch::Receiver<Option<Arc<Frame>>>,
    above: u64,
) {
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
    let hello = HelloEncoder::new(10, 1_000, &[]).encode(&[ROOM.parse().unwrap()]);
    let hello = String::from_utf8(hello).unwrap();
    if socket.send(Message::text(hello)).await.is_err() {
        return;
    }
    frames.mark_changed();
    loop {
        tokio::select! {
            changed = frames.changed() => {
                let frame = frames.borrow_and_update().clone().filter(|frame| frame.total <= above);
                let text = frame.map(|frame| String::from_utf8(frame.encode()).unwrap());
                if changed.is_err() || (text.is_some() && socket.send(Message::text(text.unwrap())).await.is_err()) {
                    return;
                }
            }
            heard = socket.next() => if !matches!(heard, Some(Ok(_))) { return },
        }
    }
}

async fn serve_mqtt(
    mut stream: TcpStream,
    state: Arc<Mutex<State>>,
    mut frames: watch::Receiver<Option<Arc<Frame>>>,
) {
    let refused = lock(&state).knobs.refuse_subscriptions;
    let (mut heard, mut subscribed) = (BytesMut::new(), false);
    loop {
        let mut said = BytesMut::new();
        tokio::select! {
            read = stream.read_buf(&mut heard) => {
                if !matches!(read, Ok(1..)) {
                    return;
                }
                while let Ok(packet) = Packet::read(&mut heard, 1 << 16) {
                    match packet {
                        Packet::Connect(_) => drop(ConnAck::new(ConnectReturnCode::Success, false).write(&mut said)),
                        Packet::Subscribe(subscribe) => {
                            assert_eq!(subscribe.filters[0].path, "reactions/test");
                            let granted = SubscribeReasonCode::Success(rumqttc::QoS::AtMostOnce);
                            let code = if refused { SubscribeReasonCode::Failure } else { granted };
                            SubAck::new(subscribe.pkid, vec![code]).write(&mut said).unwrap();
                            subscribed = !refused;
                            frames.mark_changed();
                        }
                        Packet::PingReq => drop(rumqttc::mqttbytes::v4::PingResp.write(&mut said)),
                        _ => return,
                    }
                }
            }
            _ = frames.changed(), if subscribed => {
                if let Some(frame) = frames.borrow_and_update().clone() {
                    let publish = Publish::new("reactions/test", rumqttc::QoS::AtMostOnce, frame.encode());
                    publish.write(&mut said).unwrap();
                }
            }
        }
        if stream.write_all(&said).await.is_err() {
            return;
        }
    }
}
