//! Reads the file once, as it was left, also after a crash: what a repair would write goes to memory (`overlay`).

use super::{
    folder::FILE,
    overlay::Overlay,
    store::{Head, NewestOfRoom, Store, StoreError},
};
use crate::{
    EmbeddedConfig, OpenError, Record,
    history::{History, HistoryAggregate, HistorySpan, Records},
};
use redb::Database;
use std::{
    collections::VecDeque,
    fs::{File, TryLockError},
};
use wire::Aggregate;

/// Rows are read in steps of so many bytes.
const READ_BYTES: usize = 4 << 20;

/// The file, to be read once. Nobody can write to it meanwhile.
pub(crate) struct EmbeddedHistory {
    store: Store,
    head: Head,
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
        let partitions = Store::partitions(&db).map_err(|error| invalid(&error))?;
        let partitions = partitions.ok_or_else(|| invalid(&"it is no log"))?;
        let (store, head) = Store::prepare(db, partitions).map_err(|error| invalid(&error))?;
        Ok(Self { store, head, shown })
    }

    fn broken(&self, error: &StoreError) -> OpenError {
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
        self.head.offsets.len() as u32
    }

    fn size(&self) -> Result<u64, OpenError> {
        let (_, newest) = self.store.newest().map_err(|error| self.broken(&error))?;
        (0..self.partitions()).try_fold(newest.len() as u64, |size, partition| {
            let reactions = self.span(partition)?.reactions;
            Ok(size + (reactions.end - reactions.start))
        })
    }

    fn span(&self, partition: u32) -> Result<HistorySpan, OpenError> {
        let offsets = self.head.offsets.get(partition as usize).copied().unwrap_or_default();
        let oldest = self.store.oldest_offset(partition).map_err(|error| self.broken(&error))?;
        Ok(HistorySpan {
            aggregates: 0..u64::MAX,
            reactions: oldest.unwrap_or(offsets.next)..offsets.next,
            committed: Some(offsets.committed),
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
        Ok(Box::new(Rows { history: self, partition, next_group: 0, records: VecDeque::new() }))
    }
}

/// The records of a partition, row by row.
struct Rows<'a> {
    history: &'a EmbeddedHistory,
    partition: u32,
    next_group: u64,
    records: VecDeque<Record>,
}

impl Rows<'_> {
    /// Reads on. Whether there was anything.
    fn read(&mut self) -> Result<bool, StoreError> {
        let groups = self.history.store.read_groups(self.next_group, READ_BYTES)?;
        let Some((last, _)) = groups.last() else { return Ok(false) };
        self.next_group = last + 1;
        for (_, group) in groups {
            for part in group.parts.iter().filter(|part| part.partition == self.partition) {
                let records = part.records.iter().zip(part.first_offset..);
                self.records.extend(records.map(|(value, offset)| Record {
                    offset,
                    timestamp_ms: group.timestamp_ms,
                    value: value.clone(),
                }));
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
                Err(error) => {
                    self.next_group = u64::MAX;
                    return Some(Err(self.history.broken(&error)));
                }
            }
        }
    }
}
