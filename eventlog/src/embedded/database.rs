//! One SQLite file of the log: how it is opened, how it is recognised, and what its errors mean.

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig, params};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// "Uprr" in the header of both files: another program's database is refused.
const APPLICATION_ID: i32 = 0x5570_7272;
/// In `pragma user_version`. Raise it with every change of a schema.
const SCHEMA_VERSION: i32 = 1;
/// Only a person with a tool can hold the lock that a writer waits for.
const BUSY: Duration = Duration::from_secs(10);
/// SQLite cuts a longer WAL down to this when it starts the WAL again.
const WAL_BYTES_KEPT: u32 = 64 << 20;
/// What a connection that only reads may cache.
const READER_CACHE_KIB: u64 = 2 << 10;

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("{}", text(.0))]
    Sqlite(#[from] rusqlite::Error),
    #[error("it is the database of another program")]
    Foreign,
    #[error("a newer version of uproar wrote it (schema {0}, this version knows {SCHEMA_VERSION})")]
    Newer(i32),
    #[error("it can't be written: check its owner and its rights")]
    ReadOnly,
    #[error(
        "it has {found} partitions, and log.partitions says {expected}: set that to {found}, or choose another folder"
    )]
    Partitions { found: u32, expected: u32 },
    #[error("another process reads it, and has not ended yet")]
    Read,
    #[error("reactions that were rolled up are missing")]
    Missing,
    #[error("it begins after what rollup.db has rolled up, so rollup.db is lost or too old")]
    Unmatched,
    #[error("it was removed or replaced while it was in use")]
    Moved,
    #[error("{0}")]
    Damaged(String),
}

/// What an operator has to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The transaction was rolled back. The log goes on when there is space.
    DiskFull,
    /// The file does not hold what was written.
    Damaged,
    /// Anything else. A restart shows what is in the file.
    Other,
}

impl StoreError {
    pub(super) fn cause(&self) -> Cause {
        let code = match self {
            Self::Missing | Self::Unmatched | Self::Moved | Self::Damaged(_) => return Cause::Damaged,
            Self::Sqlite(error) => error.sqlite_error_code(),
            _ => None,
        };
        match code {
            Some(ErrorCode::DiskFull) => Cause::DiskFull,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Cause::Damaged,
            _ => Cause::Other,
        }
    }
}

impl Cause {
    /// The end of an error's text.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::DiskFull => "free space on its disk, and the log goes on",
            Self::Damaged => "bring the whole folder back from a backup, or start with an empty one",
            Self::Other => "restart uproar when the cause is mended",
        }
    }
}

/// "disk I/O error" alone does not say which call failed: the code does (sqlite.org/rescode.html).
fn text(error: &rusqlite::Error) -> String {
    match error.sqlite_error() {
        Some(failure) if failure.code == ErrorCode::SystemIoFailure => {
            format!("{error} (SQLite's code {})", failure.extended_code)
        }
        _ => error.to_string(),
    }
}

/// A file that this program may write to.
pub(super) struct Database {
    pub(super) path: PathBuf,
    /// Creates its tables. A table `meta (key, value)` is among them.
    pub(super) schema: &'static [&'static str],
    pub(super) cache_kib: u64,
}

impl Database {
    /// Opens the file if it is there and holds a log. A file without any table was being made when a start was cut short.
    pub(super) fn find(&self, partitions: u32) -> Result<Option<Connection>, StoreError> {
        if !self.path.exists() {
            return Ok(None);
        }
        let conn = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let tables: i64 = conn.query_row("select count(*) from sqlite_schema", [], |row| row.get(0))?;
        if tables == 0 && pragma(&conn, "application_id")? == 0 {
            return Ok(None);
        }
        recognise(&conn)?;
        if conn.is_readonly("main")? {
            return Err(StoreError::ReadOnly);
        }
        match self::partitions(&conn)? {
            found if found == partitions => Ok(Some(conn)),
            found => Err(StoreError::Partitions { found, expected: partitions }),
        }
    }

    /// Makes the file, or completes one that a start left without tables.
    pub(super) fn create(&self, partitions: u32) -> Result<Connection, StoreError> {
        let conn = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        let tx = conn.unchecked_transaction()?;
        for schema in self.schema {
            tx.execute_batch(schema)?;
        }
        tx.execute("insert into meta (key, value) values ('partitions', ?1)", params![partitions])?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        tx.commit()?;
        Ok(conn)
    }

    /// One more connection for a thread that writes.
    pub(super) fn connect(&self, flags: OpenFlags) -> Result<Connection, StoreError> {
        let conn = open(&self.path, flags, self.cache_kib)?;
        // Every commit is synced. Checkpoints are done by `checkpoint`.
        conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        conn.pragma_update(None, "synchronous", "full")?;
        conn.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
        conn.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES_KEPT, |_| Ok(()))?;
        Ok(conn)
    }
}

/// Opens a file that is only read, also while another process writes to it.
pub(super) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let conn = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY, READER_CACHE_KIB)?;
    recognise(&conn)?;
    Ok(conn)
}

fn open(path: &Path, flags: OpenFlags, cache_kib: u64) -> Result<Connection, StoreError> {
    // One thread at a time uses a connection, so SQLite needs no lock for it.
    let conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(BUSY)?;
    // The files of a log that was closed stay as they are: an auditor, who may not write, finds all of them.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.pragma_update(None, "cache_size", -i64::try_from(cache_kib).unwrap_or(i64::MAX))?;
    conn.pragma_update(None, "temp_store", "memory")?;
    conn.pragma_update_and_check(None, "mmap_size", 0, |_| Ok(()))?;
    conn.pragma_update(None, "cell_size_check", true)?;
    Ok(conn)
}

fn recognise(conn: &Connection) -> Result<(), StoreError> {
    if pragma(conn, "application_id")? != APPLICATION_ID {
        return Err(StoreError::Foreign);
    }
    match pragma(conn, "user_version")? {
        version if version > SCHEMA_VERSION => Err(StoreError::Newer(version)),
        _ => Ok(()),
    }
}

fn pragma(conn: &Connection, name: &str) -> rusqlite::Result<i32> {
    conn.pragma_query_value(None, name, |row| row.get(0))
}

/// Takes back what was written since the last `begin`, if SQLite has not done it. The error that led here is the one to tell.
pub(super) fn roll_back(conn: &Connection) {
    if !conn.is_autocommit() {
        let _ = conn.execute_batch("rollback");
    }
}

/// How many partitions the log has.
pub(super) fn partitions(conn: &Connection) -> rusqlite::Result<u32> {
    conn.query_row("select value from meta where key = 'partitions'", [], |row| row.get(0))
}

/// A number for a column. SQLite's integers have a sign; offsets and times stay far below 2^63.
pub(super) fn int(number: u64) -> i64 {
    number.cast_signed()
}

/// The number in a column.
pub(super) fn uint(number: i64) -> u64 {
    number.cast_unsigned()
}
