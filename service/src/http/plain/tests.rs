//! What is plain, and that it is read the same however it comes.

use super::*;
use proptest::prelude::*;

const BOUNDS: Bounds = Bounds { head: 8_192, whole: 16_384 };
const POST: &str =
    "POST /a HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

#[derive(Debug, Clone, PartialEq, Eq)]
struct Read {
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    closes: bool,
}

/// What was seen, and read if it was plain.
fn read(bytes: &[u8]) -> (Seen, Option<Read>) {
    let mut read = None;
    let seen = look(bytes, BOUNDS, |request| {
        read = Some(Read {
            method: request.method.into(),
            target: request.target.into(),
            headers: request.headers().map(|(name, value)| (name.to_lowercase(), value.into())).collect(),
            body: request.body.into(),
            closes: request.closes,
        });
        true
    });
    (seen, read)
}

fn seen(bytes: &[u8]) -> Seen {
    read(bytes).0
}

/// A request with `headers` after its host and before its length.
fn with(headers: &str) -> String {
    format!("POST /a HTTP/1.1\r\nhost: x\r\n{headers}content-length: 2\r\n\r\n{{}}")
}

#[test]
fn a_plain_request_is_read_and_what_follows_it_is_left() {
    let bytes = [POST, "POST "].concat();
    let (Seen::Whole(length), Some(read)) = read(bytes.as_bytes()) else { panic!() };
    assert_eq!(
        (&*read.method, &*read.target, &*read.body, length),
        ("POST", "/a", b"{}".as_slice(), POST.len())
    );
    assert_eq!(read.headers[1], ("content-type".into(), b"application/json".into()));
}

#[test]
fn headers_that_change_nothing_for_the_connection_are_plain() {
    for headers in ["", "connection: keep-alive\r\n", "Connection: Keep-Alive\r\n", "origin: y\r\nx: é\r\n"]
    {
        assert!(
            matches!(read(with(headers).as_bytes()), (Seen::Whole(_), Some(read)) if !read.closes),
            "{headers}"
        );
    }
    // As long as names that would, and what pages and proxies send.
    for name in ["dn", "origin", "referer", "x-real-ip4", "accept-charset", "if-modified-since"] {
        assert!(matches!(seen(with(&format!("{name}: 7\r\n")).as_bytes()), Seen::Whole(_)), "{name}");
    }
    let no_body = "OPTIONS /a HTTP/1.1\r\nhost: x\r\n\r\n";
    assert!(matches!(read(no_body.as_bytes()), (Seen::Whole(_), Some(read)) if read.body.is_empty()));
}

#[test]
fn a_request_may_say_that_it_is_the_last() {
    for headers in ["connection: close\r\n", "Connection: Close\r\nconnection: keep-alive\r\n"] {
        assert!(
            matches!(read(with(headers).as_bytes()), (Seen::Whole(_), Some(read)) if read.closes),
            "{headers}"
        );
    }
}

#[test]
fn what_takes_more_than_a_length_to_understand_is_unusual() {
    for headers in [
        "connection: close, x\r\n",
        "connection: keep-alive, upgrade\r\n",
        "connection:\r\n",
        "transfer-encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "expect: 100-continue\r\n",
        "upgrade: websocket\r\n",
        "http2-settings: AAMAAABkAAQAAP__\r\n",
        "te: trailers\r\n",
        "trailer: x\r\n",
        "host: x\r\n",
        "content-length: 2\r\n",
        "content-length: 3\r\n",
        "folded: a\r\n b\r\n",
        "spaced : a\r\n",
        ": a\r\n",
        "x: a\0\r\n",
        "x: a\rb\r\n",
        &"x: y\r\n".repeat(HEADERS_MAX),
    ] {
        assert_eq!(seen(with(headers).as_bytes()), Seen::Unusual, "{headers:?}");
    }
    for length in ["", "+2", "-2", "0x2", "2, 2", "2 2", "18446744073709551618", "16384"] {
        let bytes = POST.replace("Length: 2", &format!("Length: {length}"));
        assert_eq!(seen(bytes.as_bytes()), Seen::Unusual, "{length:?}");
    }
    for bytes in [
        "POST /a HTTP/1.0\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
        "POST /a HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
        "POST /a\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01",
    ] {
        assert_eq!(seen(bytes.as_bytes()), Seen::Unusual, "{bytes:?}");
    }
}

#[test]
fn what_is_not_taken_is_unusual() {
    assert_eq!(look(POST.as_bytes(), BOUNDS, |_| false), Seen::Unusual);
}

#[test]
fn a_request_that_is_longer_than_the_bounds_is_unusual_at_once() {
    let head = POST.len() - 2;
    for (head_max, whole_max, plain) in
        [(head, POST.len(), true), (head - 1, POST.len(), false), (head, POST.len() - 1, false)]
    {
        let bounds = Bounds { head: head_max, whole: whole_max };
        let seen = look(POST.as_bytes(), bounds, |_| true);
        assert_eq!(matches!(seen, Seen::Whole(_)), plain, "{bounds:?}");
        // Bounded also while it is not there.
        let seen = look(&POST.as_bytes()[..head - 1], bounds, |_| true);
        assert_eq!(seen == Seen::Part, head_max >= head, "{bounds:?}");
    }
    let long = POST.replace("Length: 2", "Length: 9999999999");
    assert_eq!(seen(long.as_bytes()), Seen::Unusual);
}

/// Pieces of requests, right and wrong ones.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "POST ",
            "OPTIONS ",
            "GET ",
            "/a",
            " HTTP/1.1",
            " HTTP/1.0",
            "\r\n",
            "\n",
            "\r",
            "\r\n\r\n",
            "Host: x",
            "host:",
            "Content-Length: ",
            "content-length: 2",
            "0",
            "2",
            "99999",
            "Connection: keep-alive",
            "connection: close",
            "Transfer-Encoding: chunked",
            "Expect: 100-continue",
            "x: y",
            " ",
            "\t",
            ":",
            ",",
            "{}",
            POST,
            "\0",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    let request_like = prop::collection::vec(piece.clone(), 0..12).prop_map(|pieces| pieces.concat());
    // A right request into which something is put.
    let mended = (piece, 0..POST.len())
        .prop_map(|(piece, at)| [&POST.as_bytes()[..at], &piece[..], &POST.as_bytes()[at..]].concat());
    prop_oneof![request_like, mended, of_lines().prop_map(|request| request.bytes)]
}

/// A request made of whole header lines, some of them right and some wrong.
#[derive(Debug, Clone)]
struct OfLines {
    bytes: Vec<u8>,
    lines: Vec<&'static str>,
}

fn of_lines() -> impl Strategy<Value = OfLines> {
    let line = prop::sample::select(vec![
        "Connection: keep-alive",
        "Connection: Close",
        "connection: close",
        "connection:  close ",
        "connection: close, x",
        "connection: keep-alive, close",
        "connection:",
        "Content-Type: application/json",
        "origin: https://a.example",
        "accept-encoding: gzip",
        "user-agent: x",
        "host: y",
        "content-length: 2",
        "transfer-encoding: chunked",
        "te: trailers",
        "expect: 100-continue",
    ]);
    // Right ones more often: else hardly any request is plain.
    let right =
        prop::sample::select(vec!["Connection: keep-alive", "connection: Close", "x: y", "origin: z"]);
    let lines = prop::collection::vec(prop_oneof![4 => right, 1 => line], 0..8);
    let mutation = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    (lines, mutation).prop_map(|(lines, mutation)| {
        let headers: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let mut bytes = with(&headers).into_bytes();
        if let Some((at, byte)) = mutation {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        OfLines { bytes, lines }
    })
}

/// The generator makes what the oracle is there for.
#[test]
fn many_generated_requests_are_plain_and_have_each_connection_option() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let (mut runner, strategy) = (TestRunner::deterministic(), of_lines());
    let (mut close, mut keep, mut unusual) = (0, 0, 0);
    for _ in 0..2_000 {
        let request = strategy.new_tree(&mut runner).unwrap().current();
        match read(&request.bytes) {
            (Seen::Whole(_), Some(read)) => {
                let has_option =
                    request.lines.iter().any(|line| line.to_lowercase().starts_with("connection"));
                close += usize::from(read.closes);
                keep += usize::from(has_option && !read.closes);
            }
            _ => unusual += 1,
        }
    }
    assert!(close > 200 && keep > 100 && unusual > 200, "{close} close, {keep} keep, {unusual} unusual");
}

#[test]
fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
    let long = format!("{}:65535", "x".repeat(255));
    for right in [
        "",
        "x",
        "X.example",
        "a_b",
        "a:80",
        "a:",
        "1.2.3.4",
        "1.2.3.4:8080",
        "[::1]",
        "[::1]:8080",
        "a%20b",
        "~",
        "a,b",
        &long,
    ] {
        assert!(is_host(right.as_bytes()), "{right}");
        assert!(
            matches!(seen(POST.replace("Host: x", &format!("Host: {right}")).as_bytes()), Seen::Whole(_)),
            "{right}"
        );
    }
    let long = "x".repeat(256);
    for wrong in [
        "x y", "u@x", "u:p@x", "x/..", "http://x", "\"x\"", "x?", "x#", "a%2", "a%zz", "a:b", "a:80:80",
        "a:123456", "[::1", "[::1]x", "[x]", "::1", "é", "\\", "<", &long,
    ] {
        assert!(!is_host(wrong.as_bytes()), "{wrong}");
        assert_eq!(
            seen(POST.replace("Host: x", &format!("Host: {wrong}")).as_bytes()),
            Seen::Unusual,
            "{wrong}"
        );
    }
    assert!(!is_host(&[0xff]));
}

/// Bytes as characters, whatever they are.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// The lines of a head, read in the simplest way.
fn lines(head: &[u8]) -> Vec<String> {
    latin(head).split('\n').map(|line| line.trim_end_matches('\r').to_owned()).collect()
}

/// What is taken for plain says the same when it is read in the simplest way.
fn is_what_it_seems(bytes: &[u8]) {
    let (Seen::Whole(length), Some(read)) = read(bytes) else { return };
    let head = &bytes[..length - read.body.len()];
    assert_eq!(&bytes[head.len()..length], &read.body[..]);
    assert!(head.ends_with(b"\n\r\n") || head.ends_with(b"\n\n"), "{head:?}");
    let lines = lines(head);
    let mut lines = lines.iter().skip_while(|line| line.is_empty());
    let first = format!("{} {} HTTP/1.1", read.method, latin(read.target.as_bytes()));
    assert_eq!(lines.next().unwrap(), &first);
    let fields: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    assert_eq!(fields.len(), read.headers.len());
    let values = |name: &str| -> Vec<String> {
        let fields = fields.iter().map(|field| field.split_once(':').unwrap());
        fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned()).collect()
    };
    assert_eq!(values("host").len(), 1);
    let length = values("content-length");
    assert!(length.len() <= 1);
    let length = length.first().map_or(0, |length| length.parse::<usize>().unwrap());
    assert_eq!(length, read.body.len());
    for name in ["transfer-encoding", "expect", "upgrade", "te", "trailer", "http2-settings"] {
        assert!(values(name).is_empty(), "{name}");
    }
    let options = values("connection");
    let is = |value: &String, name: &str| value.eq_ignore_ascii_case(name);
    assert!(options.iter().all(|value| is(value, "keep-alive") || is(value, "close")), "{options:?}");
    assert_eq!(read.closes, options.iter().any(|value| is(value, "close")), "{options:?}");
}

/// What is said of a part stands when more has come.
fn stands(bytes: &[u8], at: usize) {
    match read(&bytes[..at]) {
        (Seen::Part, _) => {}
        said => assert_eq!(read(bytes), said),
    }
}

#[test]
fn fuzz_requests() {
    bolero::check!().for_each(|bytes: &[u8]| {
        is_what_it_seems(bytes);
        // Anywhere, but the same for the same bytes.
        let sum: usize = bytes.iter().map(|&byte| usize::from(byte)).sum();
        stands(bytes, sum % (bytes.len() + 1));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn whatever_is_taken_for_plain_is_what_it_seems(bytes in pieces()) {
        is_what_it_seems(&bytes);
    }

    #[test]
    fn more_bytes_change_nothing_that_was_said(bytes in pieces(), at in any::<prop::sample::Index>()) {
        stands(&bytes, at.index(bytes.len() + 1));
    }

    #[test]
    fn each_part_of_a_plain_request_may_become_one(at in 0..POST.len()) {
        prop_assert_eq!(seen(&POST.as_bytes()[..at]), Seen::Part);
    }
}
