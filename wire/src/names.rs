//! Room names and reactions: validated once, cheap to clone.

use crate::NameError;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, Visitor},
};
use smol_str::SmolStr;
use std::{
    borrow::{Borrow, Cow},
    fmt,
    ops::Deref,
    str::FromStr,
    sync::Arc,
};

/// Longest room name, in characters (all are ASCII).
pub const ROOM_NAME_LEN_MAX: usize = 64;
/// Longest reaction, in bytes of UTF-8. The longest emoji of Unicode 17, a kissing couple with two skin tones, has 35.
pub const REACTION_BYTES_MAX: usize = 64;

/// One live event that people react to: `[A-Za-z0-9._~-]{1,64}` (the unreserved characters of RFC 3986, 2.3).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RoomName(Arc<str>);

/// An emoji or short code: 1 to 64 bytes of UTF-8 without control characters.
///
/// A record may hold any such text. What a client sends becomes one by [`Reaction::canonical`], which is stricter.
///
/// It takes 24 bytes, and up to 23 of text lie in them. An inline array for the longest reaction would take 68, in every
/// sum that a room keeps. Few reactions are longer than 23 bytes; they are shared, and an emoji's text is static.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Reaction(SmolStr);

impl RoomName {
    /// One that was checked.
    fn of(name: &str) -> Self {
        Self(name.into())
    }

    /// Checks `name` without taking it.
    pub fn check(name: &str) -> Result<(), NameError> {
        if name.is_empty() {
            return Err(NameError::RoomEmpty);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-');
        // What is before that byte is ASCII: a character begins there.
        if let Some(at) = name.bytes().position(|byte| !allowed(byte)) {
            return Err(NameError::RoomCharacter(name[at..].chars().next().unwrap_or_default()));
        }
        if name.len() > ROOM_NAME_LEN_MAX {
            return Err(NameError::RoomTooLong(name.len()));
        }
        Ok(())
    }
}

impl Reaction {
    /// One that was checked.
    pub(crate) fn of(text: &str) -> Self {
        Self(SmolStr::new(text))
    }

    /// One that was checked, and whose text is part of the program.
    pub(crate) const fn of_static(text: &'static str) -> Self {
        Self(SmolStr::new_static(text))
    }

    /// Whether its text takes memory of its own.
    #[cfg(test)]
    pub(crate) fn is_on_heap(&self) -> bool {
        self.0.is_heap_allocated()
    }

    /// Checks what a record may hold, without taking it.
    pub fn check(text: &str) -> Result<(), NameError> {
        if text.is_empty() {
            return Err(NameError::ReactionEmpty);
        }
        if text.len() > REACTION_BYTES_MAX {
            return Err(NameError::ReactionTooLong(text.len()));
        }
        match text.chars().find(|c| c.is_control()) {
            Some(c) => Err(NameError::ReactionControl(c)),
            None => Ok(()),
        }
    }
}

/// A room name as it stands in what was decoded: checked, and not copied unless it had to be unescaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomNameRef<'a>(pub(crate) Cow<'a, str>);

/// A reaction as it stands in what was decoded: checked, and not copied unless it had to be unescaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReactionRef<'a>(pub(crate) Cow<'a, str>);

macro_rules! checked_name {
    ($name:ident, $borrowed:ident) => {
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::check(text)?;
                Ok(Self::of(text))
            }
        }
        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $borrowed::deserialize(deserializer).map(|name| Self::from(&name))
            }
        }
        impl From<&$borrowed<'_>> for $name {
            fn from(name: &$borrowed<'_>) -> Self {
                Self::of(&name.0)
            }
        }
        impl Deref for $borrowed<'_> {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }
        impl<'de: 'a, 'a> Deserialize<'de> for $borrowed<'a> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = deserializer.deserialize_str(Text)?;
                $name::check(&text).map_err(Error::custom)?;
                Ok(Self(text))
            }
        }
    };
}
checked_name!(RoomName, RoomNameRef);
checked_name!(Reaction, ReactionRef);

/// Takes a text as it comes. (What serde makes of a [`Cow`] is a copy.)
struct Text;

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_names_keep_to_the_unreserved_characters() {
        for good in ["ind-pak-final", "a", "A.b_c~d-9", &"x".repeat(64)] {
            assert_eq!(good.parse::<RoomName>().map(|r| r.to_string()), Ok(good.to_owned()));
        }
        assert_eq!("".parse::<RoomName>(), Err(NameError::RoomEmpty));
        assert_eq!("x".repeat(65).parse::<RoomName>(), Err(NameError::RoomTooLong(65)));
        for (bad, found) in [("a b", ' '), ("a/b", '/'), ("a+", '+'), ("#", '#'), ("é", 'é'), ("a\n", '\n')]
        {
            assert_eq!(bad.parse::<RoomName>(), Err(NameError::RoomCharacter(found)));
        }
    }

    #[test]
    fn reactions_have_1_to_64_bytes_and_no_control_characters() {
        for good in ["🔥", "+1", "clap", "👩🏽‍🚀", &"x".repeat(64)] {
            assert!(good.parse::<Reaction>().is_ok(), "{good}");
        }
        assert_eq!("".parse::<Reaction>(), Err(NameError::ReactionEmpty));
        assert_eq!("🔥".repeat(17).parse::<Reaction>(), Err(NameError::ReactionTooLong(68)));
        assert_eq!("a\u{7}".parse::<Reaction>(), Err(NameError::ReactionControl('\u{7}')));
        assert_eq!("\u{85}".parse::<Reaction>(), Err(NameError::ReactionControl('\u{85}')));
    }

    #[test]
    fn a_reaction_takes_24_bytes_whatever_its_limit_is() {
        assert_eq!(size_of::<Reaction>(), 24);
    }
}
