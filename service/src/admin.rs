//! The operators' HTTP: `/healthz` (the process answers), `/readyz` (it can do its work), `/metrics`.

use crate::{Readiness, telemetry::MetricsHandle};
use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};

/// The admin routes. They belong on a listener that the public can't reach.
pub fn router(readiness: Readiness, metrics: MetricsHandle) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/metrics", get(render).with_state(metrics))
}

async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    let missing = readiness.missing();
    if missing.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let lines: String = missing.iter().map(|(name, why)| format!("{name}: {why}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines)
}

async fn render(State(metrics): State<MetricsHandle>) -> impl IntoResponse {
    ([("content-type", "text/plain; version=0.0.4")], metrics.render())
}
