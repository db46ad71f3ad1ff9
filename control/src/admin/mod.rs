//! The admin API: `/admin/v1/rooms`, where operators read and change orders. It belongs on a listener that the public can't
//! reach, and asks for a token all the same.
//!
//! A change names the version that it was made from, so that nothing is half applied and no change is lost: the log writes it only
//! if that version is still the newest.

mod access;
mod body;
mod refusal;
#[cfg(test)]
mod tests;

pub use access::Config;

use crate::{Orders, ROOMS_MAX, Room, metrics::CHANGES};
use access::Role;
use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use body::{Change, Shown};
use eventlog::{ControlPut, EventLog, Expected, PutError};
use metrics::counter;
use refusal::Refusal;
use service::Clock;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};
use wire::{
    RoomName, SkinTones,
    control::{RoomOrder, room_key},
};

/// Longest body of a request: 64 entries with their names and images.
const BODY_BYTES_MAX: usize = 128 * 1024;
/// How often a change that names no version is made again when another one came in between.
const ATTEMPTS: u32 = 3;
/// How long a request waits until this process has read a change that another one made.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// What the API needs of others.
pub struct Deps {
    /// The orders that are in force.
    pub orders: Arc<Orders>,
    /// The tokens.
    pub config: watch::Receiver<Arc<Config>>,
    /// Whether ingest folds skin tones.
    pub tones: Arc<dyn Fn() -> SkinTones + Send + Sync>,
    /// Stamps changes.
    pub clock: Arc<dyn Clock>,
}

/// The API. Its listener is open before the log is, and until then it says so.
pub struct Api {
    deps: Deps,
    log: OnceLock<Arc<dyn EventLog>>,
}

impl Api {
    /// An API whose log is away.
    pub fn new(deps: Deps) -> Arc<Self> {
        Arc::new(Self { deps, log: OnceLock::new() })
    }

    /// From now on changes are written to `log`.
    pub fn open(&self, log: Arc<dyn EventLog>) {
        // Each process opens its log once.
        let _ = self.log.set(log);
    }

    /// The routes.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/admin/v1/rooms", get(list).fallback(wrong_method))
            .route("/admin/v1/rooms/{room}", get(show).put(change).delete(forget).fallback(wrong_method))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Arc::clone(self))
    }

    fn role(&self, headers: &HeaderMap, least: Role) -> Result<Role, Refusal> {
        self.deps.config.borrow().role(headers, least)
    }

    fn room(&self, room: &RoomName) -> Result<Option<Arc<Room>>, Refusal> {
        if self.deps.orders.is_read() { Ok(self.deps.orders.room(room)) } else { Err(Refusal::NotRead) }
    }

    /// The room, once it has reached the version that the request names.
    async fn room_at(
        &self,
        room: &RoomName,
        if_match: Option<IfMatch>,
    ) -> Result<Option<Arc<Room>>, Refusal> {
        let found = match if_match {
            // Another process may have made it a moment ago.
            Some(IfMatch::Version(version)) => self.wait_for(room, version).await?,
            _ => self.room(room)?,
        };
        let fits = match if_match {
            None => true,
            Some(IfMatch::Any) => found.is_some(),
            Some(IfMatch::Version(version)) => found.as_ref().is_some_and(|room| room.version == version),
        };
        if fits { Ok(found) } else { Err(Refusal::Conflict(found.map(|room| room.version))) }
    }

    /// The room as it is when this process has read `version` of it, or in a while.
    async fn wait_for(&self, room: &RoomName, version: u64) -> Result<Option<Arc<Room>>, Refusal> {
        let mut changes = self.deps.orders.changes();
        let read = async {
            loop {
                changes.mark_unchanged();
                let found = self.room(room)?;
                if found.as_ref().is_some_and(|room| room.version >= version) {
                    return Ok(found);
                }
                // The sender lives in the orders.
                let _ = changes.changed().await;
            }
        };
        timeout(READ_WITHIN, read).await.unwrap_or_else(|_| self.room(room))
    }

    /// Writes what `change` makes of the room, and gives it as it is then. What seems to change nothing is written too, because
    /// another process may have changed it a moment ago.
    async fn write(
        &self,
        role: Role,
        name: &RoomName,
        if_match: Option<IfMatch>,
        change: &MakeOrder<'_>,
    ) -> Result<Option<Arc<Room>>, Refusal> {
        let log = self.log.get().ok_or(Refusal::NotRead)?;
        for attempt in 1.. {
            let before = self.room_at(name, if_match).await?;
            let order = change(before.as_ref().map(|room| &room.order))?;
            if before.is_none() && self.deps.orders.rooms().len() >= ROOMS_MAX {
                return Err(Refusal::TooManyRooms);
            }
            let expected = before.map_or(Expected::Absent, |room| Expected::Version(room.version));
            let value = order.as_ref().map(|order| order.encode().into());
            match log.put_control(ControlPut { key: room_key(name), value, expected }).await {
                Ok(version) => {
                    self.made(role, name, version, order.as_ref());
                    self.deps.orders.apply([(name.clone(), version, order)]);
                    return Ok(self.deps.orders.room(name));
                }
                Err(PutError::Conflict { current }) if if_match.is_none() && attempt < ATTEMPTS => {
                    self.catch_up(name, current).await?;
                }
                Err(PutError::Conflict { current }) => return Err(Refusal::Conflict(current)),
                Err(error) => return Err(Refusal::Log(error)),
            }
        }
        Err(Refusal::Conflict(None))
    }

    /// Waits until this process has read a change that came in between.
    async fn catch_up(&self, room: &RoomName, current: Option<u64>) -> Result<(), Refusal> {
        match current {
            Some(version) => drop(self.wait_for(room, version).await?),
            None => {
                let mut changes = self.deps.orders.changes();
                let forgotten = async {
                    while self.deps.orders.is_declared(room) {
                        let _ = changes.changed().await;
                    }
                };
                // Later it is a conflict again.
                let _ = timeout(READ_WITHIN, forgotten).await;
            }
        }
        Ok(())
    }

    /// One line of the log for each change.
    fn made(&self, role: Role, room: &RoomName, version: u64, order: Option<&RoomOrder>) {
        counter!(CHANGES, "role" => role.name()).increment(1);
        let (by, at) = (role.name(), self.deps.clock.now_ms());
        match order {
            Some(order) => tracing::info!(
                %room,
                by,
                at,
                version,
                state = ?order.state,
                post_ms = order.post_ms,
                catalogue = order.catalogue.as_ref().map(Vec::len),
                "orders of a room were changed"
            ),
            None => tracing::info!(%room, by, at, version, "orders of a room were forgotten"),
        }
    }
}

/// Makes the next order of the one before. `None`: the room's orders are forgotten.
type MakeOrder<'a> = dyn Fn(Option<&RoomOrder>) -> Result<Option<RoomOrder>, Refusal> + Sync + 'a;

/// What a room has to be for a change to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IfMatch {
    Any,
    Version(u64),
}

impl IfMatch {
    /// The header `If-Match` (RFC 9110, 13.1.1) with one of our tags.
    fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Some(Self::Any));
        }
        let tag = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
        tag.parse().map(|version| Some(Self::Version(version))).map_err(|_| Refusal::IfMatch)
    }
}

fn name(path: RoomPath) -> Result<RoomName, Refusal> {
    let Path(text) = path.map_err(|_| Refusal::RoomEncoding)?;
    text.parse().map_err(Refusal::RoomName)
}

type RoomPath = Result<Path<String>, PathRejection>;

async fn list(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Response, Refusal> {
    api.role(&headers, Role::View)?;
    if !api.deps.orders.is_read() {
        return Err(Refusal::NotRead);
    }
    let rooms = api.deps.orders.rooms();
    let mut rooms: Vec<_> = rooms.values().map(|room| Shown::from(&**room)).collect();
    rooms.sort_by(|one, other| one.room.cmp(other.room));
    Ok(Json(serde_json::json!({ "rooms": rooms })).into_response())
}

async fn show(State(api): State<Arc<Api>>, path: RoomPath, headers: HeaderMap) -> Result<Response, Refusal> {
    api.role(&headers, Role::View)?;
    let room = name(path)?;
    let found = api.room(&room)?.ok_or_else(|| Refusal::NoOrders(room.clone()))?;
    Ok(answer(&found))
}

async fn change(
    State(api): State<Arc<Api>>,
    path: RoomPath,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let role = api.role(&headers, Role::Produce)?;
    let room = name(path)?;
    let if_match = IfMatch::from_headers(&headers)?;
    let change = Change::read(&body.map_err(|_| Refusal::BodyTooLong(BODY_BYTES_MAX))?)?;
    let tones = (api.deps.tones)();
    let apply = |before: Option<&RoomOrder>| {
        let new = || RoomOrder::new(room.clone(), "", 0);
        let order = change.apply(before.cloned().unwrap_or_else(new), tones)?;
        Ok(Some(RoomOrder { by: role.name().to_owned(), at: api.deps.clock.now_ms(), ..order }))
    };
    let made = api.write(role, &room, if_match, &apply).await?;
    // Another change may have forgotten it since.
    made.map(|room| answer(&room)).ok_or(Refusal::Conflict(None))
}

async fn forget(
    State(api): State<Arc<Api>>,
    path: RoomPath,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    let role = api.role(&headers, Role::Operate)?;
    let room = name(path)?;
    let if_match = IfMatch::from_headers(&headers)?;
    let forget = |before: Option<&RoomOrder>| match before {
        Some(_) => Ok(None),
        None => Err(Refusal::NoOrders(room.clone())),
    };
    api.write(role, &room, if_match, &forget).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn wrong_method(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<(), Refusal> {
    api.role(&headers, Role::View)?;
    Err(Refusal::Method)
}

fn answer(room: &Room) -> Response {
    let mut response = Json(Shown::from(room)).into_response();
    // Digits in quotes are a header's value.
    if let Ok(etag) = HeaderValue::try_from(format!("\"{}\"", room.version)) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}
