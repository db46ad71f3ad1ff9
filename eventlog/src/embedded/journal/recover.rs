//! What a folder of segments holds, also after a crash. Changes nothing.
//!
//! A group is written after the one before it was synced. So only the last frame of the last segment can be torn, and
//! whatever else can't be read was damaged later, which is an error: what was acknowledged may be behind it.

use super::{super::row::Header, JournalError, Mark, frame};
use bytes::Bytes;
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// A mark is shorter than this, whatever the number of partitions.
const MARK_BYTES_MAX: u64 = 64 << 10;

pub(super) struct Found {
    /// What each segment begins with; one at least.
    pub(super) marks: Vec<Mark>,
    /// Where the last segment ends.
    pub(super) end: Mark,
    /// The last byte of the last segment that belongs to a whole frame.
    pub(super) position: u64,
    /// A segment that was being made, and holds nothing.
    pub(super) unfinished: Option<PathBuf>,
}

/// Looks at all segments of the folder; `None` where there are none.
pub(super) fn look(dir: &Path) -> Result<Option<Found>, JournalError> {
    let mut files = files(dir).map_err(|error| JournalError::io(dir, error))?;
    let mut unfinished = None;
    while let Some((group, path)) = files.pop() {
        match segment(group, &path)? {
            Some((last, end, position)) => {
                let marks = files.into_iter().map(|(group, path)| first_mark(group, path));
                let mut marks = marks.collect::<Result<Vec<_>, _>>()?;
                marks.push(last);
                return Ok(Some(Found { marks, end, position, unfinished }));
            }
            None if unfinished.is_none() => unfinished = Some(path),
            None => return Err(JournalError::broken(path, 0)),
        }
    }
    Ok(None)
}

/// The segments' first groups and paths, in order.
fn files(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".log"));
        if let Some(group) = name.and_then(|name| name.parse().ok()) {
            files.push((group, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn first_mark(group: u64, path: PathBuf) -> Result<Mark, JournalError> {
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(MARK_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|error| JournalError::io(&path, error))?;
    let body = frame::take(&mut bytes.into(), group);
    body.and_then(|body| Mark::decode(group, &body)).ok_or_else(|| JournalError::broken(path, 0))
}

/// What a segment begins with, and where it ends; `None` when there is nothing whole in it.
fn segment(group: u64, path: &Path) -> Result<Option<(Mark, Mark, u64)>, JournalError> {
    let mut bytes = Bytes::from(fs::read(path).map_err(|error| JournalError::io(path, error))?);
    let len = bytes.len();
    let position = |rest: &Bytes| (len - rest.len()) as u64;
    let first = frame::take(&mut bytes, group).and_then(|body| Mark::decode(group, &body));
    let Some(first) = first else {
        let holds_something = frame::found_in(&bytes);
        return if holds_something { Err(JournalError::broken(path.to_owned(), 0)) } else { Ok(None) };
    };
    let mut end = first.clone();
    while let Some(row) = frame::take(&mut bytes, end.group) {
        let header = Header::decode(&row)?;
        let passed = end.pass(header.timestamp_ms, header.parts.into_iter());
        passed.ok_or_else(|| JournalError::broken(path.to_owned(), position(&bytes)))?;
    }
    if frame::found_in(&bytes) {
        return Err(JournalError::broken(path.to_owned(), position(&bytes)));
    }
    Ok(Some((first, end, position(&bytes))))
}
