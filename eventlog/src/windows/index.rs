//! The index of a log that can't be searched: a SQLite file that a follower of `windows` fills.
//!
//! Windows and offsets are written in one transaction, and a record below the offset of its partition is passed over. So
//! no window is in the index twice, whatever is given again. The log keeps the windows: a file that is lost or damaged is made
//! again from it.

use super::{
    ArchiveError, FollowedWindow, WindowArchive, WindowOffsets,
    readers::Readers,
    table::{self, int},
};
use crate::OpenError;
use rusqlite::{Connection, OpenFlags, params};
use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use wire::WindowRecord;

const FILE: &str = "history.db";
const LOCK: &str = "history.lock";
/// "Uprh" in the header of the file: another program's database is refused.
const APPLICATION_ID: i32 = 0x5570_7268;
/// In `pragma user_version`. A file of another version is made again.
const SCHEMA_VERSION: i32 = 1;
/// SQLite cuts a longer WAL down to this when it starts the WAL again.
const WAL_BYTES_KEPT: u32 = 64 << 20;
/// How long an index that was just stopped may take to let the folder go: a write may be under way.
const LET_GO: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);
const BUSY: Duration = Duration::from_secs(10);
/// Windows that one transaction removes at the most.
const TRIM_MAX: u32 = 1_000;

const SCHEMA: &str = "create table offsets (partition integer primary key, next_offset integer not null);";

/// The index, which one process fills. Everything blocks.
pub struct WindowIndex {
    conn: Connection,
    path: PathBuf,
    readers: Arc<Readers>,
    /// Held while the index is open.
    _lock: File,
}

/// What a write did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Windows that are in the index now and were not before.
    pub windows: u64,
    /// Records that are no windows. They are passed over.
    pub alien: u64,
}

enum Unusable {
    /// It can be made again.
    Damaged(String),
    /// It is not ours.
    Foreign,
    Failed(String),
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Self {
        match ArchiveError::from(error) {
            ArchiveError::Damaged(why) => Self::Damaged(why),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl WindowIndex {
    /// Opens the index in `dir`, and makes it where it is missing. A damaged one is removed, and begins again without a window.
    ///
    /// # Errors
    ///
    /// The folder can't be used, another process uses it, or it holds another program's database.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let invalid = |why: String| OpenError::Invalid(format!("the history in {}: {why}", dir.display()));
        let lock = lock(dir).map_err(invalid)?;
        let path = dir.join(FILE);
        let conn = match connect(&path) {
            Ok(conn) => conn,
            Err(Unusable::Damaged(why)) => {
                tracing::warn!(path = %path.display(), why, "the history is damaged, and is made again from the log");
                remove(&path).map_err(|error| invalid(error.to_string()))?;
                connect(&path).map_err(|error| invalid(error.why()))?
            }
            Err(error) => return Err(invalid(error.why())),
        };
        Ok(Self { conn, readers: Arc::new(Readers::new(path.clone())), path, _lock: lock })
    }

    /// By partition, the offset of the next record that the index needs.
    ///
    /// # Errors
    ///
    /// The file can't be read.
    pub fn offsets(&self) -> Result<WindowOffsets, ArchiveError> {
        let mut select = self.conn.prepare("select partition, next_offset from offsets")?;
        let offsets = select.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?;
        Ok(offsets.collect::<Result<_, _>>()?)
    }

    /// Adds records, in the order of the log, in one transaction. Records that the index has are passed over.
    ///
    /// # Errors
    ///
    /// The file can't be written. Nothing is added.
    pub fn write(&mut self, records: &[FollowedWindow]) -> Result<Written, ArchiveError> {
        let mut offsets = self.offsets()?;
        let (mut written, tx) = (Written::default(), self.conn.transaction()?);
        {
            let mut inserting = table::Inserting::new(&tx)?;
            for FollowedWindow { partition, offset, room, value } in records {
                let next = offsets.entry(*partition).or_default();
                if offset < next {
                    continue;
                }
                *next = offset + 1;
                match WindowRecord::decode_of(room, value) {
                    Ok(record) => {
                        inserting.insert(*partition, room, record.window, value)?;
                        written.windows += 1;
                    }
                    Err(error) => {
                        tracing::warn!(partition, offset, %error, "a record that is no window is passed over");
                        written.alien += 1;
                    }
                }
            }
            const OFFSET: &str = "insert or replace into offsets (partition, next_offset) values (?1, ?2)";
            let mut offset = tx.prepare(OFFSET)?;
            for (partition, next) in offsets {
                offset.execute(params![partition, int(next)])?;
            }
        }
        tx.commit()?;
        Ok(written)
    }

    /// Removes some of the windows that ended before `before_ms`. Returns whether there may be more of them.
    ///
    /// # Errors
    ///
    /// The file can't be written.
    pub fn trim(&mut self, before_ms: u64) -> Result<bool, ArchiveError> {
        Ok(table::trim(&self.conn, before_ms, TRIM_MAX)? == TRIM_MAX as usize)
    }

    /// Removes the file, and begins again without a window. Archives of before fail from now on.
    ///
    /// # Errors
    ///
    /// The file can't be removed or made.
    pub fn rebuild(self) -> Result<Self, OpenError> {
        let Self { conn, path, _lock, .. } = self;
        drop(conn);
        let invalid = |why: String| OpenError::Invalid(format!("{}: {why}", path.display()));
        remove(&path).map_err(|error| invalid(error.to_string()))?;
        let conn = connect(&path).map_err(|error| invalid(error.why()))?;
        Ok(Self { conn, readers: Arc::new(Readers::new(path.clone())), path, _lock })
    }

    /// Searches the index, from any thread.
    pub fn archive(&self) -> Arc<dyn WindowArchive> {
        Arc::clone(&self.readers) as _
    }
}

impl Unusable {
    fn why(self) -> String {
        match self {
            Self::Damaged(why) | Self::Failed(why) => why,
            Self::Foreign => format!("{FILE} is the database of another program: choose another history.dir"),
        }
    }
}

fn lock(dir: &Path) -> Result<File, String> {
    fs::create_dir_all(dir).map_err(|error| error.to_string())?;
    let lock = File::options().create(true).truncate(false).write(true).open(dir.join(LOCK));
    let lock = lock.map_err(|error| format!("{LOCK}: {error}"))?;
    let deadline = Instant::now() + LET_GO;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => {
                return Err("another process uses it: give each its own history.dir".to_owned());
            }
            Err(TryLockError::Error(error)) => return Err(format!("{LOCK}: {error}")),
        }
    }
}

fn connect(path: &Path) -> Result<Connection, Unusable> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(BUSY)?;
    let pragma = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let tables: i64 = conn.query_row("select count(*) from sqlite_schema", [], |row| row.get(0))?;
    if tables > 0 {
        if pragma("application_id")? != APPLICATION_ID {
            return Err(Unusable::Foreign);
        }
        let version = pragma("user_version")?;
        if version != SCHEMA_VERSION {
            return Err(Unusable::Damaged(format!("it has schema {version}, not {SCHEMA_VERSION}")));
        }
    }
    conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    // What a power loss takes is read from the log again: offsets are lost with their windows.
    conn.pragma_update(None, "synchronous", "normal")?;
    conn.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES_KEPT, |_| Ok(()))?;
    if tables == 0 {
        let tx = conn.unchecked_transaction()?;
        tx.execute_batch(SCHEMA)?;
        tx.execute_batch(table::SCHEMA)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        tx.commit()?;
    }
    Ok(conn)
}

/// Removes the file, with what SQLite keeps beside it.
fn remove(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::remove_file(PathBuf::from(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
