//! What can be shown on the client library's mock brokers: slow ones, replicas that lag, missing rights.

use super::{
    client::Clients,
    follower,
    load::{Patience, Ticket, Wanted, load},
    occupancy,
    state::Loaded,
    tests::config,
};
use crate::{FeedError, LossyChannel, conformance::aggregate};
use rdkafka::{
    ClientConfig,
    mocking::MockCluster,
    producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};
use wire::{RoomName, Source};

const LONG: Duration = Duration::from_secs(60);

/// Brokers with both topics, and clients of them.
struct Mock {
    brokers: MockCluster<'static, DefaultProducerContext>,
    clients: Arc<Clients>,
}

impl Mock {
    fn new(partitions: u32) -> Self {
        let brokers = MockCluster::new(2).unwrap();
        let mut config = config(&brokers.bootstrap_servers());
        config.transaction_timeout_ms = 1_000;
        // The mock tells the end of a replica that lags to those only that read all records.
        config.options.insert("isolation.level".into(), "read_uncommitted".into());
        for topic in [&config.reactions_topic, &config.aggregates_topic] {
            brokers.create_topic(topic, partitions as i32, 1).unwrap();
            (0..partitions).for_each(|partition| {
                brokers.partition_leader(topic, partition as i32, Some(1)).unwrap();
            });
        }
        Self { brokers, clients: Arc::new(Clients { config, keeps_windows: false }) }
    }

    /// Writes `count` records, one after the other, of those of `rooms` that live in the partition, in turn.
    fn write(&self, partition: u32, partitions: u32, rooms: &[RoomName], count: usize) {
        let config = &self.clients.config;
        let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
            .set("bootstrap.servers", &config.brokers)
            .set("linger.ms", "0")
            .create()
            .unwrap();
        let home = |room: &&RoomName| crate::partition_of(room, partitions) == partition;
        for (seq, room) in rooms.iter().filter(home).cycle().take(count).enumerate() {
            let mut aggregate = aggregate(room, seq as u64 + 1, partition);
            aggregate.source = Source { partition, from: 0, to: 0 };
            let value = aggregate.encode();
            let record = BaseRecord::to(&config.aggregates_topic)
                .partition(partition as i32)
                .key(room.as_bytes())
                .payload(&value);
            producer.send(record).map_err(|(error, _)| error).unwrap();
            // A batch for each.
            producer.flush(LONG).unwrap();
        }
    }

    fn load(&self, wanted: Vec<Wanted>, count: u32, stall: Duration) -> Result<Vec<Loaded>, String> {
        let mut loaded = Vec::new();
        let mut tell = |_: &Wanted, outcome: Result<Loaded, String>| loaded.push(outcome);
        let patience = Patience { requests: LONG, stall };
        load(&self.clients, wanted, count, patience, &mut tell).map_err(|(why, _)| why)?;
        loaded.into_iter().collect()
    }
}

fn rooms(count: usize) -> Vec<RoomName> {
    (0..count).map(|n| format!("room-{n}").parse().unwrap()).collect()
}

#[test]
fn a_load_that_takes_longer_than_its_patience_ends_because_it_moves() {
    let mock = Mock::new(1);
    mock.write(0, 1, &rooms(2), 40);
    // A fetch brings one of the 40 records: four seconds in all.
    mock.brokers.broker_round_trip_time(1, Duration::from_millis(100)).unwrap();
    let (ticket, stall, began) = (Ticket::default(), Duration::from_secs(2), Instant::now());
    let loaded = mock.load(vec![Wanted::new(0, &ticket)], 1, stall).unwrap();
    assert!(began.elapsed() > stall, "it was too fast to show anything");
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].records, 40);
    let mut seqs: Vec<_> = loaded[0].newest.iter().map(|aggregate| aggregate.seq).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, [39, 40], "the newest of each room");
}

#[test]
fn the_end_that_a_lagging_replica_reports_is_not_believed() {
    let mock = Mock::new(1);
    let topic = &mock.clients.config.aggregates_topic;
    mock.write(0, 1, &rooms(10), 10);
    mock.brokers.partition_follower(topic, 0, 2).unwrap();
    mock.brokers.follower_watermarks(topic, 0, Some(0), Some(5)).unwrap();
    let ticket = Ticket::default();
    let why = mock.load(vec![Wanted::new(0, &ticket)], 1, Duration::from_secs(2)).unwrap_err();
    assert!(why.contains("of 10"), "{why}");
    mock.brokers.follower_watermarks(topic, 0, None, None).unwrap();
    let loaded = mock.load(vec![Wanted::new(0, &ticket)], 1, LONG).unwrap();
    assert_eq!(loaded[0].newest.len(), 10);
}

#[test]
fn a_partition_is_told_when_it_is_loaded_and_a_load_that_nobody_waits_for_ends() {
    let mock = Mock::new(2);
    let topic = &mock.clients.config.aggregates_topic;
    let rooms = rooms(20);
    (0..2).for_each(|partition| mock.write(partition, 2, &rooms, 5));
    // Partition 1 is never read to its end.
    mock.brokers.partition_follower(topic, 1, 2).unwrap();
    mock.brokers.follower_watermarks(topic, 1, Some(0), Some(2)).unwrap();
    let tickets = [Ticket::default(), Ticket::default()];
    let wanted = [0, 1].map(|n| Wanted::new(n, &tickets[n as usize])).to_vec();
    let (told, tells) = mpsc::channel();
    let clients = Arc::clone(&mock.clients);
    let loading = std::thread::spawn(move || {
        let mut tell = |wanted: &Wanted, outcome: Result<Loaded, String>| {
            told.send((wanted.partition, outcome.map(|loaded| loaded.newest.len()))).unwrap();
        };
        load(&clients, wanted, 2, Patience { requests: LONG, stall: LONG }, &mut tell).map_err(|(why, _)| why)
    });
    assert_eq!(tells.recv_timeout(LONG).unwrap(), (0, Ok(5)));
    let began = Instant::now();
    drop(tickets);
    assert_eq!(loading.join().unwrap(), Ok(()));
    assert!(began.elapsed() < LONG / 2, "it waited for the stall");
    assert!(tells.try_recv().is_err(), "nobody asked for partition 1");
}

#[tokio::test]
async fn a_follower_that_may_not_read_says_so() {
    for request in [RDKafkaApiKey::Fetch, RDKafkaApiKey::ListOffsets] {
        let mock = Mock::new(1);
        let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 50];
        mock.brokers.request_errors(request, &refused);
        let mut follower = follower::open(Arc::clone(&mock.clients), 1).unwrap();
        let broken = async {
            loop {
                if let Err(FeedError::Reopen(why)) = follower.next().await {
                    return why;
                }
            }
        };
        let why = tokio::time::timeout(LONG, broken).await.expect("it breaks");
        assert!(why.to_lowercase().contains("authorization"), "{request:?}: {why}");
    }
}

/// Sends until something comes: reading begins at an end that is not known yet when the channel is opened.
async fn first_to_come(channel: &mut dyn LossyChannel, sent: &str) -> String {
    let look = async {
        loop {
            assert!(channel.send(sent.to_owned().into()));
            let came = tokio::time::timeout(Duration::from_millis(200), channel.receive()).await;
            if let Ok(came) = came {
                return String::from_utf8(came.unwrap().to_vec()).unwrap();
            }
        }
    };
    tokio::time::timeout(LONG, look).await.expect("nothing comes")
}

#[tokio::test]
async fn a_lossy_channel_begins_at_its_end_and_goes_on_after_an_outage() {
    let mock = Mock::new(1);
    mock.brokers.create_topic(&mock.clients.config.occupancy_topic, 1, 1).unwrap();
    let mut first = occupancy::open(Arc::clone(&mock.clients)).await.unwrap();
    assert_eq!(first_to_come(&mut first, "old").await, "old");
    let mut second = occupancy::open(Arc::clone(&mock.clients)).await.unwrap();
    assert_eq!(first_to_come(&mut second, "new").await, "new");
    for broker in [1, 2] {
        mock.brokers.broker_down(broker).unwrap();
    }
    assert!(first.send("lost, or late".into()), "nobody waits for the brokers");
    for broker in [1, 2] {
        mock.brokers.broker_up(broker).unwrap();
    }
    let again = async { while first_to_come(&mut second, "again").await != "again" {} };
    tokio::time::timeout(LONG, again).await.expect("it goes on");
}

#[tokio::test]
async fn a_lossy_channel_that_may_not_be_read_breaks_and_says_why() {
    let mock = Mock::new(1);
    mock.brokers.create_topic(&mock.clients.config.occupancy_topic, 1, 1).unwrap();
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 50];
    mock.brokers.request_errors(RDKafkaApiKey::Fetch, &refused);
    let mut channel = occupancy::open(Arc::clone(&mock.clients)).await.unwrap();
    let broken = tokio::time::timeout(LONG, channel.receive()).await.expect("it breaks");
    let why = broken.unwrap_err().to_string();
    assert!(why.to_lowercase().contains("authorization"), "{why}");
}
