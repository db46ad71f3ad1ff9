//! The desk on the admin listener: the page, and what it reads beside `/metrics` and `/readyz`.

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use service::Problem;
use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
};
use tokio::sync::watch;
use tower::{ServiceExt, service_fn};

/// What the desk shows. The admin listener is open before the tiers run, so the rooms come later.
#[derive(Default)]
pub(crate) struct Desk {
    rooms: Arc<OnceLock<Router>>,
}

impl Desk {
    /// The page, the configuration in force, and the rooms.
    pub(crate) fn router(&self, config: watch::Receiver<Arc<str>>) -> Router {
        let rooms = Arc::clone(&self.rooms);
        let rooms = service_fn(move |request: Request| {
            let rooms = rooms.get().cloned();
            async move { Ok::<_, Infallible>(answer(rooms, request).await) }
        });
        let config = get(async move || {
            let text = config.borrow().to_string();
            let headers =
                [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
            (headers, text)
        });
        // As the fallback, because a route of ours would match the room's name a second time.
        web::desk().route("/admin/v1/config", config).fallback_service(rooms)
    }

    /// From now on the rooms are shown, as far as the tiers of this process know them.
    pub(crate) fn show_rooms(&self, rooms: Router) {
        // Each process starts its tiers once.
        let _ = self.rooms.set(rooms.fallback(async || nothing_here()));
    }
}

async fn answer(rooms: Option<Router>, request: Request) -> Response {
    match rooms {
        Some(rooms) => rooms.oneshot(request).await.into_response(),
        None => nothing_here(),
    }
}

fn nothing_here() -> Response {
    let text = "nothing is here; rooms are shown by a process that runs fanout, and their posts by one that runs ingest";
    Problem::new(StatusCode::NOT_FOUND, text).into_response()
}
