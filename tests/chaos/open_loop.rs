//! Load that does not wait for answers: a post is sent when it is due, however many are not answered yet.

use super::{Chaos, accounts::Accounts};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, task::JoinSet, time::interval};

const TICK: Duration = Duration::from_millis(10);
const REACTION: &str = "🔥";

/// What became of a post.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    pub sent: Instant,
    pub at: Instant,
    /// `None` where the connection broke.
    pub status: Option<u16>,
    pub retry_after: bool,
}

impl Answered {
    pub fn took(&self) -> Duration {
        self.at - self.sent
    }
}

/// The load.
pub struct OpenLoop {
    clients: Arc<Clients>,
    task: JoinSet<()>,
}

struct Clients {
    address: String,
    rooms: Vec<String>,
    accounts: Arc<Accounts>,
    stop: AtomicBool,
    answered: Mutex<Vec<Answered>>,
    /// Connections that nobody uses at this moment.
    idle: Mutex<Vec<Sender>>,
    /// Posts that found none.
    unsent: AtomicU64,
    connections: tokio::sync::Mutex<JoinSet<()>>,
}

type Sender = http1::SendRequest<Full<Bytes>>;

impl OpenLoop {
    /// Opens so many connections, each of which has one post behind it; then sends so many posts a second.
    pub async fn start(
        address: &str,
        rooms: &[String],
        accounts: &Arc<Accounts>,
        connections: usize,
        per_second: u64,
        chaos: &mut Chaos,
    ) -> Self {
        let clients = Arc::new(Clients {
            address: address.to_owned(),
            rooms: rooms.to_vec(),
            accounts: Arc::clone(accounts),
            stop: AtomicBool::new(false),
            answered: Mutex::default(),
            idle: Mutex::default(),
            unsent: AtomicU64::new(0),
            connections: tokio::sync::Mutex::default(),
        });
        let open = async |room: &String| {
            let mut sender = clients.connect().await.unwrap();
            clients.post(&mut sender, room).await;
            sender
        };
        let each = stream::iter(rooms.iter().cycle().take(connections)).map(open);
        let opened: Vec<Sender> = each.buffer_unordered(100).collect().await;
        clients.idle.lock().unwrap().extend(opened);
        let mut task = JoinSet::new();
        task.spawn(send(Arc::clone(&clients), per_second, Chaos { state: chaos.next() }));
        Self { clients, task }
    }

    /// All that was answered so far.
    pub fn answered(&self) -> Vec<Answered> {
        self.clients.answered.lock().unwrap().clone()
    }

    /// How many posts were not sent, because all connections waited.
    pub fn unsent(&self) -> u64 {
        self.clients.unsent.load(Ordering::Relaxed)
    }

    /// Returns once every post is answered.
    pub async fn stop(&mut self) {
        self.clients.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.task.join_next().await {
            ended.unwrap();
        }
    }
}

async fn send(clients: Arc<Clients>, per_second: u64, mut chaos: Chaos) {
    // A tick that was missed is made up for.
    let mut ticks = interval(TICK);
    let mut posts = JoinSet::new();
    let mut due = 0;
    while !clients.stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        due += per_second * TICK.as_millis() as u64;
        for _ in 0..due / 1_000 {
            let (clients, choice) = (Arc::clone(&clients), chaos.next());
            posts.spawn(async move { clients.post_somewhere(choice).await });
        }
        due %= 1_000;
        while let Some(ended) = posts.try_join_next() {
            ended.unwrap();
        }
    }
    posts.join_all().await;
}

impl Clients {
    async fn connect(&self) -> Option<Sender> {
        let stream = TcpStream::connect(&self.address).await.ok()?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        self.connections.lock().await.spawn(async { drop(connection.await) });
        Some(sender)
    }

    async fn post_somewhere(&self, choice: u64) {
        let room = &self.rooms[choice as usize % self.rooms.len()];
        let idle = std::iter::from_fn(|| self.idle.lock().unwrap().pop()).find(|sender| !sender.is_closed());
        let Some(mut sender) = idle else {
            self.unsent.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.post(&mut sender, room).await;
        if sender.ready().await.is_ok() {
            self.idle.lock().unwrap().push(sender);
        }
    }

    async fn post(&self, sender: &mut Sender, room: &str) {
        let request = Request::post(format!("/v1/rooms/{room}/reactions"))
            .header("host", &self.address)
            .header("content-type", "application/json")
            .body(Full::from(format!(r#"{{"reaction":"{REACTION}"}}"#)))
            .unwrap();
        self.accounts.send(room, REACTION, 1);
        let sent = Instant::now();
        let response = sender.send_request(request).await.ok();
        let at = Instant::now();
        let status = response.as_ref().map(|response| response.status().as_u16());
        let retry_after = response.as_ref().is_some_and(|it| it.headers().contains_key("retry-after"));
        self.accounts.answer(room, REACTION, 1, status, at - sent);
        self.answered.lock().unwrap().push(Answered { sent, at, status, retry_after });
        if let Some(response) = response {
            let _ = response.into_body().collect().await;
        }
    }
}
