//! Cases: what is kept of aggregates, and what goes.

use super::*;
use proptest::prelude::*;
use redb::Database;
use store::Committed;

/// A store of two partitions in a file.
fn prepare(dir: &TempDir) -> (Store, Committed) {
    Store::prepare(Database::create(dir.path().join("log.redb")).unwrap(), 2).unwrap()
}

fn cut(partition: u32, aggregates: Vec<(RoomName, Option<Bytes>)>) -> Cut {
    Cut { partition, epoch: 0, next_offset: 0, aggregates }
}

/// By partition and room, the number of the commit and the value.
type Model = BTreeMap<(u32, RoomName), (u64, Bytes)>;

fn newest(store: &Store) -> (u64, Model) {
    let (next_commit, newest) = store.newest().unwrap();
    (next_commit, newest.into_iter().map(|it| ((it.partition, it.room), (it.commit, it.value))).collect())
}

#[derive(Debug, Clone)]
enum Step {
    /// Partition, room, bytes of its aggregate or a tombstone.
    Commit(Vec<(u32, u8, Option<usize>)>),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = prop_oneof![1 => Just(None), 4 => (0..80_000usize).prop_map(Some)];
    let commit = prop::collection::vec((0..2u32, 0..12u8, bytes), 0..12).prop_map(Step::Commit);
    prop::collection::vec(prop_oneof![8 => commit, 1 => Just(Step::Reopen)], 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_newest_aggregate_of_each_room_is_kept_and_little_else(steps in steps()) {
        let dir = TempDir::new().unwrap();
        let (mut store, mut committed) = prepare(&dir);
        let mut model = Model::new();
        for step in steps {
            match step {
                Step::Commit(said) => {
                    let number = committed.next_commit;
                    let said: Vec<_> = said
                        .into_iter()
                        .map(|(partition, room, len)| {
                            (partition, format!("room-{room}").parse().unwrap(), len.map(|len| vec![number as u8; len].into()))
                        })
                        .collect();
                    let cuts: Vec<_> = said.iter().map(|(partition, room, value): &(_, RoomName, Option<Bytes>)| {
                        cut(*partition, vec![(room.clone(), value.clone())])
                    }).collect();
                    store.commit(&mut committed, &cuts).unwrap();
                    for (partition, room, value) in said {
                        match value {
                            Some(value) => drop(model.insert((partition, room), (number, value))),
                            None => drop(model.remove(&(partition, room))),
                        }
                    }
                }
                Step::Reopen => {
                    let before = committed;
                    drop(store);
                    (store, committed) = prepare(&dir);
                    prop_assert_eq!(&committed, &before, "what is known of the file is what is in it");
                }
            }
            prop_assert_eq!(newest(&store), (committed.next_commit, model.clone()));
            let (bytes, live) = committed.live.bytes();
            prop_assert!(bytes <= 3 * live + (2 << 20), "{} bytes for {}", bytes, live);
        }
    }
}

#[test]
fn a_room_that_rests_is_kept_while_others_go_on_and_the_file_stays_small() {
    let dir = TempDir::new().unwrap();
    let (store, mut committed) = prepare(&dir);
    let rests = cut(1, vec![(room("rests"), Some("kept".into()))]);
    store.commit(&mut committed, &[rests]).unwrap();
    for n in 0..400u32 {
        let value = Bytes::from(vec![n as u8; 20_000]);
        store.commit(&mut committed, &[cut(0, vec![(room(&format!("r{}", n % 5)), Some(value))])]).unwrap();
    }
    let (_, model) = newest(&store);
    assert_eq!((model.len(), &model[&(1, room("rests"))]), (6, &(0, "kept".into())));
    // 8 MB went through it.
    let (bytes, live) = committed.live.bytes();
    assert!(bytes < 1_400_000 && live < 110_000, "{bytes} bytes for {live}");
}

#[test]
fn a_window_that_is_followed_by_another_of_the_same_rooms_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let (store, mut committed) = prepare(&dir);
    for _ in 0..5 {
        let aggregates = (0..5_000).map(|n| (room(&format!("room-{n}")), Some(vec![1; 200].into())));
        store.commit(&mut committed, &[cut(0, aggregates.collect())]).unwrap();
    }
    // The last block of the one before is the first to go when the next is written.
    let (bytes, live) = committed.live.bytes();
    assert!(bytes == live && live > 1_000_000, "{bytes} bytes for {live}");
}
