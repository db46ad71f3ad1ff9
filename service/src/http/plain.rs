//! Which requests are plain: complete, and without anything that has to be known of HTTP beyond a length. Pure.
//!
//! What is not plain is not an error: the HTTP library reads the same bytes again, from their start, and judges. So nothing is
//! decided here that could be decided differently there.

use axum::{
    body::{Body, Bytes},
    http,
};
use httparse::{Header, Request, Status};
use std::{mem::MaybeUninit, net::Ipv6Addr};

/// A request with more headers is not plain.
const HEADERS_MAX: usize = 32;

/// A plain request, as it lies in a buffer.
#[derive(Debug)]
pub struct Plain<'a> {
    /// The method.
    pub method: &'a str,
    /// The target of the request; nearly always a path.
    pub target: &'a str,
    /// The whole body.
    pub body: &'a [u8],
    /// The connection ends with the answer (RFC 9112, section 9.6).
    pub(super) closes: bool,
    headers: &'a [Header<'a>],
}

impl<'a> Plain<'a> {
    /// The headers as they were sent: names in any case.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.headers.iter().map(|header| (header.name, header.value))
    }

    /// A copy as routes take it, if it can be one.
    pub(super) fn to_request(&self) -> Option<http::Request<Body>> {
        let mut request = http::Request::builder().method(self.method).uri(self.target);
        for (name, value) in self.headers() {
            request = request.header(name, value);
        }
        request.body(Bytes::copy_from_slice(self.body).into()).ok()
    }
}

/// What bytes begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// A plain request of so many bytes, which was taken.
    Whole(usize),
    /// What may become a plain request.
    Part,
    /// Something else.
    Unusual,
}

/// The most that a plain request may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Its head.
    pub(super) head: usize,
    /// All of it.
    pub(super) whole: usize,
}

/// Looks at the request at the start of `bytes`, and has `take` take it if it is plain, or say that it doesn't.
pub(super) fn look(bytes: &[u8], bounds: Bounds, take: impl FnOnce(&Plain<'_>) -> bool) -> Seen {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = Request::new(&mut []);
    let head = match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(Status::Complete(head)) if head <= bounds.head => head,
        Ok(Status::Partial) if bytes.len() < bounds.head => return Seen::Part,
        _ => return Seen::Unusual,
    };
    let (Some(method), Some(target), Some(1)) = (request.method, request.path, request.version) else {
        return Seen::Unusual;
    };
    let Some((length, closes)) = framing(request.headers) else { return Seen::Unusual };
    let whole = head + length;
    if whole > bounds.whole {
        return Seen::Unusual;
    }
    let Some(body) = bytes.get(head..whole) else { return Seen::Part };
    let taken = take(&Plain { method, target, body, closes, headers: request.headers });
    if taken { Seen::Whole(whole) } else { Seen::Unusual }
}

/// The length of the body, and whether the connection ends, if these are the headers of a plain request.
fn framing(headers: &[Header<'_>]) -> Option<(usize, bool)> {
    let (mut hosts, mut lengths, mut length, mut closes) = (0, 0, 0, false);
    for Header { name, value } in headers {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        // By length first: most are none of these.
        match name.len() {
            4 if is("host") => {
                hosts += 1;
                if !is_host(value) {
                    return None;
                }
            }
            14 if is("content-length") => {
                lengths += 1;
                length = digits(value)?;
            }
            10 if is("connection") && value.eq_ignore_ascii_case(b"close") => closes = true,
            10 if is("connection") && !value.eq_ignore_ascii_case(b"keep-alive") => return None,
            2 if is("te") => return None,
            6 if is("expect") => return None,
            7 if is("upgrade") || is("trailer") => return None,
            14 if is("http2-settings") => return None,
            17 if is("transfer-encoding") => return None,
            _ => {}
        }
    }
    // Without a length there is no body (RFC 9112, 6.3).
    (hosts == 1 && lengths <= 1).then_some((length, closes))
}

/// The longest name or address in a Host header: that of a domain name (RFC 1035, section 2.3.4).
const HOST_MAX: usize = 255;

/// Whether a Host header may have this value: a name or an address, and perhaps a port (RFC 3986, section 3.2). It may be
/// empty, which it has to be where the target of the request has no host (RFC 9110, section 7.2).
pub(super) fn is_host(value: &[u8]) -> bool {
    let (is_right, port) = match value {
        [b'[', address @ ..] => {
            let Some(end) = address.iter().position(|byte| *byte == b']') else { return false };
            let is_right = str::from_utf8(&address[..end]).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
            (is_right, &address[end + 1..])
        }
        _ => {
            let end = value.iter().position(|byte| *byte == b':').unwrap_or(value.len());
            (end <= HOST_MAX && is_host_name(&value[..end]), &value[end..])
        }
    };
    is_right
        && matches!(port, [] | [b':', ..])
        && port.len() <= 6
        && port.iter().skip(1).all(u8::is_ascii_digit)
}

fn is_host_name(name: &[u8]) -> bool {
    let is_right =
        |byte: &u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~');
    let is_escape =
        |at: usize| name.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    name.iter().enumerate().all(|(at, byte)| match byte {
        byte if is_right(byte) => true,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => true,
        b'%' => is_escape(at),
        _ => false,
    })
}

fn digits(value: &[u8]) -> Option<usize> {
    if !(1..=10).contains(&value.len()) || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    usize::try_from(value.iter().fold(0, |sum: u64, digit| sum * 10 + u64::from(digit - b'0'))).ok()
}

#[cfg(test)]
mod tests;
