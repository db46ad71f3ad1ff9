//! Cases: whatever is done in whatever order, the files hold what a model of the log holds.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    /// Partition and bytes of each record, handed over together.
    Append(Vec<(u32, usize)>),
    /// By partition, how much of what is not rolled up; room and bytes of its aggregate, or a tombstone.
    Commit(Vec<prop::sample::Index>, Vec<(u32, u8, Option<usize>)>),
    Clock(u64),
    Copy,
    Restart,
    /// Restarts from the files as they are.
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = prop::collection::vec((0..2u32, 0..20_000usize), 1..20).prop_map(Step::Append);
    let aggregate = (0..2u32, 0..6u8, prop::option::of(0..5_000usize));
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 2);
    let commit =
        (cuts, prop::collection::vec(aggregate, 0..12)).prop_map(|(cuts, rooms)| Step::Commit(cuts, rooms));
    let step = prop_oneof![
        6 => append,
        4 => commit,
        3 => (0..40_000u64).prop_map(Step::Clock),
        2 => Just(Step::Copy),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..30)
}

/// What the log has to hold, by partition.
#[derive(Default)]
struct Model {
    records: [Vec<Record>; 2],
    committed: [u64; 2],
    newest: BTreeMap<(u32, RoomName), Bytes>,
}

impl Model {
    fn append(&mut self, now_ms: u64, appends: &[(u32, usize)]) -> Vec<crate::Append> {
        let mut to_send = Vec::new();
        for (partition, len) in appends {
            let records = &mut self.records[*partition as usize];
            let value = Bytes::from(vec![records.len() as u8; *len]);
            let offset = records.len() as u64;
            records.push(Record { offset, timestamp_ms: now_ms, value: value.clone() });
            let done: crate::Done = Box::new(|result| result.unwrap());
            to_send.push(crate::Append { partition: *partition, value, done });
        }
        to_send
    }

    fn commit(
        &mut self,
        epoch: u64,
        cuts: &[prop::sample::Index],
        rooms: &[(u32, u8, Option<usize>)],
    ) -> Vec<Cut> {
        let cut = |(partition, cut): (usize, &prop::sample::Index)| {
            let (start, end) = (self.committed[partition], self.records[partition].len() as u64);
            self.committed[partition] = start + cut.index((end - start) as usize + 1) as u64;
            let mut aggregates = Vec::new();
            for (_, room, len) in rooms.iter().filter(|(of, ..)| *of as usize == partition) {
                let room: RoomName = format!("room-{room}").parse().unwrap();
                let value = len.map(|len| Bytes::from(vec![self.committed[partition] as u8; len]));
                match &value {
                    Some(value) => drop(self.newest.insert((partition as u32, room.clone()), value.clone())),
                    None => drop(self.newest.remove(&(partition as u32, room.clone()))),
                }
                aggregates.push((room, value));
            }
            Cut {
                partition: partition as u32,
                epoch,
                next_offset: self.committed[partition],
                aggregates,
                windows: Vec::new(),
            }
        };
        cuts.iter().enumerate().map(cut).collect()
    }

    /// All that is not rolled up is there, and before that what is left has no gap.
    fn check(&self, dir: &Path) {
        let conn = database::reader(&dir.join(reactions::FILE)).unwrap();
        for (partition, records) in (0..).zip(&self.records) {
            let left = reactions::read(&conn, partition, 0..u64::MAX >> 1, usize::MAX).unwrap();
            assert_eq!(left[..], records[records.len() - left.len()..], "partition {partition}");
            let trimmed = (records.len() - left.len()) as u64;
            assert!(trimmed <= self.committed[partition as usize], "{trimmed} of partition {partition}");
            assert!(records.is_empty() || !left.is_empty(), "the newest record of partition {partition}");
        }
        let conn = database::reader(&dir.join(rollup::FILE)).unwrap();
        assert_eq!(rollup::committed(&conn, 2).unwrap().offsets, self.committed);
        let newest = rollup::newest(&conn).unwrap().1.into_iter();
        let newest: BTreeMap<_, _> = newest.map(|it| ((it.partition, it.room), it.value)).collect();
        assert!(newest == self.newest, "{newest:?}");
    }
}

async fn run(steps: Vec<Step>) {
    let (mut dir, hand, mut model) = (TempDir::new().unwrap(), Hand::default(), Model::default());
    hand.set(100_000);
    let mut log = open_at(&dir, 2, &hand).await;
    for step in steps {
        match step {
            Step::Append(appends) => {
                let writer = log.writer().await.unwrap();
                writer.send(model.append(hand.0.load(Ordering::Relaxed), &appends));
                writer.flush(Duration::from_secs(30)).await;
            }
            Step::Commit(cuts, rooms) => {
                let reader = Reader::open(&log).await;
                for (partition, records) in (0..).zip(&model.records) {
                    let committed = model.committed[partition as usize] as usize;
                    let open = reader.records.get(&partition).map_or(&[][..], |records| records);
                    assert_eq!(open, &records[committed..], "partition {partition}");
                }
                let cuts = model.commit(reader.epoch, &cuts, &rooms);
                reader.committer.commit(cuts).await.unwrap();
            }
            Step::Clock(forward_ms) => {
                // Sometimes back.
                let now_ms = hand.0.load(Ordering::Relaxed);
                hand.set((now_ms + forward_ms).saturating_sub(10_000));
            }
            Step::Copy => {
                let conn = beside(dir.path(), reactions::FILE);
                checkpoint::copy(&conn).unwrap();
            }
            Step::Restart => {
                drop(log);
                log = open_at(&dir, 2, &hand).await;
            }
            Step::Kill => {
                let left = copy_of(dir.path());
                drop(log);
                dir = left;
                log = open_at(&dir, 2, &hand).await;
            }
        }
        model.check(dir.path());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_files_hold_what_was_acknowledged(steps in steps()) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(run(steps));
    }
}
