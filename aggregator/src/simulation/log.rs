//! The log that the instances of a run see: the one in memory, made slow and untidy. Every call may take a while before
//! and after its effect, so that a crash can come at each of these points; records come in pieces of any size; who
//! dies stays in the group until it is buried; a commit whose caller is gone may still be written, late.

use super::{
    bugs::Bug,
    rng::Rng,
    silence::{Active, Silence},
};
use crate::Config;
use eventlog::{
    BoxFuture, CommitError, Committer, Cut, EventLog, Feed, FeedError, FeedEvent, FeedEvents, Follower,
    MemoryLog, OpenError, Writer,
};
use std::{
    collections::{BTreeMap, VecDeque},
    future::{Future, poll_fn},
    mem,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Calls of all instances without time passing, before it counts as a busy loop.
const CALLS_MAX: usize = 100_000;

#[derive(Clone)]
pub(super) struct SimLog {
    pub(super) memory: Arc<MemoryLog>,
    pub(super) bug: Option<Bug>,
    state: Arc<Mutex<State>>,
}

struct State {
    rng: Rng,
    /// How often a call gives way, in percent.
    gives_way: u64,
    /// How often it takes some time, in percent.
    takes_time: u64,
    /// How often the outcome of a commit stays unknown although the feed works on, in percent.
    answers_lost: u64,
    /// Calls since time last passed.
    calls: usize,
    /// What members did that no log should have to see.
    misuse: Vec<String>,
    silence: Silence,
    dead: Vec<Box<dyn FeedEvents>>,
    late: Vec<(Arc<dyn Committer>, Vec<Cut>)>,
}

impl SimLog {
    pub(super) fn new(memory: Arc<MemoryLog>, mut rng: Rng, bug: Option<Bug>) -> Self {
        let (gives_way, takes_time) = (rng.one_of(&[0, 10, 40]), rng.one_of(&[0, 0, 3, 15]));
        let (answers_lost, misuse) = (rng.one_of(&[0, 0, 2, 10]), Vec::new());
        let (dead, late) = (Vec::new(), Vec::new());
        let silence = Silence::default();
        let state = State { rng, gives_way, takes_time, answers_lost, calls: 0, misuse, silence, dead, late };
        Self { memory, bug, state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn chance(&self, percent: u64) -> bool {
        self.state().rng.chance(percent)
    }

    fn answer_lost(&self) -> bool {
        let percent = self.state().answers_lost;
        self.chance(percent)
    }

    /// A point at which the caller may be interrupted, or die.
    pub(super) async fn stall(&self) {
        let (gives_way, ms, calls) = {
            let State { rng, gives_way, takes_time, calls, .. } = &mut *self.state();
            *calls += 1;
            (rng.chance(*gives_way), if rng.chance(*takes_time) { rng.between(1, 400) } else { 0 }, *calls)
        };
        assert!(calls < CALLS_MAX, "an instance is in a busy loop");
        if gives_way {
            give_way().await;
        }
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    pub(super) fn time_passes(&self, now_ms: u64) {
        let mut state = self.state();
        state.calls = 0;
        state.silence.now_ms = now_ms;
    }

    /// Records came into the log.
    pub(super) fn appended(&self) {
        let records = (0..self.memory.partitions()).map(|n| self.memory.reactions(n).len()).collect();
        self.state().silence.appended(records);
    }

    /// Instances have this configuration, perhaps.
    pub(super) fn configured(&self, config: &Config) {
        self.state().silence.configured(config);
    }

    /// Ends all trouble, but for the slowness.
    pub(super) fn heal(&self) {
        self.write_late();
        self.bury();
        self.state().answers_lost = 0;
    }

    pub(super) fn misuse(&self) -> Vec<String> {
        self.state().misuse.clone()
    }

    /// Those who died leave the group at last.
    pub(super) fn bury(&self) {
        let dead = mem::take(&mut self.state().dead);
        drop(dead);
    }

    /// Commits whose callers are gone reach the log, in any order, or are lost.
    pub(super) fn write_late(&self) {
        let mut late = mem::take(&mut self.state().late);
        while !late.is_empty() {
            let (next, lost) = {
                let rng = &mut self.state().rng;
                (rng.below(late.len()), rng.chance(20))
            };
            let (committer, cuts) = late.swap_remove(next);
            if !lost {
                // Its answer has nobody to go to. One that is held up is lost.
                let _ = pin!(committer.commit(cuts)).poll(&mut Context::from_waker(Waker::noop()));
            }
        }
    }
}

/// Pending once, then ready.
fn give_way() -> impl Future<Output = ()> {
    let mut gave_way = false;
    poll_fn(move |context| {
        if mem::replace(&mut gave_way, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

impl EventLog for SimLog {
    fn writer(&self) -> BoxFuture<'_, Result<Arc<dyn Writer>, OpenError>> {
        self.memory.writer()
    }

    fn feed(&self) -> BoxFuture<'_, Result<Feed, OpenError>> {
        Box::pin(async {
            self.stall().await;
            // A caller that stops waiting is no member: what is dropped here leaves the group.
            let Feed { events, committer } = self.memory.feed().await?;
            self.stall().await;
            let (log, told, active) = (self.clone(), Told::default(), Active::default());
            let committer = SimCommitter {
                log: self.clone(),
                inner: committer,
                told: Arc::clone(&told),
                active: Arc::clone(&active),
            };
            let events = SimEvents { log, inner: Some(events), pieces: VecDeque::new(), told, active };
            Ok(Feed { events: Box::new(events), committer: Arc::new(committer) })
        })
    }

    fn follower(&self) -> BoxFuture<'_, Result<Box<dyn Follower>, OpenError>> {
        self.memory.follower()
    }

    fn keeps_windows(&self) -> bool {
        self.memory.keeps_windows()
    }
}

/// What a member was told: its partitions, each with its assignment.
pub(super) type Told = Arc<Mutex<BTreeMap<u32, u64>>>;

struct SimEvents {
    log: SimLog,
    /// Taken when it is closed or dropped.
    inner: Option<Box<dyn FeedEvents>>,
    /// Came already, not given yet.
    pieces: VecDeque<FeedEvent>,
    told: Told,
    active: Active,
}

impl FeedEvents for SimEvents {
    fn next(&mut self) -> BoxFuture<'_, Result<FeedEvent, FeedError>> {
        Box::pin(async {
            self.log.stall().await;
            loop {
                if let Some(event) = self.pieces.pop_front() {
                    self.tell(&event);
                    return Ok(event);
                }
                let event = self.inner.as_mut().unwrap().next().await?;
                let event = match self.log.bug {
                    Some(bug) => bug.spoil_event(&self.log, event),
                    None => Some(event),
                };
                self.pieces.extend(event.into_iter().flat_map(|event| in_pieces(&self.log, event)));
            }
        })
    }

    fn close(mut self: Box<Self>, deadline: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.log.stall().await;
            if let Some(inner) = self.inner.take() {
                inner.close(deadline).await;
            }
        })
    }
}

impl SimEvents {
    fn tell(&self, event: &FeedEvent) {
        let mut told = self.told.lock().unwrap();
        match event {
            FeedEvent::Assigned { partition, epoch, newest, .. } => {
                let now_ms = self.log.state().silence.now_ms;
                let loaded = newest.iter().map(|newest| (newest.room.clone(), now_ms));
                self.active.lock().unwrap().extend(loaded);
                told.insert(*partition, *epoch)
            }
            FeedEvent::Revoked { partition } => told.remove(partition),
            _ => None,
        };
    }
}

impl Drop for SimEvents {
    fn drop(&mut self) {
        self.log.state().dead.extend(self.inner.take());
    }
}

fn in_pieces(log: &SimLog, event: FeedEvent) -> Vec<FeedEvent> {
    let FeedEvent::Records { partition, mut records } = event else { return vec![event] };
    let mut pieces = Vec::new();
    while !records.is_empty() {
        let count = log.state().rng.below(records.len()) + 1;
        let rest = records.split_off(count);
        pieces.push(FeedEvent::Records { partition, records: mem::replace(&mut records, rest) });
    }
    pieces
}

pub(super) struct SimCommitter {
    pub(super) log: SimLog,
    pub(super) inner: Arc<dyn Committer>,
    pub(super) told: Told,
    active: Active,
}

impl Committer for SimCommitter {
    fn commit(&self, cuts: Vec<Cut>) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(async {
            self.check(&cuts);
            let mut on_its_way = OnItsWay { committer: self, cuts };
            self.log.stall().await;
            let cuts = on_its_way.cuts.clone();
            let answer_lost = self.log.answer_lost();
            if answer_lost && self.log.chance(50) {
                return Err(CommitError::Reopen("the request may be lost".into()));
            }
            let result = match self.log.bug {
                Some(bug) => bug.commit(self, cuts).await,
                None => self.inner.commit(cuts).await,
            };
            on_its_way.cuts.clear();
            self.log.stall().await;
            if answer_lost { Err(CommitError::Reopen("the answer is lost".into())) } else { result }
        })
    }
}

impl SimCommitter {
    fn check(&self, cuts: &[Cut]) {
        let told = self.told.lock().unwrap();
        for Cut { partition, epoch, .. } in cuts {
            if told.get(partition) != Some(epoch) {
                let what = format!("a commit to partition {partition} after it was told to be gone");
                self.log.state().misuse.push(what);
            }
        }
        drop(told);
        let State { silence, misuse, .. } = &mut *self.log.state();
        silence.check(cuts, &mut self.active.lock().unwrap(), misuse);
    }
}

/// A commit that is asked for and not written yet. When its caller dies, it may still come.
struct OnItsWay<'a> {
    committer: &'a SimCommitter,
    cuts: Vec<Cut>,
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        if !self.cuts.is_empty() {
            let SimCommitter { log, inner, .. } = self.committer;
            log.state().late.push((Arc::clone(inner), mem::take(&mut self.cuts)));
        }
    }
}
