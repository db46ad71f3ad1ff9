//! The reading half: a thread that polls the group's consumer, and the channel from it to the caller.

use super::{
    client::Clients,
    errors::{ends_reading, keeps_out},
    load::{self, Patience, Ticket, Wanted},
    member::{Change, MemberContext},
    ownership::Ownership,
    state::Loaded,
    thread,
    topic_reader::list,
};
use crate::{BoxFuture, FeedError, FeedEvent, FeedEvents, OpenError, Record, metrics::UNCOUNTED};
use bytes::Bytes;
use metrics::counter;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::BorrowedMessage,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc as sync,
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};

/// Events that may wait for the caller.
const QUEUE: usize = 32;
/// Most records, and about the most bytes, of one event.
const CHUNK_RECORDS: usize = 1_024;
const CHUNK_BYTES: usize = 1 << 20;
/// How long a caller that doesn't ask is waited for before the partitions are paused.
const PATIENCE: Duration = Duration::from_millis(500);
/// What the requests of a load may take beyond the longest transaction that they may have to wait for.
const REQUESTS: Duration = Duration::from_secs(30);
/// How long a load may wait for the next record.
const STALL: Duration = Duration::from_secs(30);
/// What the next assignment may take beyond the heartbeat that tells of it.
const REJOIN: Duration = Duration::from_secs(1);

/// The thread's side.
struct Reading {
    clients: Arc<Clients>,
    partitions: u32,
    consumer: BaseConsumer<MemberContext>,
    ownership: Arc<Ownership>,
    epochs: Arc<AtomicU64>,
    events: mpsc::Sender<FeedEvent>,
    stop: Arc<AtomicBool>,
    outbox: VecDeque<FeedEvent>,
    /// Bytes of the records of the last event in `outbox`.
    chunk_bytes: usize,
    paused: bool,
    joining: Joining,
    /// The partitions that the group has given us.
    stages: HashMap<u32, Stage>,
    loaded: (sync::Sender<Load>, sync::Receiver<Load>),
}

/// Whether the group has taken this member.
enum Joining {
    Asked,
    /// It has, and said what is ours; the last time then.
    Answered(Instant),
    /// The caller was told.
    Told,
}

/// How far a partition of ours has come.
enum Stage {
    /// Its state is being loaded. Dropping the ticket stops that.
    Loading(Ticket),
    /// It is read: the caller was told that it is ours.
    Reading { next_offset: u64, caught_up: bool },
}

/// What became of the load of one partition.
type Load = (Wanted, Result<Loaded, String>);

/// The caller's side.
pub(super) struct KafkaEvents {
    events: mpsc::Receiver<FeedEvent>,
    broken: Option<oneshot::Receiver<String>>,
    why: String,
    stop: Arc<AtomicBool>,
    left: Option<oneshot::Receiver<()>>,
}

/// Joins the group.
pub(super) async fn open(
    clients: Arc<Clients>,
    partitions: u32,
    ownership: Arc<Ownership>,
    epochs: Arc<AtomicU64>,
) -> Result<KafkaEvents, OpenError> {
    let (events, receiver) = mpsc::channel(QUEUE);
    let (break_it, broken) = oneshot::channel();
    let (leave, left) = oneshot::channel();
    let (opened, answer) = oneshot::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let stopper = Arc::clone(&stop);
    thread::start("kafka-feed", move || {
        let consumer = match join(&clients, &ownership) {
            Ok(consumer) => consumer,
            Err(error) => return drop(opened.send(Err(error))),
        };
        drop(opened.send(Ok(())));
        let mut reading = Reading::new(clients, partitions, consumer, ownership, epochs, events, stop);
        if let Err(why) = reading.run() {
            tracing::warn!(why, "the feed is broken");
            drop(break_it.send(why));
        }
        reading.leave();
        let _ = leave.send(());
    })
    .map_err(|error| OpenError::Unavailable(error.to_string()))?;
    let ended = || OpenError::Unavailable("the thread of the feed ended".into());
    answer.await.map_err(|_| ended())??;
    Ok(KafkaEvents {
        events: receiver,
        broken: Some(broken),
        why: String::new(),
        stop: stopper,
        left: Some(left),
    })
}

fn join(clients: &Clients, ownership: &Arc<Ownership>) -> Result<BaseConsumer<MemberContext>, OpenError> {
    let topic = clients.config.reactions_topic.clone();
    let consumer = clients.member(MemberContext::new(topic.clone(), Arc::clone(ownership)))?;
    consumer.subscribe(&[&topic]).map_err(|error| OpenError::Invalid(error.to_string()))?;
    Ok(consumer)
}

impl Reading {
    fn new(
        clients: Arc<Clients>,
        partitions: u32,
        consumer: BaseConsumer<MemberContext>,
        ownership: Arc<Ownership>,
        epochs: Arc<AtomicU64>,
        events: mpsc::Sender<FeedEvent>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self {
            clients,
            partitions,
            consumer,
            ownership,
            epochs,
            events,
            stop,
            outbox: VecDeque::new(),
            chunk_bytes: 0,
            paused: false,
            joining: Joining::Asked,
            stages: HashMap::new(),
            loaded: sync::channel(),
        }
    }

    fn run(&mut self) -> Result<(), String> {
        while !self.stop.load(Ordering::Relaxed) && !self.events.is_closed() {
            self.poll()?;
            self.take_loaded()?;
            self.tell_joined();
            self.hand_over()?;
        }
        Ok(())
    }

    /// Takes what the consumer has, up to one chunk.
    fn poll(&mut self) -> Result<(), String> {
        let busy = self.paused || self.is_loading();
        let mut timeout = Duration::from_millis(if busy { 10 } else { 100 });
        for _ in 0..CHUNK_RECORDS {
            let polled = self.consumer.poll(timeout);
            let taken = polled.map(|polled| polled.map(|message| Taken::of(&message)));
            self.take_changes()?;
            match taken {
                None => return Ok(()),
                Some(Ok(taken)) => self.take(taken),
                Some(Err(error)) => self.take_error(&error)?,
            }
            timeout = Duration::ZERO;
        }
        Ok(())
    }

    fn take_changes(&mut self) -> Result<(), String> {
        for change in self.consumer.context().take_changes() {
            match change {
                Change::Assigned(partitions) => {
                    if !matches!(self.joining, Joining::Told) {
                        self.joining = Joining::Answered(Instant::now());
                    }
                    self.assigned(partitions)?;
                }
                Change::Revoked(partitions) => {
                    for partition in partitions {
                        if let Some(Stage::Reading { .. }) = self.stages.remove(&partition) {
                            self.outbox.push_back(FeedEvent::Revoked { partition });
                        }
                    }
                }
                Change::Lost => {
                    return Err(
                        "the group has given this member up, or was silent for the session timeout".into()
                    );
                }
            }
        }
        Ok(())
    }

    fn assigned(&mut self, partitions: Vec<u32>) -> Result<(), String> {
        let (ours, added): (Vec<u32>, Vec<u32>) =
            partitions.into_iter().partition(|partition| *partition < self.partitions);
        if !added.is_empty() {
            tracing::error!(
                ?added,
                partitions = self.partitions,
                "partitions were added to a topic in use: they are left alone, and the next start is refused \
                 (docs/operations.md, Partitions)"
            );
        }
        if ours.is_empty() { Ok(()) } else { self.start_load(ours) }
    }

    fn start_load(&mut self, partitions: Vec<u32>) -> Result<(), String> {
        let mut wanted = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let ticket = Ticket::default();
            wanted.push(Wanted::new(partition, &ticket));
            self.stages.insert(partition, Stage::Loading(ticket));
        }
        let (clients, answer) = (Arc::clone(&self.clients), self.loaded.0.clone());
        let count = self.partitions;
        let longest = Duration::from_millis(self.clients.config.transaction_timeout_ms.into());
        let patience = Patience { requests: longest + REQUESTS, stall: STALL };
        thread::start("kafka-load", move || {
            let mut tell = |wanted: &Wanted, outcome| drop(answer.send((wanted.clone(), outcome)));
            if let Err((why, left)) = load::load(&clients, wanted, count, patience, &mut tell) {
                left.iter().for_each(|wanted| tell(wanted, Err(why.clone())));
            }
        })
        .map_err(|error| error.to_string())
    }

    /// Begins to read the partitions whose state is there.
    fn take_loaded(&mut self) -> Result<(), String> {
        let mut joining = TopicPartitionList::new();
        while let Ok((wanted, outcome)) = self.loaded.1.try_recv() {
            let partition = wanted.partition;
            let is_waited_for =
                matches!(self.stages.get(&partition), Some(Stage::Loading(ticket)) if wanted.is_for(ticket));
            if !is_waited_for {
                continue;
            }
            let state = outcome
                .map_err(|why| format!("the state of partition {partition} can't be loaded: {why}"))?;
            let (topic, offset) = (&self.clients.config.reactions_topic, state.next_offset);
            joining
                .add_partition_offset(topic, partition as i32, Offset::Offset(offset as i64))
                .map_err(|error| error.to_string())?;
            self.own(state);
        }
        if joining.count() == 0 {
            return Ok(());
        }
        self.consumer.incremental_assign(&joining).map_err(|error| error.to_string())?;
        // A partition that was paused when it left is still so when it comes back.
        self.pause_or_resume(&joining)
    }

    /// Tells the caller when the group has said what is ours, and all of it is loaded. A newcomer is given nothing at first
    /// where others have to let go of it: the next assignment brings it.
    fn tell_joined(&mut self) {
        let Joining::Answered(at) = self.joining else { return };
        let is_settled = if self.stages.is_empty() {
            at.elapsed() >= self.clients.heartbeat() + REJOIN
        } else {
            !self.is_loading()
        };
        if is_settled {
            self.joining = Joining::Told;
            self.outbox.push_back(FeedEvent::Joined);
        }
    }

    fn is_loading(&self) -> bool {
        self.stages.values().any(|stage| matches!(stage, Stage::Loading(_)))
    }

    fn own(&mut self, state: Loaded) {
        let Loaded { partition, next_offset, uncounted, newest, records } = state;
        counter!(UNCOUNTED).increment(uncounted);
        let epoch = self.epochs.fetch_add(1, Ordering::Relaxed) + 1;
        self.stages.insert(partition, Stage::Reading { next_offset, caught_up: false });
        self.ownership.own(partition, epoch);
        tracing::info!(partition, epoch, next_offset, rooms = newest.len(), records, "partition taken over");
        let partitions = self.partitions;
        self.outbox.push_back(FeedEvent::Assigned { partition, partitions, epoch, next_offset, newest });
    }

    fn take(&mut self, Taken { partition, record }: Taken) {
        let Some(stage @ Stage::Reading { .. }) = self.stages.get_mut(&partition) else { return };
        *stage = Stage::Reading { next_offset: record.offset + 1, caught_up: false };
        if let Some(FeedEvent::Records { partition: last, records }) = self.outbox.back_mut()
            && *last == partition
            && records.len() < CHUNK_RECORDS
            && self.chunk_bytes < CHUNK_BYTES
        {
            self.chunk_bytes += record.value.len();
            records.push(record);
        } else {
            self.chunk_bytes = record.value.len();
            self.outbox.push_back(FeedEvent::Records { partition, records: vec![record] });
        }
    }

    fn take_error(&mut self, error: &KafkaError) -> Result<(), String> {
        match error {
            KafkaError::PartitionEOF(partition) => {
                let partition = *partition as u32;
                if let Some(Stage::Reading { next_offset, caught_up: caught_up @ false }) =
                    self.stages.get_mut(&partition)
                {
                    *caught_up = true;
                    let next_offset = *next_offset;
                    self.outbox.push_back(FeedEvent::CaughtUp { partition, next_offset });
                }
                Ok(())
            }
            error if ends_reading(error) || keeps_out(error) => Err(error.to_string()),
            // Said in the log by the client; it goes on by itself.
            _ => Ok(()),
        }
    }

    /// Gives the caller what is there. A caller that doesn't ask is waited for; then the partitions are paused, so that
    /// polling, which keeps this member in the group, brings no more.
    fn hand_over(&mut self) -> Result<(), String> {
        let patience = if self.paused { Duration::ZERO } else { PATIENCE };
        let deadline = Instant::now() + patience;
        while let Some(event) = self.outbox.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Closed(_)) => return Ok(()),
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.outbox.push_front(event);
                    if Instant::now() >= deadline || self.stop.load(Ordering::Relaxed) {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
        let full = !self.outbox.is_empty();
        if full != self.paused {
            self.paused = full;
            let partitions = self.reading();
            let all = list(&self.clients.config.reactions_topic, &partitions, Offset::Invalid);
            self.pause_or_resume(&all.map_err(|error| error.to_string())?)?;
        }
        Ok(())
    }

    /// Has the client do with these partitions as with the others.
    fn pause_or_resume(&self, partitions: &TopicPartitionList) -> Result<(), String> {
        let done =
            if self.paused { self.consumer.pause(partitions) } else { self.consumer.resume(partitions) };
        done.map_err(|error| error.to_string())
    }

    fn reading(&self) -> Vec<u32> {
        let is_read =
            |(partition, stage): (&u32, &Stage)| matches!(stage, Stage::Reading { .. }).then_some(*partition);
        self.stages.iter().filter_map(is_read).collect()
    }

    /// Leaves the group. What is read and not handed over is left to the next owner, who reads it again.
    fn leave(self) {
        let reading = self.reading();
        let Self { consumer, events, ownership, stages, .. } = self;
        // First of all the caller is told, and loads are stopped: the rest may take its time.
        drop((events, stages));
        ownership.revoke(&reading, Duration::ZERO);
        // This closes the consumer: what is left is revoked, and the group is told.
        drop(consumer);
        ownership.renew(None);
    }
}

/// A record and where it is from.
struct Taken {
    partition: u32,
    record: Record,
}

impl Taken {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        Self { partition: message.partition() as u32, record: record(message) }
    }
}

/// A record of `reactions`.
pub(super) fn record(message: &BorrowedMessage<'_>) -> Record {
    Record {
        offset: message.offset() as u64,
        timestamp_ms: message.timestamp().to_millis().and_then(|ms| ms.try_into().ok()).unwrap_or(0),
        value: message.payload().map(Bytes::copy_from_slice).unwrap_or_default(),
    }
}

impl FeedEvents for KafkaEvents {
    fn next(&mut self) -> BoxFuture<'_, Result<FeedEvent, FeedError>> {
        Box::pin(async {
            if let Some(event) = self.events.recv().await {
                return Ok(event);
            }
            if let Some(broken) = &mut self.broken {
                self.why = broken.await.unwrap_or_else(|_| "the thread of the feed ended".into());
                self.broken = None;
            }
            Err(FeedError::Reopen(self.why.clone()))
        })
    }

    fn close(mut self: Box<Self>, deadline: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.stop.store(true, Ordering::Relaxed);
            if let Some(left) = self.left.take()
                && tokio::time::timeout(deadline, left).await.is_err()
            {
                tracing::warn!("the group was not left in time: others take over once the session times out");
            }
        })
    }
}

impl Drop for KafkaEvents {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
