//! What viewers receive: an aggregate cut to its top N, and the greeting before it.

use crate::{
    Aggregate, Counts, DecodeError, FORMAT_VERSION, RoomName, Window,
    aggregate::is_zero,
    control::{CatalogueEntry, RoomState},
    schema::{by_name, counts_schema},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a viewer receives, over every protocol.
///
/// `counts` and `totals` hold the top N. `count` and `total` are of all reactions, `others` and `others_total` included, so
/// what is cut is the difference. A viewer that was skipped sees a gap in `seq`, and its totals are right again with this frame.
/// A smaller `seq` with a later `since` is the room's new life. The same `seq` comes again when `state` has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Frame {
    /// Version of the format.
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub v: u32,
    /// The room.
    pub room: RoomName,
    /// Number of this frame in the room's life, from 1. 0 where an operator's orders are all that is known of the room.
    pub seq: u64,
    /// When the room's life began, ms since the epoch.
    pub since: u64,
    /// The time covered, ms since the epoch.
    pub window: Window,
    /// Reactions in the window.
    pub count: u64,
    /// The most frequent reactions of the window.
    #[schemars(schema_with = "counts_schema")]
    pub counts: Counts,
    /// Reactions in the window that the room does not count by name: it has more distinct ones than it may. Left out where
    /// there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub others: u64,
    /// `count` spread over equal slices of the window, to animate it smoothly.
    pub slots: Vec<u64>,
    /// Reactions since `since`.
    pub total: u64,
    /// The most frequent reactions since `since`.
    #[schemars(schema_with = "counts_schema")]
    pub totals: Counts,
    /// The same since `since`. Left out where there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub others_total: u64,
    /// Viewers of the room, counted when this node first encoded the frame. It is approximate: two nodes may tell different
    /// numbers. Left out where viewers are not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub viewers: Option<u64>,
    /// `closed` while the room takes no reactions. Left out while it is open.
    #[serde(default, skip_serializing_if = "is_open")]
    pub state: RoomState,
}

fn is_open(state: &RoomState) -> bool {
    *state == RoomState::Open
}

impl Frame {
    /// The frame of `aggregate` with at most `top_n` reactions in `counts`, and in `totals`. It tells no viewers.
    pub fn of(aggregate: &Aggregate, top_n: usize) -> Self {
        Self {
            v: FORMAT_VERSION,
            room: aggregate.room.clone(),
            seq: aggregate.seq,
            since: aggregate.since,
            window: aggregate.window,
            count: aggregate.count,
            counts: top(&aggregate.counts, top_n),
            others: aggregate.others,
            slots: aggregate.slots.clone(),
            total: aggregate.total,
            totals: top(&aggregate.totals, top_n),
            others_total: aggregate.others_total,
            viewers: None,
            state: RoomState::Open,
        }
    }

    /// The frame of a room with orders and without reactions. `at`: when it was ordered, ms since the epoch.
    pub fn without_reactions(room: RoomName, since: u64, at: u64) -> Self {
        Self {
            v: FORMAT_VERSION,
            room,
            seq: 0,
            since,
            window: Window { start: at, end: at },
            count: 0,
            counts: Counts::new(),
            others: 0,
            slots: Vec::new(),
            total: 0,
            totals: Counts::new(),
            others_total: 0,
            viewers: None,
            state: RoomState::Open,
        }
    }

    /// Adds the state to the JSON of a frame that was encoded as open.
    pub fn add_state(json: &mut Vec<u8>, state: RoomState) {
        if state == RoomState::Closed && json.pop_if(|last| *last == b'}').is_some() {
            json.extend_from_slice(b",\"state\":\"closed\"}");
        }
    }

    /// The frame as JSON: the body of a snapshot, a WebSocket text, an MQTT payload, the data of an SSE event.
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Reads a frame. Fields that this version doesn't know are passed over, so that old clients read new frames.
    pub fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let frame: Self = serde_json::from_slice(value)?;
        if frame.v == FORMAT_VERSION { Ok(frame) } else { Err(DecodeError::Version(frame.v)) }
    }
}

/// First text on a WebSocket, before any frame. Told from a frame by its `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hello {
    /// Version of the format.
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub hello: u32,
    /// The rooms that this connection watches.
    pub rooms: Vec<RoomName>,
    /// After a close, wait a random time up to this before connecting again, ms.
    pub reconnect_jitter_ms: u64,
    /// How often to post reactions: sum up the taps of this time, ms.
    pub post_ms: u64,
    /// The reactions that are allowed, as they are displayed. Empty: all are.
    pub catalogue: Vec<String>,
    /// What operators ordered of these rooms, by room. `post_ms` and `catalogue` above follow it where there is one room. Left out
    /// where nothing was ordered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "by_name::<RoomName, RoomSettings>")]
    pub settings: BTreeMap<RoomName, RoomSettings>,
}

/// Settings of one room, of which those are left out that are as everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoomSettings {
    /// How often to post reactions to this room, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_ms: Option<u64>,
    /// The reactions that this room allows, in the order in which they are to be shown. Empty: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalogue: Option<Vec<CatalogueEntry>>,
}

impl Hello {
    /// The greeting as JSON.
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }
}

/// Encodes a [`Hello`] for each viewer. All but its rooms is the same for all viewers, and encoded once.
#[derive(Debug, Clone)]
pub struct HelloEncoder {
    /// The JSON object of [`SameForAll`].
    same_for_all: Vec<u8>,
}

#[derive(Serialize)]
struct SameForAll<'a> {
    reconnect_jitter_ms: u64,
    post_ms: u64,
    catalogue: &'a [String],
}

impl HelloEncoder {
    /// The arguments are the fields of [`Hello`].
    pub fn new(reconnect_jitter_ms: u64, post_ms: u64, catalogue: &[String]) -> Self {
        Self { same_for_all: to_json(&SameForAll { reconnect_jitter_ms, post_ms, catalogue }) }
    }

    /// The greeting of a viewer of `rooms`, as JSON.
    pub fn encode(&self, rooms: &[RoomName]) -> Vec<u8> {
        let mut json = format!("{{\"hello\":{FORMAT_VERSION},\"rooms\":").into_bytes();
        json.extend_from_slice(&to_json(&rooms));
        json.push(b',');
        json.extend(self.same_for_all.iter().skip(1));
        json
    }
}

/// The `n` largest counts; of equal ones those that sort first.
fn top(counts: &Counts, n: usize) -> Counts {
    if counts.len() <= n {
        return counts.clone();
    }
    let mut ranked: Vec<_> = counts.iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    ranked.into_iter().take(n).map(|(reaction, count)| (reaction.clone(), *count)).collect()
}

/// JSON of a value of this crate: they have string keys and no fallible parts, so that it can't fail.
#[expect(
    clippy::expect_used,
    reason = "serde_json fails on non-string keys and on I/O only; there is neither"
)]
pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("infallible")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::tests::GOLDEN;

    #[test]
    fn a_greeting_in_parts_is_the_greeting() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        for (rooms, catalogue) in [(&["a", "b"][..], &["❤️", "\"\\"][..]), (&["final"], &[])] {
            let rooms: Vec<RoomName> = rooms.iter().map(|room| room.parse().unwrap()).collect();
            let catalogue: Vec<String> = names(catalogue);
            let json = HelloEncoder::new(5_000, 1_000, &catalogue).encode(&rooms);
            let hello = Hello {
                hello: FORMAT_VERSION,
                rooms,
                reconnect_jitter_ms: 5_000,
                post_ms: 1_000,
                catalogue,
                settings: BTreeMap::new(),
            };
            assert_eq!(String::from_utf8(json.clone()).unwrap(), String::from_utf8(to_json(&hello)).unwrap());
            assert_eq!(serde_json::from_slice::<Hello>(&json).unwrap(), hello);
        }
    }

    #[test]
    fn encodes_as_the_golden_file() {
        let golden = include_str!("../golden/frame.json");
        let frame = Frame::of(&Aggregate::decode(GOLDEN.as_bytes()).unwrap(), 10);
        assert_eq!(String::from_utf8(frame.encode()).unwrap(), golden.trim_end());
        assert_eq!(Frame::decode(golden.as_bytes()).unwrap(), frame);
    }

    #[test]
    fn viewers_come_last_and_are_read_back() {
        let golden = include_str!("../golden/frame-viewers.json").trim_end();
        let frame = Frame::of(&Aggregate::decode(GOLDEN.as_bytes()).unwrap(), 10);
        let frame = Frame { viewers: Some(12_340), ..frame };
        assert_eq!(String::from_utf8(frame.encode()).unwrap(), golden);
        assert_eq!(Frame::decode(golden.as_bytes()).unwrap(), frame);
    }

    #[test]
    fn keeps_the_top_n_and_all_of_the_sums() {
        let mut aggregate = Aggregate::decode(GOLDEN.as_bytes()).unwrap();
        aggregate.counts =
            [("a", 5), ("b", 9), ("c", 5), ("d", 1)].map(|(r, n)| (r.parse().unwrap(), n)).into();
        let frame = Frame::of(&aggregate, 2);
        assert_eq!(frame.counts, [("a", 5), ("b", 9)].map(|(r, n)| (r.parse().unwrap(), n)).into());
        assert_eq!((frame.count, frame.total), (889, 90_311));
    }

    #[test]
    fn a_state_that_is_added_to_the_json_is_that_of_the_frame() {
        let open = Frame::of(&Aggregate::decode(GOLDEN.as_bytes()).unwrap(), 10);
        let empty = Frame::without_reactions("final".parse().unwrap(), 0, 1_763_000_000_000);
        for open in [open, empty] {
            let closed = Frame { state: RoomState::Closed, ..open.clone() };
            let mut json = open.encode();
            Frame::add_state(&mut json, RoomState::Open);
            assert_eq!(Frame::decode(&json).unwrap(), open);
            Frame::add_state(&mut json, RoomState::Closed);
            assert_eq!(json, closed.encode());
        }
    }

    #[test]
    fn reads_frames_with_fields_that_came_later() {
        let golden = include_str!("../golden/frame.json").replace("{\"v\":1", "{\"mood\":\"loud\",\"v\":1");
        assert!(Frame::decode(golden.as_bytes()).is_ok());
    }
}
