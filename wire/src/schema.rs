//! The JSON Schemas of names, made of the limits that `names` checks. Those of the other types are derived.

use crate::{REACTION_BYTES_MAX, ROOM_NAME_LEN_MAX, Reaction, RoomName};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// The characters of a room's name, as a class of a regular expression.
const ROOM_NAME_CLASS: &str = "A-Za-z0-9._~-";
/// The characters of the first plane that no client may send in a reaction, as a class of a regular expression: control
/// characters (Unicode's Cc), marks of direction, separators of lines, and noncharacters.
const FORBIDDEN_CLASS: &str = "\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e-\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufdd0-\\ufdef\\ufffe-\\uffff";

impl JsonSchema for RoomName {
    fn schema_name() -> Cow<'static, str> {
        "RoomName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": format!("^[{ROOM_NAME_CLASS}]{{1,{ROOM_NAME_LEN_MAX}}}$"),
            "description": "One live event that people react to. Its characters need no escaping in a URL.",
            "examples": ["ind-pak-final"],
        })
    }
}

impl JsonSchema for Reaction {
    fn schema_name() -> Cow<'static, str> {
        "Reaction".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "reaction",
            "minLength": 1,
            "maxLength": REACTION_BYTES_MAX,
            "pattern": format!("^[^{FORBIDDEN_CLASS}]+$"),
            "description": format!(
                "An emoji or short code: 1 to {REACTION_BYTES_MAX} bytes of UTF-8, of which something can be seen, without \
                 control characters and marks of direction. All ways to write an emoji are one reaction; frames have its \
                 fully qualified form. JSON Schema can limit characters only, hence `maxLength`: what counts is bytes."
            ),
            "examples": ["🔥", "👏", "goal"],
        })
    }
}

/// Of reactions and their counts. Derived, it would say what the keys are as `patternProperties`, which generators of clients
/// pass over: an object without any properties was left.
pub fn counts_schema(generator: &mut SchemaGenerator) -> Schema {
    by_name::<Reaction, u64>(generator)
}

/// An object whose keys are names.
pub(crate) fn by_name<N: JsonSchema, T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "propertyNames": generator.subschema_for::<N>(),
        "additionalProperties": generator.subschema_for::<T>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NameError, SkinTones};

    /// Whether a class of the form `a-zA-Z._` holds `c`.
    fn holds(class: &[char], c: char) -> bool {
        match class {
            [from, '-', to, rest @ ..] => (*from..=*to).contains(&c) || holds(rest, c),
            [one, rest @ ..] => *one == c || holds(rest, c),
            [] => false,
        }
    }

    #[test]
    fn the_patterns_are_the_rules_of_names() {
        let room: Vec<char> = ROOM_NAME_CLASS.chars().collect();
        let class = serde_json::from_str::<String>(&format!("\"{FORBIDDEN_CLASS}\"")).unwrap();
        let forbidden: Vec<char> = class.chars().collect();
        for c in '\0'..='\u{ffff}' {
            let text = c.to_string();
            assert_eq!(RoomName::check(&text).is_ok(), holds(&room, c), "{c:?}");
            let sent = Reaction::canonical(&format!("a{c}"), SkinTones::Fold);
            let refused =
                matches!(sent, Err(NameError::ReactionControl(_) | NameError::ReactionForbidden(_)));
            assert_eq!(refused, holds(&forbidden, c), "{c:?}");
            let is_control = matches!(Reaction::check(&text), Err(NameError::ReactionControl(_)));
            assert!(!is_control || refused, "{c:?}");
        }
    }
}
