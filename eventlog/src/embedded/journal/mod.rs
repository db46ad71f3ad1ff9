//! Reactions on the disk: segments in a folder, files that are only added to, a frame for each group.
//!
//! An append is one write and one `fdatasync`, into bytes of the file that were there before as zeros: the file system
//! then has nothing to note down but the bytes, which is a fifth of the work (docs/decisions/0011).

mod frame;
mod mark;
mod reader;
mod recover;
mod shelf;
#[cfg(test)]
mod tests;

pub(super) use {mark::Mark, reader::Reader, shelf::Shelf};

use super::{
    folder,
    row::{Group, RowError},
};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Zeros are written so far ahead.
const AHEAD_BYTES: u64 = 1 << 20;

/// What goes wrong with the journal. Nothing can be appended after it.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error("{}: {error}", .path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{} is damaged at byte {position}: what follows can't be read", .path.display())]
    Broken { path: PathBuf, position: u64 },
    #[error("{0}")]
    Row(#[from] RowError),
    #[error("group {0} is gone")]
    Gone(u64),
    #[error(
        "reactions that were rolled up are missing in its folder `reactions`: bring its files back, or start with an empty folder"
    )]
    Missing,
    #[error(
        "its folder `reactions` begins after what its file `log.redb` has rolled up: bring both back as they were at one moment, \
         or start with an empty folder"
    )]
    Unmatched,
}

impl JournalError {
    pub(super) fn io(path: &Path, error: io::Error) -> Self {
        Self::Io { path: path.to_owned(), error }
    }

    fn broken(path: PathBuf, position: u64) -> Self {
        Self::Broken { path, position }
    }
}

/// Returns when what was written to the file would survive a power cut.
pub(super) type SyncFile = Arc<dyn Fn(&File) -> io::Result<()> + Send + Sync>;

/// How the journal treats its files.
#[derive(Clone)]
pub(super) struct Medium {
    /// A segment is closed at this size.
    pub(super) segment_bytes: u64,
    pub(super) sync: SyncFile,
}

impl Default for Medium {
    fn default() -> Self {
        Self { segment_bytes: 16 << 20, sync: Arc::new(File::sync_data) }
    }
}

/// A journal that nobody writes to, to be read, and where it ends; `None` where there is none. Changes nothing.
pub(super) fn left(dir: &Path) -> Result<Option<(Arc<Shelf>, Mark)>, JournalError> {
    let found = recover::look(dir)?;
    Ok(found.map(|found| (Arc::new(Shelf::new(dir.to_owned(), found.marks, found.end.clone())), found.end)))
}

/// The end that is written to.
pub(super) struct Journal {
    shelf: Arc<Shelf>,
    medium: Medium,
    /// Where the log stands.
    end: Mark,
    /// The newest segment.
    segment: Segment,
    /// The frame that is written.
    frame: Vec<u8>,
}

struct Segment {
    first_group: u64,
    file: File,
    /// Where the next frame goes.
    position: u64,
    /// Up to where there are zeros.
    len: u64,
}

impl Journal {
    /// Opens the journal of a folder; `None` where there is none.
    pub(super) fn open(dir: &Path, medium: Medium) -> Result<Option<Self>, JournalError> {
        let Some(found) = recover::look(dir)? else { return Ok(None) };
        let recover::Found { marks, end, position, unfinished } = found;
        if let Some(path) = unfinished {
            fs::remove_file(&path).map_err(|error| JournalError::io(&path, error))?;
        }
        let first_group = marks.last().map_or(0, |mark| mark.group);
        let shelf = Shelf::new(dir.to_owned(), marks, end.clone());
        let path = shelf.path(first_group);
        let file = File::options().write(true).open(&path).and_then(|file| {
            // What is torn isn't found again. What is whole may never have been synced, nor the entry of its file, where the
            // process was killed: before somebody reads it, it has to survive a power cut.
            file.set_len(position)?;
            (medium.sync)(&file)?;
            folder::sync(dir)?;
            Ok(file)
        });
        let file = file.map_err(|error| JournalError::io(&path, error))?;
        let segment = Segment { first_group, file, position, len: position };
        Ok(Some(Self { shelf: Arc::new(shelf), medium, end, segment, frame: Vec::new() }))
    }

    /// Makes a journal in a folder that has none, which goes on from `start`.
    pub(super) fn create(dir: &Path, start: Mark, medium: Medium) -> Result<Self, JournalError> {
        let shelf = Shelf::new(dir.to_owned(), [start.clone()], start.clone());
        let segment = Segment::create(&shelf, &start, &medium)?;
        Ok(Self { shelf: Arc::new(shelf), medium, end: start, segment, frame: Vec::new() })
    }

    /// Where the log stands.
    pub(super) fn end(&self) -> &Mark {
        &self.end
    }

    /// For those who read.
    pub(super) fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    /// Writes a group, synced, and gives its row. After an error nobody knows what is on the disk: it has to be opened again.
    pub(super) fn append(&mut self, group: &Group) -> Result<&[u8], JournalError> {
        frame::write(&mut self.frame, self.end.group, |buffer| group.encode_into(buffer));
        let begun = self.end.group > self.segment.first_group;
        if begun && self.segment.position + self.frame.len() as u64 > self.medium.segment_bytes {
            self.segment = Segment::create(&self.shelf, &self.end, &self.medium)?;
            self.shelf.push(self.end.clone());
        }
        let written = self.segment.write(&self.frame).and_then(|()| (self.medium.sync)(&self.segment.file));
        let path = || self.shelf.path(self.segment.first_group);
        written.map_err(|error| JournalError::Io { path: path(), error })?;
        let parts =
            group.parts.iter().map(|part| (part.partition, part.first_offset, part.records.len() as u64));
        let passed = self.end.pass(group.timestamp_ms, parts);
        passed.ok_or_else(|| JournalError::broken(path(), self.segment.position))?;
        self.shelf.set_end(&self.end);
        Ok(frame::body(&self.frame))
    }
}

impl Segment {
    fn create(shelf: &Shelf, mark: &Mark, medium: &Medium) -> Result<Self, JournalError> {
        let path = shelf.path(mark.group);
        let create = || {
            let file = File::create(&path)?;
            let mut segment = Self { first_group: mark.group, file, position: 0, len: 0 };
            let mut frame = Vec::new();
            frame::write(&mut frame, mark.group, |buffer| mark.encode(buffer));
            segment.write(&frame)?;
            (medium.sync)(&segment.file)?;
            // A synced file is lost in a power cut when the entry that names it is not.
            super::folder::sync(shelf.dir())?;
            Ok(segment)
        };
        create().map_err(|error| JournalError::io(&path, error))
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        self.file.write_all_at(frame, self.position)?;
        self.position += frame.len() as u64;
        if self.position > self.len {
            self.file.write_all_at(&vec![0; AHEAD_BYTES as usize], self.position)?;
            self.len = self.position + AHEAD_BYTES;
        }
        Ok(())
    }
}
