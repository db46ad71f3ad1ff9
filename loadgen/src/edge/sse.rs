//! The few words of HTTP and of server-sent events (HTML standard, 9.2) that a viewer needs.

use super::ws;

/// The request for a room's events, as a browser's EventSource makes it.
pub(crate) fn request(host: &str, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\nCache-Control: no-store\r\n\r\n"
    )
    .into_bytes()
}

/// Splits the answer to [`request`] off `bytes`, with its length; `None` while some of it is missing. Otherwise the
/// first line of the refusal.
pub(crate) fn take_answer(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some((head, length)) = ws::take_head(bytes)? else { return Ok(None) };
    let first = head.lines().next().unwrap_or_default();
    let is_stream = |line: &str| line.eq_ignore_ascii_case("content-type: text/event-stream");
    match first.split(' ').nth(1) {
        Some("200") if head.lines().any(is_stream) => Ok(Some(length)),
        Some("200") => Err("200 with another content type".to_owned()),
        _ => Err(first.to_owned()),
    }
}

/// Splits the first event off `bytes`: the data of a frame, where it is one, and its length; `None` while some of it is missing.
/// Events of another kind, such as the greeting, name it. Where
/// the body is chunked, the lines between chunks are taken for fields that nobody knows: each event is one chunk.
pub(crate) fn take(bytes: &[u8]) -> Option<(Option<&[u8]>, usize)> {
    let end = bytes.windows(2).position(|window| window == b"\n\n")?;
    let mut lines = bytes[..end].split(|byte| *byte == b'\n');
    let is_frame = !lines.clone().any(|line| line.starts_with(b"event:"));
    let data = lines.find_map(|line| line.strip_prefix(b"data: ")).filter(|_| is_frame);
    Some((data, end + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_ends_with_an_empty_line_and_may_have_no_data() {
        let bytes = b"id: 1-2\ndata: {\"v\":1}\n\n:\n\nretry: 5\n\nid";
        let (data, length) = take(bytes).unwrap();
        assert_eq!(data, Some(&b"{\"v\":1}"[..]));
        for cut in 0..length {
            assert_eq!(take(&bytes[..cut]), None);
        }
        assert_eq!(take(&bytes[length..]), Some((None, 3)));
        assert_eq!(take(&bytes[length + 3..]), Some((None, 10)));
        assert_eq!(take(&bytes[length + 13..]), None);
    }

    #[test]
    fn an_event_of_another_kind_is_no_frame() {
        let hello = b"event: hello\ndata: {\"hello\":1}\n\n";
        assert_eq!(take(hello), Some((None, hello.len())));
    }

    #[test]
    fn chunks_are_passed_over() {
        let bytes = b"17\r\nid: 1-2\ndata: {\"v\":1}\n\n\r\n3\r\n:\n\n\r\n";
        let (data, length) = take(bytes).unwrap();
        assert_eq!(data, Some(&b"{\"v\":1}"[..]));
        assert_eq!(take(&bytes[length..]), Some((None, 8)));
    }

    #[test]
    fn the_answer_ends_where_the_events_begin() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
        assert_eq!(take_answer(&answer[..answer.len() - 1]), Ok(None));
        assert_eq!(take_answer(&[answer, &b":\n\n"[..]].concat()), Ok(Some(answer.len())));
        let full = take_answer(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert_eq!(full, Err("HTTP/1.1 503 Service Unavailable".to_owned()));
        assert!(take_answer(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n").is_err());
    }
}
