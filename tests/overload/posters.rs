//! Posts that are sent when they are due, over connections that are opened once, so that memory for connections doesn't change.

use crate::harness::wait::PATIENCE;
use futures_util::future::join_all;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Its head, in lower case.
    pub head: String,
}

impl Answer {
    pub fn has(&self, header: &str) -> bool {
        self.head.lines().any(|line| line.split(':').next() == Some(header))
    }
}

/// A kept connection.
pub struct Connection {
    pub stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Sends bytes. `false` where the server has closed the connection.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// The next answer, with its body; `None` where the connection ends before.
    pub async fn answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(answer) = self.take_answer() {
                return Some(answer);
            }
            match timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await.expect("an answer in time") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    fn take_answer(&mut self) -> Option<Answer> {
        let body = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&self.read[..body]).to_lowercase();
        let length: usize =
            head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().unwrap();
        if self.read.len() < body + length {
            return None;
        }
        self.read.drain(..body + length);
        let status = head.split(' ').nth(1)?.parse().unwrap();
        Some(Answer { status, head })
    }
}

/// A post of one reaction.
pub fn post(address: &str, room: &str) -> String {
    let body = r#"{"reaction":"🔥"}"#;
    let length = body.len();
    format!(
        "POST /v1/rooms/{room}/reactions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

/// What became of a post.
#[derive(Debug, Clone)]
pub struct Post {
    pub due: Instant,
    pub sent: Instant,
    pub at: Instant,
    pub answer: Answer,
}

impl Post {
    pub fn took(&self) -> Duration {
        self.at - self.sent
    }
}

/// Connections that post into a room, one post on a connection at a time.
pub struct Posters {
    connections: Vec<Connection>,
    request: String,
}

impl Posters {
    pub async fn open(address: &str, room: &str, connections: usize) -> Self {
        let connections = join_all((0..connections).map(|_| Connection::open(address))).await;
        Self { connections, request: post(address, room) }
    }

    /// Posts at a rate. Returns when all is answered.
    pub async fn post(&mut self, per_second: u64, length: Duration) -> Vec<Post> {
        let count = per_second * length.as_millis() as u64 / 1_000;
        let (next, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let mut tasks = JoinSet::new();
        for mut connection in self.connections.drain(..) {
            let (next, request) = (Arc::clone(&next), self.request.clone());
            tasks.spawn(async move {
                let mut posts = Vec::new();
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    if turn >= count {
                        return (connection, posts);
                    }
                    let due = start + Duration::from_secs(1) * turn as u32 / per_second as u32;
                    sleep_until(due).await;
                    let sent = Instant::now();
                    assert!(connection.send(&request).await, "a connection broke");
                    let answer = connection.answer().await.expect("an answer");
                    posts.push(Post { due, sent, at: Instant::now(), answer });
                }
            });
        }
        let mut all = Vec::new();
        for (connection, posts) in tasks.join_all().await {
            self.connections.push(connection);
            all.extend(posts);
        }
        all.sort_by_key(|post| post.due);
        all
    }
}

/// How long a share of the posts took at most; zero where there are none.
pub fn quantile(times: impl IntoIterator<Item = Duration>, share: f64) -> Duration {
    let mut times: Vec<_> = times.into_iter().collect();
    times.sort_unstable();
    let index = (times.len() as f64 * share) as usize;
    times.get(index.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}
