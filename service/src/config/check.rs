//! What sections say of their values in the same words.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Puts a section's name before each key that the section refuses.
pub fn within<'a>(
    section: &'a str,
    refuse: &'a mut dyn FnMut(&str, String),
) -> impl FnMut(&str, String) + use<'a> {
    move |key, problem| refuse(&format!("{section}.{key}"), problem)
}

/// Refuses a number that is not `least` to `most`.
pub fn check_range(key: &str, value: u64, (least, most): (u64, u64), refuse: &mut dyn FnMut(&str, String)) {
    if !(least..=most).contains(&value) {
        refuse(key, format!("must be {least} to {most}, is {value}"));
    }
}

/// Refuses what a listener can't be bound to, as far as its form tells: `host:port` with a name or an IP address.
pub fn check_listen(key: &str, address: &str, refuse: &mut dyn FnMut(&str, String)) {
    if let Err(hint) = listen_form(address) {
        refuse(key, format!("must be host:port such as 0.0.0.0:8080, is {address:?}{hint}"));
    }
}

/// What is wrong about the form of a listener's address, to be put behind it.
fn listen_form(address: &str) -> Result<(), &'static str> {
    if address.contains("://") {
        return Err("; leave the scheme out");
    }
    let (host, port) = address.rsplit_once(':').ok_or("")?;
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse::<u16>().is_err() {
        return Err("; the port is a number up to 65535");
    }
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match (host, in_brackets) {
        ("", _) | ("*", _) => Err("; all addresses are 0.0.0.0, or [::] with those of IPv6"),
        (_, Some(host)) if host.parse::<Ipv6Addr>().is_ok() => Ok(()),
        (host, None) if host.contains(':') => Err("; an address of IPv6 stands in brackets"),
        (host, None) if is_name(host) => Ok(()),
        _ => Err("; the host is a name or an IP address"),
    }
}

/// A name of hosts (RFC 1123, section 2.1), or an address of IPv4. Underscores are in use too.
fn is_name(host: &str) -> bool {
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let labels_are_right = host.trim_end_matches('.').split('.').all(|label| {
        !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && label.bytes().all(is_right)
    });
    // A name of digits alone is an address, and has to be a whole one.
    let is_address = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    labels_are_right && (!is_address || host.parse::<Ipv4Addr>().is_ok())
}

/// Refuses a path that begins with `~`. No shell has expanded it here, and a service often has no home: a folder of that name
/// would be made.
pub fn check_path(key: &str, path: &str, refuse: &mut dyn FnMut(&str, String)) {
    if path.starts_with('~') {
        let problem = format!(
            "must be a whole path: \"~\" is not expanded here, is {path:?}; a folder that is called so is \"./~\""
        );
        refuse(key, problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_has_a_host_and_a_port() {
        let refused = |address: &str| {
            let mut problems = Vec::new();
            check_listen("listen", address, &mut |key, problem| problems.push(format!("{key} {problem}")));
            problems
        };
        for right in [
            "0.0.0.0:8080",
            "127.0.0.1:0",
            "[::]:8080",
            "[::1]:65535",
            "localhost:80",
            "my-host.example:1",
            "a_b:1",
            "host.:1",
        ] {
            assert_eq!(refused(right), [""; 0], "{right}");
        }
        for (wrong, hint) in [
            ("", ""),
            ("8080", ""),
            ("localhost", ""),
            (":8080", "all addresses are 0.0.0.0"),
            ("*:8080", "all addresses are 0.0.0.0"),
            ("http://0.0.0.0:8080", "leave the scheme out"),
            ("http://0.0.0.0", "leave the scheme out"),
            ("0.0.0.0:", "the port is a number"),
            ("0.0.0.0:65536", "the port is a number"),
            ("0.0.0.0:-1", "the port is a number"),
            ("0.0.0.0:+80", "the port is a number"),
            ("0.0.0.0:http", "the port is a number"),
            ("0.0.0.0:80/", "the port is a number"),
            (":::8080", "in brackets"),
            ("::1:8080", "in brackets"),
            ("[::1:8080", "in brackets"),
            ("[x]:80", "a name or an IP address"),
            ("1.2.3:80", "a name or an IP address"),
            ("1.2.3.256:80", "a name or an IP address"),
            ("a b:80", "a name or an IP address"),
            ("a..b:80", "a name or an IP address"),
        ] {
            let problems = refused(wrong);
            assert!(problems.len() == 1 && problems[0].contains(hint), "{wrong}: {problems:?}");
            assert!(problems[0].starts_with("listen must be host:port"), "{problems:?}");
        }
    }

    #[test]
    fn a_path_is_whole() {
        let refused = |path: &str| {
            let mut problems = Vec::new();
            check_path("dir", path, &mut |key, problem| problems.push(format!("{key} {problem}")));
            problems.len()
        };
        assert_eq!(["~", "~/x", "~me/x"].map(refused), [1; 3]);
        assert_eq!(["", "./~", "/a/~/b", "data"].map(refused), [0; 4]);
    }
}
