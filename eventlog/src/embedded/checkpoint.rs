//! Copies what is in the WALs into the files, on a thread of its own, so that no append and no commit waits for it.
//!
//! SQLite starts a WAL again once all of it was copied and no reader needs it. While records come without a pause, some always come
//! during the copying. So when a WAL is long, this thread copies again until little is left, and the writer copies that between two
//! transactions. It takes the writer about as long as one more sync, unless the writer is faster than this thread: then posts wait, and
//! that is what bounds the WAL.
//!
//! A reader of another process (`uproar audit`) keeps the WAL from starting again for as long as its transaction takes. The WAL
//! grows by what is written meanwhile; SQLite cuts it down afterwards.

use super::{
    database::{Cause, Database, StoreError},
    recent::{Recent, StopOnPanic},
};
use crate::OpenError;
use rusqlite::{Connection, OpenFlags};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// From one look at the WALs to the next.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// A WAL of this length, 16 MiB, should start again.
const FINISH_PAGES: i64 = 4_096;
/// So many pages, 1 MiB, are little enough for the writer.
const FINISH_PAGES_LEFT: i64 = 256;
/// After so many passes the writer copies what there is.
const PASSES_MAX: usize = 8;
/// An operator is told of a WAL of this length, 1 GiB.
const WARN_PAGES: i64 = 262_144;

/// What the writer of a file and the checkpointer tell each other.
#[derive(Default)]
pub(super) struct Wal {
    /// Transactions of the writer.
    written: AtomicU64,
    /// The writer is asked to copy what is left.
    finish: AtomicBool,
}

impl Wal {
    /// The writer calls it after each transaction, once nobody waits for that any more.
    pub(super) fn written(&self, conn: &Connection) -> Result<(), StoreError> {
        self.written.fetch_add(1, Ordering::Relaxed);
        if self.finish.load(Ordering::Relaxed) {
            self.finish.store(false, Ordering::Relaxed);
            copy_if_there_is_space(conn)?;
        }
        Ok(())
    }
}

/// How much was in a WAL when the copying began, and how much of it is in the file now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) pages: i64,
    pub(super) copied: i64,
}

/// Copies what no reader holds back. Waits for nobody, and nobody waits for it. `None` where that has to be tried again.
pub(super) fn copy(conn: &Connection) -> Result<Option<Copied>, StoreError> {
    let copied = conn.query_row("pragma wal_checkpoint(passive)", [], |row| {
        // Somebody else copies at this moment.
        let is_busy = row.get::<_, i64>(0)? != 0;
        Ok((!is_busy).then_some(Copied { pages: row.get(1)?, copied: row.get(2)? }))
    });
    Ok(copied?)
}

/// The same. On a full disk the file doesn't grow, and the WAL still holds what is missing in it.
fn copy_if_there_is_space(conn: &Connection) -> Result<Option<Copied>, StoreError> {
    match copy(conn) {
        Err(error) if error.cause() == Cause::DiskFull => {
            tracing::warn!(%error, "can't copy a WAL of the embedded log into its file");
            Ok(None)
        }
        copied => copied,
    }
}

/// One file, as the checkpointer sees it.
pub(super) struct Checkpoint {
    name: &'static str,
    database: Database,
    conn: Connection,
    wal: Arc<Wal>,
    /// Device and inode of the file.
    identity: (u64, u64),
    /// [`Wal::written`] when all was copied.
    copied_at: u64,
    warned: bool,
}

impl Checkpoint {
    pub(super) fn new(name: &'static str, database: Database, wal: Arc<Wal>) -> Result<Self, StoreError> {
        let conn = database.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let identity = identity(&database).map_err(|_| StoreError::Moved)?;
        Ok(Self { name, database, conn, wal, identity, copied_at: 0, warned: false })
    }

    /// Copies, if there is something new.
    pub(super) fn pass(&mut self) -> Result<(), StoreError> {
        // SQLite would go on writing to a file that has no name any more.
        if identity(&self.database).is_ok_and(|identity| identity != self.identity)
            || !self.database.path.exists()
        {
            return Err(StoreError::Moved);
        }
        let mut before = 0;
        for pass in 1..=PASSES_MAX {
            let written = self.wal.written.load(Ordering::Relaxed);
            if written == self.copied_at {
                break;
            }
            let Some(Copied { pages, copied }) = copy_if_there_is_space(&self.conn)? else { break };
            self.warn_if_long(pages);
            if copied < pages {
                // A reader holds it back.
                break;
            }
            self.copied_at = written;
            if pages < FINISH_PAGES {
                break;
            }
            // During the pass before.
            let came = pages - before;
            before = pages;
            if came <= FINISH_PAGES_LEFT || pass == PASSES_MAX {
                self.wal.finish.store(true, Ordering::Relaxed);
                break;
            }
        }
        Ok(())
    }

    fn warn_if_long(&mut self, pages: i64) {
        let is_long = pages >= WARN_PAGES;
        if is_long && !self.warned {
            let path = self.database.path.display();
            tracing::warn!(%path, pages, "a WAL of the embedded log grows: another process reads the file for long");
        }
        self.warned = is_long;
    }
}

fn identity(database: &Database) -> io::Result<(u64, u64)> {
    fs::metadata(&database.path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The thread. Dropped, it ends before the drop does.
pub(super) struct Checkpointer {
    ended: Arc<AtomicBool>,
    /// There until the drop.
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn start(
        files: Vec<Checkpoint>,
        recent: Arc<Recent>,
        every: Duration,
    ) -> Result<Self, OpenError> {
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let thread = thread::Builder::new()
            .name("log-checkpoint".into())
            .spawn(move || run(files, &recent, every, &until))
            .map_err(|error| OpenError::Unavailable(format!("can't start a thread: {error}")))?;
        Ok(Self { ended, thread: Some(thread) })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn run(mut files: Vec<Checkpoint>, recent: &Arc<Recent>, every: Duration, ended: &AtomicBool) {
    let _guard = StopOnPanic(Arc::clone(recent));
    loop {
        thread::park_timeout(every);
        if ended.load(Ordering::Acquire) {
            return;
        }
        for file in &mut files {
            // After a failed sync of a file, its WAL must not be written over.
            if let Err(error) = file.pass() {
                recent.stop(file.name, &error);
                return;
            }
        }
    }
}
