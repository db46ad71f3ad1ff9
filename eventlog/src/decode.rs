//! Reads records of `aggregates` that may be anybody's.

use crate::metrics::ALIEN_RECORDS;
use metrics::counter;
use wire::Aggregate;

/// The aggregate in a record's value. What can't be read, or is of another room than its key says, is passed over,
/// counted and logged: one alien record must not keep a partition from being owned.
pub(crate) fn aggregate(partition: u32, room: &str, value: &[u8]) -> Option<Aggregate> {
    let error = match Aggregate::decode(value) {
        Ok(aggregate) if &*aggregate.room == room => return Some(aggregate),
        Ok(aggregate) => format!("it is of room {:?}", aggregate.room),
        Err(error) => error.to_string(),
    };
    counter!(ALIEN_RECORDS).increment(1);
    tracing::warn!(partition, room, error, "alien record of aggregates was passed over");
    None
}
