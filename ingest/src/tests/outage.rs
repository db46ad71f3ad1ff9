//! The log is away, slow, full or silent: answers stay truthful and memory stays flat.

use super::*;
use crate::Ack;
use eventlog::{AppendError, BoxFuture, Feed, Follower, OpenError, Writer};

#[tokio::test(start_paused = true)]
async fn requests_are_refused_until_the_log_is_open() {
    let log = MemoryLog::new(4);
    log.fail_opens(3);
    let rig = Rig::start(log, config());
    let answer = rig.post("r", FIRE).await;
    assert_eq!((answer.status, answer.retries_within(5..=10)), (StatusCode::SERVICE_UNAVAILABLE, true));
    assert_eq!(rig.readiness.missing()[0].0, "ingest");
    until(|| rig.readiness.missing().is_empty()).await;
    assert_eq!(rig.post("r", FIRE).await.status, 202);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_before_the_log_is_open_ends_well() {
    let log = MemoryLog::new(4);
    log.fail_opens(u32::MAX);
    let rig = Rig::start(log, config());
    until(|| rig.readiness.missing()[0].1.contains("can't be opened")).await;
    assert!(rig.stop().await.is_ok());
}

#[tokio::test]
async fn a_log_that_will_never_open_ends_the_tier() {
    struct Locked;
    impl EventLog for Locked {
        fn writer(&self) -> BoxFuture<'_, Result<Arc<dyn Writer>, OpenError>> {
            Box::pin(async { Err(OpenError::Invalid("locked".into())) })
        }
        fn feed(&self) -> BoxFuture<'_, Result<Feed, OpenError>> {
            Box::pin(async { Err(OpenError::Invalid("locked".into())) })
        }
        fn follower(&self) -> BoxFuture<'_, Result<Box<dyn Follower>, OpenError>> {
            Box::pin(async { Err(OpenError::Invalid("locked".into())) })
        }
    }
    let (_config, changes) = watch::channel(Arc::new(config()));
    let ingest = Ingest::new(
        changes,
        Deps { log: Arc::new(Locked), readiness: Readiness::default(), orders: Arc::default() },
    );
    let error = ingest.run(CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "the event log can't be opened: locked");
}

#[tokio::test(start_paused = true)]
async fn in_an_outage_memory_stays_flat_and_nobody_is_told_a_lie() {
    let rig = Rig::open(config()).await;
    rig.log.hold_appends(true);
    let mut crowd = rig.crowd("r", 100);
    for _ in 0..50 {
        sleep(Duration::from_millis(20)).await;
        crowd.spawn(post(rig.front.clone(), "r".into(), FIRE.into()));
    }
    // The limit in flight, and one open batch, however many came.
    assert_eq!((rig.log.held_appends(), rig.shared.batches.rooms()), (4, 1));
    sleep(Duration::from_millis(1_100)).await;
    let answer = rig.post("r", FIRE).await;
    assert_eq!((answer.status, answer.retries_within(5..=10)), (StatusCode::SERVICE_UNAVAILABLE, true));
    assert!(
        answer.body.contains("took nothing of this room's partition for 2000 ms; not counted"),
        "{answer:?}"
    );
    // Those who were let in are told that nobody knows; and indeed, all of them count in the end.
    assert_eq!(statuses(crowd).await, [504; 150]);
    assert_eq!((rig.total("r"), rig.inside()), (0, 0));
    rig.log.hold_appends(false);
    until(|| rig.shared.batches.is_empty()).await;
    assert_eq!(rig.total("r"), 150);
    assert_eq!(rig.post("r", FIRE).await.status, 202);
}

#[tokio::test(start_paused = true)]
async fn what_the_log_did_not_take_is_answered_503_and_not_counted() {
    let rig = Rig::open(config()).await;
    rig.log.fail_appends(Some(AppendError::NotWritten("the queue is full".into())));
    let answer = rig.post("r", FIRE).await;
    assert_eq!((answer.status, answer.retries_within(1..=3)), (StatusCode::SERVICE_UNAVAILABLE, true));
    assert!(answer.body.contains("not counted, try again"));
    rig.log.fail_appends(None);
    assert_eq!(rig.post("r", FIRE).await.status, 202);
    assert_eq!(rig.total("r"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_log_may_have_taken_is_answered_504_and_not_retried() {
    for ack in [Ack::Durable, Ack::Received] {
        let rig = Rig::open(Config { ack, ..config() }).await;
        rig.log.fail_appends(Some(AppendError::Unknown("no answer".into())));
        let answer = rig.post("r", FIRE).await;
        let expected = if ack == Ack::Durable { 504 } else { 202 };
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (expected, None), "{answer:?}");
        assert_eq!(answer.body.contains("may have been counted"), ack == Ack::Durable);
        until(|| rig.shared.batches.is_empty()).await;
        rig.log.fail_appends(None);
        assert_eq!(rig.post("r", FIRE).await.status, 202);
        until(|| rig.shared.batches.is_empty()).await;
        assert_eq!(rig.total("r"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn with_ack_received_what_was_not_taken_is_tried_again_until_it_is() {
    let rig = Rig::open(Config { ack: Ack::Received, ..config() }).await;
    rig.log.fail_appends(Some(AppendError::NotWritten("the queue is full".into())));
    for _ in 0..10 {
        assert_eq!(rig.post("r", FIRE).await.status, 202);
        sleep(Duration::from_millis(150)).await;
    }
    assert_eq!(rig.total("r"), 0);
    // Promises are not piled up without end.
    sleep(Duration::from_millis(1_000)).await;
    assert_eq!(rig.post("r", FIRE).await.status, 503);
    rig.log.fail_appends(None);
    until(|| rig.total("r") == 10).await;
    assert_eq!(rig.post("r", FIRE).await.status, 202);
}

#[tokio::test(start_paused = true)]
async fn requests_and_rooms_over_their_limits_are_refused_at_once() {
    let settings = Config { max_waiting: 5, max_rooms: 8, in_flight_per_partition: 1, ..config() };
    let rig = Rig::open(settings).await;
    rig.log.hold_appends(true);
    // Three rooms of one partition, which has two places.
    let home = |room: &str| rig.log.partition_of(&room.parse().unwrap());
    let mut others = (0..).map(|n| format!("room-{n}")).filter(|room| home(room) == home("a"));
    let rooms = ["a".to_owned(), others.next().unwrap(), others.next().unwrap()];
    let [first, second, third] = rooms.each_ref().map(String::as_str);
    let mut crowd = JoinSet::new();
    // The first goes out; what comes behind it waits.
    for (n, room) in [first, first, second, second].into_iter().enumerate() {
        crowd.spawn(post(rig.front.clone(), room.into(), FIRE.into()));
        until(|| rig.inside() == n + 1).await;
        sleep(Duration::from_millis(20)).await;
    }
    let answer = rig.post(third, FIRE).await;
    assert_eq!((answer.status, answer.retries_within(1..=3)), (StatusCode::SERVICE_UNAVAILABLE, true));
    assert!(answer.body.contains("2 rooms of this room's partition have reactions waiting"), "{answer:?}");
    crowd.spawn(post(rig.front.clone(), "a".into(), FIRE.into()));
    until(|| rig.inside() == 5).await;
    let answer = rig.post("a", FIRE).await;
    assert_eq!((answer.status, answer.retries_within(1..=3)), (StatusCode::SERVICE_UNAVAILABLE, true));
    assert!(answer.body.contains("5 requests are waiting"), "{answer:?}");
    rig.log.hold_appends(false);
    assert_eq!(statuses(crowd).await, [202; 5]);
    assert_eq!(rig.post(third, FIRE).await.status, 202);
    assert_eq!(rooms.map(|room| rig.total(&room)), [3, 2, 1]);
}
