//! The bodies of requests and answers.

use super::refusal::Refusal;
use crate::Room;
use serde::{Deserialize, Deserializer, Serialize};
use wire::{
    RoomName, SkinTones,
    control::{CatalogueEntry, RoomOrder, RoomState},
};

/// What a PUT changes. What is left out stays; `null` takes a setting back.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    #[serde(default)]
    state: Option<RoomState>,
    #[serde(default, deserialize_with = "present")]
    post_ms: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    catalogue: Option<Option<Vec<CatalogueEntry>>>,
}

/// Tells a `null` from what is left out.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Change {
    /// Reads a body. An empty one changes nothing, and so declares the room.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        // Rust would read a list as the members in their order.
        if body.trim_ascii_start().starts_with(b"[") {
            return Err(Refusal::Unprocessable("the body must be an object".into()));
        }
        serde_json::from_slice(body).map_err(|error| match error.is_data() {
            true => Refusal::Unprocessable(error.to_string()),
            false => Refusal::Body(error.to_string()),
        })
    }

    /// The order with what this changes.
    pub(super) fn apply(&self, mut order: RoomOrder, tones: SkinTones) -> Result<RoomOrder, Refusal> {
        order.state = self.state.unwrap_or(order.state);
        order.post_ms = self.post_ms.unwrap_or(order.post_ms);
        if let Some(catalogue) = &self.catalogue {
            order.catalogue.clone_from(catalogue);
        }
        order.normalise(tones).map_err(|error| Refusal::Unprocessable(error.to_string()))?;
        Ok(order)
    }
}

/// The orders of a room as an answer shows them.
#[derive(Debug, Serialize)]
pub(super) struct Shown<'a> {
    pub(super) room: &'a RoomName,
    version: u64,
    state: RoomState,
    post_ms: Option<u64>,
    catalogue: Option<&'a [CatalogueEntry]>,
    by: &'a str,
    at: u64,
}

impl<'a> From<&'a Room> for Shown<'a> {
    fn from(Room { order, version, .. }: &'a Room) -> Self {
        let RoomOrder { room, state, post_ms, catalogue, by, at, .. } = order;
        Self {
            room,
            version: *version,
            state: *state,
            post_ms: *post_ms,
            catalogue: catalogue.as_deref(),
            by,
            at: *at,
        }
    }
}
