//! Answers that are whole before they are written, and short: they need no body that is polled, and no map of headers.

use super::offer::{Offer, Taker};
use crate::Problem;
use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt as _, Collected};
use std::{cell::RefCell, io::Write as _, time::SystemTime};

/// Browsers don't take a body for another type than it says: answers may quote what a client sent.
pub(super) const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// A short answer.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    /// Empty: it has none, or stands among the headers.
    content_type: &'static str,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    /// Who goes on with the socket behind the head.
    taker: Option<Taker>,
}

impl Answer {
    /// An answer with a body.
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, headers: Vec::new(), body: body.into(), taker: None }
    }

    /// All of a response, put together; or its head, where the socket was taken.
    pub(super) async fn of(response: Response, offer: &Offer) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
        let mut headers = parts.headers;
        // These are written with each answer.
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::X_CONTENT_TYPE_OPTIONS);
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        Self { status: parts.status, content_type: "", headers, body, taker: offer.taker() }
    }

    /// Adds a header, which it has not yet. Lengths, types and dates are there without.
    pub fn add(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.push((name, value));
    }

    /// Who gets the socket when it is written.
    pub(super) fn taker(self) -> Option<Taker> {
        self.taker
    }

    /// Adds the answer as HTTP/1.1 has it. `tick` changes when time has passed; `last` says that the connection ends.
    pub(super) fn write(&self, to: &mut Vec<u8>, tick: u32, last: bool) {
        to.extend_from_slice(b"HTTP/1.1 ");
        to.extend_from_slice(self.status.as_str().as_bytes());
        to.push(b' ');
        to.extend_from_slice(self.status.canonical_reason().unwrap_or_default().as_bytes());
        to.extend_from_slice(b"\r\nx-content-type-options: nosniff");
        if !self.content_type.is_empty() {
            to.extend_from_slice(b"\r\ncontent-type: ");
            to.extend_from_slice(self.content_type.as_bytes());
        }
        for (name, value) in &self.headers {
            to.extend_from_slice(b"\r\n");
            to.extend_from_slice(name.as_str().as_bytes());
            to.extend_from_slice(b": ");
            to.extend_from_slice(value.as_bytes());
        }
        let body_open = self.taker.is_some();
        if last || body_open {
            to.extend_from_slice(b"\r\nconnection: close");
        }
        push_date(to, tick);
        // These two have no body whatever they say (RFC 9110, section 8.6).
        let bodiless = matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if !body_open && !bodiless {
            to.extend_from_slice(b"\r\ncontent-length: ");
            push_number(to, self.body.len());
        }
        to.extend_from_slice(b"\r\n\r\n");
        to.extend_from_slice(&self.body);
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        if !self.content_type.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        headers.extend(self.headers);
        response
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut answer = Self::new(problem.status(), "application/problem+json", body);
        if let Some(seconds) = problem.retry_after_s() {
            answer.add(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }
}

fn push_number(to: &mut Vec<u8>, number: usize) {
    match u8::try_from(number) {
        // Those that come most, without the machinery of formatting.
        Ok(number @ 10..=99) => to.extend_from_slice(&[b'0' + number / 10, b'0' + number % 10]),
        _ => {
            let _ = write!(to, "{number}");
        }
    }
}

/// Adds the header `date`, which is made anew when `tick` has changed.
fn push_date(to: &mut Vec<u8>, tick: u32) {
    thread_local!(static DATE: RefCell<(Option<u32>, String)> = const { RefCell::new((None, String::new())) });
    DATE.with_borrow_mut(|(made_at, date)| {
        if *made_at != Some(tick) {
            *date = format!("\r\ndate: {}", httpdate::fmt_http_date(SystemTime::now()));
            *made_at = Some(tick);
        }
        to.extend_from_slice(date.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(answer: &Answer, last: bool) -> String {
        let mut bytes = Vec::new();
        answer.write(&mut bytes, 0, last);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_answer_is_written_with_its_length_and_the_date() {
        let mut answer = Answer::new(StatusCode::ACCEPTED, "application/json", "{}");
        answer.add(header::VARY, HeaderValue::from_static("origin"));
        let text = written(&answer, false);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let (start, rest) = head.split_once("\r\ndate: ").unwrap();
        let (date, length) = rest.split_once("\r\n").unwrap();
        assert_eq!(
            start,
            "HTTP/1.1 202 Accepted\r\nx-content-type-options: nosniff\r\ncontent-type: application/json\r\nvary: origin"
        );
        assert_eq!((length, body), ("content-length: 2", "{}"));
        let age = SystemTime::now().duration_since(httpdate::parse_http_date(date).unwrap()).unwrap();
        assert!(age.as_secs() < 10, "{date}");
        assert!(written(&answer, true).contains("\r\nconnection: close\r\n"));
    }

    #[test]
    fn the_length_is_right_whatever_it_is() {
        for length in [0, 1, 9, 10, 14, 99, 100, 255, 256, 1_000, 65_536] {
            let answer = Answer::new(StatusCode::OK, "text/plain", vec![b'x'; length]);
            let text = written(&answer, false);
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.ends_with(&format!("\r\ncontent-length: {length}")), "{head}");
            assert_eq!(body.len(), length);
        }
    }

    #[test]
    fn what_has_no_body_has_no_length() {
        for status in [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED] {
            let text = written(&Answer::new(status, "", ""), false);
            assert!(text.ends_with("\r\n\r\n") && !text.contains("length"), "{text}");
        }
    }

    #[test]
    fn a_response_has_a_type_only_where_there_is_one() {
        let response = Answer::new(StatusCode::NO_CONTENT, "", "").into_response();
        assert_eq!(response.headers().get(header::CONTENT_TYPE), None);
        assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        let response = Answer::new(StatusCode::OK, "text/plain", "x").into_response();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain");
    }

    #[test]
    fn the_date_is_made_anew_when_time_has_passed() {
        let dates = |tick| {
            let mut bytes = Vec::new();
            push_date(&mut bytes, tick);
            String::from_utf8(bytes).unwrap()
        };
        let first = dates(1);
        let later = || dates(2) != first;
        let start = SystemTime::now();
        while start.elapsed().unwrap().as_millis() < 1_100 {
            assert_eq!(dates(1), first);
            std::thread::yield_now();
        }
        assert!(later());
    }
}
