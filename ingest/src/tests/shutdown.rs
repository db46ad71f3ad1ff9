//! Shutting down: nobody new is let in, what was accepted is committed, and all who wait are answered.

use super::*;
use crate::Ack;
use eventlog::AppendError;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn a_shutdown_commits_what_was_accepted_and_answers_all_who_wait() {
    let mut rig = Rig::open(config()).await;
    rig.log.hold_appends(true);
    let mut crowd = rig.crowd("r", 20);
    until(|| rig.log.held_appends() == 1).await;
    for _ in 0..30 {
        crowd.spawn(post(rig.front.clone(), "r".into(), FIRE.into()));
    }
    until(|| rig.inside() == 50).await;
    let start = Instant::now();
    rig.shutdown.cancel();
    until(|| rig.readiness.missing() == [("ingest", "shutting down".to_owned())]).await;
    let answer = rig.post("r", FIRE).await;
    assert_eq!((answer.status, answer.retries_within(1..=3)), (StatusCode::SERVICE_UNAVAILABLE, true));
    assert!(answer.body.contains("shutting down; not counted"), "{answer:?}");
    rig.log.hold_appends(false);
    assert_eq!(statuses(crowd).await, [202; 50]);
    rig.run.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(rig.total("r"), 50);
    assert!(start.elapsed() < Duration::from_millis(config().drain_ms), "it ends when there is nothing left");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_keeps_what_was_answered_before_it_was_durable() {
    let rig = Rig::open(Config { ack: Ack::Received, ..config() }).await;
    assert_eq!(rig.post("r", FIRE).await.status, 202);
    until(|| rig.total("r") == 1).await;
    // The next record is due a commit interval later.
    assert_eq!(statuses(rig.crowd("r", 50)).await, [202; 50]);
    assert_eq!(rig.total("r"), 1);
    let log = Arc::clone(&rig.log);
    rig.stop().await.unwrap();
    let records = log.reactions(log.partition_of(&"r".parse().unwrap()));
    assert_eq!(Batch::decode(&records[1].value).unwrap().count, 50);
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_of_a_shutdown_everyone_is_told_what_is_known() {
    let settings = Config { drain_ms: 500, in_flight_per_partition: 1, ..config() };
    let mut rig = Rig::open(settings.clone()).await;
    rig.log.hold_appends(true);
    let handed_over = rig.crowd("r", 2);
    until(|| rig.log.held_appends() == 1).await;
    let behind = rig.crowd("r", 3);
    until(|| rig.inside() == 5).await;
    rig.reload(Config { ack: Ack::Received, ..settings }).await;
    assert_eq!(statuses(rig.crowd("r", 4)).await, [202; 4]);
    rig.shutdown.cancel();
    let error = rig.run.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, Error::Drain { rooms: 1, unresolved: 1, lost: 4 }), "{error}");
    assert_eq!(statuses(handed_over).await, [504; 2]);
    assert_eq!(statuses(behind).await, [503; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_end_nobody_knows_is_named_when_the_shutdown_ends() {
    let mut rig = Rig::open(Config { drain_ms: 500, ..config() }).await;
    rig.log.hold_appends(true);
    let crowd = rig.crowd("r", 2);
    until(|| rig.log.held_appends() == 1).await;
    rig.shutdown.cancel();
    let error = rig.run.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, Error::Drain { rooms: 0, unresolved: 1, lost: 0 }), "{error}");
    assert_eq!(statuses(crowd).await, [504; 2]);
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_and_never_taken_is_named_when_the_shutdown_ends() {
    let settings = Config { ack: Ack::Received, drain_ms: 500, ..config() };
    let rig = Rig::open(settings).await;
    rig.log.fail_appends(Some(AppendError::NotWritten("the queue is full".into())));
    assert_eq!(statuses(rig.crowd("r", 3)).await, [202; 3]);
    let error = rig.stop().await.unwrap_err();
    assert!(matches!(error, Error::Drain { rooms: 0, unresolved: 0, lost: 3 }), "{error}");
}

/// Real threads, real time: requests race with the shutdown.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_shutdown_amid_traffic_loses_nothing_and_counts_nothing_twice() {
    for ack in [Ack::Durable, Ack::Received] {
        let mut rig = Rig::open(Config { ack, commit_interval_ms: 1, ..config() }).await;
        let mut clients = JoinSet::new();
        for client in 0..16 {
            let front = rig.front.clone();
            clients.spawn(async move {
                let mut accepted = 0;
                let room = format!("r{}", client % 3);
                while post(front.clone(), room.clone(), FIRE.into()).await.status == 202 {
                    accepted += 1;
                    tokio::task::yield_now().await;
                }
                accepted
            });
        }
        until(|| rig.total("r0") > 100).await;
        rig.shutdown.cancel();
        rig.run.join_next().await.unwrap().unwrap().unwrap();
        let accepted: u64 = clients.join_all().await.iter().sum();
        assert_eq!((0..3).map(|r| rig.total(&format!("r{r}"))).sum::<u64>(), accepted, "{ack:?}");
    }
}
