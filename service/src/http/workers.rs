//! Threads that serve connections, each with a runtime of its own.

use super::{
    App, Config,
    activity::{Activity, Leave, Patience, Ticks},
    connection::{self, Protocols},
    count_cut,
    pace::Pace,
    short::Short,
};
use crate::metrics::HTTP_CONNECTIONS;
use slab::Slab;
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    runtime::{Handle, Runtime},
    time::{MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How often connections are looked at: deadlines are kept to this.
const TICK: Duration = Duration::from_millis(250);

/// A connection that was asked to leave, and whose peer takes nothing of what it was answered for so long, is closed: it must
/// not hold up a stop.
const TO_LEAVE: Duration = Duration::from_secs(2);

/// How often the peer of a request that waits is checked. A request of an ordinary length never is.
const CHECK_PEER: Duration = Duration::from_secs(1);

/// All workers of a listener. Dropped, they end at once, with their connections.
pub(super) struct Workers<A> {
    app: A,
    protocols: Arc<Protocols>,
    max_head: usize,
    fill: usize,
    workers: Vec<Worker>,
    connections: TaskTracker,
}

/// One thread.
struct Worker {
    handle: Handle,
    ticks: Ticks,
    /// Those that it serves.
    seats: Arc<Mutex<Slab<Arc<Activity>>>>,
    end: CancellationToken,
}

impl<A: App> Workers<A> {
    pub(super) fn start(app: A, config: &Config) -> io::Result<Self> {
        let patience = Patience {
            head: in_ticks(config.header_timeout_ms),
            idle: in_ticks(config.idle_timeout_ms),
            leave: in_ticks(TO_LEAVE.as_millis() as u64).min(in_ticks(config.idle_timeout_ms)),
            check: in_ticks(CHECK_PEER.as_millis() as u64),
        };
        let workers =
            (0..config.threads()).map(|index| Worker::start(index, patience)).collect::<Result<_, _>>()?;
        let protocols = Arc::new(Protocols::new(config));
        let (max_head, fill) = (config.max_header_bytes as usize, config.thread_fill_connections);
        Ok(Self { app, protocols, max_head, fill, workers, connections: TaskTracker::new() })
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Gives a connection to a worker.
    pub(super) fn admit(&self, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        let seats = self.workers.iter().map(|worker| worker.seats().len());
        let Some(worker) = choose(seats, self.fill).and_then(|index| self.workers.get(index)) else {
            return Ok(());
        };
        // Answers are small and must not wait for more (Nagle).
        stream.set_nodelay(true)?;
        // From the acceptor's runtime to the worker's.
        let stream = stream.into_std()?;
        let activity = Arc::new(Activity::new(Arc::clone(&worker.ticks)));
        let seat = Seat::take(&worker.seats, &activity);
        let (app, protocols, max_head) = (self.app.clone(), Arc::clone(&self.protocols), self.max_head);
        let serve = async move {
            let _seat = seat;
            if let Ok(stream) = TcpStream::from_std(stream) {
                let (guest, kept) = Default::default();
                let short = Short { app, guest, stream, peer, activity, max_head, kept };
                connection::serve(short, protocols).await;
            }
        };
        self.connections.spawn_on(serve, &worker.handle);
        Ok(())
    }

    /// Answers the requests under way, and ends.
    pub(super) async fn leave(self) {
        self.connections.close();
        for worker in &self.workers {
            worker.seats().iter().for_each(|(_, activity)| {
                activity.ask_to_leave(Leave::Gracefully);
            });
        }
        self.connections.wait().await;
    }
}

impl Worker {
    fn start(index: usize, patience: Patience) -> io::Result<Self> {
        let (ticks, seats, end) =
            (Ticks::default(), Arc::<Mutex<Slab<_>>>::default(), CancellationToken::new());
        let runtime = paced(Arc::clone(&seats))?;
        let handle = runtime.handle().clone();
        let sweep = sweep(Arc::clone(&ticks), Arc::clone(&seats), patience);
        let ended = end.clone().cancelled_owned();
        std::thread::Builder::new().name(format!("http-{index}")).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = sweep => {}
                    () = ended => {}
                }
            });
        })?;
        Ok(Self { handle, ticks, seats, end })
    }

    fn seats(&self) -> MutexGuard<'_, Slab<Arc<Activity>>> {
        lock(&self.seats)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// A runtime for one thread, which pauses when many connections ask for little at a time.
fn paced(seats: Arc<Mutex<Slab<Arc<Activity>>>>) -> io::Result<Runtime> {
    let pace = Arc::new(Pace::new());
    let woken = Arc::clone(&pace);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_unpark(move || woken.wake())
        .on_thread_park(move || {
            let connections = lock(&seats).len();
            pace.rest(connections);
        })
        .build()
}

/// The worker's clock, and the end of connections that say too little.
async fn sweep(ticks: Ticks, seats: Arc<Mutex<Slab<Arc<Activity>>>>, patience: Patience) {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        ticks.fetch_add(1, Relaxed);
        for (_, activity) in lock(&seats).iter() {
            if let Some((how, cause)) = activity.overdue(patience)
                && activity.ask_to_leave(how)
            {
                count_cut(cause);
            }
            activity.check_peer_of_waiting(patience);
        }
    }
}

/// A connection's place, given back when dropped.
struct Seat {
    seats: Arc<Mutex<Slab<Arc<Activity>>>>,
    key: usize,
}

impl Seat {
    fn take(seats: &Arc<Mutex<Slab<Arc<Activity>>>>, activity: &Arc<Activity>) -> Self {
        metrics::gauge!(HTTP_CONNECTIONS).increment(1);
        let key = lock(seats).insert(Arc::clone(activity));
        Self { seats: Arc::clone(seats), key }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.seats).remove(self.key);
        metrics::gauge!(HTTP_CONNECTIONS).decrement(1);
    }
}

/// The worker for the next connection: the first that isn't filled, else the one that has the fewest. Few connections are
/// served with fewer wake-ups by one thread than by many (docs/decisions/0007).
fn choose(connections: impl Iterator<Item = usize>, fill: usize) -> Option<usize> {
    let of_those_filled = |connections: usize| if connections < fill { 0 } else { connections };
    let (index, _) =
        connections.map(of_those_filled).enumerate().min_by_key(|(_, connections)| *connections)?;
    Some(index)
}

fn in_ticks(ms: u64) -> u32 {
    u32::try_from(ms.div_ceil(TICK.as_millis() as u64)).unwrap_or(u32::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio::time::timeout;

    #[test]
    fn one_thread_after_the_other_is_filled_and_then_all_get_the_same() {
        let mut connections = [0; 3];
        for expected in [[4, 0, 0], [4, 4, 0], [4, 4, 4], [6, 5, 5]] {
            for _ in 0..4 {
                connections[choose(connections.into_iter(), 4).unwrap()] += 1;
            }
            assert_eq!(connections, expected);
        }
        // Who leaves makes place.
        assert_eq!(choose([9, 3, 0].into_iter(), 4), Some(1));
        assert_eq!(choose([9, 7, 8].into_iter(), 4), Some(1));
        assert_eq!(choose([0, 0].into_iter(), 0), Some(0));
        assert_eq!(choose([1, 0].into_iter(), 1), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_seat_is_given_back_and_one_that_says_nothing_is_counted_once() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let _here = metrics::set_default_local_recorder(&recorder);
        crate::metrics::describe();
        let says = |line: &str| recorder.handle().render().lines().any(|shown| shown == line);
        assert!(says("uproar_http_connections 0") && says("uproar_http_connections_refused_total 0"));
        assert!(says("uproar_http_connections_cut_total{cause=\"idle\"} 0"));

        let (ticks, seats) = (Ticks::default(), Arc::default());
        let activity = Arc::new(Activity::new(Arc::clone(&ticks)));
        let silent = Seat::take(&seats, &activity);
        drop(Seat::take(&seats, &Arc::new(Activity::new(Arc::clone(&ticks)))));
        assert_eq!(lock(&seats).len(), 1);
        assert!(says("uproar_http_connections 1"));

        let patience = Patience { head: 2, idle: 100, leave: 2, check: 4 };
        let _ = timeout(20 * TICK, sweep(ticks, Arc::clone(&seats), patience)).await;
        assert_eq!(activity.leave(), Some(Leave::Now));
        assert!(
            says("uproar_http_connections_cut_total{cause=\"head\"} 1"),
            "{}",
            recorder.handle().render()
        );
        drop(silent);
        assert!(lock(&seats).is_empty());
        assert!(says("uproar_http_connections 0"));
    }
}
