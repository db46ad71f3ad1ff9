//! The tier as a whole: its routes over an event log in memory.

mod commit;
mod contract;
mod desk;
mod idempotency;
mod limits;
mod orders;
mod outage;
mod shutdown;
mod ways;

use crate::{Config, Deps, Error, Front, Ingest, config::tests::config, shared::Shared};
use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{HeaderMap, Method, Request, StatusCode},
};
use eventlog::{EventLog, MemoryLog};
use http_body_util::BodyExt;
use metrics::LocalRecorderGuard;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use service::{CancellationToken, Readiness};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinSet, time::sleep};
use wire::Batch;

/// A tier that runs.
struct Rig {
    log: Arc<MemoryLog>,
    front: Front,
    shared: Arc<Shared>,
    readiness: Readiness,
    config: watch::Sender<Arc<Config>>,
    shutdown: CancellationToken,
    run: JoinSet<Result<(), Error>>,
}

/// An answer, read to its end.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Whether it says to come again after so many seconds.
    fn retries_within(&self, seconds: std::ops::RangeInclusive<u32>) -> bool {
        self.header("retry-after").is_some_and(|after| seconds.contains(&after.parse().unwrap()))
    }
}

impl Rig {
    /// A tier whose log is still to be opened.
    fn start(log: Arc<MemoryLog>, config: Config) -> Self {
        Self::start_with(log, config, control::Orders::none())
    }

    /// The same, with what operators ordered.
    fn start_with(log: Arc<MemoryLog>, config: Config, orders: Arc<control::Orders>) -> Self {
        let (config, changes) = watch::channel(Arc::new(config));
        let readiness = Readiness::default();
        let deps = Deps { log: Arc::<MemoryLog>::clone(&log), readiness: readiness.clone(), orders };
        let ingest = Ingest::new(changes, deps);
        let (front, shared) = (ingest.front(), Arc::clone(&ingest.shared));
        let (shutdown, mut run) = (CancellationToken::new(), JoinSet::new());
        run.spawn(ingest.run(shutdown.clone()));
        Self { log, front, shared, readiness, config, shutdown, run }
    }

    /// A tier that takes reactions.
    async fn open(config: Config) -> Self {
        let rig = Self::start(MemoryLog::new(4), config);
        until(|| rig.readiness.missing().is_empty()).await;
        rig
    }

    /// Serves it on a socket, for as long as the set lives.
    async fn serve(&self) -> (SocketAddr, JoinSet<io::Result<()>>) {
        let listener = service::http::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        let (front, limits) = (self.front.clone(), service::http::Config::private());
        server.spawn(service::http::serve(listener, front, limits, self.shutdown.clone()));
        (address, server)
    }

    async fn reload(&self, config: Config) {
        let config = Arc::new(config);
        self.config.send_replace(Arc::clone(&config));
        until(|| Arc::ptr_eq(&self.shared.live().config, &config)).await;
    }

    async fn stop(mut self) -> Result<(), Error> {
        self.shutdown.cancel();
        self.run.join_next().await.unwrap().unwrap()
    }

    /// All that the log counts for a room.
    fn total(&self, room: &str) -> u64 {
        let records = self.log.reactions(self.log.partition_of(&room.parse().unwrap()));
        let batches = records.iter().flat_map(|record| Batch::decode_all(&record.value)).map(Result::unwrap);
        batches.filter(|batch| *batch.room == *room).map(|batch| batch.count).sum()
    }

    async fn post(&self, room: &str, body: &str) -> Answer {
        post(self.front.clone(), room.to_owned(), body.to_owned()).await
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        ask(self.front.clone(), request).await
    }

    /// `n` requests of one 🔥, side by side: how they were answered.
    fn crowd(&self, room: &str, n: usize) -> JoinSet<Answer> {
        let mut crowd = JoinSet::new();
        for _ in 0..n {
            crowd.spawn(post(self.front.clone(), room.to_owned(), FIRE.to_owned()));
        }
        crowd
    }

    fn inside(&self) -> usize {
        self.shared.gate.inside()
    }
}

const FIRE: &str = r#"{"reaction":"🔥"}"#;

fn request(method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    headers
        .iter()
        .fold(request, |request, (name, value)| request.header(*name, *value))
        .body(body.into())
        .unwrap()
}

async fn ask(front: Front, request: Request<Body>) -> Answer {
    let peer = request.extensions().get().map_or(([127, 0, 0, 1], 9).into(), |ConnectInfo(peer)| *peer);
    let response = front.answer(request, peer).await;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Answer { status, headers, body: String::from_utf8(body.to_vec()).unwrap() }
}

async fn post(front: Front, room: String, body: String) -> Answer {
    let path = format!("/v1/rooms/{room}/reactions");
    ask(front, request(Method::POST, &path, &[("content-type", "application/json")], body)).await
}

async fn statuses(crowd: JoinSet<Answer>) -> Vec<u16> {
    crowd.join_all().await.iter().map(|answer| answer.status.as_u16()).collect()
}

/// What this thread counts from now on, for as long as the guard is there. The recorder is the thread's own, and tests that ask for
/// it have one thread each.
fn recorded() -> (PrometheusHandle, LocalRecorderGuard<'static>) {
    let recorder: &PrometheusRecorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
    let guard = metrics::set_default_local_recorder(recorder);
    crate::metrics::describe();
    (recorder.handle(), guard)
}

/// Waits for a condition.
async fn until(condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.expect("the condition came about");
}
