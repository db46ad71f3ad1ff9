//! Searches a SQLite file with a table of windows, from several threads at once.

use super::{ArchiveError, Searched, WindowArchive, WindowQuery, table};
use rusqlite::{Connection, OpenFlags};
use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use wire::WindowRecord;

/// Connections that are kept for the next searches.
const IDLE_MAX: usize = 4;
/// A reader of a WAL waits for nobody, except while another process recovers the file.
const BUSY: Duration = Duration::from_secs(2);
/// Cache of a connection, in KiB. SQLite reads a negative number as KiB.
const CACHE_KIB: i64 = -2_048;

/// Read-only connections to one file. Each search has one for itself.
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    /// Readers of a file that has the table [`table::SCHEMA`]. The caller keeps it open for writing.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::default() }
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        // One thread at a time uses a connection, so SQLite needs no lock for it.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&self.path, flags)?;
        conn.busy_timeout(BUSY)?;
        conn.pragma_update(None, "cache_size", CACHE_KIB)?;
        Ok(conn)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WindowArchive for Readers {
    fn search(
        &self,
        query: &WindowQuery<'_>,
        each: &mut dyn FnMut(WindowRecord),
    ) -> Result<Searched, ArchiveError> {
        let idle = self.idle().pop();
        let conn = idle.map_or_else(|| self.connect(), Ok)?;
        let searched = table::search(&conn, query, each);
        // A connection that failed for another reason than the query may fail again.
        if matches!(searched, Ok(_) | Err(ArchiveError::TooMany(_))) {
            let mut idle = self.idle();
            if idle.len() < IDLE_MAX {
                idle.push(conn);
            }
        }
        searched
    }
}
