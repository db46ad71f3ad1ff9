//! A frame in the forms in which it goes out: each is encoded once, when it is first asked for, and shared by all who
//! receive it.

use crate::{
    edge::TOPIC_PREFIX,
    mqtt::{Version, encode},
    registry::Registry,
    websocket,
};
use bytes::Bytes;
use std::{
    fmt,
    str::FromStr,
    sync::{OnceLock, Weak},
};
use wire::{CheckedAggregate, DecodeError, Frame, RoomName, control::RoomState};

/// How a frame looks on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A WebSocket text.
    Text,
    /// A server-sent event.
    Event,
    /// An MQTT PUBLISH.
    Publish(Publish),
}

/// Of server-sent events, one that says nothing (HTML standard, 9.2.6).
pub(crate) const COMMENT: &[u8] = b":\n\n";

/// The kinds of PUBLISH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Publish {
    /// MQTT 5; otherwise 3.1.1.
    pub(crate) v5: bool,
    /// Marked as retained.
    pub(crate) retain: bool,
    /// Inside a binary WebSocket message.
    pub(crate) websocket: bool,
}

/// Number of [`Form`]s.
const FORMS: usize = 10;

/// How frames are made of aggregates.
#[derive(Debug, Clone, Default)]
pub(crate) struct FrameOptions {
    /// Reactions in `counts`, and in `totals`.
    pub(crate) top_n: usize,
    /// Where the viewers of the room are counted. `None`: frames don't tell them.
    pub(crate) viewers: Option<Weak<Registry>>,
}

/// A frame, made of its aggregate when it is first asked for: nobody watches most rooms.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) room: RoomName,
    content: Content,
    options: FrameOptions,
    state: RoomState,
    /// How often the same content was published with another state.
    revision: u32,
    made: OnceLock<Box<Made>>,
}

/// The content of a frame.
#[derive(Debug, Clone)]
enum Content {
    Aggregate(CheckedAggregate<Bytes>),
    /// Nothing but the state: the room has orders, and no reactions. `at`: when it was ordered.
    Nothing {
        since: u64,
        at: u64,
    },
}

/// Names a frame among those of its room, for viewers that come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameId {
    since: u64,
    seq: u64,
    state: RoomState,
}

impl fmt::Display for FrameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { since, seq, state } = self;
        match state {
            RoomState::Open => write!(f, "{since}-{seq}"),
            RoomState::Closed => write!(f, "{since}-{seq}-closed"),
        }
    }
}

impl FromStr for FrameId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (place, state) = match text.strip_suffix("-closed") {
            Some(place) => (place, RoomState::Closed),
            None => (text, RoomState::Open),
        };
        let (since, seq) = place.split_once('-').ok_or(())?;
        Ok(Self { since: since.parse().map_err(drop)?, seq: seq.parse().map_err(drop)?, state })
    }
}

/// What was asked for of a frame.
#[derive(Debug)]
struct Made {
    json: Bytes,
    forms: [OnceLock<Bytes>; FORMS],
}

impl Encoded {
    /// The frame of the aggregate in a record.
    pub(crate) fn new(room: &RoomName, record: Bytes, options: FrameOptions) -> Result<Self, DecodeError> {
        let content = Content::Aggregate(CheckedAggregate::new(room, record)?);
        Ok(Self { content, ..Self::without_reactions(room, 0, 0, options) })
    }

    /// The frame of a room that has orders and no reactions. `at`: when it was ordered, ms since the epoch.
    pub(crate) fn without_reactions(room: &RoomName, since: u64, at: u64, options: FrameOptions) -> Self {
        let content = Content::Nothing { since, at };
        let state = RoomState::Open;
        Self { room: room.clone(), content, options, state, revision: 0, made: OnceLock::new() }
    }

    /// The frame of a room in this state.
    pub(crate) fn with_state(self, state: RoomState) -> Self {
        Self { state, ..self }
    }

    /// The same frame once more, with another state.
    pub(crate) fn again_with_state(&self, state: RoomState) -> Self {
        Self {
            room: self.room.clone(),
            content: self.content.clone(),
            options: self.options.clone(),
            state,
            revision: self.revision.wrapping_add(1),
            made: OnceLock::new(),
        }
    }

    /// The state of the room that it tells.
    pub(crate) fn state(&self) -> RoomState {
        self.state
    }

    /// Whether it tells of reactions.
    pub(crate) fn has_reactions(&self) -> bool {
        matches!(self.content, Content::Aggregate(_))
    }

    /// JSON: the body of a snapshot, an MQTT payload.
    pub(crate) fn json(&self) -> Bytes {
        self.made().json.clone()
    }

    /// The frame as it goes over a connection.
    pub(crate) fn form(&self, form: Form) -> &Bytes {
        let made = self.made();
        made.forms[form.index()].get_or_init(|| self.encode(form, &made.json).into())
    }

    /// Viewers are counted here, once, so that all forms of a frame tell the same number.
    fn made(&self) -> &Made {
        self.made.get_or_init(|| {
            let FrameOptions { top_n, viewers } = &self.options;
            let registry = viewers.as_ref().and_then(Weak::upgrade);
            let viewers = registry.map(|registry| registry.viewers_of(&self.room));
            let mut json = match &self.content {
                Content::Aggregate(aggregate) => aggregate.frame(*top_n, viewers),
                Content::Nothing { since, at } => {
                    let frame = Frame::without_reactions(self.room.clone(), *since, *at);
                    Frame { viewers, ..frame }.encode()
                }
            };
            Frame::add_state(&mut json, self.state);
            Box::new(Made { json: json.into(), forms: Default::default() })
        })
    }

    fn encode(&self, form: Form, json: &[u8]) -> Vec<u8> {
        match form {
            Form::Text => websocket::message(websocket::Opcode::Text, json),
            Form::Event => {
                let mut event = format!("id: {}\ndata: ", self.id()).into_bytes();
                event.extend_from_slice(json);
                event.extend_from_slice(b"\n\n");
                event
            }
            Form::Publish(Publish { v5, retain, websocket }) => {
                let topic = format!("{TOPIC_PREFIX}{}", self.room);
                let message = encode::Message { topic: &topic, payload: json, is_retained: retain };
                let version = if v5 { Version::V5 } else { Version::V311 };
                let mut packet = Vec::new();
                encode::publish(&mut packet, version, &message);
                if websocket { websocket::message(websocket::Opcode::Binary, &packet) } else { packet }
            }
        }
    }

    /// End of the window that it tells of, ms since the epoch.
    pub(crate) fn window_end_ms(&self) -> u64 {
        match &self.content {
            Content::Aggregate(aggregate) => aggregate.window.end,
            Content::Nothing { at, .. } => *at,
        }
    }

    /// Reactions in the window.
    pub(crate) fn count(&self) -> u64 {
        self.aggregate().map_or(0, |aggregate| aggregate.count)
    }

    /// Reactions of the room's life.
    pub(crate) fn total(&self) -> u64 {
        self.aggregate().map_or(0, |aggregate| aggregate.total)
    }

    fn aggregate(&self) -> Option<&CheckedAggregate<Bytes>> {
        match &self.content {
            Content::Aggregate(aggregate) => Some(aggregate),
            Content::Nothing { .. } => None,
        }
    }

    /// Whether this frame comes after `other` of the same room: a later life, a later frame of the same life, or the same frame
    /// with a state that was ordered later.
    pub(crate) fn is_newer_than(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }

    /// Orders the frames of a room, in this process.
    pub(crate) fn rank(&self) -> (u64, u64, u32) {
        let (since, seq) = self.place();
        (since, seq, self.revision)
    }

    /// How many frames lie between `before` and this one; none where a new life begins.
    pub(crate) fn skipped_since(&self, before: &Self) -> u64 {
        let ((since, seq), (since_before, seq_before)) = (self.place(), before.place());
        if since == since_before { (seq - seq_before).saturating_sub(1) } else { 0 }
    }

    /// Names the frame among those of its room.
    pub(crate) fn id(&self) -> FrameId {
        let (since, seq) = self.place();
        FrameId { since, seq, state: self.state }
    }

    /// Its life, and its number in that: `since` and `seq`.
    pub(crate) fn place(&self) -> (u64, u64) {
        match &self.content {
            Content::Aggregate(aggregate) => (aggregate.since, aggregate.seq),
            Content::Nothing { since, .. } => (*since, 0),
        }
    }

    /// The entity tag. Weak: two nodes may cut the same aggregate to a different top N, and tell other viewers.
    pub(crate) fn etag(&self) -> String {
        format!("W/\"{}\"", self.id())
    }
}

impl Form {
    fn index(self) -> usize {
        match self {
            Self::Text => 0,
            Self::Event => 1,
            Self::Publish(Publish { v5, retain, websocket }) => {
                2 + usize::from(v5) + 2 * usize::from(retain) + 4 * usize::from(websocket)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{metrics::Meters, registry::Limits, tests::harness::aggregate};
    use std::sync::Arc;
    use wire::Aggregate;

    impl Encoded {
        pub(crate) fn of(aggregate: &Aggregate, top_n: usize) -> Self {
            Self::with(aggregate, FrameOptions { top_n, viewers: None })
        }

        pub(crate) fn with(aggregate: &Aggregate, options: FrameOptions) -> Self {
            Self::new(&aggregate.room, aggregate.encode().into(), options).unwrap()
        }
    }

    fn frame(since: u64, seq: u64) -> Encoded {
        Encoded::of(&Aggregate { since, ..aggregate("r", seq) }, 10)
    }

    #[test]
    fn newer_is_a_later_life_or_a_later_frame_of_the_same_life() {
        assert!(frame(5, 3).is_newer_than(&frame(5, 2)));
        assert!(frame(6, 1).is_newer_than(&frame(5, 9)));
        for old in [frame(5, 2), frame(5, 1), frame(4, 9)] {
            assert!(!old.is_newer_than(&frame(5, 2)));
        }
    }

    #[test]
    fn a_frame_comes_again_when_the_state_of_its_room_has_changed() {
        let open = frame(5, 1);
        let closed = open.again_with_state(RoomState::Closed);
        let opened = closed.again_with_state(RoomState::Open);
        assert!(closed.is_newer_than(&open) && opened.is_newer_than(&closed));
        assert!(frame(5, 2).is_newer_than(&opened));
        assert_eq!(closed.skipped_since(&open), 0);
        assert_eq!(closed.etag(), "W/\"5-1-closed\"");
        let read = wire::Frame::decode(&closed.json()).unwrap();
        assert_eq!(
            read,
            wire::Frame { state: RoomState::Closed, ..wire::Frame::decode(&open.json()).unwrap() }
        );
        assert_eq!(opened.json(), open.json());
    }

    #[test]
    fn a_room_without_reactions_has_a_frame_that_any_other_comes_after() {
        let room = "r".parse().unwrap();
        let empty = Encoded::without_reactions(&room, 0, 7_000, FrameOptions::default())
            .with_state(RoomState::Closed);
        assert!(frame(1, 1).is_newer_than(&empty) && !empty.has_reactions());
        let read = wire::Frame::decode(&empty.json()).unwrap();
        assert_eq!((read.seq, read.total, read.window.end, read.state), (0, 0, 7_000, RoomState::Closed));
    }

    #[test]
    fn an_id_is_read_as_it_was_written() {
        for text in ["5-1", "5-1-closed"] {
            assert_eq!(text.parse::<FrameId>().unwrap().to_string(), text);
        }
        for text in ["", "5", "5-", "5-1-open", "5-1-2", "a-b"] {
            assert!(text.parse::<FrameId>().is_err(), "{text}");
        }
    }

    #[test]
    fn skipped_frames_show_as_a_gap_within_a_life() {
        assert_eq!(frame(5, 3).skipped_since(&frame(5, 2)), 0);
        assert_eq!(frame(5, 9).skipped_since(&frame(5, 2)), 6);
        assert_eq!(frame(6, 9).skipped_since(&frame(5, 2)), 0);
    }

    #[test]
    fn every_form_has_a_place_of_its_own_and_is_encoded_once() {
        let frame = frame(5, 1);
        let publish = (0..8).map(|bits: u8| {
            let has = |bit: u8| bits & bit != 0;
            Form::Publish(Publish { v5: has(1), retain: has(2), websocket: has(4) })
        });
        let forms: Vec<_> = [Form::Text, Form::Event].into_iter().chain(publish).collect();
        let places: std::collections::BTreeSet<_> = forms.iter().map(|form| form.index()).collect();
        assert_eq!(places, (0..FORMS).collect());
        for form in forms {
            assert_eq!(frame.form(form).as_ptr(), frame.form(form).as_ptr());
        }
    }

    #[test]
    fn nothing_is_made_of_a_frame_that_nobody_asks_for() {
        let frame = frame(5, 1);
        assert!(frame.is_newer_than(&self::frame(4, 9)) && frame.id().to_string() == "5-1");
        assert!(frame.made.get().is_none());
        assert_eq!(frame.json(), wire::Frame::of(&Aggregate { since: 5, ..aggregate("r", 1) }, 10).encode());
    }

    #[test]
    fn all_forms_of_a_frame_tell_the_viewers_that_there_were_when_it_was_first_encoded() {
        let registry = Registry::new(Arc::new(Meters::new()));
        let limits = Limits { max_viewers: 9, max_viewers_per_address: 0, max_rooms_watched: 9 };
        let options = || FrameOptions { top_n: 10, viewers: Some(Arc::downgrade(&registry)) };
        let frame = Encoded::with(&aggregate("r", 1), options());
        let mut watch = registry.watch(&frame.room, limits).unwrap();
        watch.join();
        let json = String::from_utf8(frame.json().to_vec()).unwrap();
        assert!(json.ends_with(",\"viewers\":1}"), "{json}");
        watch.join();
        assert!(frame.form(Form::Text).ends_with(json.as_bytes()));
        assert!(frame.form(Form::Event).ends_with(format!("{json}\n\n").as_bytes()));
        let viewers = |frame: &Encoded| wire::Frame::decode(&frame.json()).unwrap().viewers;
        assert_eq!(viewers(&Encoded::with(&aggregate("r", 2), options())), Some(2));
        assert_eq!(viewers(&Encoded::with(&aggregate("nobody-is-here", 1), options())), Some(0));
        assert_eq!(viewers(&Encoded::of(&aggregate("r", 3), 10)), None, "they are not counted");
    }

    #[test]
    fn an_event_has_the_frames_id_and_its_json() {
        let frame = frame(5, 1);
        let json = String::from_utf8(frame.json().to_vec()).unwrap();
        assert_eq!(frame.form(Form::Event), format!("id: 5-1\ndata: {json}\n\n").as_bytes());
    }
}
