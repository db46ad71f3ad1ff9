//! Viewers of several rooms, on sockets that are full most of the time: whatever happens in whatever order, each gets the
//! newest frame of each of its rooms, in turn, and never an older one.

use super::{
    end::End,
    hall::Hall,
    rooms::Member,
    speech::{How, Snapshot},
    viewer::{Due, Viewer},
};
use crate::{
    frames::{Encoded, Form},
    metrics::{Meters, Protocol},
    registry::{Limits, Published, Registry},
    tests::harness::aggregate,
};
use proptest::prelude::*;
use std::{
    io::{ErrorKind, Read},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::Arc,
};
use wire::{Aggregate, Frame, RoomName};

const LIMITS: Limits = Limits { max_viewers: 100, max_viewers_per_address: 0, max_rooms_watched: 100 };
const ROOMS: usize = 4;
const VIEWERS: usize = 3;
/// Stands for all rooms together, among the rooms that are joined.
const ALL: usize = ROOMS;
const SEND_SNAPSHOT: How = How { snapshot: Snapshot::Send, retain_as_published: false };

fn name(room: usize) -> RoomName {
    ["a", "b", "c", "d"][room].parse().unwrap()
}

/// A frame of a room, with so many different reactions.
fn frame(room: usize, since: u64, seq: u64, reactions: usize) -> Arc<Encoded> {
    let each = |times: u64| (0..reactions).map(|n| (format!("{n:0>32}").parse().unwrap(), times)).collect();
    let of_room = aggregate(&name(room), seq);
    let (count, since) = (reactions as u64, of_room.since + since);
    let (counts, slots, total, totals) = (each(1), vec![count], count * seq, each(seq));
    Arc::new(Encoded::of(&Aggregate { count, counts, slots, since, total, totals, ..of_room }, 1_000))
}

/// A viewer, as its client sees it.
struct Client {
    key: usize,
    theirs: UnixStream,
    came: Vec<u8>,
    /// Bytes that its socket has taken.
    written: usize,
    rooms: [bool; ROOMS],
    watches_all: bool,
    has_ended: bool,
    /// What was shown, and how much was written before: room, life and number.
    shown: Vec<(usize, usize, (u64, u64))>,
    waits: Vec<Wait>,
    /// Rooms that were joined, or all, and how much was written before.
    joins: Vec<(usize, usize)>,
}

/// A room for which a frame was due, from one number of written bytes to another.
struct Wait {
    room: usize,
    /// Others that the viewer watched, each of which has one turn in a round. All rooms together are one.
    others: usize,
    from: usize,
    to: usize,
}

impl Client {
    /// The room, life and number of each frame that came, with its first byte's number.
    fn frames(&self) -> Vec<(usize, usize, (u64, u64))> {
        let (mut frames, mut at) = (Vec::new(), 0);
        while let Some(&[first, len, a, b, ..]) = self.came.get(at..) {
            assert_eq!(first, 0x81, "not a text at byte {at}");
            let (head, len) = match len {
                126 => (4, usize::from(u16::from_be_bytes([a, b]))),
                len => (2, usize::from(len)),
            };
            let Some(json) = self.came.get(at + head..at + head + len) else { break };
            let frame = Frame::decode(json).unwrap();
            let room = (0..ROOMS).find(|room| name(*room) == frame.room).unwrap();
            frames.push((at, room, (frame.since, frame.seq)));
            at += head + len;
        }
        frames
    }

    fn end_wait(&mut self, room: usize) {
        for wait in self.waits.iter_mut().filter(|wait| wait.room == room) {
            wait.to = wait.to.min(self.written);
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Join { viewer: usize, room: usize },
    Leave { viewer: usize, room: usize },
    JoinAll,
    LeaveAll,
    Show { room: usize, reactions: usize },
    Forget { room: usize },
    Broadcast { room: usize, members: usize },
    Read { viewer: usize, bytes: usize },
    End { viewer: usize },
}

struct Model {
    hall: Hall,
    registry: Arc<Registry>,
    meters: Arc<Meters>,
    clients: Vec<Client>,
    /// By room: the position at which its broadcast goes on.
    walks: [usize; ROOMS],
    /// By room: the life and the number that it shows, and its newest ever.
    shows: [Option<(u64, u64)>; ROOMS],
    newest: [(u64, u64); ROOMS],
}

impl Model {
    fn new() -> Self {
        let meters = Arc::new(Meters::new());
        let registry = Registry::new(Arc::clone(&meters));
        let hall = Hall::new(Arc::clone(&registry), LIMITS);
        let (walks, shows, newest) = ([0; ROOMS], [None; ROOMS], [(0, 0); ROOMS]);
        let mut model = Self { hall, registry, meters, clients: Vec::new(), walks, shows, newest };
        for _ in 0..VIEWERS {
            model.connect();
        }
        model
    }

    /// A viewer whose socket takes some kB.
    fn connect(&mut self) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        for end in [&ours, &theirs] {
            end.set_nonblocking(true).unwrap();
        }
        socket2::SockRef::from(&ours).set_send_buffer_size(1).unwrap();
        let stream = mio::net::TcpStream::from_std(OwnedFd::from(ours).into());
        let seat = self.registry.admit(Protocol::WebSocket, [127, 0, 0, 1].into(), LIMITS).unwrap();
        let key = self.hall.viewers.insert(Viewer::new(stream, seat, 0));
        let (rooms, watches_all, has_ended) = ([false; ROOMS], false, false);
        let (came, written) = (Vec::new(), 0);
        let (shown, waits, joins) = (Vec::new(), Vec::new(), Vec::new());
        let client =
            Client { key, theirs, came, written, rooms, watches_all, has_ended, shown, waits, joins };
        self.clients.push(client);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Join { viewer, room } => self.join(viewer, room),
            Step::Leave { viewer, room } => {
                let client = &mut self.clients[viewer];
                let left = self.hall.with(client.key, |_, _, audience| audience.leave(&name(room))).unwrap();
                assert_eq!(left, client.rooms[room] && !client.has_ended);
                client.rooms[room] = false;
                client.end_wait(room);
            }
            // Only the first viewer: a frame for those of all rooms goes to them at once.
            Step::JoinAll if !self.clients[0].has_ended => {
                self.hall
                    .with(self.clients[0].key, |_, _, audience| audience.join_all(SEND_SNAPSHOT))
                    .unwrap();
                let client = &mut self.clients[0];
                if !std::mem::replace(&mut client.watches_all, true) {
                    client.joins.push((ALL, client.written));
                }
                self.pump(0);
            }
            Step::LeaveAll => {
                self.hall.with(self.clients[0].key, |_, _, audience| audience.leave_all()).unwrap();
                self.clients[0].watches_all = false;
            }
            Step::Show { room, reactions } => self.show(room, reactions),
            Step::Forget { room } => {
                self.registry.forget(&name(room));
                self.hall.forget(&name(room));
                assert_eq!(self.hall.rooms.show(&name(room), None), None);
                self.shows[room] = None;
                for client in &mut self.clients {
                    client.end_wait(room);
                }
            }
            Step::Broadcast { room, members } => self.broadcast(room, members),
            Step::Read { viewer, bytes } => self.read(viewer, bytes),
            Step::End { viewer } if !self.clients[viewer].has_ended => {
                self.hall.end(self.clients[viewer].key, End::Drained, 0, &self.meters);
                self.count(viewer);
                self.clients[viewer].has_ended = true;
            }
            Step::JoinAll | Step::End { .. } => {}
        }
        self.check_places();
    }

    fn join(&mut self, viewer: usize, room: usize) {
        let client = &mut self.clients[viewer];
        if client.has_ended {
            return;
        }
        self.hall
            .with(client.key, |_, _, audience| audience.join(&name(room), SEND_SNAPSHOT))
            .unwrap()
            .unwrap();
        if !std::mem::replace(&mut client.rooms[room], true) {
            client.joins.push((room, client.written));
        }
        self.note_waits(viewer);
        self.pump(viewer);
    }

    fn show(&mut self, room: usize, reactions: usize) {
        let (life, seq) = match self.shows[room] {
            Some((life, seq)) => (life, seq + 1),
            None => (self.newest[room].0 + 1, 1),
        };
        self.newest[room] = (life, seq);
        self.shows[room] = Some((life, seq));
        let frame = frame(room, life, seq, reactions);
        assert_ne!(self.registry.publish(&frame), Published::Stale);
        for client in &mut self.clients {
            client.shown.push((client.written, room, frame.place()));
        }
        assert!(self.hall.offer_to_all(&frame.room, &frame).is_empty());
        self.count(0);
        if let Some(index) = self.hall.rooms.show(&frame.room, Some(Arc::clone(&frame))) {
            self.walks[room] = self.hall.rooms.get(index).unwrap().members.len();
        }
    }

    fn broadcast(&mut self, room: usize, members: usize) {
        let Some(index) = self.hall.rooms.index_of(&name(room)) else { return };
        let Some(frame) = self.hall.rooms.get(index).unwrap().newest.clone() else { return };
        for _ in 0..members {
            let of = self.hall.rooms.get_mut(index).unwrap();
            let Some((member, passed_over)) = of.offer_next(&mut self.walks[room]) else { return };
            self.hall.offer(member, passed_over, &frame).unwrap();
            let viewer = self.clients.iter().position(|client| client.key == member.viewer as usize).unwrap();
            self.count(viewer);
            self.note_waits(viewer);
        }
    }

    /// The client reads some bytes, and its socket takes more.
    fn read(&mut self, viewer: usize, bytes: usize) {
        let client = &mut self.clients[viewer];
        let mut came = vec![0; bytes];
        match client.theirs.read(&mut came) {
            Ok(len) => client.came.extend(&came[..len]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        self.pump(viewer);
    }

    fn pump(&mut self, viewer: usize) {
        let took_all = self.hall.pump(self.clients[viewer].key).unwrap();
        self.count(viewer);
        if let Some(ours) = self.hall.viewers.get(self.clients[viewer].key).filter(|it| !it.is_leaving()) {
            assert_eq!(took_all, ours.blocked_since_ms().is_none(), "the clock of a stall");
        }
    }

    /// All that was written since the last call went to this viewer.
    fn count(&mut self, viewer: usize) {
        let counts = std::mem::take(self.hall.tally.of(Protocol::WebSocket));
        self.clients[viewer].written += counts.sent_bytes as usize;
    }

    /// From when on a frame is due to a viewer.
    fn note_waits(&mut self, viewer: usize) {
        let client = &mut self.clients[viewer];
        let subscriptions = &self.hall.viewers[client.key].subscriptions;
        let others = subscriptions.len() - 1 + usize::from(client.watches_all);
        for subscription in subscriptions {
            let room = self.hall.rooms.get(subscription.place.room).unwrap();
            if let Some(frame) = room.newest.as_ref().filter(|_| subscription.due != Due::Nothing) {
                let room = (0..ROOMS).find(|room| name(*room) == frame.room).unwrap();
                client.waits.push(Wait { room, others, from: client.written, to: usize::MAX });
            }
        }
    }

    /// Every subscription is a member of its room, and every member is a subscription. A subscription or all rooms have the
    /// next turn.
    fn check_places(&self) {
        let mut subscriptions = 0;
        for (key, viewer) in &self.hall.viewers {
            assert!(
                viewer.is_leaving() || viewer.turn as usize <= viewer.subscriptions.len(),
                "nobody's turn"
            );
            for (slot, subscription) in viewer.subscriptions.iter().enumerate() {
                let room = self.hall.rooms.get(subscription.place.room).unwrap();
                let Member { viewer, slot: of, .. } = room.members[subscription.place.position as usize];
                assert_eq!((viewer as usize, of as usize), (key, slot));
                subscriptions += 1;
            }
        }
        let members_of = |room: usize| {
            let index = self.hall.rooms.index_of(&name(room));
            index.map_or(0, |index| self.hall.rooms.get(index).unwrap().members.len())
        };
        assert_eq!((0..ROOMS).map(members_of).sum::<usize>(), subscriptions);
        for room in 0..ROOMS {
            let viewers = self.registry.viewers_of(&name(room));
            assert_eq!(
                viewers,
                members_of(room) as u64,
                "viewers that the registry counts in {}",
                name(room)
            );
        }
    }

    /// Everybody reads until nothing comes any more. Then everybody has what there is.
    fn settle(mut self) {
        let came_of_all =
            |model: &Self| -> usize { model.clients.iter().map(|client| client.came.len()).sum() };
        let mut before = usize::MAX;
        while before != came_of_all(&self) {
            before = came_of_all(&self);
            (0..ROOMS).for_each(|room| self.broadcast(room, usize::MAX));
            (0..VIEWERS).for_each(|viewer| self.read(viewer, 100_000));
        }
        for client in &self.clients {
            let frames = client.frames();
            self.check_newest(client, &frames);
            check_fair(client, &frames);
        }
        for client in &self.clients {
            self.hall.end(client.key, End::Gone, 0, &self.meters);
        }
        assert_eq!((self.hall.viewers.len(), self.hall.rooms.len()), (0, 0), "nothing is left");
    }

    fn check_newest(&self, client: &Client, frames: &[(usize, usize, (u64, u64))]) {
        for room in 0..ROOMS {
            let of_room: Vec<_> = frames.iter().filter(|frame| frame.1 == room).collect();
            assert!(of_room.is_sorted_by_key(|frame| frame.2), "an older frame after a newer one");
            for (written, _, shown) in client.shown.iter().filter(|shown| shown.1 == room) {
                let old = of_room.iter().find(|(start, _, place)| start >= written && place < shown);
                assert_eq!(old, None, "{shown:?} was there when it was begun");
            }
            let watches = !client.has_ended && (client.rooms[room] || client.watches_all);
            if watches && self.shows[room].is_some() {
                let shown = self.registry.snapshot(&name(room)).unwrap().place();
                assert_eq!(of_room.last().map(|frame| frame.2), Some(shown), "what was due was forgotten");
            }
        }
    }
}

/// A room for which a frame is due waits for one turn of each other at the most. A room that is joined meanwhile has its
/// first turn at the end of the round. So each join may add one turn, even of a room that was left after its turn.
fn check_fair(client: &Client, frames: &[(usize, usize, (u64, u64))]) {
    for Wait { room, others, from, to } in &client.waits {
        let sent = frames.iter().find(|(start, of, _)| start >= from && of == room);
        let wait = *from..sent.map_or(*to, |(start, ..)| *start.min(to));
        let came = frames.iter().filter(|(start, ..)| wait.contains(start)).count();
        let joins = client.joins.iter().filter(|(of, at)| of != room && wait.contains(at)).count();
        assert!(
            came <= others + joins,
            "{came} frames of {others} others were sent before {room}'s, in {wait:?} with {joins} joins"
        );
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..VIEWERS, 0..ROOMS).prop_map(|(viewer, room)| Step::Join { viewer, room }),
        1 => (0..VIEWERS, 0..ROOMS).prop_map(|(viewer, room)| Step::Leave { viewer, room }),
        1 => Just(Step::JoinAll),
        1 => prop_oneof![4 => Just(Step::JoinAll), 1 => Just(Step::LeaveAll)],
        8 => (0..ROOMS, prop_oneof![Just(1), Just(60), Just(150)])
            .prop_map(|(room, reactions)| Step::Show { room, reactions }),
        1 => (0..ROOMS).prop_map(|room| Step::Forget { room }),
        8 => (0..ROOMS, 1..4_usize).prop_map(|(room, members)| Step::Broadcast { room, members }),
        8 => (0..VIEWERS, 1..6_000_usize).prop_map(|(viewer, bytes)| Step::Read { viewer, bytes }),
        1 => prop_oneof![9 => Just(Step::JoinAll), 1 => (0..VIEWERS).prop_map(|viewer| Step::End { viewer })],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn each_viewer_gets_the_newest_of_each_room_in_turn(steps in proptest::collection::vec(step(), 0..150)) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
        model.settle();
    }
}

/// How many frames of each room come to a viewer that takes less than one frame a window, and that watches with `join`.
fn slow_viewer_gets(join: impl FnOnce(&mut Model)) -> [usize; ROOMS] {
    let mut model = Model::new();
    join(&mut model);
    for _ in 0..60 {
        for room in 0..ROOMS {
            model.step(Step::Show { room, reactions: 150 });
            model.step(Step::Broadcast { room, members: 1 });
        }
        model.step(Step::Read { viewer: 0, bytes: 4_000 });
    }
    let mut counts = [0; ROOMS];
    for (_, room, _) in model.clients[0].frames() {
        counts[room] += 1;
    }
    model.settle();
    counts
}

#[test]
fn a_slow_viewer_of_several_rooms_gets_frames_of_each() {
    let counts = slow_viewer_gets(|model| {
        (0..ROOMS).for_each(|room| model.step(Step::Join { viewer: 0, room }));
    });
    let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
    assert!(*least > 2 && most - least <= 2, "{counts:?}");
}

#[test]
fn a_slow_viewer_of_a_room_and_of_all_gets_frames_of_each() {
    let counts = slow_viewer_gets(|model| {
        model.step(Step::Join { viewer: 0, room: 0 });
        model.step(Step::JoinAll);
    });
    assert!(counts.iter().all(|count| *count > 1), "{counts:?}");
}

/// Plays a slow viewer of each room and of all rooms, once for each number of rounds before its `steps`.
fn in_any_turn(steps: &[Step]) {
    for before in 4..16 {
        let mut model = Model::new();
        (0..ROOMS).for_each(|room| model.step(Step::Join { viewer: 0, room }));
        model.step(Step::JoinAll);
        for round in 0..24 {
            if round == before {
                steps.iter().for_each(|step| model.step(*step));
            }
            for room in 0..ROOMS {
                model.step(Step::Show { room, reactions: 150 });
                model.step(Step::Broadcast { room, members: 1 });
            }
            model.step(Step::Read { viewer: 0, bytes: 4_000 });
        }
        model.settle();
    }
}

#[test]
fn a_room_keeps_its_turn_when_another_is_left() {
    (0..ROOMS).for_each(|room| in_any_turn(&[Step::Leave { viewer: 0, room }]));
}

#[test]
fn a_room_that_is_joined_again_takes_no_other_turn() {
    for room in 0..ROOMS {
        in_any_turn(&[Step::Leave { viewer: 0, room }, Step::Join { viewer: 0, room }]);
    }
}

#[test]
fn a_stall_is_over_only_when_something_was_taken() {
    let mut model = Model::new();
    model.step(Step::Join { viewer: 0, room: 0 });
    let key = model.clients[0].key;
    // Full to the last byte, so that a frame can't even be begun.
    let ours = &mut model.hall.viewers[key].stream;
    while std::io::Write::write(ours, &[0x8A, 0]).is_ok() {}
    model.hall.now_ms = 1_000;
    model.step(Step::Show { room: 0, reactions: 1 });
    model.step(Step::Broadcast { room: 0, members: 1 });
    let since = |model: &Model| model.hall.viewers[key].blocked_since_ms();
    assert_eq!(since(&model), Some(1_000));
    model.hall.now_ms = 2_000;
    model.pump(0);
    assert_eq!(since(&model), Some(1_000), "nothing was taken meanwhile");
    while model.clients[0].theirs.read(&mut [0; 10_000]).is_ok() {}
    model.pump(0);
    assert_eq!(since(&model), None);
    let mut came = vec![0; 10_000];
    let len = model.clients[0].theirs.read(&mut came).unwrap();
    let json = frame(0, 1, 1, 1).form(Form::Text).clone();
    assert_eq!(came[..len], json);
}
