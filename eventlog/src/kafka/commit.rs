//! The writing half: a thread that owns the transactional producer, and a deadline around all that it does.

use super::{
    client::Clients,
    ownership::Ownership,
    thread,
    transaction::{ABORT, Progress, Transactions},
};
use crate::{BoxFuture, CommitError, Committer, Cut, OpenError, metrics::commit_ended};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, oneshot};

/// How long the first request of the producer may take: the transaction that its predecessor left open is ended in it.
const INIT: Duration = Duration::from_secs(15);
/// What a step may take beyond its own timeout before its thread is given up. Requests of librdkafka may ignore their
/// timeout while a coordinator is away.
const SLACK: Duration = Duration::from_secs(2);

/// Hands cuts to the thread.
pub(super) struct KafkaCommitter {
    jobs: SyncSender<Job>,
    turn: Mutex<()>,
    broken: AtomicBool,
    deadline: Duration,
    progress: Progress,
}

struct Job {
    cuts: Vec<Cut>,
    done: oneshot::Sender<Result<(), CommitError>>,
}

/// Starts the thread. The producer that had the same id before is fenced by it.
pub(super) async fn open(
    clients: Arc<Clients>,
    ownership: Arc<Ownership>,
) -> Result<KafkaCommitter, OpenError> {
    let id = transactional_id(&clients)?;
    let deadline = Duration::from_millis(clients.config.transaction_timeout_ms.into()) + ABORT + SLACK;
    let (jobs, taken) = sync_channel(1);
    let (opened, answer) = oneshot::channel();
    let progress = Progress::default();
    let entered = progress.clone();
    thread::start("kafka-commit", move || {
        match Transactions::open(&clients, &id, entered, Instant::now() + INIT) {
            Ok(transactions) => {
                drop(opened.send(Ok(())));
                serve(&transactions, &ownership, &taken);
            }
            Err(error) => drop(opened.send(Err(error))),
        };
    })
    .map_err(|error| OpenError::Unavailable(error.to_string()))?;
    match tokio::time::timeout(INIT + SLACK, answer).await {
        Ok(Ok(opened)) => opened?,
        _ => {
            return Err(OpenError::Unavailable(
                "transactions can't be initialised: no answer in time".into(),
            ));
        }
    }
    Ok(KafkaCommitter { jobs, turn: Mutex::new(()), broken: AtomicBool::new(false), deadline, progress })
}

/// Ends with its channel, and with the first outcome that is unknown: the producer is of no use then.
fn serve(transactions: &Transactions, ownership: &Ownership, jobs: &Receiver<Job>) {
    while let Ok(Job { cuts, done }) = jobs.recv() {
        let outcome = transactions.commit(ownership, &cuts);
        let broken = matches!(outcome, Err(CommitError::Reopen(_)));
        drop(done.send(outcome));
        if broken {
            return;
        }
    }
}

/// Stable over restarts, so that a restarted instance ends what the one before left open.
fn transactional_id(clients: &Clients) -> Result<String, OpenError> {
    let config = &clients.config;
    let instance = match config.instance_id.as_str() {
        "" => std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default(),
        id => id.to_owned(),
    };
    match instance.trim() {
        "" => Err(OpenError::Invalid("the host's name can't be read: set log.kafka.instance_id".into())),
        instance => Ok(format!("{}-{instance}", config.group)),
    }
}

impl KafkaCommitter {
    async fn run(&self, cuts: Vec<Cut>) -> Result<(), CommitError> {
        let _turn = self.turn.lock().await;
        if self.broken.load(Ordering::Relaxed) {
            return Err(CommitError::Reopen("an earlier commit did not end".into()));
        }
        let (done, answer) = oneshot::channel();
        match self.jobs.try_send(Job { cuts, done }) {
            Ok(()) => {}
            // Of a call that was dropped before it ended.
            Err(TrySendError::Full(_)) => {
                return Err(CommitError::Retry("an earlier commit is under way".into()));
            }
            Err(TrySendError::Disconnected(_)) => {
                return Err(CommitError::Reopen("the producer is closed".into()));
            }
        }
        match tokio::time::timeout(self.deadline, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(CommitError::Reopen("the producer is closed".into())),
            Err(_) => {
                self.broken.store(true, Ordering::Relaxed);
                Err(CommitError::Reopen(format!(
                    "no answer within {} ms, {}",
                    self.deadline.as_millis(),
                    self.progress.now()
                )))
            }
        }
    }
}

impl Committer for KafkaCommitter {
    fn commit(&self, cuts: Vec<Cut>) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            if cuts.is_empty() {
                return Ok(());
            }
            let started = Instant::now();
            let outcome = self.run(cuts).await;
            commit_ended(started, &outcome);
            outcome
        })
    }
}
