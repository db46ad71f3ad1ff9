//! The folder of the log: makes it, opens what is in it, and says clearly why that can't be done.

use super::{
    journal::{Journal, JournalError, Mark, Medium, Shelf},
    store::{Committed, FORMAT, Store, StoreError},
    upgrade,
};
use crate::{EmbeddedConfig, OpenError};
use redb::{Database, DatabaseError};
use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Aggregates and committed offsets. Its lock is the lock of the whole folder.
pub(super) const FILE: &str = "log.redb";
/// The folder of the journal.
pub(super) const SEGMENTS: &str = "reactions";
/// Of a file that redb is making, the bytes that may be something else than zero: its first page, less what tells it from others.
const BEGUN: Range<u64> = 9..4_096;

/// What is in the folder.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) committed: Committed,
    pub(super) journal: Journal,
}

/// Opens the log in the folder, or makes it. Blocks.
pub(super) fn open(config: &EmbeddedConfig, partitions: u32, medium: Medium) -> Result<Opened, OpenError> {
    let dir = &config.dir;
    let invalid = |what: &str, error: &dyn std::fmt::Display| {
        OpenError::Invalid(format!("{what} {}: {error}", dir.display()))
    };
    let segments = dir.join(SEGMENTS);
    let made = make(&segments).map_err(|error| invalid("can't make the folder", &error))?;
    empty_unfinished(&dir.join(FILE)).map_err(|error| invalid("can't open the log in", &error))?;
    let db = database(config).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => invalid("can't open", &"another process has this log open"),
        error => invalid("can't open the log in", &error),
    })?;
    let opened = prepare(db, &segments, partitions, medium).map_err(|error| match error {
        StoreError::Differs { key: "partitions", found, expected } => {
            let text = format!(
                "it has {found} partitions, and log.partitions says {expected}: set that to {found}, or \
                 choose another folder"
            );
            invalid("can't open the log in", &text)
        }
        error => invalid("can't open the log in", &error),
    })?;
    // A synced file is lost in a power cut when the entry that names it is not: the folder is synced, and so is each
    // folder in which one was made.
    for dir in std::iter::once(dir.as_path()).chain(made.iter().filter_map(|dir| dir.parent())) {
        sync(dir).map_err(|error| invalid("can't sync the folder of", &error))?;
    }
    Ok(opened)
}

fn prepare(db: Database, segments: &Path, partitions: u32, medium: Medium) -> Result<Opened, StoreError> {
    if let Some(format @ 1..FORMAT) = Store::meta(&db, "format")?
        && Store::meta(&db, "partitions")? == Some(u64::from(partitions))
    {
        upgrade::run(&db, format, segments, partitions)?;
    }
    let (store, committed) = Store::prepare(db, partitions)?;
    let found = Journal::open(segments, medium.clone())?;
    let (shelf, end) = match &found {
        Some(journal) => (Arc::clone(journal.shelf()), journal.end().clone()),
        None => Shelf::empty(segments.to_owned(), partitions),
    };
    // Before anything is made beside files that may be brought back.
    check(&shelf, &end, &committed)?;
    let journal = match found {
        Some(journal) => journal,
        None => Journal::create(segments, end, medium)?,
    };
    Ok(Opened { store, committed, journal })
}

/// Whether all that was rolled up is, or was, in the journal, and all that was not is.
pub(super) fn check(shelf: &Shelf, end: &Mark, committed: &Committed) -> Result<(), JournalError> {
    let reaches = |(next, committed): (&u64, &u64)| next >= committed;
    let fits = end.offsets.len() == committed.offsets.len();
    if !fits || !end.offsets.iter().zip(&committed.offsets).all(reaches) {
        return Err(JournalError::Missing);
    }
    // Only what is rolled up is trimmed.
    if (0..).zip(&committed.offsets).any(|(partition, committed)| shelf.oldest_offset(partition) > *committed)
    {
        return Err(JournalError::Unmatched);
    }
    Ok(())
}

/// Empties the file if a start was cut short while it made it: redb, which takes an empty file for a new one, refuses what is
/// left then.
fn empty_unfinished(path: &Path) -> io::Result<()> {
    let file = match File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    // Whoever has the lock may be making it.
    if file.try_lock().is_ok() && is_unfinished(&file)? {
        file.set_len(0)?;
    }
    Ok(())
}

/// Whether redb was making the file: it writes the first bytes after all else was synced, and until then nothing behind the
/// first page.
fn is_unfinished(file: &File) -> io::Result<bool> {
    for (at, byte) in (0..).zip(BufReader::new(file).bytes()) {
        if byte? != 0 && !BEGUN.contains(&at) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn database(config: &EmbeddedConfig) -> Result<Database, DatabaseError> {
    let path = config.dir.join(FILE);
    let (told, shown) = (AtomicBool::new(false), path.display().to_string());
    Database::builder()
        .set_cache_size(usize::try_from(config.cache_mib << 20).unwrap_or(usize::MAX))
        .set_repair_callback(move |_| {
            if !told.swap(true, Ordering::Relaxed) {
                tracing::warn!(file = shown, "the log was not closed cleanly and is checked first");
            }
        })
        .create(path)
}

/// Makes the folder, and those above it that are missing. Gives those that were made.
fn make(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let missing = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists());
    let missing = missing.map(Path::to_owned).collect();
    fs::create_dir_all(dir)?;
    Ok(missing)
}

/// Syncs the entries of a folder.
pub(super) fn sync(dir: &Path) -> io::Result<()> {
    // The parent of a relative folder may be the empty path.
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)?.sync_all()
}
