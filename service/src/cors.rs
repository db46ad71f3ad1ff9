//! CORS for routes: which origins can be configured, and that only preflights are answered as preflights.

use axum::http::{Method, Request, Response, header};
use futures_util::future::Either;
use serde::Deserialize;
use std::{
    collections::HashSet,
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    task::{Context, Poll},
};
use tower::{Layer, Service};
use tower_http::cors::{AllowOrigin, Any, Cors, CorsLayer};

/// What every refusal of an origin starts with.
const FORMS: &str = "must be \"*\", \"null\" or scheme://host[:port]";

/// A configured list of origins, in the form in which browsers send them. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "Vec<String>")]
pub struct Origins(Arc<Listed>);

#[derive(PartialEq, Eq, Default)]
struct Listed {
    /// As they were written.
    configured: Vec<String>,
    /// `*` is among them.
    any: bool,
    /// The others that are valid.
    normal: HashSet<Box<[u8]>>,
}

impl From<Vec<String>> for Origins {
    fn from(configured: Vec<String>) -> Self {
        let normal = configured.iter().filter_map(|text| normalize(text).ok());
        let normal = normal.map(|origin| origin.into_bytes().into()).collect();
        Self(Arc::new(Listed { any: configured.iter().any(|text| text == "*"), normal, configured }))
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.configured.fmt(f)
    }
}

impl Origins {
    /// Whether pages of every origin are let in.
    pub fn is_any(&self) -> bool {
        self.0.any
    }

    /// The origins as they were configured; `*` may be among them.
    pub fn configured(&self) -> &[String] {
        &self.0.configured
    }

    /// Whether pages of `origin` are let in: the value of the header `Origin`.
    pub fn allows(&self, origin: &[u8]) -> bool {
        self.0.any || self.0.normal.contains(origin)
    }

    /// Adds each entry that no browser could send as `(key, what would be right)`.
    pub fn validate(&self, key: &str, refuse: &mut dyn FnMut(&str, String)) {
        for text in self.0.configured.iter().filter(|text| *text != "*") {
            if let Err(why) = normalize(text) {
                refuse(key, why);
            }
        }
    }
}

/// The origin as browsers send it (URL standard, 4.5, and HTML, 7.1.1). An error says what to write instead.
fn normalize(text: &str) -> Result<String, String> {
    if text == "null" {
        return Ok(text.into());
    }
    let refuse = |why: &str| Err(format!("{FORMS}, is {text:?}{why}"));
    let Some((scheme, authority)) = text.split_once("://") else {
        return refuse("; write the scheme too, such as \"https://\"");
    };
    let scheme = scheme.to_ascii_lowercase();
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    if !is_scheme {
        return refuse("");
    }
    match scheme.as_str() {
        "file" | "data" | "blob" | "about" => return refuse("; such pages send \"null\""),
        "ws" | "wss" | "ftp" => return refuse("; write the scheme of the page, http or https"),
        _ => {}
    }
    if authority.contains('*') {
        return refuse("; there are no wildcards within an origin: list each one, or \"*\" for all");
    }
    if authority.contains(['/', '?', '#', '\\']) {
        return refuse("; an origin has no path: end it after the host or port");
    }
    if authority.contains('@') {
        return refuse("; an origin has no user name");
    }
    let (host, port) = split_port(authority);
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => return refuse("; a port is 1 to 65535"),
    };
    let is_web = scheme == "http" || scheme == "https";
    let host = if is_web { web_host(host) } else { other_host(host) };
    let host = match host {
        Ok(host) => host,
        Err(why) => return refuse(why),
    };
    Ok(match (scheme.as_str(), port) {
        ("http", Some(80)) | ("https", Some(443)) | (_, None) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    })
}

/// Host and port, if there is a colon behind the host.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        // A colon within the brackets of an IPv6 address.
        Some((_, port)) if port.contains(']') => (authority, None),
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    }
}

/// A host of http or https as browsers write it: lower case, IPv6 shortened.
fn web_host(host: &str) -> Result<String, &'static str> {
    if let Some(v6) = host.strip_prefix('[') {
        let v6 = v6.strip_suffix(']').and_then(|v6| v6.parse::<Ipv6Addr>().ok());
        return v6.map(|v6| format!("[{}]", url_form(v6))).ok_or("; this is no IPv6 address");
    }
    if !host.is_ascii() {
        return Err("; browsers send such a name in ASCII: write its form with \"xn--\"");
    }
    let host = host.to_ascii_lowercase();
    let mut labels = host.strip_suffix('.').unwrap_or(&host).split('.');
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if !labels.clone().all(is_label) || host.len() > 254 {
        return Err("; this is no name of a host");
    }
    // Browsers take a host that ends with a number for an IPv4 address.
    let ends_with_number = labels.next_back().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
    if ends_with_number && host.parse::<Ipv4Addr>().is_err() {
        return Err("; this is no IPv4 address: write four numbers");
    }
    Ok(host)
}

/// An address as URLs have it: an IPv4 address within it in groups of hex digits.
fn url_form(v6: Ipv6Addr) -> String {
    match (v6.to_ipv4_mapped(), v6.segments()) {
        (Some(_), [.., high, low]) => format!("::ffff:{high:x}:{low:x}"),
        _ => v6.to_string(),
    }
}

/// A host of another scheme, such as that of apps or extensions: browsers send it as it is.
fn other_host(host: &str) -> Result<String, &'static str> {
    let is_host = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
    if is_host { Ok(host.to_owned()) } else { Err("; this is no name of a host") }
}

/// CORS by a list of origins that may change while running. With `*` in the list answers say `*`, and so caches may share them.
#[derive(Clone)]
pub struct LiveCors {
    any: RealPreflights,
    listed: RealPreflights,
    origins: Current,
}

/// Gives the origins that are in force.
type Current = Arc<dyn Fn() -> Origins + Send + Sync>;

impl LiveCors {
    /// `layer` says all but the origins, which `origins` gives for each request.
    pub fn new(layer: CorsLayer, origins: impl Fn() -> Origins + Send + Sync + 'static) -> Self {
        let origins: Current = Arc::new(origins);
        let of = Arc::clone(&origins);
        let listed = AllowOrigin::predicate(move |origin, _| of().allows(origin.as_bytes()));
        Self {
            any: RealPreflights(layer.clone().allow_origin(Any)),
            listed: RealPreflights(layer.allow_origin(listed)),
            origins,
        }
    }
}

/// See [`LiveCors`].
#[derive(Clone)]
pub struct LiveRoutes<S> {
    any: Routes<S>,
    listed: Routes<S>,
    origins: Current,
}

impl<S: Clone> Layer<S> for LiveCors {
    type Service = LiveRoutes<S>;

    fn layer(&self, inner: S) -> LiveRoutes<S> {
        LiveRoutes {
            any: self.any.layer(inner.clone()),
            listed: self.listed.layer(inner),
            origins: Arc::clone(&self.origins),
        }
    }
}

impl<S, In, Out> Service<Request<In>> for LiveRoutes<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    Out: Default,
{
    type Response = Response<Out>;
    type Error = S::Error;
    type Future = <Routes<S> as Service<Request<In>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        match self.any.poll_ready(context) {
            Poll::Ready(Ok(())) => self.listed.poll_ready(context),
            other => other,
        }
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let routes = if (self.origins)().is_any() { &mut self.any } else { &mut self.listed };
        routes.call(request)
    }
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
    use std::sync::Mutex;
    use tower::ServiceExt;

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

    fn origins(list: &[&str]) -> Origins {
        list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>().into()
    }

    #[test]
    fn an_origin_is_compared_in_the_form_in_which_browsers_send_it() {
        for (configured, sent) in [
            ("https://a.example", "https://a.example"),
            ("HTTPS://A.Example", "https://a.example"),
            ("https://a.example:443", "https://a.example"),
            ("http://a.example:80", "http://a.example"),
            ("http://a.example:443", "http://a.example:443"),
            ("https://a.example:08443", "https://a.example:8443"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("http://[0:0::1]:3000", "http://[::1]:3000"),
            ("http://[::FFFF:1.2.3.4]", "http://[::ffff:102:304]"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
            ("http://localhost", "http://localhost"),
            ("http://my_host.local.", "http://my_host.local."),
            ("capacitor://localhost", "capacitor://localhost"),
            ("ionic://localhost", "ionic://localhost"),
            ("tauri://localhost", "tauri://localhost"),
            (
                "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
                "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            ),
            ("safari-web-extension://0A1B-2C", "safari-web-extension://0A1B-2C"),
            ("app://obsidian.md", "app://obsidian.md"),
            ("null", "null"),
        ] {
            let origins = origins(&[configured]);
            origins.validate("k", &mut |key, why| panic!("{key}: {why}"));
            assert!(origins.allows(sent.as_bytes()), "{configured}");
            for other in ["https://b.example", "https://a.example.evil", "http://localhost:1", ""] {
                assert!(!origins.allows(other.as_bytes()), "{configured} {other}");
            }
            assert!(!origins.is_any());
        }
    }

    #[test]
    fn an_origin_that_no_browser_sends_is_refused_with_what_to_write() {
        for (configured, why) in [
            ("", "write the scheme too"),
            ("a.example", "write the scheme too"),
            ("https:a.example", "write the scheme too"),
            ("Null", "write the scheme too"),
            ("://a.example", "scheme://host[:port]"),
            ("1a://a.example", "scheme://host[:port]"),
            (" https://a.example", "scheme://host[:port]"),
            ("file://", "such pages send \"null\""),
            ("ws://a.example", "http or https"),
            ("https://*.a.example", "no wildcards within an origin"),
            ("https://a.example:*", "no wildcards within an origin"),
            ("https://a.example/", "an origin has no path"),
            ("https://a.example/x", "an origin has no path"),
            ("https://a.example?x", "an origin has no path"),
            ("https://u@a.example", "no user name"),
            ("https://a.example:99999", "a port is 1 to 65535"),
            ("https://a.example:0", "a port is 1 to 65535"),
            ("https://a.example:", "a port is 1 to 65535"),
            ("https://", "no name of a host"),
            ("https://:80", "no name of a host"),
            ("https://a..b", "no name of a host"),
            ("https://a b", "no name of a host"),
            ("https://a.example,https://b.example", "no path"),
            ("https://127.1", "no IPv4 address"),
            ("https://1.2.3.256", "no IPv4 address"),
            ("https://[::1", "no IPv6 address"),
            ("https://[x]:1", "no IPv6 address"),
            ("https://bücher.example", "xn--"),
            ("capacitor://", "no name of a host"),
        ] {
            let mut found = Vec::new();
            let origins = origins(&[configured, "https://b.example"]);
            origins.validate("k", &mut |key, why| found.push(format!("{key}: {why}")));
            assert_eq!(found.len(), 1, "{configured}");
            assert!(found[0].contains("must be \"*\", \"null\" or scheme://host[:port], is "), "{found:?}");
            assert!(found[0].contains(why), "{configured}: {found:?}");
            assert!(!origins.allows(configured.as_bytes()));
        }
        let any = origins(&["*"]);
        any.validate("k", &mut |_, why| panic!("{why}"));
        assert!(any.is_any() && any.allows(b"https://a.example") && any.allows(b"null"));
        assert!(!origins(&[]).allows(b"null"));
    }

    #[tokio::test]
    async fn origins_change_while_routes_are_served() {
        let current = Arc::new(Mutex::new(origins(&["*"])));
        let cors = CorsLayer::new().allow_methods([Method::GET]);
        let of = Arc::clone(&current);
        let cors = LiveCors::new(cors, move || of.lock().unwrap().clone());
        let router: Router = Router::new().route("/a", axum::routing::get(|| async {}).layer(cors));
        let allowed = async || {
            let request = Request::get("/a").header("origin", "https://a.example").body(Body::empty());
            let response = router.clone().oneshot(request.unwrap()).await.unwrap();
            let allowed = response.headers().get("access-control-allow-origin").cloned();
            allowed.map(|allowed| allowed.to_str().unwrap().to_owned())
        };
        for (list, expected) in [
            (&["*"][..], Some("*")),
            (&["https://A.example:443"], Some("https://a.example")),
            (&["https://b.example"], None),
            (&[], None),
        ] {
            *current.lock().unwrap() = origins(list);
            assert_eq!(allowed().await.as_deref(), expected, "{list:?}");
        }
    }
}
