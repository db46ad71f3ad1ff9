//! How much is let through, to whom, and in how much memory.

use super::*;
use crate::ids::{Id, Secret};
use proptest::prelude::*;
use std::{sync::LazyLock, time::Instant};

const S: u64 = NANOS_PER_S;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn quota(per_s: u64, burst: u64) -> Quota {
    Quota::new(per_s, burst).unwrap()
}

fn left(tokens: u64, next_ms: u64) -> Left {
    Left { tokens, next: ms(next_ms) }
}

#[test]
fn a_rate_of_zero_is_no_limit() {
    assert_eq!(Quota::new(0, 10), None);
}

#[test]
fn a_burst_goes_through_and_then_one_at_a_time() {
    let quota = quota(10, 3);
    let mut full_at = 0;
    for (now, taken) in [
        (5 * S, Taken::Granted(left(2, 100))),
        (5 * S, Taken::Granted(left(1, 100))),
        (5 * S, Taken::Granted(left(0, 100))),
        (5 * S, Taken::Wait(ms(100), left(0, 100))),
        (5 * S + S / 20, Taken::Wait(ms(50), left(0, 50))),
        (5 * S + S / 10, Taken::Granted(left(0, 100))),
        (9 * S, Taken::Granted(left(2, 100))),
    ] {
        assert_eq!(quota.take(&mut full_at, 1, now), taken, "at {now}");
    }
}

#[test]
fn much_at_once_waits_until_all_of_it_is_there_and_then_takes_it_whole() {
    let quota = quota(100, 50);
    let mut full_at = 0;
    assert_eq!(quota.take(&mut full_at, 40, 0), Taken::Granted(left(10, 10)));
    assert_eq!(quota.take(&mut full_at, 20, 0), Taken::Wait(ms(100), left(10, 10)));
    assert_eq!(quota.take(&mut full_at, 20, S / 10), Taken::Granted(left(0, 10)));
    assert_eq!(quota.take(&mut full_at, 51, 100 * S), Taken::Never);
}

#[test]
fn a_client_never_owes_more_than_one_bucket_of_the_limit_in_force() {
    // The limit that emptied the bucket, the limit after a reload, and when the next token is there.
    for (before, after, wait_ms) in [
        (quota(1, 20), quota(100, 20), 10),
        (quota(1, 20), quota(2, 20), 500),
        (quota(100, 2_000), quota(1_000, 2_000), 1),
        (quota(10, 100), quota(10, 10), 100),
    ] {
        let mut full_at = 0;
        let all = before.burst();
        assert!(matches!(before.take(&mut full_at, all, 0), Taken::Granted(_)));
        let (now, wait) = (S / 1_000, ms(wait_ms));
        let taken = after.take(&mut full_at, 1, now);
        assert_eq!(taken, Taken::Wait(wait, left(0, wait_ms)), "{before:?} -> {after:?}");
        assert!(matches!(after.take(&mut full_at, 1, now + S * wait_ms / 1_000), Taken::Granted(_)));
    }
}

#[test]
fn seconds_are_rounded_up_and_a_window_has_one_at_least() {
    assert_eq!([0, 1, 999, 1_000, 1_001].map(|n| seconds(ms(n))), [0, 1, 1, 1, 2]);
    assert_eq!([quota(10, 100), quota(10, 101), quota(10, 1)].map(|q| q.window_s()), [10, 11, 1]);
}

/// One secret for all cases: only the spread over the tables depends on it.
static SECRET: LazyLock<Secret> = LazyLock::new(Secret::default);

fn client(n: usize) -> Id {
    SECRET.id(n)
}

/// Clients that meet in one table.
fn neighbours(n: usize) -> Vec<Id> {
    (0..).map(client).filter(|id| id.shard(64) == 0).take(n).collect()
}

struct Clients {
    tracker: Tracker,
    start: Instant,
    quota: Quota,
    max: usize,
}

impl Clients {
    fn new(quota: Quota, max: usize) -> Self {
        let start = Instant::now();
        Self { tracker: Tracker::new(start), start, quota, max }
    }

    /// Whether a request is let through, and whether the bucket is a shared one.
    fn ask(&self, client: Id, at_ms: u64) -> (bool, bool) {
        let (taken, shared) =
            self.tracker.take(client, Kind::Requests, &self.quota, 1, self.start + ms(at_ms), self.max);
        (matches!(taken, Taken::Granted(_)), shared)
    }
}

#[test]
fn each_client_has_buckets_of_its_own_for_requests_and_reactions() {
    let clients = Clients::new(quota(1, 1), 1_000);
    assert_eq!(clients.ask(client(1), 0), (true, false));
    assert_eq!(clients.ask(client(1), 0), (false, false));
    assert_eq!(clients.ask(client(2), 0), (true, false));
    let (taken, _) = clients.tracker.take(client(1), Kind::Reactions, &quota(1, 5), 5, clients.start, 1_000);
    assert!(matches!(taken, Taken::Granted(_)));
    assert_eq!(clients.ask(client(1), 1_000), (true, false));
}

#[test]
fn a_newcomer_takes_the_place_of_one_whose_bucket_is_full_again() {
    // Room for two in each table; whichever of them came first.
    for times in [[0, 900], [900, 0]] {
        let (clients, ids) = (Clients::new(quota(1, 1), 128), neighbours(3));
        assert_eq!(clients.ask(ids[0], times[0]), (true, false));
        assert_eq!(clients.ask(ids[1], times[1]), (true, false));
        assert_eq!(clients.ask(ids[2], 1_000), (true, false));
        let waits = ids[times.iter().position(|at| *at == 900).unwrap()];
        assert_eq!(clients.ask(waits, 1_000), (false, false), "who has to wait is not forgotten");
        assert_eq!(clients.tracker.clients(), 2);
    }
}

#[test]
fn newcomers_without_a_place_share_one_bucket() {
    let (clients, ids) = (Clients::new(quota(1, 2), 64), neighbours(5));
    assert_eq!(clients.ask(ids[0], 0), (true, false));
    let shared: Vec<_> = ids[1..].iter().map(|id| clients.ask(*id, 0)).collect();
    assert_eq!(shared, [(true, true), (true, true), (false, true), (false, true)]);
    assert_eq!(clients.ask(ids[0], 0), (true, false), "who has a place doesn't suffer");
    assert_eq!(clients.ask(ids[4], 2_000), (true, false), "once there is a place it is taken");
}

#[test]
fn a_bound_that_is_lowered_is_reached_as_buckets_fill() {
    let mut clients = Clients::new(quota(1, 1), 64 * 20);
    for id in neighbours(20) {
        assert!(clients.ask(id, 0).0);
    }
    assert_eq!(clients.tracker.clients(), 20);
    clients.max = 64 * 2;
    let newcomers = &neighbours(40)[20..];
    assert_eq!(clients.ask(newcomers[0], 999), (true, true), "nobody who has to wait is forgotten");
    assert_eq!(clients.tracker.clients(), 20);
    for id in newcomers {
        clients.ask(*id, 2_000);
    }
    assert_eq!(clients.tracker.clients(), 2);
}

proptest! {
    #[test]
    fn no_span_of_time_lets_more_through_than_burst_and_rate(
        per_s in 1_u64..2_000,
        burst in 1_u64..50,
        steps in prop::collection::vec((0_u64..200_000_000, 1_u64..20), 1..200),
    ) {
        let quota = quota(per_s, burst);
        let (mut full_at, mut now) = (0, 0);
        let mut granted = Vec::new();
        for (pause, cost) in steps {
            now += pause;
            match quota.take(&mut full_at, cost, now) {
                Taken::Granted(left) => {
                    granted.push((now, cost));
                    prop_assert!(left.tokens < burst);
                }
                Taken::Wait(time, left) => {
                    prop_assert!(left.tokens < cost && left.next <= time);
                    // After that time it is there, and not a moment before.
                    let time = time.as_nanos() as u64;
                    let early = quota.take(&mut full_at.clone(), cost, now + time - 1);
                    prop_assert!(matches!(early, Taken::Wait(..)));
                    let then = quota.take(&mut full_at.clone(), cost, now + time);
                    prop_assert!(matches!(then, Taken::Granted(_)));
                }
                Taken::Never => prop_assert!(cost > burst),
            }
        }
        for (i, (from, _)) in granted.iter().enumerate() {
            let mut sum = 0;
            for (to, cost) in &granted[i..] {
                sum += u128::from(*cost);
                let filled = u128::from(to - from) * u128::from(per_s) / u128::from(S);
                prop_assert!(sum <= u128::from(burst) + filled, "{sum} within {} ns", to - from);
            }
        }
    }

    /// Reloads change the limit at any moment. A refused client waits for its tokens alone, never for an older limit's
    /// debt, and each stretch under one limit lets no more through than that limit.
    #[test]
    fn reloads_leave_no_debt_behind_and_lift_no_limit(
        quotas in prop::collection::vec((1_u64..2_000, 1_u64..50), 1..6),
        steps in prop::collection::vec((0_u64..200_000_000, 1_u64..20, prop::option::weighted(0.1, any::<usize>())), 1..200),
    ) {
        let quotas: Vec<_> = quotas.into_iter().map(|(per_s, burst)| quota(per_s, burst)).collect();
        let (mut quota, mut full_at, mut now) = (quotas[0], 0, 0);
        let mut granted = Vec::new();
        for (pause, cost, reload) in steps {
            now += pause;
            if let Some(n) = reload {
                quota = quotas[n % quotas.len()];
                granted.clear();
            }
            match quota.take(&mut full_at, cost, now) {
                Taken::Granted(_) => granted.push((now, cost)),
                Taken::Wait(time, left) => {
                    prop_assert!(time <= Duration::from_nanos(cost * quota.token_ns));
                    prop_assert!(left.next <= time && left.tokens < cost);
                }
                Taken::Never => prop_assert!(cost > quota.burst()),
            }
            for (i, (from, _)) in granted.iter().enumerate() {
                let sum: u64 = granted[i..].iter().map(|(_, cost)| cost).sum();
                prop_assert!(sum <= quota.burst() + (now - from) / quota.token_ns + 1);
            }
        }
    }

    #[test]
    fn memory_is_bounded_and_a_client_alone_and_those_who_share_get_a_bucket_each(
        places in 1_usize..6,
        asks in prop::collection::vec((0_usize..8, 0_u64..30), 1..300),
    ) {
        static CLIENTS: LazyLock<Vec<Id>> = LazyLock::new(|| neighbours(8));
        let (per_s, burst) = (10, 2);
        let clients = Clients::new(quota(per_s, burst), 64 * places);
        let mut now_ms = 0;
        let mut granted = std::collections::HashMap::<Option<usize>, Vec<u64>>::new();
        for (n, pause_ms) in asks {
            now_ms += pause_ms;
            let (is_granted, shared) = clients.ask(CLIENTS[n], now_ms);
            if is_granted {
                granted.entry((!shared).then_some(n)).or_default().push(now_ms);
            }
            prop_assert!(clients.tracker.clients() <= places);
        }
        for times in granted.values() {
            for (i, from) in times.iter().enumerate() {
                for (more, to) in times[i..].iter().enumerate() {
                    prop_assert!((more as u64) < burst + (to - from) * per_s / 1_000);
                }
            }
        }
    }
}
