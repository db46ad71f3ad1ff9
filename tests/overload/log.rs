//! More posts than the log can take. The log is made the bottleneck, by hand, so that much more can be offered, whatever
//! the machine: a commit takes 200 ms, and a hundred posts may wait for one.

use super::{
    GOODPUT, ROUNDS, check_memory, check_most,
    posters::{Post, Posters, quantile},
    round,
};
use crate::{
    chaos::turn,
    end_to_end::until_total,
    harness::process::{Plan, Uproar},
};
use std::time::Duration;
use tempfile::TempDir;

const MAX_WAITING: u64 = 100;
const COMMIT: Duration = Duration::from_millis(200);
/// What the log can take, posts a second.
const CAPACITY: u64 = MAX_WAITING * 1_000 / COMMIT.as_millis() as u64;
/// Enough for those that wait, those that are being refused, and a machine that is busy for a moment.
const CONNECTIONS: usize = 600;
/// Waiting for the open batch, and for the disk.
const ACCEPTED_WITHIN: Duration = COMMIT.saturating_mul(3);
const RECOVERED_AFTER: Duration = Duration::from_secs(1);
/// Of a round, in its short form.
const LENGTH: Duration = Duration::from_secs(2);

/// A round at a multiple of the capacity.
struct Round {
    multiple: u64,
    posts: Vec<Post>,
}

impl Round {
    fn of_status(&self, status: u16) -> impl Iterator<Item = &Post> {
        self.posts.iter().filter(move |post| post.answer.status == status)
    }

    /// 202 a second, until the last of them: the commits of the round, all of them whole.
    fn goodput(&self) -> f64 {
        let last = self.of_status(202).map(|post| post.at).max().unwrap();
        self.of_status(202).count() as f64 / (last - self.posts[0].due).as_secs_f64()
    }

    /// How long answers of a status took.
    fn took(&self, status: u16, share: f64) -> Duration {
        quantile(self.of_status(status).map(Post::took), share)
    }

    /// How late posts were sent: where that is long, less than the multiple was offered.
    fn late(&self) -> Duration {
        quantile(self.posts.iter().map(|post| post.sent - post.due), 0.99)
    }

    /// What no noise excuses.
    fn check_answers(&self) {
        for post in &self.posts {
            let right = match post.answer.status {
                202 => true,
                503 => post.answer.has("retry-after"),
                _ => false,
            };
            assert!(right, "{post:?}");
        }
    }

    fn say(&self) {
        println!(
            "{}x: {:.0} accepted/s, p50 {:?}, p99 {:?}; {} refused, p50 {:?}, p99 {:?}; sent up to {:?} late",
            self.multiple,
            self.goodput(),
            self.took(202, 0.5),
            self.took(202, 0.99),
            self.of_status(503).count(),
            self.took(503, 0.5),
            self.took(503, 0.99),
            self.late(),
        );
    }
}

/// What is not as it should be in these rounds.
fn faults(rounds: &[Round], after: &[Post]) -> Vec<String> {
    let peak = rounds.iter().map(Round::goodput).fold(0.0, f64::max);
    let mut faults = Vec::new();
    for round in rounds {
        let mut fault = |what: String| faults.push(format!("{}x: {what}", round.multiple));
        if round.late() > COMMIT {
            fault(format!("posts were sent {:?} late", round.late()));
        }
        if round.took(202, 0.99) > ACCEPTED_WITHIN {
            fault(format!("those accepted waited {:?} (p99)", round.took(202, 0.99)));
        }
        if round.multiple > 1 && round.goodput() < GOODPUT * peak {
            fault(format!("{:.0} accepted/s, where {peak:.0}/s were before", round.goodput()));
        }
        if round.multiple > 1 && round.took(503, 0.5) > round.took(202, 0.5) / 4 {
            let (refused, accepted) = (round.took(503, 0.5), round.took(202, 0.5));
            fault(format!("to be refused takes {refused:?}, to be accepted {accepted:?} (p50)"));
        }
    }
    let refused = |post: &&Post| post.answer.status != 202 && post.due > after[0].due + RECOVERED_AFTER;
    if let Some(post) = after.iter().find(refused) {
        faults.push(format!("still refused {:?} after the overload", post.due - after[0].due));
    }
    faults
}

struct Overload {
    uproar: Uproar,
    posters: Posters,
    accepted: u64,
    before_kib: u64,
    _dir: TempDir,
}

impl Overload {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::new("all", dir.path())
            .set(format!("ingest.max_waiting={MAX_WAITING}"))
            .set(format!("ingest.commit_interval_ms={}", COMMIT.as_millis()));
        let uproar = plan.start().await;
        let posters = Posters::open(&uproar.http, "final", CONNECTIONS).await;
        let mut overload = Self { uproar, posters, accepted: 0, before_kib: 0, _dir: dir };
        // Each connection has been used, and memory is what it is in use.
        overload.post(CAPACITY * 5, Duration::from_secs(1)).await;
        overload.before_kib = overload.uproar.resident_kib();
        overload
    }

    async fn post(&mut self, per_second: u64, length: Duration) -> Vec<Post> {
        let posts = self.posters.post(per_second, length).await;
        self.accepted += posts.iter().filter(|post| post.answer.status == 202).count() as u64;
        posts
    }

    /// Rounds at multiples of the capacity, and posts after them.
    async fn measure(&mut self) -> (Vec<Round>, Vec<Post>) {
        let mut rounds = Vec::new();
        for multiple in [1, 2, 5] {
            let posts = self.post(CAPACITY * multiple, round(LENGTH)).await;
            let round = Round { multiple, posts };
            round.say();
            round.check_answers();
            rounds.push(round);
        }
        // Half of it: at all of it a commit that takes a moment longer has some refused.
        let after = self.post(CAPACITY / 2, RECOVERED_AFTER * 2).await;
        (rounds, after)
    }

    /// Memory is flat, and what was answered 202 is what the room counts.
    async fn check_end(&self) {
        check_memory(&self.uproar, self.before_kib);
        until_total(&self.uproar.http, "final", self.accepted).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn posts_beyond_what_the_log_takes_are_refused_and_those_accepted_are_counted() {
    let _turn = turn().await;
    let mut overload = Overload::start().await;
    let (rounds, after) = overload.measure().await;
    for round in &rounds {
        // A slow machine makes the round longer, not the number of commits in it smaller.
        let (accepted, least) = (round.of_status(202).count() as u64, CAPACITY * LENGTH.as_secs() / 2);
        assert!(accepted >= least, "{}x: {accepted} accepted, {least} are the least", round.multiple);
        let refused = round.of_status(503).count();
        assert!(round.multiple < 5 || refused > 0, "{}x: nobody was refused", round.multiple);
    }
    assert!(after.iter().any(|post| post.answer.status == 202), "nobody is accepted after the overload");
    overload.check_end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark: docs/testing.md has the command"]
async fn posts_accepted_under_five_times_of_what_the_log_takes_are_served_as_before() {
    let _turn = turn().await;
    let mut overload = Overload::start().await;
    let mut left = Vec::new();
    for _ in 0..ROUNDS {
        let (rounds, after) = overload.measure().await;
        left.push(faults(&rounds, &after));
    }
    check_most(&left);
    overload.check_end().await;
}
