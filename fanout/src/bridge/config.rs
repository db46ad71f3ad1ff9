//! Where the bridge leads.

use serde::Deserialize;
use service::config::check_range;
use std::{fmt, path::PathBuf};

/// Section `fanout.bridge`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BridgeConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// The broker: a name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Empty: made of the host's name.
    pub client_id: String,
    /// Empty: none.
    pub username: String,
    /// Empty: none.
    pub password: Secret,
    /// Whether the connection is encrypted, and the broker's certificate checked.
    pub tls: bool,
    /// PEM file with those who may have signed that certificate. Empty: whom the system trusts.
    pub ca_file: PathBuf,
    /// 0 or 1.
    pub qos: u8,
    /// What comes before the room in a topic.
    pub topic_prefix: String,
    /// How often the broker is asked whether it is there.
    pub keep_alive_s: u16,
}

/// A text that is in no log and in no message.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "***" })
    }
}

impl BridgeConfig {
    /// Adds every violation as `(key, what would be right)`; keys are relative to this section.
    pub(crate) fn validate(&self, refuse: &mut dyn FnMut(&str, String)) {
        if self.enabled && self.host.is_empty() {
            refuse("host", "must be set where the bridge is enabled".into());
        }
        let in_brackets = self.host.starts_with('[') && self.host.ends_with(']');
        if self.host.contains(|c: char| c.is_whitespace() || c == '/')
            || (self.host.contains(':') && !in_brackets)
        {
            let text = "must be a name or an address without scheme and port, such as \"broker.example\" or \"[::1]\"";
            // Not quoted: a URL may hold a password.
            refuse("host", text.into());
        } else if self.tls && in_brackets {
            refuse("host", "must be a name or an IPv4 address where `tls` is set".into());
        }
        check_range("port", self.port.into(), (1, 65_535), refuse);
        check_range("qos", self.qos.into(), (0, 1), refuse);
        check_range("keep_alive_s", self.keep_alive_s.into(), (1, 65_535), refuse);
        for (key, text, most) in [
            ("client_id", &self.client_id, 128),
            ("username", &self.username, 1_024),
            ("topic_prefix", &self.topic_prefix, 1_024),
        ] {
            if text.len() > most || text.contains(char::is_control) {
                refuse(key, format!("must be at most {most} bytes without control characters"));
            }
        }
        if self.topic_prefix.contains(['+', '#']) || self.topic_prefix.starts_with('$') {
            let text = "must be the beginning of a topic: no +, no #, and no $ at its start";
            refuse("topic_prefix", format!("{text}; is {:?}", self.topic_prefix));
        }
        if self.username.is_empty() && !self.password.reveal().is_empty() {
            refuse("password", "is nothing without a `username`".into());
        }
        if self.password.reveal().len() > 65_535 {
            refuse("password", "must be at most 65535 bytes".into());
        }
        if !self.tls && !self.ca_file.as_os_str().is_empty() {
            refuse("ca_file", "is not used as long as `tls` is not set".into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut BridgeConfig)) -> Vec<String> {
        let mut config = crate::tests::harness::config().bridge;
        change(&mut config);
        let mut keys = Vec::new();
        config.validate(&mut |key, problem| keys.push(format!("{key} {problem}")));
        keys
    }

    fn keys(change: impl FnOnce(&mut BridgeConfig)) -> Vec<String> {
        refused(change).iter().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect()
    }

    #[test]
    fn good_values_are_not_refused() {
        for host in ["broker.example", "10.0.0.1", "[::1]"] {
            assert_eq!(refused(|c| (c.enabled, c.host) = (true, host.into())), [""; 0]);
        }
        assert_eq!(refused(|c| (c.username, c.password) = ("u".into(), "p".into())), [""; 0]);
        assert_eq!(refused(|c| c.topic_prefix = String::new()), [""; 0]);
    }

    #[test]
    fn every_violation_is_named_at_once() {
        let found = keys(|c| {
            (c.enabled, c.host, c.port, c.qos, c.keep_alive_s) = (true, String::new(), 0, 2, 0);
            (c.client_id, c.topic_prefix) = ("a\u{0}".into(), "a/#".into());
            (c.password, c.ca_file) = ("p".into(), "/ca.pem".into());
        });
        let expected =
            ["host", "port", "qos", "keep_alive_s", "client_id", "topic_prefix", "password", "ca_file"];
        assert_eq!(found, expected);
        for host in ["mqtt://broker", "broker:1883", "::1", "a b"] {
            assert_eq!(keys(|c| c.host = host.into()), ["host"], "{host}");
        }
        assert_eq!(keys(|c| (c.host, c.tls) = ("[::1]".into(), true)), ["host"]);
        assert_eq!(keys(|c| c.topic_prefix = "$SYS/".into()), ["topic_prefix"]);
    }

    #[test]
    fn a_password_is_never_printed() {
        let mut config = crate::tests::harness::config().bridge;
        config.password = "hunter2".into();
        assert!(format!("{config:?}").contains("password: ***"));
        for problem in refused(|c| c.password = "hunter2".into()) {
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }
}
