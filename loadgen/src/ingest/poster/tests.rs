//! A poster against a server that answers as slowly and as oddly as HTTP allows.

use super::*;
use crate::{
    ingest::plan::{Bodies, Body},
    payload::payloads,
};
use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

const ACCEPTED: &[u8] = b"HTTP/1.1 202 Accepted\r\ncontent-length: 14\r\n\r\n{\"accepted\":1}";

/// Serves each connection on a thread of its own, which ends with the test's process.
fn server(serve: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

/// Posts until `enough`, with `pipeline` requests on each of two connections.
fn post(address: SocketAddr, pipeline: usize, pace: Option<Pace>, enough: Duration) -> Outcome {
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
        timeout: Duration::from_secs(1),
        signals: Arc::clone(&signals),
    };
    let poster = std::thread::spawn(move || run(order));
    while signals.connected() == 0 {
        std::thread::yield_now();
    }
    signals.start();
    signals.call(Phase::Measure);
    std::thread::sleep(enough);
    signals.call(Phase::Stop);
    poster.join().unwrap().unwrap()
}

fn read(stream: &mut TcpStream) -> bool {
    stream.read(&mut [0; 4_096]).is_ok_and(|length| length > 0)
}

#[test]
fn answers_may_come_byte_by_byte() {
    let address = server(|mut stream| {
        while read(&mut stream) {
            for byte in ACCEPTED.chunks(1) {
                if stream.write_all(byte).is_err() {
                    return;
                }
                std::thread::yield_now();
            }
        }
    });
    let outcome = post(address, 1, None, Duration::from_millis(300));
    assert!(outcome.accepted > 0 && outcome.is_clean(), "{:?}", outcome.trouble);
    assert!(outcome.ledger.accepted[0] >= outcome.accepted);
}

#[test]
fn several_answers_may_come_at_once() {
    let address = server(|mut stream| {
        let mut open = 0;
        let mut buffer = [0; 4_096];
        while let Ok(length) = stream.read(&mut buffer)
            && length > 0
        {
            open += buffer[..length].windows(5).filter(|bytes| bytes == b"POST ").count();
            // A request that was read in two parts is counted with its beginning, which is enough here.
            if open >= 4 {
                stream.write_all(&ACCEPTED.repeat(open)).unwrap();
                open = 0;
            }
        }
    });
    let outcome = post(address, 4, None, Duration::from_millis(200));
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
