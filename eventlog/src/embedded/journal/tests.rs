//! Cases of the journal alone: what a crash leaves, and what damage is.

use super::{super::row::Part, *};
use bytes::Bytes;
use proptest::prelude::*;
use std::{collections::VecDeque, sync::Mutex};
use tempfile::TempDir;

fn small() -> Medium {
    Medium { segment_bytes: 300, ..Medium::default() }
}

fn create(dir: &TempDir) -> Journal {
    Journal::create(dir.path(), Mark::zero(1), small()).unwrap()
}

fn open(dir: &TempDir) -> Result<Option<Journal>, JournalError> {
    Journal::open(dir.path(), small())
}

/// Adds a group of one record.
fn append(journal: &mut Journal, value: &[u8]) {
    let records = vec![Bytes::copy_from_slice(value)];
    let part = Part { partition: 0, first_offset: journal.end().offsets[0], records };
    journal.append(&Group { timestamp_ms: journal.end().group, parts: vec![part] }).unwrap();
}

fn values(shelf: &Arc<Shelf>) -> Result<Vec<Bytes>, JournalError> {
    let groups = Reader::new(Arc::clone(shelf), 0).read(usize::MAX)?;
    Ok(groups.into_iter().map(|(_, group)| group.parts[0].records[0].clone()).collect())
}

/// The files, in order.
fn files(dir: &TempDir) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// Where the last frame of a file ends.
fn end(file: &Path) -> usize {
    fs::read(file).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn what_was_appended_is_read_again_in_steps_of_any_size_and_over_restarts(
        rows in prop::collection::vec(prop_oneof![Just(None), prop::collection::vec(1..=255u8, 1..200).prop_map(Some)], 0..40),
        step in 1..500usize,
    ) {
        let dir = TempDir::new().unwrap();
        let mut journal = create(&dir);
        let mut expected = Vec::new();
        for row in rows {
            match row {
                Some(value) => {
                    append(&mut journal, &value);
                    expected.push(value);
                }
                None => {
                    let end = journal.end().clone();
                    drop(journal);
                    journal = open(&dir).unwrap().unwrap();
                    prop_assert_eq!(journal.end(), &end);
                }
            }
        }
        let (mut reader, mut read) = (Reader::new(Arc::clone(journal.shelf()), 0), Vec::new());
        loop {
            let groups = reader.read(step).unwrap();
            if groups.is_empty() {
                break;
            }
            read.extend(groups.into_iter().map(|(number, group)| (number, group.parts[0].records[0].clone())));
        }
        prop_assert!(read.into_iter().eq((0..).zip(expected.into_iter().map(Bytes::from))));
    }

    #[test]
    fn a_last_frame_that_is_torn_was_never_acknowledged(torn in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let dir = TempDir::new().unwrap();
        let mut journal = create(&dir);
        append(&mut journal, b"kept");
        let kept = end(&files(&dir)[0]);
        append(&mut journal, &[7; 100]);
        drop(journal);
        let path = &files(&dir)[0];
        let mut bytes = fs::read(path).unwrap();
        bytes[kept..][torn.index(end(path) - kept)] ^= flip;
        fs::write(path, bytes).unwrap();

        let mut journal = open(&dir).unwrap().unwrap();
        prop_assert_eq!(journal.end().group, 1);
        append(&mut journal, b"new");
        drop(journal);
        let journal = open(&dir).unwrap().unwrap();
        prop_assert_eq!(values(journal.shelf()).unwrap(), ["kept", "new"]);
    }
}

#[test]
fn damage_before_the_last_frame_is_an_error_and_nothing_is_cut_off() {
    let dir = TempDir::new().unwrap();
    let mut journal = create(&dir);
    append(&mut journal, b"damaged");
    let at = end(&files(&dir)[0]) - 1;
    append(&mut journal, b"acknowledged");
    drop(journal);
    let path = &files(&dir)[0];
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, &bytes).unwrap();
    let refused = open(&dir).err().unwrap().to_string();
    assert!(refused.contains("00000000000000000000.log is damaged at byte"), "{refused}");
    assert!(fs::read(path).unwrap() == bytes);
}

#[test]
fn a_group_that_does_not_follow_the_one_before_is_an_error_when_it_is_written_and_when_it_is_found() {
    let dir = TempDir::new().unwrap();
    let mut journal = create(&dir);
    append(&mut journal, b"first");
    let part = Part { partition: 0, first_offset: 7, records: vec![Bytes::from_static(b"after a gap")] };
    let written = journal.append(&Group { timestamp_ms: 1, parts: vec![part] }).err();
    assert!(matches!(written, Some(JournalError::Broken { .. })), "{written:?}");
    drop(journal);
    let found = open(&dir).err();
    assert!(matches!(found, Some(JournalError::Broken { .. })), "{found:?}");
}

#[test]
fn damage_in_an_older_segment_is_found_when_it_is_read() {
    let dir = TempDir::new().unwrap();
    let mut journal = create(&dir);
    (0..9).for_each(|n| append(&mut journal, &[n; 100]));
    drop(journal);
    let path = &files(&dir)[1];
    let mut bytes = fs::read(path).unwrap();
    let at = end(path) - 1;
    bytes[at] ^= 1;
    fs::write(path, &bytes).unwrap();
    let journal = open(&dir).unwrap().unwrap();
    assert!(matches!(values(journal.shelf()), Err(JournalError::Broken { .. })));
    fs::remove_file(path).unwrap();
    assert!(matches!(values(journal.shelf()), Err(JournalError::Io { .. })));
}

#[test]
fn a_segment_whose_making_was_cut_short_is_made_anew() {
    let dir = TempDir::new().unwrap();
    let mut journal = create(&dir);
    append(&mut journal, &[1; 200]);
    append(&mut journal, &[2; 200]);
    drop(journal);
    let [first, second] = &files(&dir)[..] else { panic!("{:?}", files(&dir)) };
    for left in [&[][..], &[0; 50], b"\xf5up\x01"] {
        fs::write(second, left).unwrap();
        let mut journal = open(&dir).unwrap().unwrap();
        assert_eq!((journal.end().group, files(&dir)), (1, vec![first.clone()]));
        append(&mut journal, &[3; 200]);
        assert_eq!(values(journal.shelf()).unwrap(), [[1u8; 200], [3; 200]].map(|value| value.to_vec()));
    }
    // The first of all.
    fs::remove_file(second).unwrap();
    fs::write(first, "").unwrap();
    assert!(open(&dir).unwrap().is_none());
}

#[test]
fn segments_are_left_alone_by_those_who_only_look() {
    let dir = TempDir::new().unwrap();
    let mut journal = create(&dir);
    (0..9).for_each(|n| append(&mut journal, &[n; 100]));
    let expected = values(journal.shelf()).unwrap();
    let mut before: Vec<_> = files(&dir).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    drop(journal);
    let unfinished = dir.path().join("00000000000000000009.log");
    fs::write(&unfinished, "").unwrap();
    before.push((Vec::new(), unfinished));
    let (shelf, end) = left(dir.path()).unwrap().unwrap();
    assert_eq!((values(&shelf).unwrap(), end.group), (expected, 9));
    let after: Vec<_> = files(&dir).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    assert!(before == after);
}

#[test]
fn a_reader_is_given_nothing_that_is_not_synced() {
    let dir = TempDir::new().unwrap();
    let seen: Arc<Mutex<VecDeque<usize>>> = Arc::default();
    let shelf: Arc<Mutex<Option<Arc<Shelf>>>> = Arc::default();
    let (into, look) = (Arc::clone(&seen), Arc::clone(&shelf));
    let sync = move |_: &File| {
        if let Some(shelf) = &*look.lock().unwrap() {
            into.lock().unwrap().push_back(values(shelf).unwrap().len());
        }
        Ok(())
    };
    let medium = Medium { sync: Arc::new(sync), ..small() };
    let mut journal = Journal::create(dir.path(), Mark::zero(1), medium).unwrap();
    *shelf.lock().unwrap() = Some(Arc::clone(journal.shelf()));
    (0..3).for_each(|n| append(&mut journal, &[n; 10]));
    assert_eq!(*seen.lock().unwrap(), [0, 1, 2]);
    assert_eq!(values(journal.shelf()).unwrap().len(), 3);
}
