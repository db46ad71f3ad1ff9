//! Topic names and topic filters (section 4.7).

use super::Version;

/// What may be published to: not empty [MQTT-4.7.3-1], no wildcards [MQTT-4.7.0-1].
pub(crate) fn is_topic_name(name: &str) -> bool {
    !name.is_empty() && !has_wildcards(name)
}

/// What may be subscribed to.
pub(crate) fn is_topic_filter(filter: &str, version: Version) -> bool {
    match filter.strip_prefix(SHARED) {
        // [MQTT-4.8.2-1] and [MQTT-4.8.2-2]: `$share/name/filter`
        Some(shared) if version == Version::V5 => shared
            .split_once('/')
            .is_some_and(|(name, filter)| is_topic_name(name) && has_filter_levels(filter)),
        _ => has_filter_levels(filter),
    }
}

/// A shared subscription (section 4.8.2). In 3.1.1 there are none: the same text is an ordinary filter.
pub(crate) fn is_shared(filter: &str, version: Version) -> bool {
    version == Version::V5 && filter.starts_with(SHARED)
}

pub(crate) fn has_wildcards(text: &str) -> bool {
    text.contains(['+', '#'])
}

const SHARED: &str = "$share/";

/// Not empty [MQTT-4.7.3-1]; a wildcard has its level for itself [MQTT-4.7.1-2]; `#` comes last [MQTT-4.7.1-1].
fn has_filter_levels(filter: &str) -> bool {
    let parents = match filter.strip_suffix('#') {
        None => filter,
        Some("") => return true,
        Some(parents) => match parents.strip_suffix('/') {
            Some(parents) => parents,
            None => return false,
        },
    };
    !filter.is_empty() && parents.split('/').all(|level| level == "+" || !has_wildcards(level))
}
