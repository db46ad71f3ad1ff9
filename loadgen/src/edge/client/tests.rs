//! Viewers whose server closes them, by a clock that the test moves.

use super::*;
use std::net::{TcpListener, TcpStream};

/// Shorter than an attempt may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server that lets in who is accepted.
fn server() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Lets the next viewer in; it stays until what is returned is dropped.
fn let_in(server: &TcpListener) -> TcpStream {
    let (mut viewer, _) = server.accept().unwrap();
    viewer.write_all(&[&mqtt::CONNACK[..], &mqtt::suback([0, 1])].concat()).unwrap();
    viewer
}

/// Viewers of `address`, who come one by one and go to `then`.
fn hall(now: Instant, viewers: usize, address: SocketAddr, then: SocketAddr) -> Hall {
    let order = Order {
        protocol: Protocol::Mqtt,
        address,
        path: "reactions/r".to_owned(),
        viewers,
        name: "viewer".to_owned(),
        sources: Vec::new(),
        connecting: 1,
        patience_ms: u64::try_from(PATIENCE.as_millis()).unwrap(),
        keep_alive_s: 300,
        silent: false,
        then: Some(then),
    };
    Hall::new(order, now).unwrap()
}

impl Hall {
    /// Lets what is under way happen while the clock shows `now`, until `done`.
    fn turn_until(&mut self, now: Instant, done: impl Fn(&Self) -> bool) {
        let mut events = Events::with_capacity(16);
        let mut buffer = vec![0; 1_024];
        let deadline = Instant::now() + Duration::from_secs(10);
        while !done(self) {
            assert!(Instant::now() < deadline, "{:?}", self.standing);
            self.turn(now, &mut events, &mut buffer).unwrap();
        }
    }

    fn is_idle(&self) -> bool {
        self.in_flight + self.waiting.len() == 0
    }
}

#[test]
fn a_viewer_who_is_closed_long_after_the_start_has_all_the_time_to_get_in_elsewhere() {
    let start = Instant::now();
    let ((first, address), (second, then)) = (server(), server());
    let mut hall = hall(start, 1, address, then);
    hall.turn_until(start, |hall| hall.in_flight == 1);
    let closed = let_in(&first);
    hall.turn_until(start, |hall| hall.standing.connected == 1);

    drop(closed);
    let drained = start + 9 * PATIENCE;
    hall.turn_until(drained, |hall| hall.in_flight == 1);
    assert_eq!(hall.standing.moved, 0, "not before it is in");
    let _stays = let_in(&second);
    hall.turn_until(drained + PATIENCE / 2, |hall| hall.standing.moved == 1);
    hall.turn_until(drained + 2 * PATIENCE, Hall::is_idle);
    assert_eq!((hall.standing.connected, hall.standing.lost, hall.standing.failed), (1, 0, 0));
}

#[test]
fn viewers_who_get_in_nowhere_else_are_lost_and_have_not_moved() {
    let start = Instant::now();
    let ((first, address), (_second, then)) = (server(), server());
    let mut hall = hall(start, 2, address, then);
    let mut closed = Vec::new();
    for connected in 1..=2 {
        hall.turn_until(start, |hall| hall.in_flight == 1);
        closed.push(let_in(&first));
        hall.turn_until(start, |hall| hall.standing.connected == connected);
    }

    // One knocks, and nobody opens; the other one waits for its turn.
    drop(closed);
    hall.turn_until(start, |hall| (hall.in_flight, hall.waiting.len()) == (1, 1));
    hall.turn_until(start + PATIENCE, Hall::is_idle);
    assert_eq!((hall.standing.moved, hall.standing.lost, hall.standing.failed), (0, 2, 0));
}

#[test]
fn a_process_without_viewers_pings_nobody() {
    let start = Instant::now();
    let (_server, address) = server();
    let mut hall = hall(start, 0, address, address);
    hall.ping(start + Duration::from_secs(600));
    assert_eq!(hall.pings.sent, 0);
}

#[test]
fn viewers_who_are_never_answered_are_given_up_with_a_reason() {
    let start = Instant::now();
    let (_server, address) = server();
    let mut hall = hall(start, 1, address, address);
    hall.turn_until(start, |hall| hall.in_flight == 1);
    hall.turn_until(start + PATIENCE, Hall::is_idle);
    assert_eq!((hall.standing.failed, hall.standing.trouble.as_deref()), (1, Some("no answer in time")));
}
