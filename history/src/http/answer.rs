//! Reads a range of the history, and says how long caches may keep it.

use super::{NOSNIFF, Refusal, Routes};
use crate::{
    Point, Points, Settings,
    metrics::QUERY_SECONDS,
    range::Range,
    tier::{Archive, Shared},
};
use axum::{
    extract::{Path, Query, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use eventlog::{
    WindowArchive,
    windows::{ArchiveError, Searched, WindowQuery},
};
use metrics::histogram;
use serde::Serialize;
use std::{
    hash::{DefaultHasher, Hasher},
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};
use wire::{RoomName, WindowRecord};

/// What the close of a window may take beyond its grace: the commit, and its way into the index.
const MARGIN_MS: u64 = 10_000;
/// After this a range is taken for complete, although nothing later of its partition was committed.
const SETTLED_MS: u64 = 86_400_000;
/// A year, as long as caches keep anything (RFC 9111 names no limit; RFC 2616 did).
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// The body.
#[derive(Serialize)]
struct Body<'a> {
    room: &'a RoomName,
    step_ms: u64,
    points: Vec<Point>,
}

/// What a search found.
struct Found {
    body: Bytes,
    searched: Searched,
    /// When the last of the windows ended that were summed up, ms since the epoch.
    newest_end_ms: Option<u64>,
}

pub(super) async fn history(
    State(Routes(shared)): State<Routes>,
    room: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let settings = shared.settings();
    let now_ms = shared.clock.now_ms();
    let cache = [(header::CACHE_CONTROL, for_a_while(&settings))];
    match read(&shared, &settings, room, &uri, now_ms).await {
        Ok((range, found)) => answer(&settings, range, found, now_ms, &headers),
        // While everybody waits for a room's first reaction, caches should answer.
        Err(refusal @ Refusal::NoRoom(_)) => (cache, refusal).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn read(
    shared: &Shared,
    settings: &Settings,
    room: Result<Path<String>, PathRejection>,
    uri: &Uri,
    now_ms: u64,
) -> Result<(Range, Found), Refusal> {
    let Path(name) = room.map_err(|_| Refusal::RoomEncoding)?;
    let room: RoomName = name.parse().map_err(Refusal::RoomName)?;
    let parameters = Query::<Vec<(String, String)>>::try_from_uri(uri);
    let Query(parameters) =
        parameters.map_err(|_| Refusal::Parameter(uri.query().unwrap_or_default().into()))?;
    let range = Range::parse(&parameters, now_ms, settings.window_ms)?;
    let archive = match &*shared.archive.borrow() {
        Archive::Ready(archive) => Arc::clone(archive),
        Archive::Starting => return Err(Refusal::Starting),
        Archive::Off => return Err(Refusal::Off),
    };
    let permit = Arc::clone(&shared.queries).try_acquire_owned().map_err(|_| Refusal::Busy)?;
    let (partitions, max_windows) = (settings.partitions, settings.config.max_windows);
    let asked = room.clone();
    let search = move || {
        // Held by the search itself: a client that leaves does not end it.
        let _permit = permit;
        let started = Instant::now();
        let found = search(&*archive, &asked, partitions, range, max_windows);
        histogram!(QUERY_SECONDS).record(started.elapsed().as_secs_f64());
        found
    };
    let found = tokio::task::spawn_blocking(search).await.map_err(|_| Refusal::Failed)?;
    match found {
        Ok(found) if found.searched.is_known => Ok((range, found)),
        Ok(_) => Err(Refusal::NoRoom(room.to_string())),
        Err(ArchiveError::TooMany(most)) => Err(Refusal::TooManyWindows(most)),
        Err(error) => {
            tracing::error!(%error, %room, "the history can't be read");
            if matches!(error, ArchiveError::Damaged(_)) {
                shared.damaged.notify_one();
            }
            Err(Refusal::Failed)
        }
    }
}

fn search(
    archive: &dyn WindowArchive,
    room: &RoomName,
    partitions: u32,
    range: Range,
    max_windows: usize,
) -> Result<Found, ArchiveError> {
    let Range { from_ms, to_ms, step_ms } = range;
    let (mut points, mut newest_end_ms) = (Points::new(from_ms, to_ms, step_ms), None);
    let partition = eventlog::partition_of(room, partitions);
    let query = WindowQuery { room, partition, span: from_ms..to_ms, max_windows };
    let searched = archive.search(&query, &mut |record: WindowRecord| {
        newest_end_ms = newest_end_ms.max(Some(record.window.end));
        points.add(&record);
    })?;
    let body = Body { room, step_ms, points: points.finish() };
    let body = serde_json::to_vec(&body).map_err(|error| ArchiveError::Failed(error.to_string()))?;
    Ok(Found { body: body.into(), searched, newest_end_ms })
}

fn answer(settings: &Settings, range: Range, found: Found, now_ms: u64, headers: &HeaderMap) -> Response {
    let closed_ms = |ms: u64| ms.saturating_add(settings.window_ms + settings.grace_ms + MARGIN_MS);
    let is_closed = closed_ms(range.to_ms) <= now_ms;
    // A partition commits its windows in their order, unless a clock went back. An aggregator that was away commits late.
    let has_gone_on = found.searched.reached_ms.is_some_and(|reached_ms| reached_ms >= range.to_ms);
    let is_settled = is_closed && (has_gone_on || range.to_ms.saturating_add(SETTLED_MS) <= now_ms);
    let cache = if is_settled { IMMUTABLE.to_owned() } else { for_a_while(settings) };
    let mut hasher = DefaultHasher::new();
    hasher.write(&found.body);
    let etag = format!("\"{:016x}\"", hasher.finish());
    // Left out while another window may come that ends in the same second.
    let modified_s =
        found.newest_end_ms.filter(|end_ms| closed_ms(*end_ms) <= now_ms).map(|ms| ms.div_ceil(1_000));
    let mut about: Vec<(HeaderName, String)> =
        vec![(header::CACHE_CONTROL, cache), (header::ETAG, etag.clone())];
    if let Some(modified_s) = modified_s {
        let modified = UNIX_EPOCH + Duration::from_secs(modified_s);
        about.push((header::LAST_MODIFIED, httpdate::fmt_http_date(modified)));
    }
    let about = HeaderMap::from_iter(
        about.into_iter().filter_map(|(name, value)| Some((name, value.try_into().ok()?))),
    );
    if knows(headers, &etag, modified_s) {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, [(header::CONTENT_TYPE, "application/json"), NOSNIFF], found.body).into_response()
}

/// The time until there may be something new: a window, from 1 to 60 s.
pub(super) fn for_a_while(settings: &Settings) -> String {
    format!("public, max-age={}", (settings.window_ms / 1_000).clamp(1, 60))
}

/// Whether the client has the answer. Tags are compared weakly, and go before the date (RFC 9110, 13.1.2, 13.1.3).
fn knows(headers: &HeaderMap, etag: &str, modified_s: Option<u64>) -> bool {
    let mut tags =
        headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).peekable();
    if tags.peek().is_some() {
        let is_ours = |tag: &str| tag == "*" || tag.trim_start_matches("W/") == etag;
        return tags.flat_map(|value| value.split(',')).any(|tag| is_ours(tag.trim()));
    }
    let since = headers.get(header::IF_MODIFIED_SINCE).and_then(|value| value.to_str().ok());
    let since = since.and_then(|since| httpdate::parse_http_date(since).ok());
    let since = since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
    matches!((since, modified_s), (Some(since), Some(modified_s)) if modified_s <= since.as_secs())
}
