//! A file that is read as it is; what is written to it is kept in memory and forgotten.

use redb::StorageBackend;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    sync::{Mutex, PoisonError},
};

const PAGE: u64 = 4_096;

/// Locked by its owner; the lock goes with it.
#[derive(Debug)]
pub(super) struct Overlay(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    /// How much of the file shows.
    shown: u64,
    len: u64,
    /// Pages that were written to, by number.
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    /// A file that has something in it.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        if len == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty"));
        }
        Ok(Self(Mutex::new(Inner { file, shown: len, len, pages: BTreeMap::new() })))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    /// What the file holds there; zeros past its end.
    fn read_file(&mut self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = self.shown.saturating_sub(offset).min(out.len() as u64) as usize;
        let (from_file, rest) = out.split_at_mut(there);
        rest.fill(0);
        if !from_file.is_empty() {
            self.file.seek(SeekFrom::Start(offset))?;
            self.file.read_exact(from_file)?;
        }
        Ok(())
    }

    fn read(&mut self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = self.check(offset, out.len())?;
        self.read_file(offset, out)?;
        for (number, page) in self.pages.range(offset / PAGE..end.div_ceil(PAGE)) {
            let (from, to) = ((number * PAGE).max(offset), ((number + 1) * PAGE).min(end));
            let there = (from - number * PAGE) as usize..(to - number * PAGE) as usize;
            out[(from - offset) as usize..(to - offset) as usize].copy_from_slice(&page[there]);
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = self.check(offset, data.len())?;
        for number in offset / PAGE..end.div_ceil(PAGE) {
            if !self.pages.contains_key(&number) {
                let mut page = vec![0; PAGE as usize].into_boxed_slice();
                self.read_file(number * PAGE, &mut page)?;
                self.pages.insert(number, page);
            }
            let (from, to) = ((number * PAGE).max(offset), ((number + 1) * PAGE).min(end));
            let there = (from - number * PAGE) as usize..(to - number * PAGE) as usize;
            if let Some(page) = self.pages.get_mut(&number) {
                page[there].copy_from_slice(&data[(from - offset) as usize..(to - offset) as usize]);
            }
        }
        Ok(())
    }

    fn set_len(&mut self, len: u64) {
        self.shown = self.shown.min(len);
        self.len = len;
        self.pages.retain(|number, _| number * PAGE < len);
        // What is cut off stays cut off.
        if let Some(page) = self.pages.get_mut(&(len / PAGE)) {
            page[(len % PAGE) as usize..].fill(0);
        }
    }

    fn check(&self, offset: u64, len: usize) -> io::Result<u64> {
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.len);
        end.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "past the end of the file"))
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|inner| inner.len))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|inner| inner.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|inner| inner.set_len(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|inner| inner.write(offset, data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, Vec<u8>),
        Len(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0u64..20_000, prop::collection::vec(any::<u8>(), 1..9_000)).prop_map(|(at, data)| Step::Write(at, data)),
            1 => (1u64..20_000).prop_map(Step::Len),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn it_reads_as_a_file_that_was_written_to_and_the_file_stays_as_it_was(
            before in prop::collection::vec(any::<u8>(), 1..20_000), steps in prop::collection::vec(step(), 0..12),
        ) {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&before).unwrap();
            let overlay = Overlay::new(file.reopen().unwrap()).unwrap();
            let mut model = before.clone();
            for step in steps {
                match step {
                    Step::Write(at, data) => {
                        let end = at as usize + data.len();
                        let fits = end <= model.len();
                        prop_assert_eq!(overlay.write(at, &data).is_ok(), fits);
                        if fits {
                            model[at as usize..end].copy_from_slice(&data);
                        }
                    }
                    Step::Len(len) => {
                        overlay.set_len(len).unwrap();
                        model.resize(len as usize, 0);
                    }
                }
                let mut all = vec![7; model.len()];
                overlay.read(0, &mut all).unwrap();
                prop_assert!(all == model);
                let middle = model.len() / 3..model.len() / 2;
                let mut part = vec![7; middle.len()];
                overlay.read(middle.start as u64, &mut part).unwrap();
                prop_assert!(part == model[middle]);
            }
            prop_assert!(std::fs::read(file.path()).unwrap() == before);
        }
    }

    #[test]
    fn an_empty_file_is_refused() {
        assert!(Overlay::new(tempfile::tempfile().unwrap()).is_err());
    }
}
