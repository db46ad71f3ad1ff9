//! The wall clock.

use std::time::SystemTime;

/// Now, us since the epoch: the one clock that all processes of a machine share.
pub(crate) fn now_us() -> u64 {
    let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
}
