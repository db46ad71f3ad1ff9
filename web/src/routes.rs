//! The routes of pages, scripts and styles.

use crate::{
    asset::{Asset, Coding},
    files::{FILES, script_names},
    headers::{FrameAncestors, policy},
};
use axum::{
    Router,
    extract::{Path, Request},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};

/// A file under its revision never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// Another build's revision: its page and its scripts come from different nodes while a deployment rolls.
const A_MOMENT: &str = "public, max-age=10";
/// A script under its plain name: a new version reaches every site within five minutes.
const FIVE_MINUTES: &str = "public, max-age=300";
/// A page is asked for again each time, and mostly not sent again.
const REVALIDATE: &str = "no-cache";

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The viewers' pages, and the scripts that other sites include. `ancestors` may show the pages in a frame.
pub fn public(ancestors: &FrameAncestors) -> Router {
    let routes = Router::new()
        .route("/", page("pages/room.html", ancestors.clone()))
        .route("/rooms/{room}", page("pages/room.html", ancestors.clone()))
        .route("/overlay/{room}", page("pages/overlay.html", ancestors.clone()))
        .route("/assets/{revision}/{*name}", get(asset));
    script_names().fold(routes, |routes, name| {
        routes.route(&format!("/{name}"), get(move |headers| script(name, headers)))
    })
}

/// The desk: a page for the admin listener. It frames nothing and may not be framed by others.
pub fn desk() -> Router {
    Router::new()
        .route("/", page("pages/desk.html", FrameAncestors::default()))
        .route("/assets/{revision}/{*name}", get(asset))
}

fn page(name: &'static str, ancestors: FrameAncestors) -> MethodRouter {
    get(async move |request: Request| {
        let headers = request.headers();
        let Some(page) = FILES.page(name) else { return StatusCode::NOT_FOUND.into_response() };
        let mut response = respond(page, headers, REVALIDATE);
        let policy = policy(headers, &ancestors);
        let added = response.headers_mut();
        added.insert(header::CONTENT_SECURITY_POLICY, policy);
        added.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    })
}

async fn asset(Path((revision, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let Some(asset) = FILES.asset(&name) else { return StatusCode::NOT_FOUND.into_response() };
    let cache = if revision == FILES.revision { FOR_EVER } else { A_MOMENT };
    share(respond(asset, &headers, cache))
}

async fn script(name: &'static str, headers: HeaderMap) -> Response {
    let Some(asset) = FILES.asset(name) else { return StatusCode::NOT_FOUND.into_response() };
    share(respond(asset, &headers, FIVE_MINUTES))
}

/// Lets pages of every origin include the answer as a module.
fn share(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    response
}

fn respond(asset: &Asset, headers: &HeaderMap, cache: &'static str) -> Response {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let coding = Coding::of(&accepted.collect::<Vec<_>>().join(","));
    let etag = asset.etag(coding);
    let common = [
        (header::ETAG, etag.clone()),
        (header::CACHE_CONTROL, cache.to_owned()),
        (header::VARY, "Accept-Encoding".to_owned()),
    ];
    if knows(headers, &etag) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let body = asset.body(coding);
    let mut response = (common, body).into_response();
    let added = response.headers_mut();
    added.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.media_type));
    added.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(name) = coding.name() {
        added.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    response
}

/// Whether `If-None-Match` names the tag (RFC 9110, 13.1.2: weak comparison).
fn knows(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests;
