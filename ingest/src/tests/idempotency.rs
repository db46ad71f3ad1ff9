//! Requests with an `Idempotency-Key` over the routes: each counts once, whatever happens to its answers.

use super::*;
use crate::Ack;
use axum::extract::ConnectInfo;
use eventlog::AppendError;
use std::net::SocketAddr;

fn keyed(key: &str, body: &str) -> Request<Body> {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    request(Method::POST, "/v1/rooms/r/reactions", &headers, body.to_owned())
}

impl Rig {
    async fn post_keyed(&self, key: &str) -> Answer {
        self.ask(keyed(key, FIRE)).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeat_is_not_counted_again_and_gets_the_same_answer() {
    let (handle, _guard) = recorded();
    let rig = Rig::open(config()).await;
    let body = r#"{"reactions":{"🔥":7,"👏":2}}"#;
    for key in ["\"8e03978e\"", "8e03978e", "\"8e03978e\""] {
        let answer = rig.ask(keyed(key, body)).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (202, "{\"accepted\":9}"));
    }
    assert_eq!(rig.total("r"), 9);
    let text = handle.render();
    assert!(text.contains("uproar_ingest_repeated_requests_total 2\n"), "{text}");
    sleep(Duration::from_secs(30)).await;
    assert_eq!(rig.ask(keyed("8e03978e", body)).await.status, 202);
    assert_eq!(rig.total("r"), 18, "after its time a key is as good as new");
}

#[tokio::test(start_paused = true)]
async fn a_repeat_waits_for_the_same_verdict_as_the_first() {
    let rig = Rig::open(config()).await;
    rig.log.hold_appends(true);
    let mut crowd = JoinSet::new();
    for _ in 0..10 {
        crowd.spawn(ask(rig.front.clone(), keyed("k", FIRE)));
    }
    until(|| rig.inside() == 10 && rig.log.held_appends() == 1).await;
    crowd.spawn(ask(rig.front.clone(), keyed("k", FIRE)));
    until(|| rig.inside() == 11).await;
    assert!(crowd.try_join_next().is_none());
    rig.log.hold_appends(false);
    assert_eq!(statuses(crowd).await, [202; 11]);
    assert_eq!(rig.total("r"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_counts_by_itself_for_each_client_and_room() {
    let rig = Rig::open(config()).await;
    for (peer, room) in [("192.0.2.1", "r"), ("192.0.2.2", "r"), ("192.0.2.1", "other"), ("192.0.2.1", "r")] {
        let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
        let mut request = request(Method::POST, &format!("/v1/rooms/{room}/reactions"), &headers, FIRE);
        let peer = SocketAddr::new(peer.parse().unwrap(), 1);
        request.extensions_mut().insert(ConnectInfo(peer));
        assert_eq!(rig.ask(request).await.status, 202);
    }
    assert_eq!((rig.total("r"), rig.total("other")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_used_for_another_body_is_refused() {
    let rig = Rig::open(config()).await;
    assert_eq!(rig.post_keyed("k").await.status, 202);
    let answer = rig.ask(keyed("k", r#"{"reaction":"👏"}"#)).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (422, None));
    assert!(answer.body.contains("was used for another body"), "{answer:?}");
    assert_eq!(rig.total("r"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_503_counts_when_it_comes_again() {
    let rig = Rig::open(config()).await;
    rig.log.fail_appends(Some(AppendError::NotWritten("the queue is full".into())));
    assert_eq!(rig.post_keyed("k").await.status, 503);
    assert_eq!(rig.post_keyed("k").await.status, 503);
    rig.log.fail_appends(None);
    assert_eq!([rig.post_keyed("k").await.status, rig.post_keyed("k").await.status], [202, 202]);
    assert_eq!(rig.total("r"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_504_is_answered_rightly_once_it_is_known_and_never_counts_twice() {
    for (error, status, total) in [(None, 202, 1), (Some(AppendError::NotWritten("gone".into())), 503, 0)] {
        let rig = Rig::open(config()).await;
        rig.log.hold_appends(true);
        assert_eq!([rig.post_keyed("k").await.status, rig.post_keyed("k").await.status], [504, 504]);
        rig.log.fail_appends(error);
        rig.log.hold_appends(false);
        until(|| rig.shared.batches.is_empty()).await;
        assert_eq!(rig.total("r"), total);
        assert_eq!(rig.post_keyed("k").await.status, status);
        rig.log.fail_appends(None);
        assert_eq!(rig.post_keyed("k").await.status, 202);
        assert_eq!(rig.total("r"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_knows_stays_unknown_and_is_not_counted_again() {
    let rig = Rig::open(config()).await;
    rig.log.fail_appends(Some(AppendError::Unknown("no answer".into())));
    assert_eq!(rig.post_keyed("k").await.status, 504);
    rig.log.fail_appends(None);
    assert_eq!(rig.post_keyed("k").await.status, 504);
    assert_eq!(rig.post_keyed("other").await.status, 202);
    assert_eq!(rig.total("r"), 1);
}

#[tokio::test(start_paused = true)]
async fn with_ack_received_a_repeat_is_answered_at_once_and_not_counted_whatever_the_log_does() {
    let rig = Rig::open(Config { ack: Ack::Received, ..config() }).await;
    rig.log.fail_appends(Some(AppendError::NotWritten("the queue is full".into())));
    for _ in 0..5 {
        assert_eq!(rig.post_keyed("k").await.status, 202);
        sleep(Duration::from_millis(50)).await;
    }
    rig.log.fail_appends(None);
    until(|| rig.total("r") == 1 && rig.shared.batches.is_empty()).await;
    assert_eq!(rig.post_keyed("k").await.status, 202);
    assert_eq!(rig.total("r"), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_have_a_form_a_bound_and_can_be_turned_off() {
    let rig = Rig::open(Config { max_idempotency_keys: 64, ..config() }).await;
    for malformed in ["", "\"k", "a b", &"x".repeat(65)] {
        let answer = rig.post_keyed(malformed).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (400, None));
    }
    let from = |peer: &str, key: u32| {
        let mut request = keyed(&key.to_string(), FIRE);
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
        request
    };
    let mut taken = 0;
    for key in 0..200 {
        let answer = rig.ask(from("192.0.2.1", key)).await;
        taken += u64::from(answer.status == 202);
        if answer.status != 202 {
            assert_eq!(answer.status, 429, "its own share is used up: {answer:?}");
            assert!(answer.retries_within(25..=33), "when the oldest is forgotten: {answer:?}");
        }
    }
    assert!((1..=32).contains(&taken), "{taken}");
    assert_eq!(rig.ask(from("192.0.2.2", 1)).await.status, 202, "another client is not shut out");
    assert_eq!(rig.total("r"), taken + 1);
    assert_eq!(rig.post("r", FIRE).await.status, 202, "who needs no key is not concerned");
    rig.reload(Config { max_idempotency_keys: 0, ..config() }).await;
    let answer = rig.post_keyed("k").await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("keeps no idempotency keys; send without"), "{answer:?}");
    assert_eq!(rig.inside(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_costs_a_request_and_no_reactions() {
    let limits =
        Config { rate_per_s: 1, rate_burst: 3, reactions_per_s: 1, reactions_burst: 1_000, ..config() };
    let rig = Rig::open(Config { ack: Ack::Received, ..limits }).await;
    let much = || keyed("k", r#"{"reaction":"🔥","count":1000}"#);
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(rig.ask(much()).await);
    }
    assert_eq!(answers.iter().map(|a| a.status.as_u16()).collect::<Vec<_>>(), [202, 202, 202, 429]);
    assert_eq!(answers[0].header("ratelimit"), Some("\"requests\";r=2;t=1, \"reactions\";r=0;t=1"));
    assert_eq!(answers[1].header("ratelimit"), Some("\"requests\";r=1;t=1"));
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_until_it_is_answered_202_counts_exactly_once() {
    let (handle, _recording) = recorded();
    let rig = Rig::open(Config { ack_timeout_ms: 100, stall_ms: 100, ..config() }).await;
    let mut senders = JoinSet::new();
    for key in 0..40 {
        let front = rig.front.clone();
        senders.spawn(async move {
            let mut tries = 1;
            while ask(front.clone(), keyed(&key.to_string(), FIRE)).await.status != 202 {
                tries += 1;
                sleep(Duration::from_millis(7 + key)).await;
            }
            tries
        });
    }
    for round in 0..30 {
        rig.log.hold_appends(round % 3 == 1);
        let full = AppendError::NotWritten("the queue is full".into());
        rig.log.fail_appends((round % 3 == 0).then_some(full));
        sleep(Duration::from_millis(150)).await;
    }
    rig.log.hold_appends(false);
    rig.log.fail_appends(None);
    let tries: Vec<u32> = senders.join_all().await;
    assert!(tries.iter().all(|tries| *tries > 1), "{tries:?}");
    until(|| rig.shared.batches.is_empty()).await;
    assert_eq!(rig.total("r"), 40);
    assert_eq!(rig.post_keyed("0").await.status, 202);
    rig.stop().await.unwrap();
    let text = handle.render();
    for line in ["uproar_ingest_committed_total 40", "uproar_ingest_idempotency_keys 40"] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(!text.contains("uproar_ingest_repeated_requests_total 0"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn reactions_are_accepted_when_the_first_is_told_be_it_the_request_or_a_repeat() {
    let (handle, _recording) = recorded();
    let rig = Rig::open(config()).await;
    rig.log.hold_appends(true);
    assert_eq!(rig.post_keyed("late").await.status, 504);
    let mut gone = JoinSet::new();
    gone.spawn(ask(rig.front.clone(), keyed("gone", FIRE)));
    until(|| rig.inside() == 1).await;
    gone.shutdown().await;
    rig.log.hold_appends(false);
    until(|| rig.shared.batches.is_empty()).await;
    let accepted = |n: u64| {
        let text = handle.render();
        assert!(text.contains(&format!("uproar_ingest_accepted_total {n}\n")), "{n} in\n{text}");
    };
    accepted(0);
    for (key, n) in [("late", 1), ("gone", 2), ("told", 3)] {
        for _ in 0..3 {
            assert_eq!(rig.post_keyed(key).await.status, 202);
            accepted(n);
        }
    }
    assert_eq!(rig.total("r"), 3);
}
