//! As much of HTTP/1.1 as it takes to read short answers of a known length.

/// Header lines of an answer at most.
const HEADERS_MAX: usize = 64;
/// Bytes of an answer at most.
const BYTES_MAX: usize = 64 << 10;

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
    /// The server closes the connection after it.
    pub(crate) last: bool,
    /// Bytes that it takes, with interim answers before it.
    pub(crate) length: usize,
}

/// The first answer in `bytes`; `None` while it isn't complete. An error is something that this reader doesn't
/// understand, in words.
pub(crate) fn take(bytes: &[u8]) -> Result<Option<Answer<'_>>, String> {
    let mut start = 0;
    loop {
        match one(&bytes[start..])? {
            // An interim answer such as 100 (Continue): the answer follows.
            Some(interim) if (100..200).contains(&interim.status) => start += interim.length,
            Some(answer) => return Ok(Some(Answer { length: start + answer.length, ..answer })),
            None if bytes.len() > BYTES_MAX => {
                return Err(format!("an answer of more than {BYTES_MAX} bytes"));
            }
            None => return Ok(None),
        }
    }
}

fn one(bytes: &[u8]) -> Result<Option<Answer<'_>>, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(bytes).map_err(|error| format!("not an answer in HTTP/1.1: {error}"))?;
    let httparse::Status::Complete(head_length) = parsed else { return Ok(None) };
    let status = head.code.unwrap_or(0);
    let mut length = None;
    let mut last = head.version == Some(0);
    for header in head.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).unwrap_or_default();
            let number = text.trim().parse::<usize>().ok();
            let number = number.filter(|number| *number <= BYTES_MAX);
            length = Some(number.ok_or_else(|| format!("a content-length of {text:?}"))?);
        } else if header.name.eq_ignore_ascii_case("connection") {
            last |= header.value.eq_ignore_ascii_case(b"close");
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(
                "an answer with a transfer-encoding (chunked), which is not understood here".to_owned()
            );
        }
    }
    let without_body = (100..200).contains(&status) || status == 204 || status == 304;
    let length = match length {
        _ if without_body => 0,
        Some(length) => length,
        None => return Err(format!("an answer ({status}) without a content-length")),
    };
    let body = bytes[head_length..].get(..length);
    Ok(body.map(|body| Answer { status, body, last, length: head_length + length }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPTED: &[u8] =
        b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n{\"accepted\":1}";

    #[test]
    fn an_answer_is_whole_only_with_its_last_byte() {
        for cut in 0..ACCEPTED.len() {
            assert_eq!(take(&ACCEPTED[..cut]), Ok(None), "{cut}");
        }
        let answer = take(ACCEPTED).unwrap().unwrap();
        assert_eq!((answer.status, answer.length, answer.last), (202, ACCEPTED.len(), false));
        assert_eq!(answer.body, b"{\"accepted\":1}");
    }

    #[test]
    fn answers_behind_each_other_are_taken_one_by_one() {
        let refused = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}";
        let bytes = [ACCEPTED, refused, &ACCEPTED[..20]].concat();
        let first = take(&bytes).unwrap().unwrap().length;
        assert_eq!(first, ACCEPTED.len());
        let second = take(&bytes[first..]).unwrap().unwrap();
        assert_eq!((second.status, second.length), (503, refused.len()));
        assert_eq!(take(&bytes[first + second.length..]), Ok(None));
    }

    #[test]
    fn an_interim_answer_is_passed_over() {
        let bytes = [b"HTTP/1.1 100 Continue\r\n\r\n", ACCEPTED].concat();
        assert_eq!(take(&bytes[..25]), Ok(None));
        let answer = take(&bytes).unwrap().unwrap();
        assert_eq!((answer.status, answer.length), (202, bytes.len()));
    }

    #[test]
    fn an_answer_without_a_body_needs_no_length() {
        assert_eq!(take(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap().body, b"");
        assert_eq!(take(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").unwrap().unwrap().body, b"");
    }

    #[test]
    fn the_last_answer_of_a_connection_says_so() {
        let last = |bytes: &[u8]| take(bytes).unwrap().unwrap().last;
        assert!(last(b"HTTP/1.1 202 Accepted\r\nConnection: Close\r\ncontent-length: 0\r\n\r\n"));
        assert!(last(b"HTTP/1.0 202 Accepted\r\ncontent-length: 0\r\n\r\n"));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let said = |bytes: &[u8]| take(bytes).unwrap_err();
        assert!(said(b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n").contains("chunked"));
        assert!(said(b"HTTP/1.1 202 Accepted\r\n\r\n").contains("(202) without a content-length"));
        assert!(
            said(b"HTTP/1.1 202 Accepted\r\ncontent-length: -1\r\n\r\n").contains("content-length of \"-1\"")
        );
        assert!(said(b"SSH-2.0-OpenSSH\r\n").contains("not an answer in HTTP/1.1"));
        let endless = [b"HTTP/1.1 202 Accepted\r\nx: ".as_slice(), &[b'x'; BYTES_MAX]].concat();
        assert!(said(&endless).contains("more than 65536 bytes"));
    }
}
