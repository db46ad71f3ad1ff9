//! A poster against a server that answers as slowly and as oddly as HTTP allows.

use super::*;
use crate::{
    ingest::plan::{Bodies, Body},
    payload::payloads,
};
use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

const ACCEPTED: &[u8] = b"HTTP/1.1 202 Accepted\r\ncontent-length: 14\r\n\r\n{\"accepted\":1}";

/// Serves each connection on a thread of its own, which ends with the test's process.
fn server(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

/// Posts for so long, with `pipeline` requests on each of two connections. An answer may take a second.
fn post(address: SocketAddr, pipeline: usize, pace: Option<Pace>, length: Duration) -> Outcome {
    post_until(address, pipeline, pace, Duration::from_secs(1), || std::thread::sleep(length))
}

/// Posts until the server has answered several more requests on each connection, however long that takes.
fn post_until_answered(address: SocketAddr, pipeline: usize, answered: &AtomicUsize) -> Outcome {
    post_until(address, pipeline, None, Duration::from_secs(60), || {
        let enough = answered.load(SeqCst) + 4 * 2 * pipeline;
        while answered.load(SeqCst) < enough {
            std::thread::yield_now();
        }
    })
}

/// Posts until `enough` returns.
fn post_until(
    address: SocketAddr,
    pipeline: usize,
    pace: Option<Pace>,
    timeout: Duration,
    enough: impl FnOnce(),
) -> Outcome {
    let reactions = ["a"].map(|r| r.parse().unwrap());
    let bodies = Bodies::new(payloads(&reactions, 1, None), payloads(&reactions, 9, Some(1)).remove(0));
    let url = format!("http://{address}").parse().unwrap();
    let requests = Arc::new(Requests::new(&url, &["r".parse().unwrap()], &bodies));
    let signals = Arc::new(Signals::default());
    let order = Order {
        address,
        sources: Vec::new(),
        connections: 2,
        pipeline,
        turns: Turns::new(&requests, 1, &bodies, Body::Tap, (0, 1)),
        ledger: Ledger::new(1, requests.payloads()),
        requests,
        pace,
        timeout,
        signals: Arc::clone(&signals),
    };
    let poster = std::thread::spawn(move || run(order));
    while signals.connected() == 0 {
        std::thread::yield_now();
    }
    signals.start();
    signals.call(Phase::Measure);
    enough();
    signals.call(Phase::Stop);
    poster.join().unwrap().unwrap()
}

fn read(stream: &mut TcpStream) -> bool {
    stream.read(&mut [0; 4_096]).is_ok_and(|length| length > 0)
}

#[test]
fn answers_may_come_byte_by_byte() {
    let answered = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&answered);
    let address = server(move |mut stream| {
        while read(&mut stream) {
            for byte in ACCEPTED.chunks(1) {
                if stream.write_all(byte).is_err() {
                    return;
                }
                std::thread::yield_now();
            }
            count.fetch_add(1, SeqCst);
        }
    });
    let outcome = post_until_answered(address, 1, &answered);
    assert!(outcome.accepted > 0 && outcome.is_clean(), "{:?}", outcome.trouble);
    assert!(outcome.ledger.accepted[0] >= outcome.accepted);
}

#[test]
fn several_answers_may_come_at_once() {
    let answered = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&answered);
    let address = server(move |mut stream| {
        let mut open = 0;
        let mut buffer = [0; 4_096];
        while let Ok(length) = stream.read(&mut buffer)
            && length > 0
        {
            open += buffer[..length].windows(5).filter(|bytes| bytes == b"POST ").count();
            // A request that was read in two parts is counted with its beginning, which is enough here.
            if open >= 4 {
                stream.write_all(&ACCEPTED.repeat(open)).unwrap();
                count.fetch_add(open, SeqCst);
                open = 0;
            }
        }
    });
    let outcome = post_until_answered(address, 4, &answered);
    assert!(outcome.accepted >= 8, "{outcome:?}");
    assert_eq!(outcome.broken, 0, "{:?}", outcome.trouble);
}

#[test]
fn a_connection_that_breaks_is_replaced_and_its_request_is_in_doubt() {
    let address = server(|mut stream| {
        for _ in 0..3 {
            if !read(&mut stream) {
                return;
            }
            stream.write_all(ACCEPTED).unwrap();
        }
        // The fourth request is read and never answered.
        read(&mut stream);
    });
    for pace in [
        None,
        Some(Pace::new(500, (Duration::ZERO, Duration::from_millis(300)), Duration::from_secs(1), (0, 1))),
    ] {
        let outcome = post(address, 1, pace, Duration::from_millis(300));
        // The ledger counts from the start, as the broken ones do, and not only what was measured.
        assert!(outcome.broken > 0, "{:?}", outcome.trouble);
        assert!(outcome.ledger.accepted[0] >= 3 * outcome.broken, "{:?}", outcome.ledger);
        assert_eq!(outcome.ledger.unknown[0], outcome.broken + outcome.unanswered);
        assert!(outcome.trouble.unwrap().contains("the server closed the connection"));
    }
}

#[test]
fn a_server_that_never_answers_is_not_waited_for_for_ever() {
    let address = server(|mut stream| while read(&mut stream) {});
    let outcome = post(address, 1, None, Duration::from_millis(50));
    assert_eq!((outcome.accepted, outcome.unanswered, outcome.ledger.unknown[0]), (0, 2, 2));
    assert!(outcome.trouble.unwrap().contains("without an answer"));
}

#[test]
fn what_a_schedule_has_no_connection_for_is_counted_as_not_sent() {
    let address = server(|mut stream| while read(&mut stream) {});
    let length = Duration::from_millis(200);
    let pace = Pace::new(100, (Duration::ZERO, length), Duration::from_millis(50), (0, 1));
    let outcome = post(address, 1, Some(pace), length);
    assert_eq!(
        (outcome.due, outcome.not_sent, outcome.unanswered),
        (20, 18, 2),
        "two connections, one request each"
    );
}
