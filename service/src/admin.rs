//! The operators' HTTP: `/healthz` (the process answers), `/readyz` (it can do its work), `/metrics`.

use crate::{Problem, Readiness, telemetry::MetricsHandle};
use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use std::{net::IpAddr, sync::Arc};

/// The admin routes. They belong on a listener that the public can't reach. `names` are the host names with a dot by which it
/// may be asked. `more` are further routes for the same listener.
pub fn router(readiness: Readiness, metrics: MetricsHandle, names: &[String], more: Router) -> Router {
    let names: Arc<[String]> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/metrics", get(render).with_state(metrics))
        .merge(more)
        .layer(from_fn_with_state(names, check_host))
}

/// `/healthz` and `/readyz` for a public listener, where balancers look. They give no reasons.
pub fn public_health(readiness: Readiness) -> Router {
    let ready = get(async move || match readiness.is_ready() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    });
    let readable = |route: MethodRouter| route.fallback(async || wrong_method());
    Router::new().route("/healthz", readable(get(healthz))).route("/readyz", readable(ready))
}

async fn healthz() -> &'static str {
    "ok\n"
}

fn wrong_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the health of the process is read by GET")
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

/// Refuses a page that has led a name of its own site to this address, so that the browser takes the two for one (DNS
/// rebinding).
async fn check_host(State(names): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("."));
    let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    if host.is_none_or(|host| is_own_name(host, &names)) {
        return next.run(request).await;
    }
    let detail = "this host name may not be used here; use an IP address, or list it in service.admin_hosts";
    Problem::new(StatusCode::MISDIRECTED_REQUEST, detail).into_response()
}

/// Whether a Host header can't be the name of somebody's site: an address, a name without a dot, or one that is listed.
fn is_own_name(host: &str, names: &[String]) -> bool {
    if host.starts_with('[') {
        return true;
    }
    let name = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let is_address = name.parse::<IpAddr>().is_ok();
    is_address || !name.contains('.') || name.ends_with(".localhost") || names.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    async fn ask(router: &Router, method: &str, path: &str, host: Option<&str>) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_admin_routes_are_not_for_names_of_other_sites() {
        let router = router(
            Readiness::default(),
            MetricsHandle::for_tests(),
            &["Ops.Example".to_owned()],
            Router::new(),
        );
        for host in [
            None,
            Some(""),
            Some("127.0.0.1:9090"),
            Some("10.1.2.3"),
            Some("[::1]:9090"),
            Some("localhost:9090"),
            Some("uproar"),
            Some("a.localhost:1"),
            Some("OPS.example:9090"),
        ] {
            for path in ["/healthz", "/readyz", "/metrics"] {
                assert_eq!(ask(&router, "GET", path, host).await.0, 200, "{host:?} {path}");
            }
        }
        for host in [
            "evil.example",
            "evil.example:9090",
            "127.0.0.1.evil.example",
            "ops.example.evil",
            "1.2.3.4.5",
            "a.b.",
        ] {
            for path in ["/healthz", "/readyz", "/metrics", "/"] {
                assert_eq!(ask(&router, "GET", path, Some(host)).await.0, 421, "{host} {path}");
            }
        }
    }

    #[tokio::test]
    async fn the_public_is_told_whether_the_process_is_ready_and_not_why() {
        let readiness = Readiness::default();
        let condition = readiness.condition("log");
        condition.fail("brokers 10.0.0.1 are away");
        let router = public_health(readiness);
        assert_eq!(ask(&router, "GET", "/healthz", None).await, (200, "ok\n".to_owned()));
        assert_eq!(ask(&router, "GET", "/readyz", None).await, (503, "not ready\n".to_owned()));
        condition.hold();
        assert_eq!(ask(&router, "GET", "/readyz", None).await, (200, "ready\n".to_owned()));
        assert_eq!(ask(&router, "HEAD", "/readyz", None).await, (200, String::new()));
        assert_eq!(ask(&router, "POST", "/readyz", None).await.0, 405);
    }
}
