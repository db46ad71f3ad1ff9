//! The index and its table.
use super::{
    ArchiveError, FollowedWindow, Searched, WindowArchive, WindowIndex, WindowOffsets, WindowQuery,
    index::Written,
};
use crate::conformance;
use std::{fs, io::Write as _, path::Path};
use tempfile::TempDir;
use wire::{Aggregate, RoomName, Window, WindowRecord};

/// One reaction in `room`, in the window that starts at `start`.
fn followed(partition: u32, offset: u64, room: &str, start: u64) -> FollowedWindow {
    let room: RoomName = room.parse().unwrap();
    let window = Window { start, end: start + 1_000 };
    let aggregate = Aggregate { window, ..conformance::counting(&room, offset + 1, partition) };
    FollowedWindow { partition, offset, value: aggregate.encode_window().unwrap().into(), room }
}

fn index() -> (TempDir, WindowIndex) {
    let dir = tempfile::tempdir().unwrap();
    let index = WindowIndex::open(dir.path()).unwrap();
    (dir, index)
}

fn search(
    archive: &dyn WindowArchive,
    room: &str,
    span: std::ops::Range<u64>,
    max_windows: usize,
) -> Result<(Vec<u64>, Searched), ArchiveError> {
    let mut starts = Vec::new();
    let query = WindowQuery { room: &room.parse().unwrap(), partition: 0, span, max_windows };
    let searched = archive.search(&query, &mut |record: WindowRecord| starts.push(record.window.start))?;
    Ok((starts, searched))
}

fn starts(index: &WindowIndex, room: &str) -> Vec<u64> {
    search(&*index.archive(), room, 0..u64::MAX, 1_000).unwrap().0
}

#[test]
fn windows_of_a_room_come_in_the_order_of_their_start_and_within_the_span() {
    let (_dir, mut index) = index();
    let records = [
        followed(0, 0, "a", 3_000),
        followed(0, 1, "b", 3_000),
        // The clock went back.
        followed(0, 2, "a", 1_000),
        followed(1, 0, "c", 9_000),
        followed(0, 3, "a", 5_000),
    ];
    assert_eq!(index.write(&records).unwrap(), Written { windows: 5, alien: 0 });
    assert_eq!(starts(&index, "a"), [1_000, 3_000, 5_000]);
    let archive = index.archive();
    let (found, searched) = search(&*archive, "a", 1_000..5_000, 1_000).unwrap();
    assert_eq!((found, searched.is_known), (vec![1_000, 3_000], true));
    assert_eq!(searched.reached_ms, Some(5_000), "of its own partition");
    let (found, searched) = search(&*archive, "a", 6_000..7_000, 1_000).unwrap();
    assert_eq!((found, searched.is_known), (vec![], true), "known, with nothing in the span");
    assert!(!search(&*archive, "never", 0..u64::MAX, 1_000).unwrap().1.is_known);
}

#[test]
fn more_windows_than_asked_for_are_refused_before_they_are_read() {
    let (_dir, mut index) = index();
    let records: Vec<_> = (0..20).map(|n| followed(0, n, "a", n * 1_000)).collect();
    index.write(&records).unwrap();
    let archive = index.archive();
    assert_eq!(search(&*archive, "a", 0..20_000, 20).unwrap().0.len(), 20);
    let query = WindowQuery { room: &"a".parse().unwrap(), partition: 0, span: 0..20_000, max_windows: 19 };
    let refused = archive.search(&query, &mut |_| panic!("nothing is read"));
    assert!(matches!(refused, Err(ArchiveError::TooMany(19))), "{refused:?}");
}

#[test]
fn what_comes_again_is_not_doubled_also_after_a_restart() {
    let (dir, mut index) = index();
    let records: Vec<_> = (0..4).map(|n| followed(0, n, "a", n * 1_000)).collect();
    assert_eq!(index.write(&records[..3]).unwrap().windows, 3);
    assert_eq!(index.write(&records[1..]).unwrap().windows, 1);
    drop(index);
    let mut index = WindowIndex::open(dir.path()).unwrap();
    assert_eq!(index.offsets().unwrap(), WindowOffsets::from([(0, 4)]));
    assert_eq!(index.write(&records).unwrap(), Written::default());
    assert_eq!(starts(&index, "a").len(), 4);
}

#[test]
fn a_record_that_is_no_window_is_passed_over_and_does_not_come_again() {
    let (_dir, mut index) = index();
    let mut alien = followed(0, 0, "a", 1_000);
    alien.value = "hello".into();
    let strange = FollowedWindow { room: "b".parse().unwrap(), ..followed(0, 1, "a", 1_000) };
    let written = index.write(&[alien, strange, followed(0, 2, "a", 2_000)]).unwrap();
    assert_eq!(written, Written { windows: 1, alien: 2 });
    assert_eq!(index.offsets().unwrap(), WindowOffsets::from([(0, 3)]));
    assert_eq!(starts(&index, "a"), [2_000]);
}

#[test]
fn old_windows_go_in_steps_and_the_offsets_stay() {
    let (_dir, mut index) = index();
    let records: Vec<_> = (0..2_500).map(|n| followed(0, n, "a", n * 1_000)).collect();
    index.write(&records).unwrap();
    let mut steps = 1;
    while index.trim(2_001_000).unwrap() {
        steps += 1;
    }
    assert_eq!(steps, 3);
    let left = search(&*index.archive(), "a", 0..u64::MAX, 10_000).unwrap().0;
    assert_eq!((left.len(), left[0]), (500, 2_000_000), "a window goes when it has ended by then");
    assert_eq!(index.offsets().unwrap(), WindowOffsets::from([(0, 2_500)]));
}

#[test]
fn one_process_at_a_time_has_the_index() {
    let (dir, index) = index();
    let refused = WindowIndex::open(dir.path()).err().unwrap().to_string();
    assert!(refused.contains("another process uses it"), "{refused}");
    drop(index);
    assert!(WindowIndex::open(dir.path()).is_ok());
}

fn overwrite(path: &Path) {
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(&[0xa5; 8_192]).unwrap();
}

#[test]
fn a_lost_or_damaged_file_begins_again_without_a_window() {
    let (dir, mut index) = index();
    index.write(&[followed(0, 7, "a", 1_000)]).unwrap();
    drop(index);
    overwrite(&dir.path().join("history.db"));
    let mut index = WindowIndex::open(dir.path()).unwrap();
    assert_eq!(index.offsets().unwrap(), WindowOffsets::new());
    index.write(&[followed(0, 7, "a", 1_000)]).unwrap();
    let index = index.rebuild().unwrap();
    assert!(starts(&index, "a").is_empty());
    drop(index);
    fs::remove_file(dir.path().join("history.db")).unwrap();
    assert_eq!(WindowIndex::open(dir.path()).unwrap().offsets().unwrap(), WindowOffsets::new());
}

#[test]
fn the_database_of_another_program_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let other = rusqlite::Connection::open(dir.path().join("history.db")).unwrap();
    other.execute_batch("create table precious (x)").unwrap();
    drop(other);
    let refused = WindowIndex::open(dir.path()).err().unwrap().to_string();
    assert!(refused.contains("another program"), "{refused}");
}
