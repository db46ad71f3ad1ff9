//! Why a name or a record was refused. Each text says what would have been accepted.

use crate::{REACTION_BYTES_MAX, ROOM_NAME_LEN_MAX, RoomName};

/// A room name or a reaction that can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Room names have at least one character.
    #[error("a room name needs 1 to {ROOM_NAME_LEN_MAX} characters, this one is empty")]
    RoomEmpty,
    /// Room names have a limit in characters.
    #[error("a room name has at most {ROOM_NAME_LEN_MAX} characters, this one has {0}")]
    RoomTooLong(usize),
    /// Room names keep to characters that need no escaping in a URL or an MQTT topic.
    #[error("a room name may hold A-Z a-z 0-9 . _ ~ - only, found {0:?}")]
    RoomCharacter(char),
    /// Reactions have at least one byte.
    #[error("a reaction needs 1 to {REACTION_BYTES_MAX} bytes of UTF-8, this one is empty")]
    ReactionEmpty,
    /// Reactions have a limit in bytes.
    #[error("a reaction has at most {REACTION_BYTES_MAX} bytes of UTF-8, this one has {0}")]
    ReactionTooLong(usize),
    /// Reactions hold no control characters.
    #[error("a reaction may not hold control characters, found {0:?}")]
    ReactionControl(char),
    /// Reactions hold nothing that changes the text around them.
    #[error(
        "a reaction may not hold U+{:04X}: it breaks lines, changes the direction of the text around it, or is no character",
        u32::from(*.0)
    )]
    ReactionForbidden(char),
    /// Reactions can be seen.
    #[error(
        "a reaction needs a character that can be seen; this one has spaces, marks or invisible characters only"
    )]
    ReactionInvisible,
}

/// A record that is not one of ours, or is damaged. The reader skips it, counts it, and logs its offset.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or not of the record's shape. The text names line and column.
    #[error("not a valid record: {0}")]
    Json(#[from] serde_json::Error),
    /// A later or unknown format.
    #[error("format version {0} is not understood, this program reads version {expected}", expected = crate::FORMAT_VERSION)]
    Version(u32),
    /// The record contradicts itself.
    #[error("the record contradicts itself: {0}")]
    Inconsistent(&'static str),
    /// The record lies under another room's key.
    #[error("it is of room {0}")]
    Room(RoomName),
}
