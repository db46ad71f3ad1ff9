//! The folder of the log: makes it, locks it, and opens both files, which have to fit together.

use super::{
    checkpoint::{self, Copied},
    database::{Cause, Database, StoreError},
    reactions,
    rollup::{self, Committed},
};
use crate::{EmbeddedConfig, OpenError, windows::table};
use rusqlite::Connection;
use std::{
    fs::{self, File, TryLockError},
    io,
    ops::Range,
    path::{Path, PathBuf},
};

/// Locked by the process that writes to the log. Auditors don't ask for it.
const LOCK: &str = "lock";
/// Records are appended and read in order, so that little is read twice.
const REACTIONS_CACHE_KIB: u64 = 2 << 10;

/// What is in the folder.
pub(super) struct Opened {
    pub(super) reactions: OpenFile,
    pub(super) rollup: OpenFile,
    /// By partition, the offset that the next record will have.
    pub(super) ends: Vec<u64>,
    pub(super) committed: Committed,
    pub(super) lock: Lock,
}

/// One file, for the thread that writes to it.
pub(super) struct OpenFile {
    pub(super) database: Database,
    pub(super) conn: Connection,
}

/// Opens the log in the folder, or makes it. Blocks.
pub(super) fn open(config: &EmbeddedConfig, partitions: u32) -> Result<Opened, OpenError> {
    let dir = &config.dir;
    let failed = |what: &str, path: &Path, error: &dyn std::fmt::Display| {
        OpenError::Invalid(format!("{what} {}: {error}", path.display()))
    };
    let made = make(dir).map_err(|error| failed("can't make the folder", dir, &error))?;
    let lock = lock(dir).map_err(|error| match error {
        TryLockError::WouldBlock => failed("can't open", dir, &"another process has this log open"),
        TryLockError::Error(error) => failed("can't lock", dir, &error),
    })?;
    let reactions = Database {
        path: dir.join(reactions::FILE),
        schema: &[reactions::SCHEMA],
        cache_kib: REACTIONS_CACHE_KIB,
    };
    let rollup = Database {
        path: dir.join(rollup::FILE),
        schema: &[rollup::SCHEMA, table::SCHEMA],
        cache_kib: config.cache_mib << 10,
    };
    let opened = open_both(reactions, rollup, partitions, lock)?;
    // A synced file is lost in a power cut when the entry that names it is not: the folder is synced, and so is each
    // folder in which one was made.
    for dir in std::iter::once(dir.as_path()).chain(made.iter().filter_map(|dir| dir.parent())) {
        sync(dir).map_err(|error| failed("can't sync the folder", dir, &error))?;
    }
    Ok(opened)
}

/// Nothing is made before what is there was checked: an empty file would be in the way of one that is brought back.
fn open_both(
    reactions: Database,
    rollup: Database,
    partitions: u32,
    lock: Lock,
) -> Result<Opened, OpenError> {
    let in_reactions = |error| open_error(&reactions.path, &error);
    let in_rollup = |error| open_error(&rollup.path, &error);
    let reactions_found = reactions.find(partitions).map_err(in_reactions)?;
    let rollup_found = rollup.find(partitions).map_err(in_rollup)?;
    let spans = match &reactions_found {
        Some(conn) => reactions::spans(conn, partitions).map_err(|error| in_reactions(error.into()))?,
        None => vec![0..0; partitions as usize],
    };
    let committed = match &rollup_found {
        Some(conn) => rollup::committed(conn, partitions).map_err(|error| in_rollup(error.into()))?,
        None => Committed { next_commit: 0, offsets: vec![0; partitions as usize] },
    };
    check(&spans, &committed.offsets).map_err(in_reactions)?;
    let made = |database: &Database, found: Option<Connection>| {
        let conn = found.map_or_else(|| database.create(partitions), Ok)?;
        settle(&conn)?;
        Ok(conn)
    };
    let reactions_conn = made(&reactions, reactions_found).map_err(in_reactions)?;
    let rollup_conn = made(&rollup, rollup_found).map_err(in_rollup)?;
    Ok(Opened {
        reactions: OpenFile { database: reactions, conn: reactions_conn },
        rollup: OpenFile { database: rollup, conn: rollup_conn },
        ends: spans.into_iter().map(|span| span.end).collect(),
        committed,
        lock,
    })
}

/// Whether all that was rolled up is, or was, among the reactions, and all that was not is.
fn check(spans: &[Range<u64>], committed: &[u64]) -> Result<(), StoreError> {
    let mut pairs = spans.iter().zip(committed);
    if pairs.clone().any(|(span, committed)| span.end < *committed) {
        return Err(StoreError::Missing);
    }
    // Only records that are rolled up are trimmed.
    if pairs.any(|(span, committed)| span.start > *committed) {
        return Err(StoreError::Unmatched);
    }
    Ok(())
}

/// Copies the WAL that a dead process left into the file, and syncs that. The process may have died between a write and its
/// sync, or because a sync failed: what the kernel shows of the WAL is not on the disk then, and is not written again.
fn settle(conn: &Connection) -> Result<(), StoreError> {
    match checkpoint::copy(conn)? {
        Some(Copied { pages, copied }) if pages == copied => Ok(()),
        _ => Err(StoreError::Read),
    }
}

/// What a tier is told. It keeps on trying where that can help.
pub(super) fn open_error(path: &Path, error: &StoreError) -> OpenError {
    let text = |advice: &str| format!("{}: {error}{advice}", path.display());
    match (error, error.cause()) {
        (StoreError::Read, _) => OpenError::Unavailable(text("")),
        (_, cause @ Cause::DiskFull) => OpenError::Unavailable(text(&format!(": {}", cause.advice()))),
        (_, cause @ Cause::Damaged) => OpenError::Invalid(text(&format!(": {}", cause.advice()))),
        (_, Cause::Other) => OpenError::Invalid(text("")),
    }
}

/// Keeps other processes out.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // A child process that was just made has the file too, until it runs its program. The lock must not wait for that.
        let _ = self.0.unlock();
    }
}

fn lock(dir: &Path) -> Result<Lock, TryLockError> {
    let file = File::options().create(true).truncate(false).write(true).open(dir.join(LOCK));
    let file = file.map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(Lock(file))
}

/// Makes the folder, and those above it that are missing. Gives those that were made.
fn make(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let missing = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists());
    let missing = missing.map(Path::to_owned).collect();
    fs::create_dir_all(dir)?;
    Ok(missing)
}

/// Syncs the entries of a folder.
fn sync(dir: &Path) -> io::Result<()> {
    // The parent of a relative folder may be the empty path.
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)?.sync_all()
}
