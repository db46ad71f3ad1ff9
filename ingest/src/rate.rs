//! Token buckets, as the generic cell rate algorithm has them: what a bucket lacks is one number, the time at which it
//! will be full again. Knows no clock; times are nanoseconds since any moment.

mod tracker;

pub(crate) use tracker::{Kind, Tracker};

use std::time::Duration;

const NANOS_PER_S: u64 = 1_000_000_000;

/// How much a client may do: `burst` at once, and as much again as `per_s` fills in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    per_s: u64,
    burst: u64,
    /// The time in which one token comes.
    token_ns: u64,
}

/// What is left in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    /// Whole tokens.
    pub(crate) tokens: u64,
    /// When there is one more; zero for a full bucket.
    pub(crate) next: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The tokens were there, and are taken.
    Granted(Left),
    /// Nothing is taken. They will be there after this time.
    Wait(Duration, Left),
    /// The bucket never holds so many.
    Never,
}

impl Quota {
    /// `None` where `per_s` is 0: no limit.
    pub(crate) fn new(per_s: u64, burst: u64) -> Option<Self> {
        // Rounded up: a rate is rather missed than passed.
        (per_s > 0).then(|| Self { per_s, burst, token_ns: NANOS_PER_S.div_ceil(per_s) })
    }

    pub(crate) fn per_s(&self) -> u64 {
        self.per_s
    }

    pub(crate) fn burst(&self) -> u64 {
        self.burst
    }

    /// Seconds in which an empty bucket becomes full, at least 1.
    pub(crate) fn window_s(&self) -> u64 {
        self.burst.div_ceil(self.per_s).max(1)
    }

    /// Takes `cost` tokens out of the bucket that will be `full_at`.
    pub(crate) fn take(&self, full_at: &mut u64, cost: u64, now: u64) -> Taken {
        if cost > self.burst {
            return Taken::Never;
        }
        let size = self.burst.saturating_mul(self.token_ns);
        // A bucket lacks at most all that it holds. After a reload the time may stem from a larger or slower bucket. It is
        // also lowered for a request that is refused: otherwise the bucket would not fill at the new rate.
        *full_at = (*full_at).min(now.saturating_add(size));
        let lacks = full_at.saturating_sub(now);
        let wanted = lacks.saturating_add(cost.saturating_mul(self.token_ns));
        if wanted > size {
            return Taken::Wait(Duration::from_nanos(wanted - size), self.left(size, lacks));
        }
        *full_at = now.saturating_add(wanted);
        Taken::Granted(self.left(size, wanted))
    }

    /// What a bucket of `size` still holds; `lacks` is at most `size`.
    fn left(&self, size: u64, lacks: u64) -> Left {
        let held = size - lacks;
        let next = if lacks == 0 { 0 } else { self.token_ns - held % self.token_ns };
        Left { tokens: held / self.token_ns, next: Duration::from_nanos(next) }
    }
}

/// In whole seconds, rounded up.
pub(crate) fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;
