//! The headers of pages: what they may load, and which sites may frame them.

use axum::http::{HeaderMap, HeaderValue, header};

/// The sites that may show our pages in a frame (CSP 3, 6.4.2.1).
#[derive(Debug, Clone, Default)]
pub struct FrameAncestors(Vec<String>);

impl FrameAncestors {
    /// `origins`: such as `https://tv.example`; `*` allows every site. None: only pages of the same origin.
    pub fn new(origins: &[String]) -> Self {
        Self(origins.to_vec())
    }

    fn directive(&self) -> String {
        match self.0.as_slice() {
            [] => "'self'".to_owned(),
            origins if origins.iter().any(|origin| origin == "*") => "*".to_owned(),
            origins => format!("'self' {}", origins.join(" ")),
        }
    }
}

/// The Content-Security-Policy of a page that was asked for as `headers` say: scripts, styles and connections of the same host only.
pub(crate) fn policy(headers: &HeaderMap, ancestors: &FrameAncestors) -> HeaderValue {
    // Safari before 15 does not count WebSockets of the same host as 'self'.
    let sockets = match headers.get(header::HOST).and_then(|host| host.to_str().ok()) {
        Some(host) if is_plain(host) => format!(" ws://{host} wss://{host}"),
        _ => String::new(),
    };
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: https:; connect-src 'self'{sockets}; \
         base-uri 'none'; form-action 'none'; frame-ancestors {}",
        ancestors.directive()
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// Whether a Host can stand in a policy as it is: names, addresses and ports, nothing that separates directives.
fn is_plain(host: &str) -> bool {
    !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy_for(host: &str, ancestors: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        let ancestors: Vec<_> = ancestors.iter().map(ToString::to_string).collect();
        policy(&headers, &FrameAncestors::new(&ancestors)).to_str().unwrap().to_owned()
    }

    #[test]
    fn sockets_of_the_same_host_are_named() {
        assert!(
            policy_for("live.example:8080", &[])
                .contains("'self' ws://live.example:8080 wss://live.example:8080;")
        );
        assert!(policy_for("[::1]:8080", &[]).contains("ws://[::1]:8080"));
    }

    #[test]
    fn a_host_can_not_add_to_the_policy() {
        for host in ["a; script-src *", "a 'unsafe-inline'", "a,b", "*"] {
            assert!(policy_for(host, &[]).contains("connect-src 'self';"), "{host}");
        }
    }

    #[test]
    fn sites_that_may_frame_are_listed() {
        assert!(policy_for("a", &[]).ends_with("frame-ancestors 'self'"));
        assert!(
            policy_for("a", &["https://tv.example"]).ends_with("frame-ancestors 'self' https://tv.example")
        );
        assert!(policy_for("a", &["https://tv.example", "*"]).ends_with("frame-ancestors *"));
    }
}
