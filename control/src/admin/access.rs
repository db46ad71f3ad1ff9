//! Who may do what: a bearer token (RFC 6750) for each role.

use super::refusal::Refusal;
use axum::http::{HeaderMap, header};
use serde::Deserialize;
use std::{fmt, hint::black_box};

/// Shorter tokens could be guessed.
const TOKEN_CHARS_MIN: usize = 16;

/// Section `admin`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// May read orders. Empty: nobody has this role.
    pub view_token: String,
    /// May change orders too.
    pub produce_token: String,
    /// May forget orders too.
    pub operate_token: String,
}

/// What somebody may do; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    View,
    Produce,
    Operate,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Produce => "produce",
            Self::Operate => "operate",
        }
    }
}

/// Tokens are never shown.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Config { tokens hidden }")
    }
}

impl Config {
    fn tokens(&self) -> [(&'static str, Role, &str); 3] {
        [
            ("view_token", Role::View, &self.view_token),
            ("produce_token", Role::Produce, &self.produce_token),
            ("operate_token", Role::Operate, &self.operate_token),
        ]
    }

    /// Adds every violation as `(key, what would be right)`; keys are relative to this section.
    pub fn validate(&self, refuse: &mut dyn FnMut(&str, String)) {
        for (at, (key, _, token)) in self.tokens().into_iter().enumerate() {
            if token.is_empty() {
                continue;
            }
            if token.chars().count() < TOKEN_CHARS_MIN {
                refuse(key, format!("must have at least {TOKEN_CHARS_MIN} characters, or be empty"));
            }
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                refuse(key, "must be of visible ASCII characters, because it is sent in a header".into());
            }
            if let Some((other, ..)) = self.tokens()[..at].iter().find(|(.., other)| *other == token) {
                refuse(key, format!("must be another token than {other}"));
            }
        }
    }

    /// The role of whoever sent the headers, if it is `least` or more.
    ///
    /// # Errors
    ///
    /// There are no roles, the headers name none, or one that may not do this.
    pub(super) fn role(&self, headers: &HeaderMap, least: Role) -> Result<Role, Refusal> {
        let tokens = self.tokens();
        if tokens.iter().all(|(.., token)| token.is_empty()) {
            return Err(Refusal::Off);
        }
        let sent = headers.get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        let sent = match sent.split_at_checked(7) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
            _ => return Err(Refusal::NoToken),
        };
        let mut role = None;
        for (_, one, token) in tokens {
            // All are compared, so that the time tells nothing.
            if is_equal(sent, token.as_bytes()) && !token.is_empty() {
                role = Some(one);
            }
        }
        match role {
            Some(role) if role >= least => Ok(role),
            Some(role) => Err(Refusal::Role { role: role.name(), needs: least.name() }),
            None => Err(Refusal::WrongToken),
        }
    }
}

/// Compares in a time that depends on the lengths alone.
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |all, (a, b)| black_box(all | (a ^ b)));
    black_box(differences) == 0 && one.len() == other.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_are_short_or_the_same_or_no_header_are_refused_without_being_quoted() {
        let refused = |view: &str, produce: &str| {
            let config = Config {
                view_token: view.into(),
                produce_token: produce.into(),
                operate_token: String::new(),
            };
            let mut all = Vec::new();
            config.validate(&mut |key, text| all.push(format!("{key} {text}")));
            assert!(!format!("{config:?}{all:?}").contains("sesame"), "{all:?}");
            all
        };
        assert_eq!(refused("", ""), [""; 0]);
        assert_eq!(refused("open-sesame-1234", "open-sesame-5678"), [""; 0]);
        assert!(refused("open-sesame-123", "")[0].starts_with("view_token must have at least 16"));
        assert!(refused("open-sesame-1234", "open-sesame-1234")[0].contains("another token than view_token"));
        assert!(refused("open sesame 1234", "")[0].contains("visible ASCII"));
    }

    #[test]
    fn equal_is_what_is_equal() {
        for (one, other, equal) in
            [("", "", true), ("abc", "abc", true), ("abc", "abd", false), ("abc", "abcd", false)]
        {
            assert_eq!(is_equal(one.as_bytes(), other.as_bytes()), equal);
        }
    }
}
