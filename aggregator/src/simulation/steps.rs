//! What can happen in a run.

use super::rng::Rng;
use eventlog::CommitFault;

/// One thing that happens. Instances and partitions are named by any number; the run takes it modulo what there is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    React {
        room: usize,
        batches: usize,
    },
    /// Records with a timestamp that is wrong by so much.
    ReactAtOddTime {
        room: usize,
        batches: usize,
        off_ms: i64,
    },
    Poison {
        partition: usize,
        kind: usize,
    },
    Redeliver {
        partition: usize,
        records: u64,
    },
    TimePasses {
        ms: u64,
    },
    /// All clocks are right again, or one (that of the log is the last) is wrong by so much.
    ClockJumps {
        whose: usize,
        off_ms: i64,
    },
    Start,
    Stop {
        instance: usize,
    },
    Crash {
        instance: usize,
    },
    /// The group notices who has crashed.
    Bury,
    /// Stands still, or goes on after it did.
    Freeze {
        instance: usize,
    },
    /// The group takes an instance for dead.
    Expel {
        member: usize,
    },
    BreakFeeds,
    /// Revoked, or assigned after it was revoked.
    Revoke {
        partition: usize,
    },
    /// All commits hang, or go on after they did.
    HoldCommits,
    /// Commits whose callers are gone reach the log.
    LateCommits,
    FailCommit {
        fault: CommitFault,
    },
    FailOpens {
        count: u32,
    },
    Configure {
        interval_ms: u64,
        slots: usize,
        grace_ms: u64,
        ttl_intervals: u64,
        max_rooms: usize,
        max_distinct: usize,
    },
}

type Make = fn(&mut Rng) -> Step;

/// Which steps a run takes, and how often. Each run leaves some kinds of trouble out and has more of others, so that
/// rare combinations come up.
pub(super) struct Plan {
    weighted: Vec<Make>,
}

impl Plan {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let mut weighted: Vec<Make> = Vec::new();
        for (weight, make) in EVERYDAY {
            weighted.extend(std::iter::repeat_n(make, weight));
        }
        for make in TROUBLES {
            weighted.extend(std::iter::repeat_n(make, rng.one_of(&[0, 0, 1, 4])));
        }
        Self { weighted }
    }

    pub(super) fn next(&self, rng: &mut Rng) -> Step {
        rng.one_of(&self.weighted)(rng)
    }
}

const EVERYDAY: [(usize, Make); 4] = [
    (10, |rng| Step::React { room: rng.below(8), batches: rng.below(4) + 1 }),
    (10, |rng| Step::TimePasses { ms: rng.between(1, 400) }),
    (1, |_| Step::Start),
    (1, |_| Step::Bury),
];

const TROUBLES: [Make; 18] = [
    |rng| Step::ReactAtOddTime { room: rng.below(8), batches: rng.below(3) + 1, off_ms: off_ms(rng) },
    |rng| Step::Poison { partition: rng.below(4), kind: rng.below(4) },
    |rng| Step::Redeliver { partition: rng.below(4), records: rng.between(1, 20) },
    |rng| Step::TimePasses { ms: rng.between(1_000, 20_000) },
    |rng| Step::ClockJumps { whose: rng.below(8), off_ms: off_ms(rng) },
    |_| Step::Start,
    |rng| Step::Stop { instance: rng.below(8) },
    |rng| Step::Crash { instance: rng.below(8) },
    |_| Step::Bury,
    |rng| Step::Freeze { instance: rng.below(8) },
    |rng| Step::Expel { member: rng.below(4) },
    |_| Step::BreakFeeds,
    |rng| Step::Revoke { partition: rng.below(4) },
    |_| Step::HoldCommits,
    |_| Step::LateCommits,
    |rng| Step::FailCommit { fault: fault(rng) },
    |rng| Step::FailOpens { count: rng.below(3) as u32 + 1 },
    configure,
];

fn off_ms(rng: &mut Rng) -> i64 {
    let far_ms = rng.one_of(&[100, 3_000, 3_600_000]);
    rng.between(0, 2 * far_ms) as i64 - far_ms as i64
}

fn fault(rng: &mut Rng) -> CommitFault {
    rng.one_of(&[CommitFault::Retry, CommitFault::LostBefore, CommitFault::LostAfter])
}

pub(super) fn configure(rng: &mut Rng) -> Step {
    let interval_ms = rng.one_of(&[100, 250, 1_000, 1_500]);
    Step::Configure {
        interval_ms,
        slots: rng.below(4) + 1,
        grace_ms: rng.between(0, 100),
        ttl_intervals: rng.one_of(&[10, 20, 1_000_000]),
        max_rooms: rng.one_of(&[1, 4, 1_000_000]),
        max_distinct: rng.below(4) + 1,
    }
}
