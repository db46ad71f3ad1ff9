//! What operators order: records of topic `control`, one a room.
//!
//! A record's key says of what kind it is; `room/<name>` is a [`RoomOrder`]. A record without a value (a tombstone) forgets the
//! room's orders. Readers pass over keys that they don't know, so that later versions can add kinds.

use crate::{DecodeError, FORMAT_VERSION, Reaction, RoomName, SkinTones, frame::to_json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::HashSet, ops::RangeInclusive};

/// Begins the key of a room's orders.
const ROOM_KEY: &str = "room/";
/// How often clients may be told to post, in ms.
pub const POST_MS: RangeInclusive<u64> = 100..=60_000;
/// Entries of a room's catalogue, at the most.
pub const CATALOGUE_MAX: usize = 64;
/// Characters of an entry's display name, at the most.
const NAME_CHARS_MAX: usize = 64;
/// Bytes of an image's URL, at the most.
const IMAGE_BYTES_MAX: usize = 512;

/// Whether a room takes reactions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RoomState {
    /// It takes reactions.
    #[default]
    Open,
    /// Its operator closed it: posts are refused until it is opened again.
    Closed,
}

/// A reaction that a room offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CatalogueEntry {
    /// The reaction, as it is displayed.
    pub reaction: Reaction,
    /// What people read: 1 to 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// An image to show in its place: an `https` URL of at most 512 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// All that is ordered of one room: each record holds the whole, so that the newest one is enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomOrder {
    /// Version of the format.
    pub v: u32,
    /// The room.
    pub room: RoomName,
    /// Whether it takes reactions.
    #[serde(default)]
    pub state: RoomState,
    /// How often its clients are to post, in ms. `None`: as everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_ms: Option<u64>,
    /// The reactions that it allows, in the order in which they are shown. `None`: as everywhere. Empty: all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "tolerant_catalogue")]
    pub catalogue: Option<Vec<CatalogueEntry>>,
    /// The role that ordered it.
    pub by: String,
    /// When it was ordered, ms since the epoch.
    pub at: u64,
}

/// Why an order can't be one. The text says what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The interval is too short or too long.
    #[error("post_ms must be {least} to {most}, is {0}", least = POST_MS.start(), most = POST_MS.end())]
    PostMs(u64),
    /// There are too many entries.
    #[error("a catalogue has at most {CATALOGUE_MAX} entries, this one has {0}")]
    TooManyEntries(usize),
    /// A client could not send it.
    #[error("{0:?} can't be in a catalogue: {1}")]
    Reaction(String, crate::NameError),
    /// One reaction has two entries.
    #[error("{0:?} stands twice in the catalogue")]
    Twice(Reaction),
    /// The display name is not one.
    #[error("the name of {0:?} must have 1 to {NAME_CHARS_MAX} characters and no control characters")]
    Name(Reaction),
    /// The image is not one that pages can load.
    #[error("the image of {0:?} must be an https URL of at most {IMAGE_BYTES_MAX} bytes")]
    Image(Reaction),
}

/// Readers tolerate fields that came later; what a client sends is read strictly.
fn tolerant_catalogue<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<CatalogueEntry>>, D::Error> {
    #[derive(Deserialize)]
    struct Entry {
        reaction: Reaction,
        name: Option<String>,
        image: Option<String>,
    }
    let entries = Option::<Vec<Entry>>::deserialize(deserializer)?;
    let known = |Entry { reaction, name, image }| CatalogueEntry { reaction, name, image };
    Ok(entries.map(|entries| entries.into_iter().map(known).collect()))
}

/// The key of a room's orders.
pub fn room_key(room: &RoomName) -> String {
    format!("{ROOM_KEY}{room}")
}

/// The room of a key; `None` for keys of other kinds.
pub fn room_of_key(key: &str) -> Option<RoomName> {
    key.strip_prefix(ROOM_KEY)?.parse().ok()
}

impl RoomOrder {
    /// A room that is open, without settings of its own.
    pub fn new(room: RoomName, by: &str, at: u64) -> Self {
        let by = by.to_owned();
        Self { v: FORMAT_VERSION, room, state: RoomState::Open, post_ms: None, catalogue: None, by, at }
    }

    /// Brings the reactions into the form in which they are displayed, and checks all limits.
    ///
    /// # Errors
    ///
    /// The first limit that is passed.
    pub fn normalise(&mut self, tones: SkinTones) -> Result<(), OrderError> {
        if let Some(post_ms) = self.post_ms.filter(|ms| !POST_MS.contains(ms)) {
            return Err(OrderError::PostMs(post_ms));
        }
        let entries = self.catalogue.as_deref_mut().unwrap_or_default();
        if entries.len() > CATALOGUE_MAX {
            return Err(OrderError::TooManyEntries(entries.len()));
        }
        let mut seen = HashSet::new();
        for entry in entries {
            let canonical = Reaction::canonical(&entry.reaction, tones);
            entry.reaction =
                canonical.map_err(|error| OrderError::Reaction(entry.reaction.to_string(), error))?;
            entry.check()?;
            if !seen.insert(entry.reaction.clone()) {
                return Err(OrderError::Twice(entry.reaction.clone()));
            }
        }
        Ok(())
    }

    /// The record's value.
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Reads a record of `room`.
    ///
    /// # Errors
    ///
    /// It is not a record of this format, or of another room.
    pub fn decode(room: &RoomName, value: &[u8]) -> Result<Self, DecodeError> {
        let order: Self = serde_json::from_slice(value)?;
        if order.v != FORMAT_VERSION {
            return Err(DecodeError::Version(order.v));
        }
        if order.room == *room { Ok(order) } else { Err(DecodeError::Room(order.room)) }
    }
}

impl CatalogueEntry {
    fn check(&self) -> Result<(), OrderError> {
        let is_name = |name: &str| {
            (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control)
        };
        if self.name.as_deref().is_some_and(|name| !is_name(name)) {
            return Err(OrderError::Name(self.reaction.clone()));
        }
        if self.image.as_deref().is_some_and(|url| !is_image_url(url)) {
            return Err(OrderError::Image(self.reaction.clone()));
        }
        Ok(())
    }
}

/// Whether a page may put the text into `src`: visible ASCII, without characters that end an attribute or a CSS string.
fn is_image_url(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://") else { return false };
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'\\');
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    !host.is_empty() && url.len() <= IMAGE_BYTES_MAX && url.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> RoomOrder {
        RoomOrder::new("final".parse().unwrap(), "produce", 1_763_000_000_000)
    }

    fn entry(reaction: &str) -> CatalogueEntry {
        CatalogueEntry { reaction: reaction.parse().unwrap(), name: None, image: None }
    }

    #[test]
    fn an_order_is_read_as_it_was_written_and_leaves_out_what_is_not_ordered() {
        let plain = order();
        let text = String::from_utf8(plain.encode()).unwrap();
        assert_eq!(text, r#"{"v":1,"room":"final","state":"open","by":"produce","at":1763000000000}"#);
        let full = RoomOrder {
            state: RoomState::Closed,
            post_ms: Some(5_000),
            catalogue: Some(vec![CatalogueEntry {
                name: Some("Fire".into()),
                image: Some("https://cdn.example/fire.png".into()),
                ..entry("🔥")
            }]),
            ..order()
        };
        for order in [plain, full] {
            assert_eq!(RoomOrder::decode(&order.room, &order.encode()).unwrap(), order);
        }
    }

    #[test]
    fn fields_and_keys_that_came_later_are_passed_over() {
        let room = "final".parse().unwrap();
        let value =
            br#"{"v":1,"room":"final","mood":1,"catalogue":[{"reaction":"a","weight":2}],"by":"x","at":1}"#;
        let order = RoomOrder::decode(&room, value).unwrap();
        assert_eq!((order.state, order.catalogue), (RoomState::Open, Some(vec![entry("a")])));
        assert_eq!(room_of_key(&room_key(&room)), Some(room.clone()));
        for key in ["token/abc", "room/", "room/a b", "rooms/a"] {
            assert_eq!(room_of_key(key), None, "{key}");
        }
        let other = RoomOrder::decode(&"semi".parse().unwrap(), value);
        assert!(matches!(other, Err(DecodeError::Room(_))), "{other:?}");
        let later = br#"{"v":2,"room":"final","by":"x","at":1}"#;
        assert!(matches!(RoomOrder::decode(&room, later), Err(DecodeError::Version(2))));
    }

    #[test]
    fn a_catalogue_has_reactions_in_the_form_that_frames_show() {
        let mut order = RoomOrder { catalogue: Some(vec![entry("❤"), entry("👏🏽")]), ..order() };
        order.normalise(SkinTones::Fold).unwrap();
        assert_eq!(order.catalogue, Some(vec![entry("❤️"), entry("👏")]));
    }

    #[test]
    fn each_limit_is_refused_by_its_name() {
        let with = |catalogue: Vec<CatalogueEntry>| {
            let mut order = RoomOrder { catalogue: Some(catalogue), ..order() };
            order.normalise(SkinTones::Fold).map_err(|error| error.to_string())
        };
        let named = |name: &str| vec![CatalogueEntry { name: Some(name.into()), ..entry("a") }];
        let pictured = |url: &str| vec![CatalogueEntry { image: Some(url.into()), ..entry("a") }];
        let many = |n: usize| (0..n).map(|n| entry(&format!("r{n}"))).collect::<Vec<_>>();
        let long_url = |bytes: usize| format!("https://a/{}", "x".repeat(bytes - 10));
        for good in [many(64), named(&"é".repeat(64)), pictured(&long_url(512)), vec![]] {
            assert_eq!(with(good), Ok(()));
        }
        for (bad, why) in [
            (many(65), "at most 64 entries, this one has 65"),
            (vec![entry("👏"), entry("👏🏽")], "\"👏\" stands twice"),
            (vec![entry("a\u{202e}")], "can't be in a catalogue"),
            (named(""), "1 to 64 characters"),
            (named(&"é".repeat(65)), "1 to 64 characters"),
            (named("a\nb"), "no control characters"),
            (pictured("http://a/b.png"), "must be an https URL"),
            (pictured("https://"), "must be an https URL"),
            (pictured("https:///b.png"), "must be an https URL"),
            (pictured("https://a/\"onerror"), "must be an https URL"),
            (pictured(&long_url(513)), "at most 512 bytes"),
        ] {
            let said = with(bad.clone()).unwrap_err();
            assert!(said.contains(why), "{bad:?}: {said}");
        }
        for (post_ms, is_right) in [(99, false), (100, true), (60_000, true), (60_001, false)] {
            let mut order = RoomOrder { post_ms: Some(post_ms), ..order() };
            assert_eq!(order.normalise(SkinTones::Fold).is_ok(), is_right, "{post_ms}");
        }
    }
}
