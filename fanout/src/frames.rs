//! A frame in the forms in which it goes out: encoded once, shared by all who receive it.

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use wire::{Aggregate, Frame, RoomName};

/// An encoded frame. Its forms share one buffer.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) room: RoomName,
    since: u64,
    seq: u64,
    text: Utf8Bytes,
}

impl Encoded {
    /// The frame of `aggregate`, cut to `top_n`.
    pub(crate) fn of(aggregate: &Aggregate, top_n: usize) -> Self {
        let json = Frame::of(aggregate, top_n).encode();
        // JSON is UTF-8, so that nothing is ever replaced. From here on nobody checks or copies it again.
        let text = Utf8Bytes::from(String::from_utf8_lossy(&json).into_owned());
        Self { room: aggregate.room.clone(), since: aggregate.since, seq: aggregate.seq, text }
    }

    /// JSON: the body of a snapshot, an MQTT payload.
    pub(crate) fn json(&self) -> Bytes {
        self.text.clone().into()
    }

    /// A WebSocket text.
    pub(crate) fn text(&self) -> Utf8Bytes {
        self.text.clone()
    }

    /// Whether this frame comes after `other` of the same room: a later life, or a later frame of the same life.
    pub(crate) fn is_newer_than(&self, other: &Self) -> bool {
        (self.since, self.seq) > (other.since, other.seq)
    }

    /// How many frames lie between `before` and this one; none where a new life begins.
    pub(crate) fn skipped_since(&self, before: &Self) -> u64 {
        if self.since == before.since { (self.seq - before.seq).saturating_sub(1) } else { 0 }
    }

    /// The entity tag. Weak: two nodes may cut the same aggregate to a different top N.
    pub(crate) fn etag(&self) -> String {
        format!("W/\"{}-{}\"", self.since, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::harness::aggregate;

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
    fn skipped_frames_show_as_a_gap_within_a_life() {
        assert_eq!(frame(5, 3).skipped_since(&frame(5, 2)), 0);
        assert_eq!(frame(5, 9).skipped_since(&frame(5, 2)), 6);
        assert_eq!(frame(6, 9).skipped_since(&frame(5, 2)), 0);
    }

    #[test]
    fn all_forms_share_one_buffer() {
        let frame = frame(5, 1);
        assert_eq!(frame.json().as_ptr(), frame.text().as_str().as_ptr());
        assert_eq!(Frame::decode(&frame.json()).unwrap().seq, 1);
    }
}
