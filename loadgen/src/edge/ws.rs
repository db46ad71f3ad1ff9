//! The few words of HTTP and of RFC 6455 that a viewer needs.

use std::borrow::Cow;

/// Of a server's frames, what a viewer tells apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    Text(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// With its code, where it has one.
    Close(Option<u16>),
}

/// Not what a server of RFC 6455 sends, or nothing that a viewer of small texts expects.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// Nonce and answer from the RFC's own example: what is tested here is not the handshake.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The request that opens a WebSocket.
pub(crate) fn upgrade(host: &str, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
    .into_bytes()
}

/// Splits the answer to [`upgrade`] off `bytes`, with its length; `None` while some of it is missing. Otherwise the
/// first line of the refusal.
pub(crate) fn take_answer(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some((head, length)) = take_head(bytes)? else { return Ok(None) };
    let first = head.lines().next().unwrap_or_default();
    if first.split(' ').nth(1) != Some("101") {
        return Err(first.to_owned());
    }
    let right =
        head.lines().any(|line| line.rsplit_once(": ").is_some_and(|(_, value)| value.trim() == ACCEPT));
    if right { Ok(Some(length)) } else { Err("101 with a wrong Sec-WebSocket-Accept".to_owned()) }
}

/// Splits the head of an answer off `bytes`, with its length; `None` while some of it is missing.
pub(crate) fn take_head(bytes: &[u8]) -> Result<Option<(Cow<'_, str>, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > 8_192 { Err("an endless answer".to_owned()) } else { Ok(None) };
    };
    Ok(Some((String::from_utf8_lossy(&bytes[..end]), end + 4)))
}

/// Splits the first frame off `bytes`, with its length; `None` while some of it is missing.
pub(crate) fn take(bytes: &[u8]) -> Result<Option<(Message<'_>, usize)>, Broken> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    let (length, start) = match (second, rest) {
        // Only clients mask.
        (128.., _) => return Err(Broken),
        (126, [a, b, ..]) => (usize::from(u16::from_be_bytes([*a, *b])), 4),
        // A text beyond 64 KiB is no frame of a room.
        (127, _) => return Err(Broken),
        (126, _) => return Ok(None),
        (length, _) => (usize::from(*length), 2),
    };
    let Some(payload) = bytes.get(start..start + length) else { return Ok(None) };
    let message = match first {
        0x81 => Message::Text(payload),
        0x88 => Message::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
        0x89 => Message::Ping(payload),
        0x8A => Message::Pong,
        // Fragments, binary, extensions.
        _ => return Err(Broken),
    };
    Ok(Some((message, start + length)))
}

/// The pong to a ping. Its mask is zero, which is as good as any where no proxy is fooled.
pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
    // A ping has at most 125 bytes.
    let length = u8::try_from(payload.len()).unwrap_or(125).min(125);
    let mut frame = vec![0x8A, 0x80 | length, 0, 0, 0, 0];
    frame.extend(&payload[..usize::from(length)]);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap();
        let mut frame = match length {
            0..126 => vec![0x81, length as u8],
            _ => [vec![0x81, 126], length.to_be_bytes().to_vec()].concat(),
        };
        frame.extend(payload);
        frame
    }

    #[test]
    fn a_text_is_read_back_wherever_it_is_split() {
        for size in [0, 1, 125, 126, 300, 9_000] {
            let payload = vec![b'x'; size];
            let whole = text(&payload);
            for cut in 0..whole.len() {
                assert_eq!(take(&whole[..cut]), Ok(None), "{cut} of {}", whole.len());
            }
            let two = [&whole[..], &[0x89, 1, b'p']].concat();
            assert_eq!(take(&two), Ok(Some((Message::Text(&payload), whole.len()))));
            assert_eq!(take(&two[whole.len()..]), Ok(Some((Message::Ping(b"p"), 3))));
        }
    }

    #[test]
    fn a_close_tells_its_code() {
        assert_eq!(take(&[0x88, 2, 0x03, 0xF4]), Ok(Some((Message::Close(Some(1012)), 4))));
        assert_eq!(take(&[0x88, 0]), Ok(Some((Message::Close(None), 2))));
    }

    #[test]
    fn what_no_viewer_expects_is_refused() {
        for bytes in [&[0x81, 0x81, 0, 0][..], &[0x01, 0], &[0x82, 0], &[0xC1, 0], &[0x81, 127, 0]] {
            assert_eq!(take(bytes), Err(Broken), "{bytes:?}");
        }
    }

    #[test]
    fn the_answer_ends_where_the_frames_begin() {
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nsec-websocket-accept: {ACCEPT}\r\n\r\n"
        );
        assert_eq!(take_answer(&answer.as_bytes()[..answer.len() - 1]), Ok(None));
        let with_frame = [answer.as_bytes(), &text(b"{}")].concat();
        assert_eq!(take_answer(&with_frame), Ok(Some(answer.len())));
        let full = take_answer(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\r\n");
        assert_eq!(full, Err("HTTP/1.1 503 Service Unavailable".to_owned()));
        assert!(take_answer(b"HTTP/1.1 101 Switching\r\nsec-websocket-accept: x\r\n\r\n").is_err());
    }

    #[test]
    fn a_pong_is_masked_and_echoes() {
        assert_eq!(pong(b"ab"), [0x8A, 0x82, 0, 0, 0, 0, b'a', b'b']);
    }
}
