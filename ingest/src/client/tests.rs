//! Who is believed, and how far back the way is followed.

use super::*;
use crate::config::tests::config;
use axum::http::HeaderValue;

fn trust(change: impl FnOnce(&mut Config)) -> Trust {
    let mut config =
        Config { trusted_proxies: vec!["10.0.0.0/8".into(), "2001:db8:1::/48".into()], ..config() };
    change(&mut config);
    Trust::of(&config)
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn seen(trust: &Trust, peer: &str, lines: &[(&'static str, &'static str)]) -> String {
    match trust.client(address(peer), &headers(lines)) {
        Client::Address(address) => address.to_string(),
        Client::Subject(subject) => format!("subject {}", String::from_utf8_lossy(subject)),
    }
}

const XFF: &str = "x-forwarded-for";

#[test]
fn whoever_is_no_trusted_proxy_is_the_client_whatever_he_says() {
    let trust = trust(|c| c.subject_header = "X-Client-Subject".into());
    for peer in ["192.0.2.1", "::ffff:192.0.2.1"] {
        let lines = [(XFF, "1.1.1.1"), ("forwarded", "for=1.1.1.1"), ("x-client-subject", "admin")];
        assert_eq!(seen(&trust, peer, &lines), "192.0.2.1");
    }
}

#[test]
fn with_no_proxies_nobody_is_believed() {
    let trust = trust(|c| c.trusted_proxies.clear());
    assert_eq!(seen(&trust, "10.0.0.1", &[(XFF, "1.1.1.1")]), "10.0.0.1");
}

#[test]
fn behind_proxies_it_is_the_rightmost_address_that_is_not_a_proxy() {
    let trust = trust(|_| {});
    for (value, client) in [
        ("192.0.2.1", "192.0.2.1"),
        ("9.9.9.9, 192.0.2.1", "192.0.2.1"),
        ("9.9.9.9,192.0.2.1 , 10.0.0.7,10.1.2.3", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db8:2:3::1]:4711, 2001:db8:1::7", "2001:db8:2:3::"),
        ("::ffff:192.0.2.1, ::ffff:10.0.0.7", "192.0.2.1"),
        ("9.9.9.9, , 192.0.2.1,", "192.0.2.1"),
        // Proxies all the way: the farthest.
        ("10.0.0.8, 10.0.0.7", "10.0.0.8"),
    ] {
        assert_eq!(seen(&trust, "10.0.0.1", &[(XFF, value)]), client, "{value}");
    }
    assert_eq!(seen(&trust, "::ffff:10.0.0.1", &[(XFF, "192.0.2.1")]), "192.0.2.1");
    assert_eq!(seen(&trust, "10.0.0.1", &[(XFF, "9.9.9.9, 192.0.2.1"), (XFF, "10.0.0.7")]), "192.0.2.1");
    assert_eq!(seen(&trust, "10.0.0.1", &[]), "10.0.0.1");
}

#[test]
fn at_garbage_the_way_ends_with_the_last_good_address() {
    let trust = trust(|_| {});
    for (value, client) in [
        ("nonsense", "10.0.0.1"),
        ("192.0.2.1, nonsense", "10.0.0.1"),
        ("192.0.2.1, unknown, 10.0.0.7", "10.0.0.7"),
        ("nonsense, 192.0.2.1, 10.0.0.7", "192.0.2.1"),
    ] {
        assert_eq!(seen(&trust, "10.0.0.1", &[(XFF, value)]), client, "{value}");
    }
}

#[test]
fn only_the_configured_header_counts() {
    let lines = [(XFF, "192.0.2.1"), ("forwarded", "for=192.0.2.2;proto=https, for=\"10.0.0.7:1\"")];
    assert_eq!(seen(&trust(|_| {}), "10.0.0.1", &lines), "192.0.2.1");
    let by_forwarded = trust(|c| c.forwarded_header = ForwardedHeader::Forwarded);
    assert_eq!(seen(&by_forwarded, "10.0.0.1", &lines), "192.0.2.2");
}

#[test]
fn the_way_back_is_followed_only_so_far() {
    let trust = trust(|_| {});
    let hops = vec![Some(address("10.0.0.2")); HOPS_MAX];
    let way = hops.into_iter().chain([Some(address("192.0.2.1"))]);
    assert_eq!(trust.walk(address("10.0.0.1"), way), address("10.0.0.2"));
}

#[test]
fn an_ipv6_client_is_its_network() {
    let (by_64, by_48, by_128) =
        (trust(|_| {}), trust(|c| c.ipv6_prefix_bits = 48), trust(|c| c.ipv6_prefix_bits = 128));
    let peer = "2001:db8:2:3:4:5:6:7";
    assert_eq!(seen(&by_64, peer, &[]), "2001:db8:2:3::");
    assert_eq!(seen(&by_48, peer, &[]), "2001:db8:2::");
    assert_eq!(seen(&by_128, peer, &[]), peer);
    assert_eq!(seen(&by_48, "192.0.2.1", &[]), "192.0.2.1");
}

#[test]
fn a_trusted_gateway_names_the_subject() {
    let trust = trust(|c| c.subject_header = "X-Client-Subject".into());
    let subject = |value| ("x-client-subject", value);
    assert_eq!(seen(&trust, "10.0.0.1", &[subject("u-7"), (XFF, "192.0.2.1")]), "subject u-7");
    let long: &'static str = "x".repeat(257).leak();
    for lines in [&[subject("")][..], &[subject(long)], &[subject("u-7"), subject("u-8")], &[]] {
        let lines = [lines, &[(XFF, "192.0.2.1")]].concat();
        assert_eq!(seen(&trust, "10.0.0.1", &lines), "192.0.2.1", "{lines:?}");
    }
}

#[test]
fn networks_are_read_strictly() {
    for text in ["10.0.0.0/8", "192.0.2.1", "::1", "2001:db8::/32"] {
        assert!(network(text).is_ok(), "{text}");
    }
    for text in ["", "10.0.0.0/33", "proxy.example", "10.0.0", "::ffff:10.0.0.0/104"] {
        assert!(network(text).is_err(), "{text}");
    }
}
