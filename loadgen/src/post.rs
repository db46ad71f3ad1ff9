//! The posting side: connections that send the requests of a schedule, each when it is due.

use crate::{
    http::{Connection, Failure},
    payload::Payload,
    random,
    schedule::{Ticket, Tickets},
    shared::Shared,
    tally::{Outcome, Tally, Took},
    target::HttpTarget,
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Uri,
    header::{CONTENT_TYPE, HOST, HeaderValue},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use wire::RoomName;

/// Longest wait before a connection is tried again.
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// What all connections share.
#[derive(Clone)]
pub(crate) struct Poster {
    pub(crate) target: HttpTarget,
    pub(crate) payloads: Arc<[Payload]>,
    pub(crate) tickets: Shared<Tickets>,
    pub(crate) tally: Shared<Tally>,
    /// When request 0 is due.
    pub(crate) start: Instant,
    /// Requests that are due earlier than this after the start are not timed.
    pub(crate) warm_up: Duration,
    /// How long to wait for an answer.
    pub(crate) patience: Duration,
    /// Ends the schedule; requests under way are finished.
    pub(crate) stop: CancellationToken,
    request: Template,
}

/// The parts that all requests have in common.
#[derive(Clone)]
struct Template {
    uri: Uri,
    host: HeaderValue,
}

impl Poster {
    pub(crate) fn new(
        target: HttpTarget,
        room: &RoomName,
        payloads: Arc<[Payload]>,
        tickets: Tickets,
    ) -> anyhow::Result<Self> {
        let request = Template {
            uri: target.path(&format!("/v1/rooms/{room}/reactions")).parse()?,
            host: target.address.parse()?,
        };
        Ok(Self {
            tally: Shared::new(Tally::new(Arc::clone(&payloads))),
            tickets: Shared::new(tickets),
            target,
            payloads,
            start: Instant::now(),
            warm_up: Duration::ZERO,
            patience: Duration::from_secs(10),
            stop: CancellationToken::new(),
            request,
        })
    }

    /// Starts `connections` tasks that end with the schedule.
    pub(crate) fn spawn(&self, connections: usize) -> JoinSet<()> {
        (0..connections).map(|_| self.clone().run()).collect()
    }

    async fn run(self) {
        let mut connection = None;
        while let Some(ticket) = self.tickets.with(|tickets| tickets.take(self.start.elapsed())) {
            let due = self.start + ticket.due;
            tokio::select! {
                biased;
                () = sleep_until(due) => {}
                // Not due any more: the schedule ends here.
                () = self.stop.cancelled() => return,
            }
            self.post(&mut connection, ticket).await;
        }
    }

    /// Sends one request, over a new connection where the old one is gone.
    async fn post(&self, connection: &mut Option<Connection>, ticket: Ticket) {
        let index = usize::try_from(ticket.n).unwrap_or(0) % self.payloads.len();
        let mut attempt = 0;
        while !self.is_hopeless(ticket) {
            let Some(open) = connection else {
                *connection = self.connect(attempt).await;
                attempt += 1;
                continue;
            };
            let sent = Instant::now();
            let answer = timeout(self.patience, open.send(self.request(index))).await;
            let took = (ticket.due >= self.warm_up).then(|| Took {
                from_schedule: self.start.elapsed() - ticket.due,
                from_send: sent.elapsed(),
            });
            let outcome = match &answer {
                Ok(Ok((status, body))) => Outcome::Answer(status.as_u16(), body),
                Ok(Err(Failure::Broken(why))) => Outcome::Broken(why),
                Err(_) => Outcome::Timeout,
                Ok(Err(Failure::Unsent)) => {
                    *connection = None;
                    continue;
                }
            };
            self.tally.with(|tally| tally.record(index, &outcome, took));
            if !matches!(outcome, Outcome::Answer(..)) {
                *connection = None;
            }
            return;
        }
        self.tickets.with(Tickets::give_up);
    }

    fn is_hopeless(&self, ticket: Ticket) -> bool {
        self.stop.is_cancelled() || self.tickets.with(|t| t.is_too_late(ticket, self.start.elapsed()))
    }

    /// A new connection, or none after a wait.
    async fn connect(&self, attempt: u32) -> Option<Connection> {
        match Connection::open(&self.target, self.patience).await {
            Ok(open) => Some(open),
            Err(error) => {
                self.tally.with(|tally| tally.connect_error(&format!("{error:#}")));
                let pause = random::backoff(attempt, BACKOFF_MAX);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.stop.cancelled() => {}
                }
                None
            }
        }
    }

    fn request(&self, index: usize) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.payloads[index].body.clone()));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = self.request.uri.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.request.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request
    }
}
