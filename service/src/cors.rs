//! CORS for routes: preflights are answered, and nothing else that is OPTIONS; and which origins can be configured.

use axum::http::{Method, Request, Response, header};
use futures_util::future::Either;
use std::task::{Context, Poll};
use tower::{Layer, Service};
use tower_http::cors::{Cors, CorsLayer};

/// Refuses what browsers could not send as `Origin`: each has to be `*`, or a scheme and an authority and nothing after them.
pub fn check_origins(key: &str, origins: &[String], refuse: &mut dyn FnMut(&str, String)) {
    for origin in origins.iter().filter(|origin| *origin != "*" && !is_origin(origin)) {
        refuse(key, format!("must be \"*\" or scheme://host[:port], is {origin:?}"));
    }
}

fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@\\,".contains(&b))
    })
}

/// Lets `CorsLayer`, which takes every OPTIONS for a preflight, answer real ones only: those that name their `Origin` and
/// the method to come (Fetch standard, 3.2.2). Any other OPTIONS goes to the routes, which say what they allow.
#[derive(Debug, Clone)]
pub struct RealPreflights(pub CorsLayer);

/// See [`RealPreflights`].
#[derive(Debug, Clone)]
pub struct Routes<S>(Cors<S>);

impl<S> Layer<S> for RealPreflights {
    type Service = Routes<S>;

    fn layer(&self, inner: S) -> Routes<S> {
        Routes(self.0.layer(inner))
    }
}

impl<S, In, Out> Service<Request<In>> for Routes<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    Out: Default,
{
    type Response = Response<Out>;
    type Error = S::Error;
    type Future = Either<<Cors<S> as Service<Request<In>>>::Future, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let has = |name| request.headers().contains_key(name);
        let preflight = has(header::ORIGIN) && has(header::ACCESS_CONTROL_REQUEST_METHOD);
        if request.method() == Method::OPTIONS && !preflight {
            Either::Right(self.0.get_mut().call(request))
        } else {
            Either::Left(self.0.call(request))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, body::Body, routing::post};
    use tower::ServiceExt;
    use tower_http::cors::Any;

    async fn ask(headers: &[(&str, &str)], path: &str) -> Response<Body> {
        let cors = CorsLayer::new().allow_origin(Any).allow_methods([Method::POST]);
        let router = Router::new().route("/a", post(|| async {})).layer(RealPreflights(cors));
        let mut request = Request::options(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_preflight_is_answered_here() {
        let headers = [("origin", "https://a.example"), ("access-control-request-method", "POST")];
        let response = ask(&headers, "/a").await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["access-control-allow-methods"]),
            (200, &"POST".parse().unwrap())
        );
    }

    #[tokio::test]
    async fn another_options_is_for_the_routes() {
        for headers in
            [&[][..], &[("origin", "https://a.example")], &[("access-control-request-method", "POST")]]
        {
            let response = ask(headers, "/a").await;
            assert_eq!(
                (response.status().as_u16(), &response.headers()["allow"]),
                (405, &"POST".parse().unwrap())
            );
            assert_eq!(ask(headers, "/b").await.status(), 404);
        }
    }
}
