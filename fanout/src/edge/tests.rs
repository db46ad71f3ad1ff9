//! Whatever joins, leaves and shows in whatever order: everybody is offered each newest frame once.

use super::{
    hall::Hall,
    rooms::{Member, Place, Rooms},
    speech::{How, Snapshot},
    viewer::Viewer,
};
use crate::{
    frames::Encoded,
    metrics::{Meters, Protocol},
    registry::{Limits, Published, Registry},
    tests::harness::aggregate,
};
use proptest::prelude::*;
use std::{collections::HashMap, sync::Arc};
use wire::{Aggregate, RoomName};

const LIMITS: Limits = Limits { max_viewers: 100, max_viewers_per_address: 0, max_rooms_watched: 100 };
const ROOMS: usize = 2;

#[derive(Debug, Clone, Copy)]
enum Step {
    Join {
        room: usize,
    },
    Leave {
        any: usize,
    },
    Show {
        room: usize,
    },
    Forget {
        room: usize,
    },
    /// So many members are offered what a room shows.
    Broadcast {
        room: usize,
        members: usize,
    },
}

/// What a member should have been offered.
#[derive(Debug, Default)]
struct Told {
    place: Option<Place>,
    /// The frame that its room showed when it joined, or that it was offered last.
    seq: u64,
    offered: usize,
    passed_over: u64,
    /// Frames shown since it joined.
    shown: u64,
}

/// Rooms, the way in which a shard works on them, and what each member was told.
struct Model {
    registry: Arc<Registry>,
    rooms: Rooms,
    names: [RoomName; ROOMS],
    told: HashMap<u32, (usize, Told)>,
    /// By room: the frame that is under way, and the position to go on at.
    walks: [Option<usize>; ROOMS],
    seqs: [u64; ROOMS],
    joined: u32,
}

impl Model {
    fn new() -> Self {
        let registry = Registry::new(Arc::new(Meters::new()));
        Self {
            rooms: Rooms::new(Arc::clone(&registry)),
            registry,
            names: ["a", "b"].map(|name| name.parse().unwrap()),
            told: HashMap::new(),
            walks: [None; ROOMS],
            seqs: [0; ROOMS],
            joined: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Join { room } => {
                let viewer = self.joined;
                self.joined += 1;
                let place = self.rooms.join(&self.names[room], (viewer, 0), LIMITS).unwrap();
                let seq = self.seqs[room];
                self.told.insert(viewer, (room, Told { place: Some(place), seq, ..Told::default() }));
            }
            Step::Leave { any } => {
                let mut viewers: Vec<_> = self.told.keys().copied().collect();
                viewers.sort_unstable();
                if let Some(viewer) = viewers.get(any % viewers.len().max(1)) {
                    self.leave(*viewer);
                }
            }
            Step::Show { room } => self.show(room),
            Step::Forget { room } => {
                self.registry.forget(&self.names[room]);
                assert_eq!(self.rooms.show(&self.names[room], None), None);
                self.walks[room] = None;
            }
            Step::Broadcast { room, members } => self.broadcast(room, members),
        }
        self.check_places();
    }

    fn leave(&mut self, viewer: u32) {
        let (room, told) = self.told.remove(&viewer).unwrap();
        let place = told.place.unwrap();
        if let Some(Member { viewer: moved, .. }) = self.rooms.leave(place) {
            self.told.get_mut(&moved).unwrap().1.place = Some(place);
        }
        if !self.told.values().any(|(other, _)| *other == room) {
            self.walks[room] = None;
        }
    }

    fn show(&mut self, room: usize) {
        self.seqs[room] += 1;
        let frame = Arc::new(Encoded::of(&aggregate(&self.names[room], self.seqs[room]), 10));
        assert_ne!(self.registry.publish(&frame), Published::Stale);
        let index = self.rooms.show(&self.names[room], Some(frame));
        let mut members = 0;
        for (_, told) in self.told.values_mut().filter(|(other, _)| *other == room) {
            told.shown += 1;
            members += 1;
        }
        assert_eq!(index.is_some(), members > 0, "a room is here while somebody watches it");
        self.walks[room] = index.map(|_| members);
    }

    fn broadcast(&mut self, room: usize, members: usize) {
        let Some(mut next) = self.walks[room] else { return };
        let index = self.rooms.index_of(&self.names[room]).unwrap();
        for _ in 0..members {
            let Some((member, passed_over)) = self.rooms.get_mut(index).unwrap().offer_next(&mut next) else {
                break;
            };
            let (of, told) = self.told.get_mut(&member.viewer).expect("who has left is offered nothing");
            assert_eq!(*of, room, "a frame of another room");
            assert!(told.seq < self.seqs[room], "offered twice");
            (told.seq, told.offered) = (self.seqs[room], told.offered + 1);
            told.passed_over += u64::from(passed_over);
        }
        self.walks[room] = Some(next);
    }

    /// Every member is where it is said to be, and nobody else is there.
    fn check_places(&self) {
        for (viewer, (room, told)) in &self.told {
            let place = told.place.unwrap();
            assert_eq!(self.rooms.index_of(&self.names[*room]), Some(place.room));
            let member = self.rooms.get(place.room).unwrap().members[place.position as usize];
            assert_eq!(member.viewer, *viewer);
        }
        let seats: usize = (0..ROOMS)
            .filter_map(|room| self.rooms.index_of(&self.names[room]))
            .map(|index| self.rooms.get(index).unwrap().members.len())
            .sum();
        assert_eq!(seats, self.told.len());
    }

    /// All broadcasts come to their end: everybody was offered what its room shows.
    fn settle(mut self) {
        for room in 0..ROOMS {
            self.show(room);
            self.broadcast(room, usize::MAX);
        }
        for (room, told) in self.told.values() {
            assert_eq!(told.seq, self.seqs[*room], "missed the newest");
            assert_eq!(
                told.offered as u64 + told.passed_over,
                told.shown,
                "each frame was offered or counted"
            );
        }
        for viewer in self.told.keys().copied().collect::<Vec<_>>() {
            self.leave(viewer);
        }
        assert_eq!(self.rooms.len(), 0, "nobody watches, nothing is left");
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..ROOMS).prop_map(|room| Step::Join { room }),
        3 => any::<usize>().prop_map(|any| Step::Leave { any }),
        3 => (0..ROOMS).prop_map(|room| Step::Show { room }),
        1 => (0..ROOMS).prop_map(|room| Step::Forget { room }),
        6 => (0..ROOMS, 0..4_usize).prop_map(|(room, members)| Step::Broadcast { room, members }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn each_newest_frame_is_offered_to_each_member_once(steps in proptest::collection::vec(step(), 0..80)) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
        model.settle();
    }
}

#[test]
fn frames_that_the_room_itself_skipped_are_counted_as_passed_over() {
    let mut model = Model::new();
    model.step(Step::Join { room: 0 });
    model.show(0);
    model.broadcast(0, 1);
    model.seqs[0] += 5;
    model.told.get_mut(&0).unwrap().1.shown += 5;
    model.settle();
}

/// The first frame of a room's next life.
fn next_life(room: &RoomName) -> Arc<Encoded> {
    let first = aggregate(room, 1);
    Arc::new(Encoded::of(&Aggregate { since: first.since + 60_000, ..first }, 10))
}

#[test]
fn a_room_that_is_told_late_that_it_was_forgotten_goes_on_showing_its_next_life() {
    let mut model = Model::new();
    let room = model.names[0].clone();
    model.show(0);
    model.registry.forget(&room);
    assert_eq!(model.registry.publish(&next_life(&room)), Published::Unwatched);
    model.step(Step::Join { room: 0 });
    assert_eq!(model.rooms.show(&room, None), None, "it is what the viewer's snapshot shows");
    let index = model.rooms.index_of(&room).unwrap();
    assert!(model.rooms.get(index).unwrap().newest.is_some(), "for who joins now");
}

#[test]
fn a_next_life_that_shows_before_the_room_is_told_that_it_was_forgotten_is_offered_once() {
    let mut model = Model::new();
    let room = model.names[0].clone();
    model.show(0);
    model.step(Step::Join { room: 0 });
    let frame = next_life(&room);
    model.registry.forget(&room);
    assert_eq!(model.registry.publish(&frame), Published::Watched);
    let shown = [None, Some(frame)].map(|frame| model.rooms.show(&room, frame));
    let index = model.rooms.index_of(&room);
    assert_eq!(shown, [index, None], "with the news that is first, and not again");
    let room = model.rooms.get_mut(index.unwrap()).unwrap();
    assert_eq!(room.newest.as_ref().map(|newest| newest.id()), Some(next_life(&"a".parse().unwrap()).id()));
    assert!(room.offer_next(&mut room.members.len()).is_some());
}

/// A shard's hall with one viewer, who has joined the room and was given nothing yet; and the viewer's end.
fn hall_of_one(room: &RoomName) -> (Hall, usize, std::net::TcpStream) {
    let registry = Registry::new(Arc::new(Meters::new()));
    registry.publish(&Arc::new(Encoded::of(&aggregate(room, 1), 10)));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = listener.accept().unwrap().0;
    ours.set_nonblocking(true).unwrap();
    let seat = registry.admit(Protocol::WebSocket, [127, 0, 0, 1].into(), LIMITS).unwrap();
    let mut hall = Hall::new(registry, LIMITS);
    let key = hall.viewers.insert(Viewer::new(mio::net::TcpStream::from_std(ours), seat, 0));
    let how = How { snapshot: Snapshot::Send, retain_as_published: false };
    hall.with(key, |_, _, audience| audience.join(room, how)).unwrap().unwrap();
    (hall, key, theirs)
}

/// The next step of a broadcast.
fn offer(hall: &mut Hall, index: u32, frame: &Encoded) {
    let room = hall.rooms.get_mut(index).unwrap();
    if let Some((member, passed_over)) = room.offer_next(&mut room.members.len()) {
        hall.offer(member, passed_over, frame).unwrap();
    }
}

#[test]
fn who_takes_what_was_due_before_a_broadcast_comes_to_it_gets_the_frame_once() {
    let room: RoomName = "a".parse().unwrap();
    let (mut hall, key, mut theirs) = hall_of_one(&room);
    let frames = [2, 3, 4].map(|seq| Arc::new(Encoded::of(&aggregate(&room, seq), 10)));
    let [second, third, fourth] = &frames;
    let index = hall.rooms.show(&room, Some(Arc::clone(second))).unwrap();
    // It gets the second frame in place of its snapshot ...
    assert!(hall.pump(key).unwrap());
    offer(&mut hall, index, second);
    // ... and the fourth in place of the third, which its socket did not take.
    hall.viewers[key].block(0);
    hall.rooms.show(&room, Some(Arc::clone(third))).unwrap();
    offer(&mut hall, index, third);
    hall.rooms.show(&room, Some(Arc::clone(fourth))).unwrap();
    assert!(hall.pump(key).unwrap());
    offer(&mut hall, index, fourth);
    let counts = std::mem::take(hall.tally.of(Protocol::WebSocket));
    assert_eq!((counts.deliveries, counts.skipped), (2, 2), "the first and the third are passed over");
    drop(hall);
    let mut came = Vec::new();
    std::io::Read::read_to_end(&mut theirs, &mut came).unwrap();
    let text = crate::frames::Form::Text;
    assert!(came == [&second.form(text)[..], &fourth.form(text)[..]].concat(), "each once");
}
