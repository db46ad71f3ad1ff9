//! The addresses that proxies wrote down, from the nearest to the farthest. `None` stands for what is no address.

use axum::http::{HeaderMap, HeaderName, header::FORWARDED};
use std::{
    borrow::Cow,
    net::{IpAddr, Ipv6Addr},
};

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Of all lines of `X-Forwarded-For`.
pub(super) fn x_forwarded_for(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let lines = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
    let hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    hops.filter(|hop| !hop.trim_ascii().is_empty()).map(|hop| node(str::from_utf8(hop).ok()?))
}

/// Of all lines of `Forwarded`.
pub(super) fn forwarded(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    headers.get_all(FORWARDED).into_iter().rev().flat_map(|line| {
        // Quotes may hold anything; what is no text is no address either.
        let line = String::from_utf8_lossy(line.as_bytes());
        let mut elements: Vec<_> = split(&line, ',').collect();
        // A quote that a client left open must not swallow what proxies added after it.
        if let Some(rest) = elements.pop_if(|last| is_open(last)) {
            elements.extend(rest.split(','));
        }
        let elements = elements.into_iter().filter(|element| !element.trim().is_empty());
        elements.map(hop).rev().collect::<Vec<_>>()
    })
}

/// The `for` of an element such as `for="[2001:db8::1]:80";proto=https`.
fn hop(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in split(element, ';') {
        let (name, value) = pair.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("for") {
            // Twice is not as it should be: who knows which is whose.
            if found.is_some() {
                return None;
            }
            found = Some(node(&unquote(value.trim())?)?);
        }
    }
    found
}

/// An address, perhaps with a port. Names such as `unknown` and `_hidden` are none.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let rightly = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<Ipv6Addr>().ok().filter(|_| rightly).map(IpAddr::V6);
    }
    text.parse().ok().or_else(|| {
        let (address, port) = text.split_once(':')?;
        address.parse().ok().filter(|_| is_port(port)).map(IpAddr::V4)
    })
}

/// A number, or a name that hides it.
fn is_port(text: &str) -> bool {
    let hidden = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
    text.parse::<u16>().is_ok() || text.strip_prefix('_').is_some_and(hidden)
}

/// Splits where `separator` stands outside of quotes. After a quote that nobody closes comes one long piece.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quotes = Quotes::default();
    text.split(move |c| quotes.outside(c) && c == separator)
}

/// Whether a quote is left open.
fn is_open(text: &str) -> bool {
    let mut quotes = Quotes::default();
    for c in text.chars() {
        quotes.outside(c);
    }
    quotes.inside
}

/// Where quotes begin and end, from character to character.
#[derive(Default)]
struct Quotes {
    inside: bool,
    escaped: bool,
}

impl Quotes {
    /// Whether the next character stands outside of quotes.
    fn outside(&mut self, c: char) -> bool {
        match c {
            _ if self.escaped => self.escaped = false,
            '\\' if self.inside => self.escaped = true,
            '"' => self.inside = !self.inside,
            _ => return !self.inside,
        }
        false
    }
}

/// A token as it is, or what stands in quotes.
fn unquote(text: &str) -> Option<Cow<'_, str>> {
    let Some(rest) = text.strip_prefix('"') else {
        return (!text.contains('"')).then_some(Cow::Borrowed(text));
    };
    let inner = rest.strip_suffix('"')?;
    if !inner.contains(['"', '\\']) {
        return Some(Cow::Borrowed(inner));
    }
    let (mut plain, mut chars) = (String::new(), inner.chars());
    while let Some(c) = chars.next() {
        match c {
            '"' => return None,
            '\\' => plain.push(chars.next()?),
            c => plain.push(c),
        }
    }
    Some(Cow::Owned(plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    fn read(lines: &[&str]) -> Vec<Option<String>> {
        let mut headers = HeaderMap::new();
        lines.iter().for_each(|line| {
            headers.append(FORWARDED, line.parse().unwrap());
        });
        forwarded(&headers).map(|hop| hop.map(|address| address.to_string())).collect()
    }

    fn one(line: &str) -> Option<String> {
        let hops = read(&[line]);
        assert_eq!(hops.len(), 1, "{line}");
        hops[0].clone()
    }

    #[test]
    fn the_examples_of_rfc_7239_are_read() {
        assert_eq!(one("For=\"[2001:db8:cafe::17]:4711\"").as_deref(), Some("2001:db8:cafe::17"));
        assert_eq!(one("for=192.0.2.60;proto=http;by=203.0.113.43").as_deref(), Some("192.0.2.60"));
        assert_eq!(one("for=\"_gazonk\""), None);
        assert_eq!(one("for=unknown"), None);
        assert_eq!(
            read(&["for=192.0.2.43, for=198.51.100.17;by=203.0.113.60"]),
            [Some("198.51.100.17".into()), Some("192.0.2.43".into())]
        );
    }

    #[test]
    fn lines_are_one_list_and_the_last_is_nearest() {
        let hops = read(&["for=10.0.0.1,for=10.0.0.2", "for=10.0.0.3"]);
        assert_eq!(hops, ["10.0.0.3", "10.0.0.2", "10.0.0.1"].map(|address| Some(address.to_owned())));
    }

    #[test]
    fn quotes_hold_commas_and_semicolons_together() {
        assert_eq!(one("host=\"a,b;for=9.9.9.9\";for=\"1.2.3.4:_p\"").as_deref(), Some("1.2.3.4"));
        assert_eq!(one("host=\"a\\\",\";for=1.2.3.4").as_deref(), Some("1.2.3.4"));
        assert_eq!(one("for=\"1.2.\\3.4\"").as_deref(), Some("1.2.3.4"));
    }

    #[test]
    fn what_is_malformed_names_no_address() {
        for line in [
            "for",
            "for=",
            "for=\"1.2.3.4",
            "for=1.2.3.4;for=5.6.7.8",
            "for=1.2.3.4\"",
            "for=\"1.2\"3.4\"",
            "for=\"1.2.3.4\\\"",
            "for=[::1",
            "for=\"[::1]x\"",
            "for=\"[1.2.3.4]\"",
            "for=1.2.3.4:99999",
            "for=1.2.3.4:",
            "proto=https",
            "1.2.3.4",
        ] {
            assert_eq!(one(line), None, "{line}");
        }
    }

    #[test]
    fn a_quote_that_is_left_open_swallows_nothing() {
        let hops = [Some("5.6.7.8".into()), None];
        assert_eq!(read(&["for=\"1.2.3.4, for=5.6.7.8"]), hops);
        assert_eq!(read(&["for=\", for=\"5.6.7.8\""]), hops);
    }

    #[test]
    fn what_is_no_text_spoils_its_own_hop_only() {
        let mut headers = HeaderMap::new();
        headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(b"\xff, 9.9.9.9").unwrap());
        headers.append(FORWARDED, HeaderValue::from_bytes(b"for=\xff, host=\"\xff\";for=9.9.9.9").unwrap());
        let hops = [Some([9, 9, 9, 9].into()), None];
        assert!(x_forwarded_for(&headers).eq(hops));
        assert!(forwarded(&headers).eq(hops));
    }

    fn scraps() -> impl Strategy<Value = String> {
        let scrap = prop::sample::select(vec![
            "for=", "For", "=", "\"", "\\", ",", ";", "[", "]", ":", "1.2.3.4", "::1", "_x", " ", "99999",
            "by=",
        ]);
        prop::collection::vec(scrap, 0..24).prop_map(|scraps| scraps.concat())
    }

    /// Whatever a client sends: what proxies add comes first, in lines of their own or in the client's.
    fn what_proxies_add_comes_first(line: &[u8]) {
        let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes);
        let Ok(first) = value(line) else { return };
        let mut headers = HeaderMap::from_iter([(FORWARDED, first.clone()), (X_FORWARDED_FOR, first)]);
        headers.append(FORWARDED, HeaderValue::from_static(r#"for=8.8.8.8;by="a", for="[::9]:1""#));
        headers.append(X_FORWARDED_FOR, HeaderValue::from_static("8.8.8.8,::9"));
        let one_line = HeaderMap::from_iter([
            (FORWARDED, value(&[line, br#", for=8.8.8.8;by="a", for="[::9]:1""#].concat()).unwrap()),
            (X_FORWARDED_FOR, value(&[line, b", 8.8.8.8,::9"].concat()).unwrap()),
        ]);
        let hops: [Option<IpAddr>; 2] = ["::9", "8.8.8.8"].map(|hop| hop.parse().ok());
        for headers in [headers, one_line] {
            assert!(forwarded(&headers).take(2).eq(hops), "{headers:?}");
            assert!(x_forwarded_for(&headers).take(2).eq(hops), "{headers:?}");
        }
    }

    #[test]
    fn fuzz_proxies() {
        bolero::check!().for_each(what_proxies_add_comes_first);
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(
            lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4),
        ) {
            let mut headers = HeaderMap::new();
            for line in lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok()) {
                headers.append(FORWARDED, line.clone());
                headers.append(X_FORWARDED_FOR, line);
            }
            let _ = (forwarded(&headers).count(), x_forwarded_for(&headers).count());
        }

        #[test]
        fn no_scraps_make_it_panic_and_what_proxies_add_comes_first(line in scraps()) {
            what_proxies_add_comes_first(line.as_bytes());
        }
    }
}
