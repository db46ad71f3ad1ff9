//! The pieces of JSON of which records are made, and which are read in the very form in which they are written. The
//! reader of JSON has the last word on all that is otherwise.

use crate::{Reaction, RoomName};

/// Writes a text, escaped where it has to be.
pub(crate) fn put_text(value: &mut Vec<u8>, text: &str) {
    if text.bytes().any(|byte| matches!(byte, b'"' | b'\\' | ..b' ')) {
        value.extend(crate::frame::to_json(&text));
    } else {
        put_quoted(value, text);
    }
}

/// Writes a text that holds nothing that is escaped.
pub(crate) fn put_quoted(value: &mut Vec<u8>, text: &str) {
    value.push(b'"');
    value.extend_from_slice(text.as_bytes());
    value.push(b'"');
}

/// Writes a number.
pub(crate) fn put_number(value: &mut Vec<u8>, n: u64) {
    value.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Writes what stands between the braces of counts by reaction.
pub(crate) fn put_counts<R: AsRef<str>>(value: &mut Vec<u8>, counts: impl IntoIterator<Item = (R, u64)>) {
    for (at, (reaction, n)) in counts.into_iter().enumerate() {
        if at > 0 {
            value.push(b',');
        }
        put_text(value, reaction.as_ref());
        value.push(b':');
        put_number(value, n);
    }
}

/// A room's name without escapes, in quotes, and what comes after it.
pub(crate) fn room(line: &[u8]) -> Option<(&str, &[u8])> {
    text(line).filter(|(room, _)| RoomName::check(room).is_ok())
}

/// A reaction without escapes and its count, and what comes after them.
pub(crate) fn count(line: &[u8]) -> Option<((&str, u64), &[u8])> {
    let (reaction, rest) = text(line)?;
    Reaction::check(reaction).ok()?;
    let (n, rest) = number(rest.strip_prefix(b":")?)?;
    Some(((reaction, n), rest))
}

/// A text without escapes, in quotes, and what comes after it.
pub fn text(line: &[u8]) -> Option<(&str, &[u8])> {
    let line = line.strip_prefix(b"\"")?;
    let end = line.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' '))?;
    let after = line[end..].strip_prefix(b"\"")?;
    Some((str::from_utf8(&line[..end]).ok()?, after))
}

/// A number of at most 19 digits, and what comes after it.
pub fn number(line: &[u8]) -> Option<(u64, &[u8])> {
    let (mut n, mut len) = (0u64, 0);
    while let Some(digit @ b'0'..=b'9') = line.get(len) {
        n = n.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        len += 1;
    }
    let is_one = match len {
        1 => true,
        2..=19 => line[0] != b'0',
        _ => false,
    };
    is_one.then(|| (n, &line[len..]))
}
