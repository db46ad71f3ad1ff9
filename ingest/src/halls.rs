//! Where requests wait for verdicts. A hall for each thread, so that all who wait there are woken by one of them.
//!
//! To wake a task from another thread costs a lock and a system call. So the bell wakes one task a thread, the
//! hall's herald, and the herald wakes the others on its own thread, which costs next to nothing. Whoever waits can be the
//! herald; one that leaves passes the office on. That a hall is a thread's matters for speed only: tasks may move.
//!
//! The bell is rung by whoever tells the end of a record, on the log's own thread. Nobody has a timer either: the herald also
//! wakes those who have waited too long, and the committer rings for these.

use crate::verdict::{Outcome, RoomVerdict};
use slab::Slab;
use std::{
    cell::Cell,
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};
use tokio::time::Instant;

/// More threads than this share halls.
const HALLS: usize = 32;

/// All halls.
#[derive(Default)]
pub(crate) struct Halls {
    halls: [Hall; HALLS],
    /// So many of them were ever entered.
    used: AtomicUsize,
}

/// Those who wait on one thread.
#[derive(Default)]
#[repr(align(128))]
struct Hall(Mutex<Seats>);

#[derive(Default)]
struct Seats {
    seats: Slab<Seat>,
    /// Who is woken by the bell. Somebody, if anybody is here who was not woken yet.
    herald: Option<usize>,
    /// How many were not woken yet.
    asleep: usize,
}

struct Seat {
    verdict: RoomVerdict,
    deadline: Instant,
    /// Gone once it was woken.
    waker: Option<Waker>,
}

impl Halls {
    /// Waits for a verdict until the deadline, or a moment longer: `None`.
    pub(crate) fn wait(&self, verdict: RoomVerdict, deadline: Instant) -> Wait<'_> {
        let number = thread_index() % HALLS;
        if self.used.load(Relaxed) <= number {
            self.used.fetch_max(number + 1, SeqCst);
        }
        Wait { hall: &self.halls[number], verdict, deadline, seat: None }
    }

    /// Has everyone look up whose verdict was given or whose deadline has passed.
    pub(crate) fn ring(&self) {
        for hall in self.halls.iter().take(self.used.load(SeqCst)) {
            let herald = hall.seats().herald();
            // Not under the lock: the task may run at once.
            if let Some(waker) = herald {
                waker.wake();
            }
        }
    }
}

impl Hall {
    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to a seat. If it is the herald's, the bell may have rung: wakes all who are due.
    fn at(&self, seat: usize, act: impl FnOnce(&mut Seats)) {
        let mut seats = self.seats();
        act(&mut seats);
        let due = if seats.herald.is_none_or(|herald| herald == seat) { seats.call() } else { Vec::new() };
        drop(seats);
        due.into_iter().for_each(Waker::wake);
    }
}

impl Seats {
    fn herald(&self) -> Option<Waker> {
        self.seats.get(self.herald?)?.waker.clone()
    }

    fn sit_down(&mut self, seat: Seat) -> usize {
        let key = self.seats.insert(seat);
        self.herald.get_or_insert(key);
        self.asleep += 1;
        key
    }

    /// Goes on waiting.
    fn stay(&mut self, key: usize, waker: &Waker) {
        let Some(seat) = self.seats.get_mut(key) else { return };
        self.asleep += usize::from(seat.waker.is_none());
        seat.waker = Some(waker.clone());
    }

    fn leave(&mut self, key: usize) {
        let seat = self.seats.try_remove(key);
        self.asleep -= usize::from(seat.is_some_and(|seat| seat.waker.is_some()));
    }

    /// Takes the wakers of those who are due. One who is not becomes the herald.
    fn call(&mut self) -> Vec<Waker> {
        let mut due = Vec::new();
        self.herald = None;
        // Those who were woken leave one after the other, each perhaps the last.
        if self.asleep == 0 {
            return due;
        }
        due.reserve(self.asleep);
        let now = Instant::now();
        for (key, seat) in &mut self.seats {
            if seat.waker.is_none() {
                continue;
            }
            if seat.verdict.get().is_some() || now >= seat.deadline {
                due.extend(mem::take(&mut seat.waker));
            } else if self.herald.is_none() {
                self.herald = Some(key);
            }
        }
        self.asleep -= due.len();
        due
    }
}

/// Waits for a verdict.
pub(crate) struct Wait<'a> {
    hall: &'a Hall,
    verdict: RoomVerdict,
    deadline: Instant,
    seat: Option<usize>,
}

impl Future for Wait<'_> {
    type Output = Option<Outcome>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Outcome>> {
        if let Some(outcome) = self.verdict.get() {
            return Poll::Ready(Some(outcome));
        }
        let Some(seat) = self.seat else {
            self.sit_down(context.waker().clone());
            return match self.verdict.get() {
                // Given while it sat down: the bell may have rung before.
                Some(outcome) => Poll::Ready(Some(outcome)),
                None => Poll::Pending,
            };
        };
        if Instant::now() >= self.deadline {
            return Poll::Ready(None);
        }
        self.hall.at(seat, |seats| seats.stay(seat, context.waker()));
        Poll::Pending
    }
}

impl Wait<'_> {
    fn sit_down(&mut self, waker: Waker) {
        let seat = Seat { verdict: self.verdict.clone(), deadline: self.deadline, waker: Some(waker) };
        self.seat = Some(self.hall.seats().sit_down(seat));
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(seat) = self.seat {
            self.hall.at(seat, |seats| seats.leave(seat));
        }
    }
}

/// A small number of its own for each thread.
fn thread_index() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static INDEX: Cell<Option<usize>> = const { Cell::new(None) });
    INDEX.get().unwrap_or_else(|| {
        let index = NEXT.fetch_add(1, Relaxed);
        INDEX.set(Some(index));
        index
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Verdict;
    use std::{
        sync::{Arc, atomic::AtomicBool},
        task::Wake,
        time::Duration,
    };
    use tokio::{
        task::{JoinSet, yield_now},
        time::{advance, timeout},
    };

    struct Rig {
        halls: Arc<Halls>,
        waiting: JoinSet<Option<Outcome>>,
    }

    impl Rig {
        fn new() -> Self {
            Self { halls: Arc::default(), waiting: JoinSet::new() }
        }

        /// One more who waits, for a second.
        async fn wait(&mut self, verdict: &Arc<Verdict>) -> tokio::task::AbortHandle {
            let (halls, verdict) = (Arc::clone(&self.halls), RoomVerdict::new(verdict, 0));
            let deadline = Instant::now() + Duration::from_secs(1);
            let task = self.waiting.spawn(async move { halls.wait(verdict, deadline).await });
            yield_now().await;
            task
        }

        /// How those ended who have ended by now.
        async fn ended(&mut self) -> Vec<Option<Outcome>> {
            for _ in 0..10 {
                yield_now().await;
            }
            std::iter::from_fn(|| self.waiting.try_join_next().map(|ended| ended.unwrap_or(None))).collect()
        }

        /// How many wait, and how many of them were not woken yet.
        fn seats(&self) -> (usize, usize) {
            let seats = self.halls.halls.iter().map(Hall::seats);
            seats.fold((0, 0), |(all, asleep), hall| (all + hall.seats.len(), asleep + hall.asleep))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_get_the_verdict_of_their_batch_when_the_bell_rings() {
        let mut rig = Rig::new();
        let [first, second] = [(); 2].map(|()| Arc::<Verdict>::default());
        for verdict in [&first, &second, &first, &second, &first] {
            rig.wait(verdict).await;
        }
        second.give(Outcome::NotWritten);
        second.give(Outcome::Committed);
        rig.halls.ring();
        assert_eq!(rig.ended().await, [Some(Outcome::NotWritten); 2]);
        first.give(Outcome::Committed);
        rig.halls.ring();
        assert_eq!(rig.ended().await, [Some(Outcome::Committed); 3]);
        rig.wait(&first).await;
        assert_eq!(rig.ended().await, [Some(Outcome::Committed)], "who comes late doesn't wait");
        assert_eq!(rig.seats(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_waited_too_long_are_told_at_the_next_bell() {
        let mut rig = Rig::new();
        let verdict = Arc::default();
        for _ in 0..2 {
            rig.wait(&verdict).await;
        }
        advance(Duration::from_millis(500)).await;
        rig.wait(&verdict).await;
        advance(Duration::from_millis(500)).await;
        rig.halls.ring();
        assert_eq!(rig.ended().await, [None; 2]);
        assert_eq!(rig.seats(), (1, 1));
        verdict.give(Outcome::Committed);
        rig.halls.ring();
        assert_eq!(rig.ended().await, [Some(Outcome::Committed)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_herald_that_leaves_passes_the_office_on_even_after_the_bell() {
        let mut rig = Rig::new();
        let verdict = Arc::default();
        let herald = rig.wait(&verdict).await;
        let next = rig.wait(&verdict).await;
        rig.wait(&verdict).await;
        herald.abort();
        assert_eq!(rig.ended().await, [None], "aborted");
        verdict.give(Outcome::Committed);
        rig.halls.ring();
        next.abort();
        assert_eq!(rig.ended().await.last(), Some(&Some(Outcome::Committed)));
        assert_eq!(rig.seats(), (0, 0));
    }

    /// A task that tells whether it was woken.
    #[derive(Default)]
    struct Sleeper(AtomicBool);

    impl Wake for Sleeper {
        fn wake(self: Arc<Self>) {
            self.0.store(true, SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_asked_again_is_woken_the_way_it_was_asked_last() {
        let (halls, verdict) = (Halls::default(), Arc::<Verdict>::default());
        let mut wait = halls.wait(RoomVerdict::new(&verdict, 0), Instant::now() + Duration::from_secs(1));
        // As when a future is moved from one task to another.
        let [first, second] = [(); 2].map(|()| Arc::<Sleeper>::default());
        for task in [&first, &second] {
            let waker = Waker::from(Arc::clone(task));
            assert!(Pin::new(&mut wait).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        verdict.give(Outcome::Committed);
        halls.ring();
        assert_eq!([first, second].map(|task| task.0.load(SeqCst)), [false, true]);
    }

    /// Real threads: nobody is forgotten, whoever leaves when.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nobody_waits_for_ever() {
        let halls = Arc::new(Halls::default());
        for round in 0..2_000u64 {
            let verdict = Arc::<Verdict>::default();
            let mut waiting = JoinSet::new();
            for n in 0..8 {
                let (halls, verdict) = (Arc::clone(&halls), Arc::clone(&verdict));
                let deadline = Instant::now() + Duration::from_secs(60);
                let task =
                    waiting.spawn(async move { halls.wait(RoomVerdict::new(&verdict, 0), deadline).await });
                if n == round % 11 {
                    task.abort();
                }
            }
            verdict.give(Outcome::Committed);
            halls.ring();
            let all = async { while waiting.join_next().await.is_some() {} };
            timeout(Duration::from_secs(30), all).await.expect("all were woken");
        }
    }
}
