//! Limits of a client over the routes: who is meant, how it is told, what it costs.

use super::*;
use crate::CountOverMax;
use axum::{extract::ConnectInfo, http::HeaderName};
use bytes::Bytes;
use futures_util::stream;
use std::{io, net::SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A request as it comes over a connection from `peer`.
fn from(peer: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let mut request = request(Method::POST, "/v1/rooms/r/reactions", headers, body);
    request.headers_mut().insert("content-type", "application/json".parse().unwrap());
    let peer = SocketAddr::new(peer.parse().unwrap(), 4_711);
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

impl Rig {
    /// The status of a post of one 🔥 from `peer`.
    async fn status(&self, peer: &str, headers: &[(&str, &str)]) -> u16 {
        self.ask(from(peer, headers, FIRE)).await.status.as_u16()
    }
}

fn two_a_second() -> Config {
    Config { rate_per_s: 2, rate_burst: 3, ..config() }
}

#[tokio::test(start_paused = true)]
async fn without_limits_nobody_is_refused_and_nothing_is_told() {
    let rig = Rig::open(config()).await;
    assert_eq!(statuses(rig.crowd("r", 500)).await, [202; 500]);
    let answer = rig.post("r", FIRE).await;
    assert_eq!((answer.header("ratelimit"), answer.header("ratelimit-policy")), (None, None));
}

#[tokio::test(start_paused = true)]
async fn who_is_too_fast_is_told_when_to_come_again_and_others_go_on() {
    // No time passes between the posts of a client.
    let rig = Rig::open(Config { ack: crate::Ack::Received, ..two_a_second() }).await;
    for left in ["\"requests\";r=2;t=1", "\"requests\";r=1;t=1", "\"requests\";r=0;t=1"] {
        let answer = rig.ask(from("192.0.2.1", &[], FIRE)).await;
        assert_eq!((answer.status.as_u16(), answer.header("ratelimit")), (202, Some(left)));
        assert_eq!(answer.header("ratelimit-policy"), Some("\"requests\";q=3;w=2"));
    }
    let answer = rig.ask(from("192.0.2.1", &[], FIRE)).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, Some("1")));
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("ratelimit"), Some("\"requests\";r=0;t=1"));
    assert_eq!(answer.header("ratelimit-policy"), Some("\"requests\";q=3;w=2"));
    assert!(
        answer.body.contains("may send 2 requests a second; not counted, try again in 1 s"),
        "{answer:?}"
    );
    assert_eq!(rig.status("192.0.2.2", &[]).await, 202);
    sleep(Duration::from_millis(500)).await;
    assert_eq!([rig.status("192.0.2.1", &[]).await, rig.status("192.0.2.1", &[]).await], [202, 429]);
    until(|| rig.total("r") == 5).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_too_fast_is_told_before_its_body_is_read() {
    let rig = Rig::open(Config { rate_per_s: 1, rate_burst: 1, ..config() }).await;
    assert_eq!(rig.status("192.0.2.1", &[]).await, 202);
    let endless = Body::from_stream(stream::pending::<Result<Bytes, io::Error>>());
    let start = tokio::time::Instant::now();
    assert_eq!(rig.ask(from("192.0.2.1", &[], endless)).await.status, 429);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn reactions_can_be_limited_by_their_number() {
    let config = Config { reactions_per_s: 100, reactions_burst: 1_000, ..config() };
    let rig = Rig::open(config).await;
    let post = |count: u64| {
        let body = format!(r#"{{"reactions":{{"a":{count},"b":1}}}}"#);
        rig.ask(from("192.0.2.1", &[], body))
    };
    let answer = post(799).await;
    assert_eq!((answer.status.as_u16(), answer.header("ratelimit")), (202, Some("\"reactions\";r=200;t=1")));
    assert_eq!(answer.header("ratelimit-policy"), Some("\"reactions\";q=1000;qu=\"reactions\";w=10"));
    let answer = post(499).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, Some("3")));
    assert_eq!(post(100).await.status, 202, "a smaller one fits");
    let answer = post(1_000).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (422, None), "a retry can't help");
    assert!(answer.body.contains("at most 1000 reactions at once, and this request has 1001"), "{answer:?}");
    assert_eq!(answer.header("ratelimit"), None, "nobody looked what is left: an empty list is none");
    assert_eq!(rig.total("r"), 901);
}

#[tokio::test(start_paused = true)]
async fn behind_a_trusted_proxy_each_client_has_its_own_limit() {
    let proxies = vec!["10.0.0.0/8".into()];
    let one = Config { rate_per_s: 1, rate_burst: 1, trusted_proxies: proxies, ..config() };
    let rig = Rig::open(one).await;
    let by = |client| [("x-forwarded-for", client)];
    assert_eq!(rig.status("10.0.0.1", &by("192.0.2.1")).await, 202);
    assert_eq!(rig.status("10.0.0.2", &by("192.0.2.1")).await, 429, "through whichever proxy");
    assert_eq!(rig.status("10.0.0.1", &by("192.0.2.2")).await, 202);
    assert_eq!(rig.status("10.0.0.1", &by("9.9.9.9, 192.0.2.2")).await, 429, "what a client adds is no use");
    for faked in ["1.1.1.1", "1.1.1.2"] {
        let status = rig.status("192.0.2.3", &by(faked)).await;
        assert_eq!(status, if faked == "1.1.1.1" { 202 } else { 429 }, "nobody else is believed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_names_the_subject_and_an_ipv6_network_is_one_client() {
    let rig = Rig::open(Config {
        rate_per_s: 1,
        rate_burst: 1,
        trusted_proxies: vec!["10.0.0.1".into()],
        subject_header: "X-Client-Subject".into(),
        ..config()
    })
    .await;
    let subject = |name| [("x-client-subject", name), ("x-forwarded-for", "192.0.2.1")];
    assert_eq!(rig.status("10.0.0.1", &subject("ann")).await, 202);
    assert_eq!(rig.status("10.0.0.1", &subject("ben")).await, 202, "one address, two subjects");
    assert_eq!(rig.status("10.0.0.1", &subject("ann")).await, 429);
    assert_eq!(rig.status("2001:db8::1", &[]).await, 202);
    assert_eq!(rig.status("2001:db8::2", &[]).await, 429);
    assert_eq!(rig.status("2001:db8:0:1::1", &[]).await, 202);
}

#[tokio::test(start_paused = true)]
async fn limits_change_while_running_and_nobody_gets_a_new_bucket_by_that() {
    let rig = Rig::open(config()).await;
    let slow = || Config { rate_per_s: 1, rate_burst: 1, ..config() };
    assert_eq!(rig.status("192.0.2.1", &[]).await, 202);
    rig.reload(slow()).await;
    assert_eq!([rig.status("192.0.2.1", &[]).await, rig.status("192.0.2.1", &[]).await], [202, 429]);
    rig.reload(Config { max_count: 10, ..slow() }).await;
    assert_eq!(rig.status("192.0.2.1", &[]).await, 429);
    rig.reload(config()).await;
    assert_eq!(rig.status("192.0.2.1", &[]).await, 202);
}

#[tokio::test(start_paused = true)]
async fn clients_beyond_the_bound_share_a_limit_and_can_be_seen() {
    let (handle, _recording) = recorded();
    let slow = Config { rate_per_s: 1, rate_burst: 1, max_tracked_clients: 64, ..config() };
    let rig = Rig::open(Config { ack: crate::Ack::Received, ..slow }).await;
    let mut together = 0;
    for n in 0..3_000_u32 {
        let answer = rig.ask(from(&format!("192.0.{}.{}", n / 250, n % 250), &[], FIRE)).await;
        together += usize::from(answer.body.contains("those beyond share a limit of 1 requests a second"));
    }
    // Each of 64 tables has a client of its own, and a bucket for all others.
    assert_eq!(together, 3_000 - 64 - 64);
    let text = handle.render();
    for line in [
        "uproar_ingest_untracked_total 2936",
        "uproar_ingest_refused_total{cause=\"too_fast_together\"} 2872",
        "uproar_ingest_refused_total{cause=\"too_fast\"} 0",
        "uproar_ingest_requests_total{status=\"429\"} 2872",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_mistakes_is_limited_as_posts_are() {
    let json = ("content-type", "application/json");
    let cases: [(Method, &str, (&str, &str), u16); 9] = [
        (Method::POST, "/v1/rooms/r/reactions", ("content-type", "text/html"), 415),
        (Method::POST, "/v1/rooms/r/reactions", ("content-encoding", "gzip"), 415),
        (Method::POST, "/v1/rooms/r/reactions", ("origin", "https://evil.example"), 403),
        (Method::POST, "/v1/rooms/other/reactions", json, 404),
        (Method::POST, "/v1/rooms/a b/reactions", json, 400),
        (Method::POST, "/v1/rooms/%ff/reactions", json, 400),
        (Method::POST, "/v1/rooms/r/reactions", ("idempotency-key", "a b"), 415),
        (Method::PUT, "/v1/rooms/r/reactions", json, 405),
        (Method::GET, "/nothing/here", json, 404),
    ];
    for (method, path, header, status) in cases {
        let (handle, _recording) = recorded();
        let config = Config { rate_per_s: 1, rate_burst: 5, rooms: vec!["r".into()], ..config() };
        let rig = Rig::open(Config { cors_origins: vec!["https://a.example".into()].into(), ..config }).await;
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..1_000 {
            let path = path.replace(' ', "%20");
            let answer = rig.ask(request(method.clone(), &path, &[header], FIRE)).await;
            assert_eq!(answer.header("ratelimit-policy"), Some("\"requests\";q=5;w=5"), "{answer:?}");
            *seen.entry(answer.status.as_u16()).or_insert(0) += 1;
        }
        assert_eq!(seen, [(status, 5), (429, 995)].into(), "{method} {path} {header:?}");
        let text = handle.render();
        for line in [
            format!("uproar_ingest_requests_total{{status=\"{status}\"}} 5\n"),
            "uproar_ingest_requests_total{status=\"429\"} 995\n".into(),
            "uproar_ingest_refused_total{cause=\"too_fast\"} 995\n".into(),
        ] {
            assert!(text.contains(&line), "{line} in\n{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_count_over_the_limit_can_be_clamped_and_the_answer_says_so() {
    let rig = Rig::open(Config { count_over_max: CountOverMax::Clamp, max_count: 10, ..config() }).await;
    let answer = rig.post("r", r#"{"reactions":{"a":1000,"b":3}}"#).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (202, "{\"accepted\":13}"));
    assert_eq!(rig.total("r"), 13);
    rig.reload(Config { max_count: 10, ..config() }).await;
    assert_eq!(rig.post("r", r#"{"reaction":"a","count":11}"#).await.status, 422);
}

#[tokio::test]
async fn a_connection_tells_its_peer() {
    let proxies = vec!["127.0.0.1".into()];
    let one = Config { rate_per_s: 1, rate_burst: 1, trusted_proxies: proxies, ..config() };
    let rig = Rig::open(one).await;
    let (address, _server) = rig.serve().await;
    let status = async |client: &str| {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let length = FIRE.len();
        let post = format!(
            "POST /v1/rooms/r/reactions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Forwarded-For: {client}\r\nContent-Length: {length}\r\n\r\n{FIRE}"
        );
        socket.write_all(post.as_bytes()).await.unwrap();
        let mut start = [0; 12];
        socket.read_exact(&mut start).await.unwrap();
        String::from_utf8_lossy(&start[9..]).into_owned()
    };
    assert_eq!(status("192.0.2.1").await, "202");
    assert_eq!(status("192.0.2.2").await, "202");
    assert_eq!(status("192.0.2.2").await, "429");
}

#[tokio::test(start_paused = true)]
async fn browsers_may_send_a_key_and_read_what_is_left() {
    let rig = Rig::open(two_a_second()).await;
    let answer = rig.ask(from("192.0.2.1", &[("origin", "https://a.example")], FIRE)).await;
    let exposed = answer.header("access-control-expose-headers").unwrap();
    let exposed: Vec<HeaderName> = exposed.split(',').map(|name| name.parse().unwrap()).collect();
    for name in ["retry-after", "ratelimit", "ratelimit-policy"] {
        assert!(exposed.iter().any(|header| header == name), "{exposed:?}");
    }
}
