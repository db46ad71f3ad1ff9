//! The requests of a run: bytes that are made before it, and what each of them counts.

use super::plan::{Bodies, Body};
use crate::target::HttpTarget;
use std::ops::Range;
use wire::RoomName;

/// The parts that requests are put together from.
pub(crate) struct Requests {
    /// Up to the end of the request line, by room.
    heads: Vec<Vec<u8>>,
    /// Headers and body, by payload.
    tails: Vec<Vec<u8>>,
    /// What Uproar says to a payload.
    receipts: Vec<Vec<u8>>,
}

impl Requests {
    pub(crate) fn new(target: &HttpTarget, rooms: &[RoomName], bodies: &Bodies) -> Self {
        let head = |room: &RoomName| {
            let path = target.path(&format!("/v1/rooms/{room}/reactions"));
            format!("POST {path} HTTP/1.1\r\n").into_bytes()
        };
        let tail = |body: &[u8]| {
            let headers = format!(
                "host: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                target.address,
                body.len()
            );
            [headers.as_bytes(), body].concat()
        };
        let receipt = |count: u64| format!("{{\"accepted\":{count}}}").into_bytes();
        Self {
            heads: rooms.iter().map(head).collect(),
            tails: bodies.all.iter().map(|payload| tail(&payload.body)).collect(),
            receipts: bodies.all.iter().map(|payload| receipt(payload.count)).collect(),
        }
    }

    pub(crate) fn payloads(&self) -> usize {
        self.tails.len()
    }

    /// Appends the bytes of a request.
    pub(crate) fn write(&self, what: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.heads[what / self.tails.len()]);
        out.extend_from_slice(&self.tails[what % self.tails.len()]);
    }

    /// Whether `body` may follow a 202: nothing at all, or the right figure.
    pub(crate) fn confirms(&self, what: usize, body: &[u8]) -> bool {
        body.is_empty() || body == self.receipts[what % self.receipts.len()]
    }
}

/// What to post next: goes round the rooms, and with each round to the next payload. A request is named by
/// `room * payloads + payload`.
pub(crate) struct Turns {
    rooms: usize,
    payloads: Range<usize>,
    of_all: usize,
    next: usize,
    step: usize,
}

impl Turns {
    /// The turns of poster `index` out of `posters`.
    pub(crate) fn new(
        requests: &Requests,
        rooms: u32,
        bodies: &Bodies,
        body: Body,
        share: (usize, usize),
    ) -> Self {
        let (index, posters) = share;
        Self {
            rooms: rooms as usize,
            payloads: bodies.of(body),
            of_all: requests.payloads(),
            next: index,
            step: posters,
        }
    }

    pub(crate) fn take(&mut self) -> usize {
        let (turn, room) = (self.next / self.rooms, self.next % self.rooms);
        self.next += self.step;
        room * self.of_all + self.payloads.start + (turn + room) % self.payloads.len()
    }
}

/// How often each request was accepted, and how often its fate is unknown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    pub(crate) accepted: Vec<u64>,
    pub(crate) unknown: Vec<u64>,
}

impl Ledger {
    pub(crate) fn new(rooms: usize, payloads: usize) -> Self {
        Self { accepted: vec![0; rooms * payloads], unknown: vec![0; rooms * payloads] }
    }

    /// Adds all of `other`, which may know fewer requests.
    pub(crate) fn add(&mut self, other: &Self) {
        let add = |to: &mut [u64], from: &[u64]| to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        add(&mut self.accepted, &other.accepted);
        add(&mut self.unknown, &other.unknown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::payloads;

    fn bodies() -> Bodies {
        let reactions = ["a", "b"].map(|r| r.parse().unwrap());
        Bodies::new(payloads(&reactions, 1, None), payloads(&reactions, 13, Some(2)).remove(0))
    }

    fn requests(rooms: &[&str]) -> Requests {
        let rooms: Vec<_> = rooms.iter().map(|room| room.parse().unwrap()).collect();
        Requests::new(&"http://127.0.0.1:8080/x".parse().unwrap(), &rooms, &bodies())
    }

    #[test]
    fn a_request_is_what_the_contract_says() {
        let mut out = Vec::new();
        requests(&["r", "s"]).write(3 + 1, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "POST /x/v1/rooms/s/reactions HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n\
             content-type: application/json\r\ncontent-length: 16\r\n\r\n{\"reaction\":\"b\"}"
        );
    }

    #[test]
    fn a_202_says_nothing_or_what_was_sent() {
        let requests = requests(&["r"]);
        assert!(requests.confirms(2, b"") && requests.confirms(2, b"{\"accepted\":26}"));
        assert!(!requests.confirms(2, b"{\"accepted\":25}") && !requests.confirms(0, b"{\"accepted\":26}"));
    }

    #[test]
    fn turns_go_round_rooms_and_payloads() {
        let requests = requests(&["r", "s"]);
        let mut turns = Turns::new(&requests, 2, &bodies(), Body::Tap, (0, 1));
        let seen: Vec<_> = (0..8).map(|_| turns.take()).collect();
        assert_eq!(seen, [0, 4, 1, 3, 0, 4, 1, 3], "both rooms in turn, both taps in each");
        let mut batch = Turns::new(&requests, 2, &bodies(), Body::Batch, (0, 1));
        assert_eq!([batch.take(), batch.take()], [2, 5]);
    }

    #[test]
    fn posters_share_the_turns() {
        let requests = requests(&["r", "s", "t", "u"]);
        let mut all: Vec<_> = (0..2)
            .flat_map(|index| {
                let mut turns = Turns::new(&requests, 4, &bodies(), Body::Batch, (index, 2));
                [turns.take(), turns.take()]
            })
            .collect();
        all.sort_unstable();
        assert_eq!(all, [2, 5, 8, 11]);
    }

    #[test]
    fn ledgers_add_up() {
        let mut sum = Ledger::new(2, 1);
        let part = Ledger { accepted: vec![3, 1], unknown: vec![0, 2] };
        sum.add(&part);
        sum.add(&part);
        assert_eq!((sum.accepted, sum.unknown), (vec![6, 2], vec![0, 4]));
    }
}
