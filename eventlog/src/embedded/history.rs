//! Reads the log once, as it was left, also after a crash: what a repair would write goes to memory (`overlay`).

use super::{
    folder::{self, FILE, SEGMENTS},
    journal::{self, JournalError, Mark, Reader, Shelf},
    overlay::Overlay,
    store::{Committed, FORMAT, NewestOfRoom, Store, StoreError},
};
use crate::{
    EmbeddedConfig, OpenError, Record,
    history::{History, HistoryAggregate, HistorySpan, Records},
};
use redb::Database;
use std::{
    collections::VecDeque,
    fs::{File, TryLockError},
    sync::Arc,
};
use wire::Aggregate;

/// Rows are read in steps of so many bytes.
const READ_BYTES: usize = 4 << 20;

/// The log, to be read once. Nobody can write to it meanwhile.
pub(crate) struct EmbeddedHistory {
    store: Store,
    committed: Committed,
    shelf: Arc<Shelf>,
    end: Mark,
    shown: String,
}

impl EmbeddedHistory {
    pub(crate) fn open(config: &EmbeddedConfig) -> Result<Self, OpenError> {
        let path = config.dir.join(FILE);
        let shown = path.display().to_string();
        let invalid = |error: &dyn std::fmt::Display| OpenError::Invalid(format!("{shown}: {error}"));
        let file = File::open(&path).map_err(|error| invalid(&error))?;
        file.try_lock_shared().map_err(|error| match error {
            TryLockError::WouldBlock => invalid(
                &"another process has this log open: stop it first, or read a copy that was taken at one moment (a \
                  snapshot of the file system)",
            ),
            TryLockError::Error(error) => invalid(&error),
        })?;
        let overlay = Overlay::new(file).map_err(|error| invalid(&error))?;
        let db = Database::builder()
            .set_cache_size(usize::try_from(config.cache_mib << 20).unwrap_or(usize::MAX))
            .create_with_backend(overlay)
            .map_err(|error| invalid(&error))?;
        let partitions = Store::meta(&db, "partitions").map_err(|error| invalid(&error))?;
        let partitions = partitions.and_then(|partitions| u32::try_from(partitions).ok());
        let partitions = partitions.ok_or_else(|| invalid(&"it is no log"))?;
        let (store, committed) = Store::prepare(db, partitions).map_err(|error| match error {
            StoreError::Differs { key: "format", found, .. } if found < FORMAT => invalid(
                &"an earlier version wrote it: start this version on it once, which brings it up to date",
            ),
            error => invalid(&error),
        })?;
        let segments = config.dir.join(SEGMENTS);
        let left = journal::left(&segments).map_err(|error| invalid(&error))?;
        let (shelf, end) = left.unwrap_or_else(|| Shelf::empty(segments, partitions));
        folder::check(&shelf, &end, &committed).map_err(|error| invalid(&error))?;
        Ok(Self { store, committed, shelf, end, shown })
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> OpenError {
        OpenError::Invalid(format!("{} can't be read: {error}", self.shown))
    }

    /// The newest aggregates of a partition, in the order in which they were committed.
    fn newest(&self, partition: u32) -> Result<Vec<NewestOfRoom>, OpenError> {
        let (_, mut newest) = self.store.newest().map_err(|error| self.broken(&error))?;
        newest.retain(|row| row.partition == partition);
        // One commit may hold several windows of a partition.
        newest.sort_by_cached_key(|row| {
            let cut = Aggregate::decode(&row.value).map_or(0, |aggregate| aggregate.source.to);
            (row.commit, cut, row.room.clone())
        });
        Ok(newest)
    }
}

impl History for EmbeddedHistory {
    fn partitions(&self) -> u32 {
        self.committed.offsets.len() as u32
    }

    fn size(&self) -> Result<u64, OpenError> {
        let (_, newest) = self.store.newest().map_err(|error| self.broken(&error))?;
        (0..self.partitions()).try_fold(newest.len() as u64, |size, partition| {
            let reactions = self.span(partition)?.reactions;
            Ok(size + (reactions.end - reactions.start))
        })
    }

    fn span(&self, partition: u32) -> Result<HistorySpan, OpenError> {
        let next = self.end.offsets.get(partition as usize).copied().unwrap_or_default();
        Ok(HistorySpan {
            aggregates: 0..u64::MAX,
            reactions: self.shelf.oldest_offset(partition)..next,
            committed: self.committed.offsets.get(partition as usize).copied(),
        })
    }

    fn aggregates<'a>(
        &'a self,
        partition: u32,
        _: &HistorySpan,
    ) -> Result<Records<'a, HistoryAggregate>, OpenError> {
        let newest = self.newest(partition)?.into_iter().zip(0..);
        Ok(Box::new(newest.map(|(NewestOfRoom { room, value, .. }, offset)| {
            Ok(HistoryAggregate { offset, room: Some(room), value: Some(value) })
        })))
    }

    fn reactions<'a>(&'a self, partition: u32, _: &HistorySpan) -> Result<Records<'a, Record>, OpenError> {
        let oldest_group = self.shelf.first_group(&vec![0; self.committed.offsets.len()]);
        let reader = Some(Reader::new(Arc::clone(&self.shelf), oldest_group));
        Ok(Box::new(Rows { history: self, partition, reader, records: VecDeque::new() }))
    }
}

/// The records of a partition, group by group.
struct Rows<'a> {
    history: &'a EmbeddedHistory,
    partition: u32,
    /// Until the end, or the first error.
    reader: Option<Reader>,
    records: VecDeque<Record>,
}

impl Rows<'_> {
    /// Reads on. Whether there was anything.
    fn read(&mut self) -> Result<bool, JournalError> {
        let Some(mut reader) = self.reader.take() else { return Ok(false) };
        let groups = reader.read(READ_BYTES)?;
        if groups.is_empty() {
            return Ok(false);
        }
        self.reader = Some(reader);
        for (_, group) in groups {
            for part in group.parts.into_iter().filter(|part| part.partition == self.partition) {
                let timestamp_ms = group.timestamp_ms;
                let records = (part.first_offset..).zip(part.records);
                self.records.extend(records.map(|(offset, value)| Record { offset, timestamp_ms, value }));
            }
        }
        Ok(true)
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Record, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.records.pop_front() {
                return Some(Ok(record));
            }
            match self.read() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(self.history.broken(&error))),
            }
        }
    }
}
