//! Reads groups one after the other, from any that is left on, while more are written.

use super::{
    super::row::Group,
    JournalError, frame,
    shelf::{Place, Shelf},
};
use bytes::Bytes;
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    sync::Arc,
};

/// Somebody who reads the journal. Holds a segment in memory.
pub(in super::super) struct Reader {
    shelf: Arc<Shelf>,
    /// The next group to give.
    next_group: u64,
    segment: Option<Segment>,
}

/// What is left of a segment.
struct Segment {
    first_group: u64,
    /// The group that comes next in it.
    next_group: u64,
    /// Where `bytes` begin in the file.
    position: u64,
    bytes: Bytes,
}

impl Reader {
    pub(in super::super) fn new(shelf: Arc<Shelf>, next_group: u64) -> Self {
        Self { shelf, next_group, segment: None }
    }

    /// The next groups, with their numbers: some `bytes_max`, and one at least, if there are any.
    pub(in super::super) fn read(&mut self, bytes_max: usize) -> Result<Vec<(u64, Group)>, JournalError> {
        let (mut groups, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max {
            let number = self.next_group;
            let Some(row) = self.row()? else { break };
            bytes += row.len();
            groups.push((number, Group::decode(row)?));
        }
        Ok(groups)
    }

    /// The row of the next group.
    fn row(&mut self) -> Result<Option<Bytes>, JournalError> {
        let first_group = match self.shelf.place(self.next_group) {
            Place::Segment(first_group) => first_group,
            Place::Ahead => return Ok(None),
            Place::Gone => return Err(JournalError::Gone(self.next_group)),
        };
        let segment = match self.segment.take().filter(|segment| segment.first_group == first_group) {
            Some(segment) => segment,
            None => Segment::open(&self.shelf, first_group)?,
        };
        let segment = self.segment.insert(segment);
        loop {
            let number = segment.next_group;
            let row = segment.take(&self.shelf)?;
            if number == self.next_group {
                self.next_group += 1;
                return Ok(Some(row));
            }
        }
    }
}

impl Segment {
    fn open(shelf: &Shelf, first_group: u64) -> Result<Self, JournalError> {
        let mut segment = Self { first_group, next_group: first_group, position: 0, bytes: Bytes::new() };
        // Its mark, which has the number of the first group.
        segment.take(shelf)?;
        segment.next_group = first_group;
        Ok(segment)
    }

    fn take(&mut self, shelf: &Shelf) -> Result<Bytes, JournalError> {
        let mut bytes = self.bytes.clone();
        let mut body = frame::take(&mut bytes, self.next_group);
        if body.is_none() {
            // It was written after the file was read.
            bytes = self.load(shelf)?;
            self.bytes = bytes.clone();
            body = frame::take(&mut bytes, self.next_group);
        }
        let path = || shelf.path(self.first_group);
        let body = body.ok_or_else(|| JournalError::broken(path(), self.position))?;
        self.position += (self.bytes.len() - bytes.len()) as u64;
        self.bytes = bytes;
        self.next_group += 1;
        Ok(body)
    }

    fn load(&self, shelf: &Shelf) -> Result<Bytes, JournalError> {
        let path = shelf.path(self.first_group);
        let read = || {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(self.position))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        Ok(read().map_err(|error| JournalError::io(&path, error))?.into())
    }
}
