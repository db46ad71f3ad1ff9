//! The header `Idempotency-Key`, as draft-ietf-httpapi-idempotency-key-header-07 has it: a string in quotes. Most clients
//! send the key bare, which is taken too.

use axum::http::{HeaderMap, HeaderName};
use std::borrow::Cow;

/// The header.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Longest key. A UUID has 36.
const KEY_BYTES_MAX: usize = 64;

/// What [`key`] takes, as a regular expression: bare without quotes, commas and semicolons, or in quotes.
pub(crate) fn pattern() -> String {
    let (bare, quoted) = (r"[!#-+\--:<-~]", r#"(?:[!#-\[\]-~]|\\["\\])"#);
    format!(r#"^(?:{bare}{{1,{KEY_BYTES_MAX}}}|"{quoted}{{1,{KEY_BYTES_MAX}}}")$"#)
}

/// The header is there, and is not one key of 1 to 64 visible ASCII characters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The key of a request.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<Cow<'_, str>>, Malformed> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().map_err(|_| Malformed)?.trim();
    let key = match text.strip_prefix('"') {
        Some(rest) => unquote(rest)?,
        None if text.contains(['"', ',', ';']) => return Err(Malformed),
        None => Cow::Borrowed(text),
    };
    let rightly = (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    if rightly && values.next().is_none() { Ok(Some(key)) } else { Err(Malformed) }
}

/// The rest of a structured field's string, after its first quote.
fn unquote(rest: &str) -> Result<Cow<'_, str>, Malformed> {
    let inner = rest.strip_suffix('"').ok_or(Malformed)?;
    if !inner.contains(['"', '\\']) {
        return Ok(Cow::Borrowed(inner));
    }
    let (mut plain, mut chars) = (String::new(), inner.chars());
    while let Some(c) = chars.next() {
        match c {
            '"' => return Err(Malformed),
            '\\' => match chars.next() {
                Some(escaped @ ('"' | '\\')) => plain.push(escaped),
                _ => return Err(Malformed),
            },
            c => plain.push(c),
        }
    }
    Ok(Cow::Owned(plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    fn read(values: &[&[u8]]) -> Result<Option<String>, Malformed> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap());
        }
        key(&headers).map(|key| key.map(Cow::into_owned))
    }

    #[test]
    fn a_key_is_read_in_quotes_and_bare_and_is_the_same() {
        assert_eq!(read(&[]), Ok(None));
        for (value, key) in [
            ("\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            ("  \"a\" ", "a"),
            (r#""a\"\\b,;""#, r#"a"\b,;"#),
            (r"a\b", r"a\b"),
        ] {
            assert_eq!(read(&[value.as_bytes()]), Ok(Some(key.into())), "{value}");
        }
        let longest = "x".repeat(64);
        assert_eq!(read(&[longest.as_bytes()]), Ok(Some(longest)));
    }

    #[test]
    fn what_is_not_one_key_of_1_to_64_visible_characters_is_malformed() {
        let long = "x".repeat(65);
        for value in [
            "", "\"\"", "\"", "\"a", "a\"", "\"a\"b\"", "a b", "\"a b\"", "a,b", "a;b", r#""\a""#, r#""a\""#,
            &long,
        ] {
            assert_eq!(read(&[value.as_bytes()]), Err(Malformed), "{value}");
        }
        assert_eq!(read(&[b"\xc3\xa9"]), Err(Malformed));
        assert_eq!(read(&[b"a", b"a"]), Err(Malformed));
    }

    fn can_be_sent_in_quotes(key: &str) {
        let quoted = format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
        assert_eq!(read(&[quoted.as_bytes()]), Ok(Some(key.into())));
    }

    /// Whatever is read is short and visible, and the same key when it comes in quotes.
    #[test]
    fn fuzz_keys() {
        bolero::check!().for_each(|value: &[u8]| {
            if let Ok(value) = HeaderValue::from_bytes(value)
                && let Ok(Some(key)) = key(&HeaderMap::from_iter([(IDEMPOTENCY_KEY, value)]))
            {
                assert!((1..=64).contains(&key.len()), "{key}");
                assert!(key.bytes().all(|b| b.is_ascii_graphic()), "{key}");
                can_be_sent_in_quotes(&key);
            }
        });
    }

    proptest! {
        #[test]
        fn every_key_can_be_sent_in_quotes(key in "[!-~]{1,64}") {
            can_be_sent_in_quotes(&key);
        }
    }
}
