//! Section `aggregator`. The defaults stand in `config/default.toml`.

use serde::Deserialize;
use service::config::check_range;

/// How windows are cut. Everything may be changed while running; open windows keep their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Length of a window.
    pub interval_ms: u64,
    /// Equal slices of a window, for smooth animation.
    pub slots: usize,
    /// How long after its end a window stays open for records that are on their way.
    pub grace_ms: u64,
    /// A room without reactions for so long is forgotten, with its totals.
    pub room_ttl_ms: u64,
    /// Rooms at a time; of more, those silent the longest are forgotten, with their totals.
    pub max_rooms: usize,
    /// Distinct reactions a room counts by name; all others are summed up as its `others`.
    pub max_distinct_per_room: usize,
    /// Distinct reactions that all rooms together count by name; beyond, a new one counts by name in a room with few only.
    pub max_distinct: usize,
}

impl Config {
    /// Adds every violation as `(key, what would be right)`.
    pub fn validate(&self, refuse: &mut dyn FnMut(&str, String)) {
        let Self {
            interval_ms,
            slots,
            grace_ms,
            room_ttl_ms,
            max_rooms,
            max_distinct_per_room,
            max_distinct,
        } = self;
        check_range("interval_ms", *interval_ms, (100, 60_000), refuse);
        check_range("slots", *slots as u64, (1, 60), refuse);
        if grace_ms > interval_ms {
            refuse("grace_ms", format!("must be at most interval_ms ({interval_ms}), is {grace_ms}"));
        }
        if *room_ttl_ms < interval_ms.saturating_mul(10) {
            refuse(
                "room_ttl_ms",
                format!("must be at least 10 times interval_ms ({interval_ms}), is {room_ttl_ms}"),
            );
        }
        if *max_rooms == 0 {
            refuse("max_rooms", "must be at least 1, is 0".to_owned());
        }
        check_range("max_distinct_per_room", *max_distinct_per_room as u64, (1, 4_096), refuse);
        if *max_distinct == 0 {
            refuse("max_distinct", "must be at least 1, is 0".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Config;
    use crate::tests::CONFIG;

    fn violations(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = CONFIG;
        change(&mut config);
        let mut found = Vec::new();
        config.validate(&mut |key, problem| found.push(format!("{key} {problem}")));
        found
    }

    #[test]
    fn what_is_at_a_bound_is_right() {
        let least = Config {
            interval_ms: 100,
            slots: 1,
            grace_ms: 0,
            room_ttl_ms: 1_000,
            max_rooms: 1,
            max_distinct_per_room: 1,
            max_distinct: 1,
        };
        let most = Config {
            interval_ms: 60_000,
            slots: 60,
            grace_ms: 60_000,
            room_ttl_ms: u64::MAX,
            max_rooms: usize::MAX,
            max_distinct_per_room: 4_096,
            max_distinct: usize::MAX,
        };
        for config in [least, most] {
            assert_eq!(violations(|c| *c = config), [""; 0]);
        }
    }

    #[test]
    fn every_violation_is_named_at_once() {
        let found = violations(|c| {
            c.interval_ms = 99;
            c.slots = 0;
            c.grace_ms = 100;
            c.room_ttl_ms = 989;
            c.max_rooms = 0;
            c.max_distinct_per_room = 0;
            c.max_distinct = 0;
        });
        let keys: Vec<_> = found.iter().filter_map(|line| line.split(' ').next()).collect();
        let expected = [
            "interval_ms",
            "slots",
            "grace_ms",
            "room_ttl_ms",
            "max_rooms",
            "max_distinct_per_room",
            "max_distinct",
        ];
        assert_eq!(keys, expected);
        assert_eq!(found[3], "room_ttl_ms must be at least 10 times interval_ms (99), is 989");
        let found = violations(|c| (c.interval_ms, c.slots, c.max_distinct_per_room) = (60_001, 61, 4_097));
        assert_eq!(found.len(), 4, "{found:?}");
    }
}
