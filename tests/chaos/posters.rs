//! The load: clients that post one reaction after the other, over connections that they keep.

use super::{Chaos, accounts::Accounts};
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, task::JoinSet};

const POSTERS: u64 = 6;
const REACTIONS: [&str; 3] = ["🔥", "👏", "gg"];
/// Before a client that found nobody, or was refused, tries again.
const BACKOFF: Duration = Duration::from_millis(20);

/// Posters at work.
pub struct Posters {
    pub accounts: Arc<Accounts>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

struct Poster {
    address: String,
    rooms: Vec<String>,
    accounts: Arc<Accounts>,
    stop: Arc<AtomicBool>,
    chaos: Chaos,
}

impl Posters {
    pub fn start(address: &str, rooms: &[String], chaos: &mut Chaos) -> Self {
        let (accounts, stop) = (Arc::<Accounts>::default(), Arc::<AtomicBool>::default());
        let mut tasks = JoinSet::new();
        for _ in 0..POSTERS {
            let poster = Poster {
                address: address.to_owned(),
                rooms: rooms.to_vec(),
                accounts: Arc::clone(&accounts),
                stop: Arc::clone(&stop),
                chaos: Chaos { state: chaos.next() },
            };
            tasks.spawn(poster.run());
        }
        Self { accounts, stop, tasks }
    }

    /// Returns once every post is answered, or will never be.
    pub async fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

impl Poster {
    async fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            if let Ok(stream) = TcpStream::connect(&self.address).await
                && let Ok((sender, connection)) = http1::handshake(TokioIo::new(stream)).await
            {
                // The connection ends with its sender, and the posts end with the connection.
                let _ = tokio::join!(self.posts(sender), connection);
            }
            tokio::time::sleep(BACKOFF).await;
        }
    }

    async fn posts(&mut self, mut sender: http1::SendRequest<Full<Bytes>>) {
        while !self.stop.load(Ordering::Relaxed) && sender.ready().await.is_ok() {
            let room = self.rooms[self.chaos.below(self.rooms.len() as u64) as usize].clone();
            let reaction = REACTIONS[self.chaos.below(3) as usize];
            let count = 1 + self.chaos.below(5);
            self.accounts.send(&room, reaction, count);
            let started = Instant::now();
            let status = self.post(&mut sender, &room, reaction, count).await;
            self.accounts.answer(&room, reaction, count, status, started.elapsed());
            match status {
                Some(503) => tokio::time::sleep(BACKOFF).await,
                Some(_) => {}
                None => return,
            }
        }
    }

    async fn post(
        &self,
        sender: &mut http1::SendRequest<Full<Bytes>>,
        room: &str,
        reaction: &str,
        count: u64,
    ) -> Option<u16> {
        let body = format!(r#"{{"reaction":"{reaction}","count":{count}}}"#);
        let request = Request::post(format!("/v1/rooms/{room}/reactions"))
            .header("host", &self.address)
            .header("content-type", "application/json")
            .body(Full::from(body))
            .unwrap();
        let response = sender.send_request(request).await.ok()?;
        let status = response.status().as_u16();
        // A 202 without its body is an answer, but then the connection is of no use any more.
        let _ = response.into_body().collect().await;
        Some(status)
    }
}
