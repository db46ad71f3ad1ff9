//! Cases: logs that earlier versions wrote.

use super::*;
use crate::history::History;
use journal::{Journal, Mark};
use redb::{Database, TableDefinition, WriteTransaction};
use row::Group;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const GROUPS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("groups");
const OFFSETS: TableDefinition<'_, u32, (u64, u64)> = TableDefinition::new("offsets");
const MARKS: TableDefinition<'_, u64, Vec<u64>> = TableDefinition::new("marks");
const BY_ROOM: TableDefinition<'_, &str, (u32, u64, &[u8])> = TableDefinition::new("aggregates");
const BY_BYTES: ByBytes = TableDefinition::new("aggregates");
const BY_TEXT: TableDefinition<'_, (u32, &str), (u64, &[u8])> = TableDefinition::new("newest");
const COMMITTED: TableDefinition<'_, u32, u64> = TableDefinition::new("committed");

type ByBytes = TableDefinition<'static, (u32, &'static [u8]), (u64, &'static [u8])>;

/// Two partitions; groups before the sixth are trimmed. Of partition 0 there are offsets 4 to 6, of which 4 is rolled up; of
/// partition 1 none are left of 3.
const ROWS: [(u64, &[u8]); 2] = [
    (6, b"\x01\x70\x17\0\0\0\0\0\0\x01\0\x04\x01\x01a\x04four"),
    (7, b"\x02\x58\x1b\0\0\0\0\0\0\x01\0\x05\x02\x04five\x03six"),
];

pub(super) fn write(dir: &TempDir, format: u64) {
    let db = Database::create(dir.path().join("log.redb")).unwrap();
    let tx = db.begin_write().unwrap();
    let mut meta = tx.open_table(META).unwrap();
    for (key, value) in [("format", format), ("partitions", 2), ("next_commit", 4)] {
        meta.insert(key, value).unwrap();
    }
    drop(meta);
    for (room, partition, value) in [("c", 0, b"C"), ("a", 1, b"A"), ("b", 0, b"B")] {
        let value = (3, &value[..]);
        match format {
            1 => drop(tx.open_table(BY_ROOM).unwrap().insert(room, (partition, value.0, value.1)).unwrap()),
            2 => drop(tx.open_table(BY_TEXT).unwrap().insert((partition, room), value).unwrap()),
            _ => drop(tx.open_table(BY_BYTES).unwrap().insert((partition, room.as_bytes()), value).unwrap()),
        }
    }
    if format < 3 {
        write_rows(&tx);
    } else {
        write_journal(&tx, dir);
    }
    tx.commit().unwrap();
    if format < 3 {
        // An upgrade that was cut short left this.
        let segments = dir.path().join("reactions");
        std::fs::create_dir(&segments).unwrap();
        std::fs::write(segments.join("00000000000000000003.log"), "half").unwrap();
    }
}

/// Reactions are in the database.
fn write_rows(tx: &WriteTransaction) {
    let mut groups = tx.open_table(GROUPS).unwrap();
    ROWS.iter().for_each(|(number, row)| drop(groups.insert(number, *row).unwrap()));
    let mut offsets = tx.open_table(OFFSETS).unwrap();
    offsets.insert(0, (7, 5)).unwrap();
    offsets.insert(1, (3, 3)).unwrap();
    tx.open_table(MARKS).unwrap();
}

/// Reactions are in segments.
fn write_journal(tx: &WriteTransaction, dir: &TempDir) {
    let segments = dir.path().join("reactions");
    std::fs::create_dir(&segments).unwrap();
    let start = Mark { group: 6, timestamp_ms: 0, offsets: vec![4, 3] };
    let mut journal = Journal::create(&segments, start, Medium::default()).unwrap();
    for (_, row) in ROWS {
        journal.append(&Group::decode(Bytes::from_static(row)).unwrap()).unwrap();
    }
    let mut committed = tx.open_table(COMMITTED).unwrap();
    committed.insert(0, 5).unwrap();
    committed.insert(1, 3).unwrap();
}

#[tokio::test]
async fn a_log_of_an_earlier_format_keeps_all_it_had() {
    for format in 1..=3 {
        let (dir, hand) = (TempDir::new().unwrap(), Hand::default());
        write(&dir, format);
        for round in 0..2u64 {
            let log = open_at(&dir, 2, &hand).await;
            let (next_commit, newest) = log.shared.store.newest().unwrap();
            let newest: Vec<_> =
                newest.iter().map(|row| (&*row.room, row.partition, row.commit, &row.value[..])).collect();
            assert_eq!((next_commit, log.shared.tail.look().unwrap().groups.next()), (4, 8 + round));
            assert_eq!(newest, [("b", 0, 3, &b"B"[..]), ("c", 0, 3, b"C"), ("a", 1, 3, b"A")]);
            append(&log, 1, "new").await;
            let reader = Reader::open(&log).await;
            assert_eq!(reader.starts, [(0, 5), (1, 3)].into());
            let record = |(offset, value): (u64, &'static str)| Record {
                offset,
                timestamp_ms: 7_000,
                value: value.into(),
            };
            assert_eq!(reader.records[&0], [(5, "five"), (6, "six")].map(record));
            assert_eq!(reader.records[&1], [(3, "new"), (4, "new")].map(record)[..=round as usize]);
        }
        // What was rolled up already is there for auditors.
        let history = EmbeddedHistory::open(&config(&dir)).unwrap();
        let span = history.span(0).unwrap();
        assert_eq!((span.reactions.clone(), span.committed), (4..7, Some(5)));
        assert_eq!(history.reactions(0, &span).unwrap().count(), 3);
    }
}

#[tokio::test]
async fn an_auditor_changes_no_log_and_says_what_to_do_with_one_of_an_earlier_format() {
    for format in 1..=3 {
        let dir = TempDir::new().unwrap();
        write(&dir, format);
        let before = std::fs::read(dir.path().join("log.redb")).unwrap();
        let refused = EmbeddedHistory::open(&config(&dir)).err().unwrap().to_string();
        assert!(refused.contains("an earlier version wrote it: start this version on it once"), "{refused}");
        assert!(std::fs::read(dir.path().join("log.redb")).unwrap() == before);
    }
}
