//! What every adapter must do: the contract of the port, as cases that run on any log.
//!
//! An adapter's tests hand [`run`] a [`LogFactory`]. Every case opens a new log. Nothing here assumes that anything is
//! fast: cases wait for conditions, each wait has a deadline, and a case that hangs is a case that fails.
//!
//! - `member`, `watcher`: read a feed and a follower, and check on the way what holds for every event.
//! - `appends`, `reading`, `commits`, `following`, `windows`, `restart`, `control`: the cases by theme.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a case fails by panicking")]

mod appends;
mod commits;
mod control;
mod following;
mod member;
mod reading;
mod restart;
mod watcher;
mod windows;

use crate::{BoxFuture, EventLog};
use futures_util::{FutureExt, future::LocalBoxFuture};
use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use wire::{Aggregate, RoomName, Source, Window};

/// For one wait.
const WAIT: Duration = Duration::from_secs(30);
/// For one case.
const CASE: Duration = Duration::from_secs(120);

/// Makes the logs that the cases run on.
pub trait LogFactory: Send + Sync {
    /// How many partitions its logs have: at least 2.
    fn partitions(&self) -> u32;

    /// A new log without a record, that shares nothing with those before.
    fn open(&self) -> BoxFuture<'_, Arc<dyn EventLog>>;

    /// Opens the newest log once more, as after a restart of the process. All parts of `log` are gone, and `log` is
    /// the last handle to it.
    fn reopen(&self, log: Arc<dyn EventLog>) -> BoxFuture<'_, Arc<dyn EventLog>>;
}

type Case = for<'a> fn(&'a dyn LogFactory) -> LocalBoxFuture<'a, ()>;

macro_rules! cases {
    ($($theme:ident :: $case:ident,)*) => {
        &[$((concat!(stringify!($theme), "::", stringify!($case)), |factory| Box::pin($theme::$case(factory))),)*]
    };
}

const CASES: &[(&str, Case)] = cases![
    appends::an_appended_record_comes_to_the_feed_as_it_was,
    appends::records_come_to_their_partition_in_the_order_of_their_appends,
    appends::a_partition_that_does_not_exist_takes_nothing,
    appends::records_that_are_handed_over_together_end_each_by_themselves,
    appends::concurrent_appends_arrive_exactly_once,
    appends::poison_values_pass_untouched,
    appends::a_dropped_append_is_written_all_the_same,
    appends::flush_waits_for_every_append,
    reading::a_log_without_records_is_assigned_and_caught_up,
    reading::caught_up_comes_again_after_more_records,
    reading::a_backlog_is_read_from_its_first_record,
    reading::what_was_not_committed_is_read_again,
    reading::a_cancelled_next_loses_no_event,
    reading::an_epoch_is_never_used_again,
    commits::the_next_feed_goes_on_where_the_commit_ended,
    commits::the_next_feed_has_the_newest_aggregates_of_each_partition,
    commits::a_commit_over_partitions_is_all_or_nothing,
    commits::a_cut_of_an_earlier_assignment_is_refused,
    commits::the_committer_of_a_closed_feed_is_refused,
    commits::a_commit_without_aggregates_moves_the_offset,
    commits::reading_goes_on_beside_a_commit,
    commits::a_second_commit_waits_for_the_first,
    commits::a_tombstone_forgets_the_room,
    commits::a_room_may_be_forgotten_and_begin_again_in_one_commit,
    following::a_follower_of_a_log_without_aggregates_is_caught_up_at_once,
    following::a_late_follower_gets_the_newest_of_each_room_and_then_what_is_new,
    following::a_commit_is_visible_when_it_resolves,
    following::all_followers_get_everything,
    following::a_tombstone_reaches_the_follower,
    following::a_cancelled_next_loses_no_record,
    following::a_follower_that_lags_ends_up_with_the_newest_of_each_room,
    windows::windows_are_there_when_their_commit_resolves,
    windows::a_refused_commit_writes_no_window,
    windows::a_restart_keeps_windows,
    windows::a_follower_of_windows_goes_on_from_its_offsets,
    restart::a_restart_keeps_records_offsets_and_aggregates,
    restart::a_restart_goes_on_with_larger_offsets,
];

/// Of logs that keep orders.
const CONTROL_CASES: &[(&str, Case)] = cases![
    control::a_log_without_orders_is_read_at_once,
    control::a_write_is_seen_by_readers_and_by_those_that_come_later,
    control::a_key_that_is_forgotten_is_absent_and_its_version_never_comes_again,
    control::a_write_that_expects_something_else_changes_nothing,
    control::of_rivals_that_expect_the_same_one_wins,
];

/// Runs all cases, one after the other, and panics with the names of those that failed.
pub async fn run(factory: &dyn LogFactory) {
    assert!(factory.partitions() >= 2, "the cases need 2 partitions");
    run_cases(factory, CASES).await;
}

/// Runs the cases of `control`.
pub async fn run_control(factory: &dyn LogFactory) {
    run_cases(factory, CONTROL_CASES).await;
}

async fn run_cases(factory: &dyn LogFactory, cases: &[(&str, Case)]) {
    let mut failed = Vec::new();
    for (name, case) in cases {
        tracing::info!(name, "conformance case");
        match tokio::time::timeout(CASE, AssertUnwindSafe(case(factory)).catch_unwind()).await {
            Ok(Ok(())) => {}
            // The panic's own text is printed by its hook.
            Ok(Err(_)) => failed.push(format!("{name} failed")),
            Err(_) => failed.push(format!("{name} hung")),
        }
    }
    assert!(failed.is_empty(), "{} of {} cases: {}", failed.len(), cases.len(), failed.join(", "));
}

/// Waits for `future`, and fails by naming what was waited for.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

fn room(name: &str) -> RoomName {
    name.parse().unwrap()
}

/// Enough rooms to be found in every partition.
fn rooms(factory: &dyn LogFactory) -> Vec<RoomName> {
    (0..factory.partitions() * 8).map(|n| room(&format!("room-{n}"))).collect()
}

/// An aggregate that counts one reaction.
pub fn counting(room: &RoomName, seq: u64, partition: u32) -> Aggregate {
    let counts = wire::Counts::from([("🔥".parse().unwrap(), 1)]);
    Aggregate {
        count: 1,
        counts,
        slots: vec![1],
        total: seq,
        totals: wire::Counts::from([("🔥".parse().unwrap(), seq)]),
        ..aggregate(room, seq, partition)
    }
}

/// An aggregate that says no more than it must.
pub fn aggregate(room: &RoomName, seq: u64, partition: u32) -> Aggregate {
    Aggregate {
        v: wire::FORMAT_VERSION,
        room: room.clone(),
        seq,
        since: 1,
        window: Window { start: seq * 1_000, end: seq * 1_000 + 1_000 },
        count: 0,
        counts: wire::Counts::new(),
        others: 0,
        slots: vec![0],
        late: 0,
        skewed: 0,
        total: 0,
        totals: wire::Counts::new(),
        others_total: 0,
        carried: 0,
        source: Source { partition, from: 0, to: 1 },
    }
}
